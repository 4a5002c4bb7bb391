import json

import pytest

from kd_bench.harness import metrics
from kd_bench.harness.floor import constant_scores, floor


def doc(*golds):
    return {"answers": {"text": list(golds), "answer_start": [0] * len(golds)}}


def test_abstaining_wins_where_half_the_questions_have_no_answer():
    docs = [doc(), doc(), doc("Rollo"), doc("Rollo", "Duke Rollo")]
    found = floor(metrics.squad, docs)
    assert found == {
        "answer": "unanswerable",
        "scores": {
            "em": 0.5,
            "f1": 0.5,
            "rougeL": 0.5,
            "abstained": 1,
            "no_ans_em": 1,  # over the two without an answer
            "has_ans_em": 0,
            "has_ans_f1": 0,
        },
    }


def test_a_frequent_answer_wins_where_it_is_right_more_often():
    found = floor(metrics.squad, [doc(), doc("the Rollo"), doc("Rollo", "Duke Rollo")])
    assert found["answer"] == "rollo"
    assert found["scores"]["em"] == pytest.approx(2 / 3)
    assert found["scores"]["abstained"] == 0


def test_answers_are_counted_in_the_language_of_the_task():
    # In German the first three are one answer; by English rules all four differ.
    docs = [doc("die Elbe"), doc("der Elbe"), doc("Elbe"), doc("1866")]
    found = floor(metrics.mlqa_de, docs)
    assert found["answer"] == "elbe"
    assert found["scores"] == pytest.approx({"em": 0.75, "f1": 0.75, "rougeL": 7 / 12})


def test_a_gold_is_counted_once_a_document():
    # "12" stands three times as a gold of one question; "13" is right for two questions.
    docs = [doc("12", "12", "12."), doc("13"), doc("13"), doc("x y"), doc("z")]
    assert floor(metrics.mlqa_en, docs)["answer"] == "13"


def test_a_single_word_may_beat_every_whole_answer():
    docs = [doc(f"{n} Jahre") for n in range(12)]
    found = floor(metrics.mlqa_de, docs)
    assert found["answer"] == "jahre"
    assert found["scores"]["f1"] == pytest.approx(2 / 3)
    assert found["scores"]["em"] == 0


def test_the_answer_is_the_best_of_everything_that_was_ever_gold():
    docs = [doc("a lake"), doc("the lake", "lake Orr"), doc("Orr"), doc("a river"), doc("Orr river"), doc("lake Orr")]
    best = floor(metrics.mlqa_en, docs)["scores"]["f1"]
    golds = {text for d in docs for text in d["answers"]["text"]}
    assert best == max(constant_scores(metrics.mlqa_en, docs, text)["f1"] for text in golds)


def test_any_scoring_function_will_do():
    def length(doc, results):
        return {"f1": 1 / (1 + abs(len(results[0]) - len(doc["answers"]["text"][0])))}

    assert floor(length, [doc("abc"), doc("abd")])["answer"] == "abc"


def test_documents_are_needed():
    with pytest.raises(ValueError, match="without documents"):
        floor(metrics.squad, [])


def test_the_floor_of_real_squad_is_the_share_without_answers(data_dir):
    path = data_dir / "squad_v2" / "dev-v2.0.json"
    if not path.is_file():
        pytest.skip(f"no SQuAD v2 there: {path}")
    docs = [
        doc(*(answer["text"] for answer in qa["answers"]))
        for article in json.loads(path.read_text(encoding="utf-8"))["data"]
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    ]
    found = floor(metrics.squad, iter(docs))
    assert found["answer"] == "unanswerable"
    assert found["scores"]["em"] == sum(not d["answers"]["text"] for d in docs) / len(docs)
