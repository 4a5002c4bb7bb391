import json
import logging

import pytest

from kd_bench.data import sources, splits
from kd_bench.errors import UserError

SPLITS = ("train", "validation", "test", "demo")


def article(number: int, lang: str, *, title: str | None = None, impossible: bool = False) -> dict:
    """Two passages of two questions each, with the same ids in every language."""
    paragraphs = []
    for part in range(2):
        context = f"[{lang}] Station {number}.{part} opened in {1500 + number}."
        start = context.index("opened in ") + len("opened in ")
        qas = [
            {
                "id": f"{number:03}-{part}-{i}",
                "question": f"[{lang}] question {i}?",
                "answers": [] if impossible and i else [{"text": context[start : start + 4], "answer_start": start}],
            }
            for i in range(2)
        ]
        if impossible:
            qas = [qa | {"is_impossible": not qa["answers"]} for qa in qas]
        paragraphs.append({"context": context, "qas": qas})
    return {"title": f"Article_{number}" if title is None else title, "paragraphs": paragraphs}


def write(path, articles) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"version": "t", "data": list(articles)}))


def write_copies(root):
    """Small invented copies of the three data sets in their official layouts: 10 + 3, 30 and 48 articles."""
    write(root / "squad_v2/train-v2.0.json", (article(i, "en", impossible=True) for i in range(10)))
    write(root / "squad_v2/dev-v2.0.json", (article(i, "en", impossible=True) for i in range(100, 103)))
    for lang in ("en", "de"):
        for part, numbers in (("dev", range(200, 230)), ("test", range(300, 305))):
            path = root / f"MLQA_V1/{part}/{part}-context-{lang}-question-{lang}.json"
            write(path, (article(i, lang, title="") for i in numbers))
        write(root / f"xquad/xquad.{lang}.json", (article(i, lang) for i in range(400, 448)))
    return root


@pytest.fixture
def copies(tmp_path, monkeypatch):
    monkeypatch.delenv("KD_BENCH_DATA", raising=False)
    return write_copies(tmp_path)


def ids(made) -> dict[str, set[str]]:
    return {split: set(made[split]["id"]) for split in SPLITS}


def articles(made) -> dict[str, set[str]]:
    return {split: {name[:3] for name in some} for split, some in ids(made).items()}


# ---- splits of each data set


def test_squad_tests_on_the_dev_file_and_splits_the_train_file_by_article(copies):
    made = sources.squad_v2(data_dir=str(copies), pretrained="a model argument", version=1.0)
    assert {split: len(some) for split, some in articles(made).items()} == {
        "train": 8,
        "validation": 1,
        "test": 3,
        "demo": 1,
    }
    assert articles(made)["test"] == {"100", "101", "102"}
    assert [file["name"] for file in made.files] == ["squad_v2/train-v2.0.json", "squad_v2/dev-v2.0.json"]
    assert str(copies) not in json.dumps(splits.fingerprint(made))


@pytest.mark.parametrize(("gone", "left"), [("train", 3), ("dev", 10)])
def test_one_squad_file_alone_is_split_four_ways_and_says_so(copies, caplog, gone, left):
    if gone == "train":
        write(copies / "squad_v2/dev-v2.0.json", (article(i, "en", impossible=True) for i in range(100, 104)))
        left = 4
    (copies / f"squad_v2/{gone}-v2.0.json").unlink()
    with caplog.at_level(logging.WARNING):
        made = sources.squad_v2(data_dir=copies)
    assert sum(len(some) for some in articles(made).values()) == left
    assert len(made.files) == 1
    assert "all four splits are made from it" in caplog.text


def test_what_the_test_file_shares_is_left_out_of_training(copies, caplog):
    shared = article(100, "en", impossible=True)
    for number, paragraph in enumerate(shared["paragraphs"]):
        for qa in paragraph["qas"]:
            qa["id"] = f"again {number} {qa['id']}"
    write(copies / "squad_v2/train-v2.0.json", [*(article(i, "en", impossible=True) for i in range(10)), shared])
    made = ids(sources.squad_v2(data_dir=copies))
    assert made["test"] == {f"{i}-{part}-{q}" for i in (100, 101, 102) for part in (0, 1) for q in (0, 1)}
    assert not any("again" in name for some in made.values() for name in some)
    assert "4 questions left out of training" in caplog.text


def test_too_few_articles_name_the_empty_split(copies):
    write(copies / "squad_v2/train-v2.0.json", [article(0, "en"), article(1, "en")])
    with pytest.raises(UserError, match=r"squad_v2: split `train` is empty.*Add articles"):
        sources.squad_v2(data_dir=copies)


