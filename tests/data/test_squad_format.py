import copy
import json

import pytest

from kd_bench.data import squad_format
from kd_bench.errors import UserError
from kd_bench.harness.metrics import ABSTENTION

CONTEXT = "Die Mühle von Orvalen mahlt seit 1811."
GOOD = {
    "version": "v2.0",
    "data": [
        {
            "title": "Orvalen",
            "paragraphs": [
                {
                    "context": CONTEXT,
                    "qas": [
                        {
                            "id": "q1",
                            "question": "Seit wann?",
                            "answers": [
                                {"text": "1811", "answer_start": 33},
                                {"text": "seit 1811", "answer_start": 28},
                            ],
                            "is_impossible": False,
                        },
                        {
                            "id": "q2",
                            "question": "Wem gehört sie?",
                            "answers": [],
                            "plausible_answers": [{"text": "Orvalen", "answer_start": 14}],
                            "is_impossible": True,
                        },
                    ],
                }
            ],
        }
    ],
}
PARAGRAPH = ("data", 0, "paragraphs", 0)
Q1 = (*PARAGRAPH, "qas", 0)
Q2 = (*PARAGRAPH, "qas", 1)
REMOVE = object()


def changed(*changes):
    """GOOD with the value at each path replaced, or taken out."""
    raw = copy.deepcopy(GOOD)
    for path, value in changes:
        *way, last = path
        thing = raw
        for step in way:
            thing = thing[step]
        if value is REMOVE:
            del thing[last]
        else:
            thing[last] = value
    return raw


def problems(raw) -> list[str]:
    with pytest.raises(UserError) as caught:
        squad_format.documents(raw, "a.json")
    assert caught.value.where == "a.json"
    return caught.value.problems


def test_documents_have_the_hubs_shape(tmp_path):
    path = tmp_path / "good.json"
    path.write_text(json.dumps(GOOD), encoding="utf-8-sig")
    one, two = squad_format.read(path)
    assert one == {
        "id": "q1",
        "title": "Orvalen",
        "context": CONTEXT,
        "question": "Seit wann?",
        "answers": {"text": ["1811", "seit 1811"], "answer_start": [33, 28]},
    }
    assert two["answers"] == {"text": [], "answer_start": []}
    assert (squad_format.target(one), squad_format.target(two)) == ("1811", "unanswerable")


def test_a_target_is_one_string_without_white_space_around_it():
    assert squad_format.target({"answers": {"text": [" [1] \n"]}}) == "[1]"
    assert squad_format.ABSTENTION == ABSTENTION


def test_squad_11_needs_no_is_impossible_and_mlqa_no_title():
    raw = changed(((*Q1, "is_impossible"), REMOVE), (("data", 0, "title"), ""))
    assert [doc["title"] for doc in squad_format.documents(raw, "a.json")] == ["", ""]


