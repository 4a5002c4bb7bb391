import random

import pytest

from kd_bench.data import splits
from kd_bench.errors import UserError

SHARES = {"demo": 5, "validation": 10, "test": 25, "train": 60}


def doc(name, title="T", context="Some passage.", answer="passage", question="What?"):
    answers = {"text": [answer], "answer_start": [5]} if answer else {"text": [], "answer_start": []}
    return {"id": name, "title": title, "context": context, "question": question, "answers": answers}


def build(docs, sides, **kwargs):
    return splits.build(docs, [d["title"] for d in docs], sides, where="here", **kwargs)


FOUR = {"a": "train", "b": "validation", "c": "test", "d": "demo"}


def four_docs():
    return [doc(f"{title}{i}", title, f"Text of {title}, {i}.") for title in "abcd" for i in range(3)]


# ---- which article goes where


@pytest.mark.parametrize(
    ("articles", "counts"),
    [(3, (1, 1, 1)), (10, (1, 1, 8)), (100, (1, 5, 94)), (101, (2, 6, 93)), (442, (5, 23, 414))],
)
def test_by_rank_meets_its_shares_rounded_up(articles, counts):
    sides = splits.by_rank(map(str, range(articles)), {"demo": 1, "validation": 5}, rest="train")
    assert tuple(list(sides.values()).count(s) for s in ("demo", "validation", "train")) == counts


def test_neither_rule_depends_on_order():
    keys = [str(i) for i in range(60)]
    shuffled = random.Random(0).sample(keys, len(keys))
    assert splits.by_rank(keys, {"demo": 10}, "train") == splits.by_rank(shuffled, {"demo": 10}, "train")
    assert splits.by_hash(keys, SHARES) == splits.by_hash(shuffled, SHARES)


def test_by_hash_keeps_an_article_where_it_is_in_every_partial_copy():
    whole = splits.by_hash(map(str, range(300)), SHARES)
    part = splits.by_hash(map(str, range(0, 300, 3)), SHARES)
    assert part == {key: whole[key] for key in part}


def test_by_hash_meets_its_shares_on_average():
    sides = list(splits.by_hash(map(str, range(4000)), SHARES).values())
    for split, share in SHARES.items():
        assert sides.count(split) / 40 == pytest.approx(share, abs=2.5)


@pytest.mark.parametrize("articles", range(4, 30))
def test_by_hash_leaves_no_split_empty_if_it_can(articles):
    assert set(splits.by_hash(map(str, range(articles)), SHARES).values()) == set(SHARES)


def test_by_hash_needs_whole_shares():
    with pytest.raises(ValueError, match="sum to 60, not 100"):
        splits.by_hash(["a"], {"train": 60})


def test_what_shares_a_context_or_a_title_stays_together():
    docs = [
        doc("1", "B_b", "one"),
        doc("2", "b B", "two"),  # the same title
        doc("3", "a", "TWO "),  # the same context
        doc("4", "c", "three"),
    ]
    assert splits.article_keys(docs, by="title") == ["a", "a", "a", "c"]
    assert splits.article_keys(docs, by="id") == ["1", "1", "1", "4"]


def test_without_titles_the_question_ids_of_all_languages_hold_an_article_together():
    english = [doc("q1", "", "one"), doc("q2", "", "one"), doc("q3", "", "two")]
    german = [doc("q2", "", "zwei"), doc("q3", "", "drei"), doc("q1", "", "eins")]
    assert splits.article_keys(german, by="id", also=[english]) == ["q1", "q3", "q1"]
    assert splits.article_keys(english, by="id", also=[german]) == ["q1", "q1", "q3"]


# ---- the splits themselves


def test_build_lays_documents_passage_by_passage():
    docs = [*four_docs(), doc("late", "a", "Text of a, 0.")]
    made = build(docs, FOUR)
    assert made["train"]["id"][:] == ["a0", "late", "a1", "a2"]
    assert made["test"]["id"][:] == ["c0", "c1", "c2"]
    assert made["train"][0] == docs[0]


def test_build_names_every_empty_split():
    with pytest.raises(UserError) as caught:
        build(four_docs(), FOUR | {"b": "train", "d": "train"})
    assert caught.value.where == "here"
    assert [p.split(":")[0] for p in caught.value.problems] == ["split `validation` is empty", "split `demo` is empty"]
    assert "12 questions of 4 articles" in caught.value.problems[0]


def test_demonstrations_are_answerable_and_short_where_there_are_such():
    long = "x" * (splits.SHORT_CONTEXT + 1)
    rest = [d for d in four_docs() if d["title"] != "d"]

    def pool(*demo):
        return set(build([*rest, *demo], FOUR)["demo"]["id"])

    good, unanswerable, wordy = doc("good", "d"), doc("none", "d", answer=None), doc("long", "d", long)
    assert pool(good, unanswerable, wordy) == {"good"}
    assert pool(unanswerable, wordy) == {"long"}
    assert pool(unanswerable) == {"none"}