@pytest.mark.parametrize("data_set", ["mlqa", "xquad", "fictqa"])
def test_languages_are_split_alike(copies, data_set):
    load = getattr(sources, data_set)
    english, german = (load(lang=lang, data_dir=copies, demo_seed=2) for lang in ("en", "de"))
    assert ids(english) == ids(german)
    assert english["test"]["context"][:] != german["test"]["context"][:]
    assert english["demo"][0]["id"] == german["demo"][0]["id"]
    assert splits.check_no_leak({"en": english, "de": german}) == []


def test_an_mlqa_passage_with_fewer_questions_in_one_language_stays_on_its_side(copies):
    whole = ids(sources.mlqa(lang="en", data_dir=copies))
    german = [article(i, "de", title="") for i in range(200, 230)]
    for some in german:
        for paragraph in some["paragraphs"]:
            paragraph["qas"] = paragraph["qas"][1:]
    write(copies / "MLQA_V1/dev/dev-context-de-question-de.json", german)
    made = ids(sources.mlqa(lang="de", data_dir=copies))
    assert ids(sources.mlqa(lang="en", data_dir=copies)) == whole
    for split in SPLITS:
        assert made[split] <= whole[split]


def test_mlqa_tests_on_the_test_file_where_it_is(copies):
    both = ids(sources.mlqa(lang="de", data_dir=copies))
    assert {name[:3] for name in both["test"]} == {"300", "301", "302", "303", "304"}
    for lang in ("en", "de"):
        (copies / f"MLQA_V1/test/test-context-{lang}-question-{lang}.json").unlink()
    alone = ids(sources.mlqa(lang="de", data_dir=copies))
    assert all(alone.values())
    assert (alone["validation"], alone["demo"]) == (both["validation"], both["demo"])
    assert alone["train"] | alone["test"] == both["train"]


def test_a_partial_xquad_keeps_its_articles_where_they_are_in_the_whole(copies):
    whole = articles(sources.xquad(lang="en", data_dir=copies))
    write(copies / "xquad/xquad.de.json", (article(i, "de") for i in range(400, 448) if i % 4))
    part = articles(sources.xquad(lang="de", data_dir=copies))
    for split in SPLITS:
        assert part[split] <= whole[split]
    assert part != whole


@pytest.mark.parametrize("load", [sources.mlqa, sources.xquad, sources.fictqa])
def test_a_language_that_is_not_there_is_named(load):
    with pytest.raises(UserError, match=r"no language 'xx'; it has .*de"):
        load(lang="xx")


# ---- the generated data set


def test_fictqa_is_the_same_for_a_seed_and_another_for_another():
    prints = [splits.fingerprint(sources.fictqa("en", size=12, seed=seed)) for seed in (0, 0, 1)]
    assert prints[0] == prints[1]
    assert prints[0]["test"]["hash"] != prints[2]["test"]["hash"]
    assert prints[0]["files"] == [{"name": "generated: fictqa en", "size": 12, "seed": 0}]
    assert [prints[0][split]["articles"] for split in SPLITS] == [6, 2, 3, 1]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"size": "60"}, "size: '60' is not a whole number"),
        ({"seed": None}, "seed: None is not a whole number"),
        ({"size": True}, "size: True is not a whole number"),
        ({"size": 3}, "size: 3 articles are too few"),
    ],
)
def test_fictqa_refuses_sizes_and_seeds_that_are_none(given, said):
    with pytest.raises(UserError, match=said):
        sources.fictqa("en", **given)


# ---- where the data comes from


def test_data_dir_comes_before_the_environment(copies, monkeypatch, tmp_path):
    other = tmp_path / "other"
    write(other / "xquad/xquad.en.json", (article(i, "en") for i in range(20)))
    monkeypatch.setenv("KD_BENCH_DATA", str(other))
    assert sum(map(len, sources.xquad("en").values())) < 100
    assert sum(map(len, sources.xquad("en", data_dir=copies).values())) > 150


@pytest.mark.parametrize(
    ("folder", "load"),
    [
        ("squad_v2", sources.squad_v2),
        ("MLQA_V1", lambda **kw: sources.mlqa("de", **kw)),
        ("xquad", lambda **kw: sources.xquad("de", **kw)),
    ],
)
def test_a_data_sets_own_folder_will_do(copies, folder, load):
    above, itself = load(data_dir=copies), load(data_dir=copies / folder)
    assert splits.fingerprint(above) == splits.fingerprint(itself)


def no_hub(*args, **kwargs):
    raise ConnectionError("Couldn't reach the hub\nand a stack of details")