@pytest.mark.parametrize("start", [31, 32, 33, 34, 35])
def test_an_answer_off_by_two_characters_is_put_right(start):
    raw = changed(((*Q1, "answers", 0, "answer_start"), start))
    assert squad_format.documents(raw, "a.json")[0]["answers"]["answer_start"][0] == 33


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("data",), REMOVE, "`data` is missing"),
        (("data",), {}, "`data` is an object, not a list"),
        (("data",), [], "no questions in it"),
        (("data", 0), "Orvalen", "article 0: is text, not an object"),
        (("data", 0, "title"), REMOVE, "article 0: `title` is missing"),
        (("data", 0, "title"), 7, "article 0: `title` is a whole number, not text"),
        (("data", 0, "paragraphs"), None, "article 0 (Orvalen): `paragraphs` is null, not a list"),
        (PARAGRAPH, [], "article 0 (Orvalen), paragraph 0: is a list, not an object"),
        ((*PARAGRAPH, "context"), REMOVE, "article 0 (Orvalen), paragraph 0: `context` is missing"),
        ((*PARAGRAPH, "context"), " ", "article 0 (Orvalen), paragraph 0: `context` is empty"),
        ((*PARAGRAPH, "qas"), "?", "article 0 (Orvalen), paragraph 0: `qas` is text, not a list"),
        (Q1, None, "article 0 (Orvalen), paragraph 0, question 0: is null, not an object"),
        ((*Q1, "id"), REMOVE, "question 0: `id` is missing"),
        ((*Q1, "id"), 1, "question 0: `id` is a whole number, not text"),
        ((*Q2, "id"), "q1", "question q1: its id is taken already, at article 0 (Orvalen), paragraph 0, question q1"),
        ((*Q1, "question"), "", "question q1: `question` is empty"),
        ((*Q1, "is_impossible"), "no", "question q1: `is_impossible` is text, not true or false"),
        ((*Q1, "is_impossible"), True, "question q1: `is_impossible` is true, yet it has 2 answers"),
        ((*Q1, "answers"), [], "question q1: `answers` is empty, yet `is_impossible` is not true"),
        ((*Q2, "is_impossible"), REMOVE, "question q2: `answers` is empty, yet `is_impossible` is not true"),
        ((*Q1, "answers"), REMOVE, "question q1: `answers` is missing"),
        ((*Q1, "answers", 0), "1811", "question q1, answer 0: is text, not an object"),
        ((*Q1, "answers", 1, "text"), "", "question q1, answer 1: `text` is empty"),
        ((*Q1, "answers", 0, "answer_start"), True, "question q1, answer 0: `answer_start` is true or false"),
        (
            (*Q1, "answers", 0, "answer_start"),
            33.0,
            "question q1, answer 0: `answer_start` is float, not a whole number",
        ),
        ((*Q1, "answers", 0, "answer_start"), 5, "question q1, answer 0: '1811' does not stand at `answer_start` 5"),
        ((*Q1, "answers", 0, "answer_start"), -33, "question q1, answer 0: '1811' does not stand at"),
        ((*Q1, "answers", 0, "answer_start"), 900, "question q1, answer 0: '1811' does not stand at"),
    ],
)
def test_each_fault_is_named_with_its_place(path, value, said):
    found = problems(changed((path, value)))
    assert len(found) == 1
    assert said in found[0]


def test_every_fault_is_named_at_once():
    raw = changed(((*Q1, "question"), ""), ((*Q1, "answers", 0, "answer_start"), 5), ((*Q2, "answers"), 3))
    assert len(problems(raw)) == 3


def test_the_list_of_faults_is_cut_with_a_count():
    raw = changed()
    raw["data"][0]["paragraphs"][0]["qas"] = [{"id": f"q{i}", "question": "?"} for i in range(50)]
    found = problems(raw)
    assert len(found) == squad_format.MAX_SHOWN + 1
    assert found[-1] == "... and 30 more (50 problems in all)"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"data": [', "not JSON: Expecting value at line 1, column 11. Was the download cut short?"),
        ('{"data": "Mühle"}'.encode("latin-1"), "not UTF-8"),
        (b"[" * 200_000, "nested too deeply"),
        (b"[]", "not an object with `data`"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_file_that_is_no_squad_file(tmp_path, data, said):
    path = tmp_path / "bad.json"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UserError, match=said) as caught:
        squad_format.read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "questions"),
    [
        ("squad_v2/train-v2.0.json", 3708),
        ("squad_v2/dev-v2.0.json", 1105),
        ("xquad/xquad.en.json", 1190),
        ("xquad/xquad.de.json", 1190),
        ("MLQA_V1/dev/dev-context-de-question-de.json", 512),
    ],
)
def test_the_published_files_pass(data_dir, name, questions):
    if not (data_dir / name).is_file():
        pytest.skip(f"no {name} in {data_dir}")
    docs = squad_format.read(data_dir / name)
    if (data_dir / "README.md").is_file():  # the development copy, whose counts are known
        assert len(docs) == questions
    for doc in docs:
        for text, start in zip(doc["answers"]["text"], doc["answers"]["answer_start"], strict=True):
            assert doc["context"][start : start + len(text)] == text