def test_the_demo_seed_chooses_the_demonstration_and_nothing_else():
    docs = [*four_docs(), *(doc(f"e{i}", "d", f"More text {i}.") for i in range(20))]
    made = {seed: build(docs, FOUR, demo_seed=seed) for seed in range(8)}
    assert len({some["demo"][0]["id"] for some in made.values()}) > 3
    assert build(docs, FOUR, demo_seed=3)["demo"]["id"][:] == made[3]["demo"]["id"][:]
    for some in made.values():
        assert set(some["demo"]["id"]) == set(made[0]["demo"]["id"])
        assert some["test"].to_list() == made[0]["test"].to_list()


def test_a_fingerprint_counts_and_changes_with_any_text():
    docs = four_docs()
    prints = splits.fingerprint(build(docs, FOUR))
    assert set(prints) == {"train", "validation", "test", "demo"}
    assert prints["test"] | {"hash": ""} == {"questions": 3, "articles": 1, "hash": ""}
    assert len(prints["test"]["hash"]) == 16
    assert splits.fingerprint(build(four_docs(), FOUR)) == prints
    assert splits.fingerprint({"test": [d for d in docs if d["title"] == "c"]})["test"] == prints["test"]
    docs[6]["question"] += "?"
    other = splits.fingerprint(build(docs, FOUR))
    assert other["test"]["hash"] != prints["test"]["hash"]
    assert other["train"] == prints["train"]


def test_without_titles_a_fingerprint_counts_passages():
    docs = [doc("1", "", "one"), doc("2", "", "one"), doc("3", "", "two")]
    assert splits.fingerprint({"test": docs})["test"]["articles"] == 2


# ---- leaks


def sides(**kwargs):
    empty = {split: [] for split in splits.SPLITS}
    return empty | kwargs


def test_no_leak_between_strangers_nor_between_a_data_set_and_itself():
    made = build(four_docs(), FOUR)
    other = sides(train=[doc("x", "X", "x")], test=[doc("y", "Y", "y")])
    assert splits.check_no_leak({"zeroshot": made, "oneshot": made, "other": other}) == []


@pytest.mark.parametrize(
    ("there", "counts"),
    [
        (doc("other", "steam  ENGINE", "other"), "1 articles, 0 passages and 0 questions (such as steam engine)"),
        (doc("other", "", "an  old\nEngine."), "0 articles, 1 passages and 0 questions"),
        (doc("q", "", "other"), "0 articles, 0 passages and 1 questions (such as q)"),
    ],
)
@pytest.mark.parametrize("split", ["validation", "test", "demo"])
def test_training_on_what_another_task_holds_out_is_a_leak(there, counts, split):
    here = sides(train=[doc("q", "Steam_engine", "An old engine.")])
    (problem,) = splits.check_no_leak({"squad": here, "xquad": sides(**{split: [there]})})
    assert problem.startswith(f"squad `train` and xquad `{split}` share {counts}")


def test_only_what_is_trained_on_can_leak():
    one, two = sides(train=[doc("q")]), sides(test=[doc("q")])
    assert splits.check_no_leak({"one": one, "two": two}, trained_on=["two"]) == []
    assert len(splits.check_no_leak({"one": one, "two": two}, trained_on=["one"])) == 1


@pytest.mark.parametrize(
    ("a", "b"),
    [("train", "test"), ("train", "validation"), ("train", "demo"), ("demo", "test"), ("validation", "test")],
)
def test_a_data_sets_own_splits_are_kept_apart_even_if_it_is_not_trained_on(a, b):
    (problem,) = splits.check_no_leak({"one": sides(**{a: [doc("q")], b: [doc("q")]})}, trained_on=[])
    assert f"`{a}`" in problem and f"`{b}`" in problem


def test_a_demonstration_of_a_task_trained_on_may_not_be_tested_elsewhere():
    one, two = sides(demo=[doc("q")]), sides(test=[doc("q")])
    assert len(splits.check_no_leak({"one": one, "two": two})) == 1


def test_a_data_set_of_another_shape_is_compared_by_what_it_has():
    import datasets

    rows = datasets.Dataset.from_list([{"id": 1, "context": "Some  passage.", "label": 0}])
    assert len(splits.check_no_leak({"one": {"train": rows}, "two": sides(test=[doc("q")])})) == 1
    assert splits.check_no_leak({"one": {"train": rows.remove_columns("context")}, "two": sides(test=[doc("1")])}) == []
