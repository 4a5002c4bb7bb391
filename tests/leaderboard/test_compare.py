import numpy as np
import pytest
from scipy.stats import binomtest

from kd_bench.errors import UserError
from kd_bench.leaderboard.compare import compare, find, pairs, together
from kd_bench.leaderboard.schema import Result
from kd_bench.leaderboard.statistics import difference
from tests.leaderboard.made import lines, result
from tests.leaderboard.test_ranking import GOOD, POOR, squad

A = [1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0]
B = [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0]


def right_or_wrong(scores, name, **changes):
    return result(lines(scores, metric="em"), name, **changes)


def test_the_difference_is_the_leaderboards_and_the_largest_comes_first():
    made = compare([squad(GOOD, "a")], [squad(POOR, "b")])
    assert (made.task, made.metric, made.count, made.passages) == ("toy", "f1", 8, 4)
    assert (made.a, made.b) == (0.75, 0.5625)
    assert made.change == difference(GOOD, POOR, [f"p{i // 2}" for i in range(8)])
    assert [(q.id, q.a - q.b) for q in made.questions] == [("q0", 0.5), ("q4", 0.5), ("q6", 0.5)]
    assert made.questions[0].a_wrote == ["answer 0"]
    assert made.same_answer == 1.0


def test_mcnemar_is_the_exact_binomial_test_on_the_questions_that_one_alone_got_right():
    test = compare([right_or_wrong(A, "a")], [right_or_wrong(B, "b")]).mcnemar
    assert test[:5] == ("em", 1, 4, 1, 2)
    assert test.p_value == pytest.approx(binomtest(1, 5).pvalue)
    assert compare([squad(GOOD)], [squad(POOR)]).mcnemar is None  # no score is right or wrong


def test_mcnemar_is_that_of_a_two_by_two_table():
    """Written out: Bin(n, 1/2), twice its smaller tail."""
    from math import comb

    random = np.random.default_rng(3)
    a, b = ((random.random(200) < share).astype(float).tolist() for share in (0.6, 0.5))
    only_a, only_b = (sum(x > y for x, y in zip(p, q)) for p, q in ((a, b), (b, a)))
    test = compare([right_or_wrong(a, "a")], [right_or_wrong(b, "b")]).mcnemar
    count = only_a + only_b
    assert (test.only_a, test.only_b, sum(test[1:5])) == (only_a, only_b, 200)
    assert test.p_value == pytest.approx(2 * sum(comb(count, k) for k in range(min(only_a, only_b) + 1)) / 2**count)


def test_kinds_of_question():
    made = compare(
        [squad(GOOD, "a")],
        [squad(POOR, "b")],
        kinds={"half": {f"q{i}": "late" if i > 3 else "early" for i in range(7)}},
    )
    assert [(k.by, k.kind, k.questions, k.a, k.b) for k in made.kinds] == [
        ("answer", "answerable", 4, 0.5, 0.125),
        ("answer", "unanswerable", 4, 1.0, 1.0),
        ("half", "early", 4, 0.75, 0.625),
        ("half", "late", 3, pytest.approx(2 / 3), pytest.approx(1 / 3)),
    ]
    assert made.kinds[2].change.value == pytest.approx(0.125)


def on(task, a, b, shots=0, **changes):
    """The two sides on one task; its passages are its own unless it is the same data set in another prompt."""
    at = {"task__name": task, "task__num_fewshot": shots, **changes}
    return [squad(a, "a", **at)], [squad(b, "b", **at)]


def test_several_tasks_together_and_the_kinds_of_task():
    found = [on("x_kd_oneshot", GOOD, POOR, 1), on("x_kd_zeroshot", POOR, POOR), on("x_kd_de_zeroshot", POOR, GOOD)]
    made = together(found)
    assert (made.task, made.metric, made.count, made.mcnemar, made.questions) == (
        "all 3 tasks together",
        "f1",
        24,
        None,
        [],
    )
    assert made.passages == 4  # the same passages in each
    assert made.change.value == pytest.approx(0)
    kinds = {(k.by, k.kind): k for k in made.kinds if k.by != "answer"}
    gap = 0.75 - 0.5625
    assert {key: (k.questions, pytest.approx(k.change.value)) for key, k in kinds.items()} == {
        ("language", "en"): (16, gap / 2),
        ("language", "de"): (8, -gap),
        ("prompt", "one-shot"): (8, gap),
        ("prompt", "zero-shot"): (16, -gap / 2),
    }  # one data set tells nothing apart
    # A question in two prompts is one draw of its passage, not two.
    both = [[x + y for x, y in zip(GOOD, POOR)], [2 * y for y in POOR]]
    once = difference(*both, [f"p{i // 2}" for i in range(8)])
    assert kinds["language", "en"].change.stderr == pytest.approx(once.stderr / 2)
    assert together(found[:1]) is None and together(found, "em") is None
    assert together([on("x_kd_zeroshot", GOOD, POOR, seed=0), on("y_kd_zeroshot", GOOD, POOR, seed=1)]) is None


def test_several_seeds_are_averaged_and_have_no_mcnemar():
    made = compare([right_or_wrong(A, "a", seed=0), right_or_wrong(B, "a", seed=1)], [right_or_wrong(B, "b")])
    assert made.a == pytest.approx((0.625 + 0.25) / 2)
    assert made.mcnemar is None and made.same_answer is None
    assert made.questions[0].a_wrote == ["answer 1", "answer 1"]


def test_what_cannot_be_paired_is_refused():
    with pytest.raises(UserError, match="can't be paired"):
        compare([Result(squad(GOOD).record, None)], [squad(POOR)])
    with pytest.raises(UserError, match="can't be paired"):
        compare([squad(GOOD[:6])], [squad(POOR)])
    with pytest.raises(UserError, match="no score acc of both; there are f1"):
        compare([squad(GOOD)], [squad(POOR)], "acc")


def test_models_are_found_by_name_and_tasks_paired():
    here, there = squad(GOOD, "a"), squad(POOR, "a", provenance__run="other")
    assert find([here, squad(POOR, "b")], "a") == [here]
    assert find([here, there], "other/a") == [there]
    with pytest.raises(UserError, match="names several models: say which of other/a, run/a"):
        find([here, there], "a")
    with pytest.raises(UserError, match="there are run/a"):
        find([here], "c")
    second = squad(GOOD, "a", task__name="toy2")
    both, notes = pairs([here, second], [squad(POOR, "b")])
    assert [left for left, _ in both] == [[here]]
    assert notes == ["toy2: left out, there is no record of both on the same questions"]