def test_nothing_to_read_names_all_three_ways_and_what_was_tried(monkeypatch, tmp_path):
    import datasets

    monkeypatch.setattr(datasets, "load_dataset", no_hub)
    monkeypatch.setenv("KD_BENCH_DATA", str(tmp_path))
    with pytest.raises(UserError) as caught:
        sources.squad_v2()
    (said,) = caught.value.problems
    for part in (
        "data_dir",
        "--metadata",
        "$KD_BENCH_DATA",
        "the hub",
        "data_dir: not given",
        f"$KD_BENCH_DATA {tmp_path}: has no squad_v2/train-v2.0.json or squad_v2/dev-v2.0.json",
        "the hub: ConnectionError: Couldn't reach the hub",
    ):
        assert part in said
    assert "stack of details" not in said
    monkeypatch.delenv("KD_BENCH_DATA")
    with pytest.raises(UserError, match="KD_BENCH_DATA: not set"):
        sources.mlqa("de")


def test_a_folder_that_was_named_is_never_replaced_by_the_hub(monkeypatch, tmp_path):
    import datasets

    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: pytest.fail("asked the hub"))
    monkeypatch.setenv("KD_BENCH_DATA", str(write_copies(tmp_path)))
    with pytest.raises(UserError, match="no such folder; the hub: not tried"):
        sources.squad_v2(data_dir=tmp_path / "nowhere")


def test_every_faulty_file_is_named(copies):
    (copies / "squad_v2/train-v2.0.json").write_text("{")
    write(copies / "squad_v2/dev-v2.0.json", [article(1, "en") | {"paragraphs": None}])
    with pytest.raises(UserError) as caught:
        sources.squad_v2(data_dir=copies)
    assert [p.split(":")[0] for p in caught.value.problems] == ["train-v2.0.json", "dev-v2.0.json"]


def rows(path):
    from kd_bench.data import squad_format

    return squad_format.read(path)


def test_the_hubs_columns_give_the_same_splits_as_the_files(monkeypatch, copies):
    """The hub itself is not reached: this holds the code to the columns that the hub's copies have."""
    import datasets

    for lang in ("en", "de"):  # as the real one, 48 articles of five passages, so that titles can be put back
        many = [article(i, lang, title=title) for i, title in enumerate(sources.XQUAD_TITLES, start=400)]
        for some in many:
            for extra in range(3):
                new = json.loads(json.dumps(some["paragraphs"][0]).replace(".0", f".{extra + 2}"))
                new["qas"] = [qa | {"id": qa["id"] + f"-{extra}"} for qa in new["qas"]]
                some["paragraphs"].append(new)
        write(copies / f"xquad/xquad.{lang}.json", many)

    def hub(repository, config, split, revision):
        if repository == "rajpurkar/squad_v2":
            docs = rows(copies / f"squad_v2/{'dev' if split == 'validation' else split}-v2.0.json")
        elif repository == "google/xquad":
            assert split == "validation"
            docs = rows(copies / f"xquad/{config}.json")
        else:
            assert (repository, revision) == ("facebook/mlqa", "refs/convert/parquet")
            part, lang = {"validation": "dev"}.get(split, split), config.split(".")[1]
            path = copies / f"MLQA_V1/{part}/{part}-context-{lang}-question-{lang}.json"
            docs = rows(path) if path.is_file() else [rows(copies / "MLQA_V1/dev/dev-context-en-question-en.json")[0]]
        if repository != "rajpurkar/squad_v2":
            docs = [{key: doc[key] for key in doc if key != "title"} for doc in docs]
        return datasets.Dataset.from_list(docs)

    monkeypatch.setattr(datasets, "load_dataset", hub)
    for load in (sources.squad_v2, lambda **kw: sources.mlqa("de", **kw), lambda **kw: sources.xquad("de", **kw)):
        from_hub, from_files = load(), load(data_dir=copies)
        assert {s: from_hub[s].to_list() for s in SPLITS} == {s: from_files[s].to_list() for s in SPLITS}
        assert from_hub.files[0]["name"].startswith("hub: ")


# ---- the real files


def test_the_titles_that_are_put_back_are_xquads(data_dir):
    path = data_dir / "xquad/xquad.en.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    assert list(dict.fromkeys(doc["title"] for doc in rows(path))) == sources.XQUAD_TITLES


def test_xquads_articles_are_squads(data_dir):
    if not (data_dir / "squad_v2").is_dir() or not (data_dir / "xquad").is_dir():
        pytest.skip(f"no squad_v2/ and xquad/ in {data_dir}")
    squad, german = sources.squad_v2(data_dir=data_dir), sources.xquad("de", data_dir=data_dir)
    assert splits.check_no_leak({"squad": squad}) == []
    problems = splits.check_no_leak({"squad": squad, "xquad": german})
    assert problems and any("such as" in problem for problem in problems)
