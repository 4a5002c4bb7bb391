from itertools import combinations

import numpy as np
import pytest
from scipy.stats import t

from kd_bench.leaderboard.paired import retained
from kd_bench.leaderboard.ranks import Standing, efficient, over_tasks, p_value, ranks, standing
from kd_bench.leaderboard.schema import Floor
from tests.leaderboard.made import lines, result

NOTHING = Floor(answer="", scores={"f1": 0.0})


def models(*levels, questions=200, seed=0):
    """Results of models that are right on about these shares of the same questions, passages of two."""
    random = np.random.default_rng(seed)
    hard = random.random(questions)
    return [
        result(lines([float(h < level) for h in np.clip(hard + random.normal(0, 0.05, questions), 0, 1)]), f"m{i}")
        for i, level in enumerate(levels)
    ]


def test_a_standing_is_the_retention_with_its_linearised_error():
    teacher, student = models(0.9, 0.6)
    found, known = standing([student], [teacher], "f1", NOTHING), retained([student], [teacher], "f1", 0.0)
    assert found.value == pytest.approx(known.value)
    count = len(found.passages)
    error = (count / (count - 1) * sum(moved**2 for moved in found.passages.values())) ** 0.5
    assert error == pytest.approx(known.stderr)
    assert standing([student], [teacher], "f1", None) is None


def test_p_values_are_those_of_a_permutation_test():
    """Exact by brute force: under the null the sign of each passage's difference is a coin's toss."""
    random = np.random.default_rng(5)
    moved = random.normal(0.07, 0.1, size=14)
    a = Standing(float(moved.sum()), {str(i): float(m - moved.mean()) for i, m in enumerate(moved)})
    signs = np.array(np.meshgrid(*[[1, -1]] * 14)).reshape(14, -1)
    exact = np.mean(np.abs(moved @ signs) >= abs(moved.sum()) - 1e-12)
    assert 0.01 < exact < 0.2
    assert p_value(a, Standing(0.0, {})) == pytest.approx(exact, rel=0.25)


def test_ranks_are_those_of_holms_steps_written_out():
    """Holm 1979: the k-th smallest of m p-values is held against 0.05 / (m - k + 1), until one fails."""
    told_apart = set()
    for seed in range(30):
        random = np.random.default_rng(seed)
        own = {}
        for name, level in zip("abcd", (0.6, 0.55, 0.4, 0.3)):
            moved = random.normal(0, 0.01, size=25)
            own[name] = Standing(level, {str(i): float(m - moved.mean()) for i, m in enumerate(moved)})
        p = sorted((p_value(own[x], own[y]), x, y) for x, y in combinations("abcd", 2))
        apart = set()
        for step, (value, x, y) in enumerate(p):
            if value > 0.05 / (len(p) - step):
                break
            apart.add((x, y))
        expected, best, rank = {}, None, 0
        for name in "abcd":  # the best first
            if best is None or (best, name) in apart:
                best, rank = name, rank + 1
            expected[name] = rank
        assert ranks(own) == expected
        told_apart.add(len(apart))
    assert len(told_apart) > 2  # some seeds tell more apart than others: the steps mattered


def test_the_test_of_one_task_is_a_clustered_regression():
    """With the same teacher and no floor: OLS of the questions' differences on a constant, clustered by passage."""
    from statsmodels.api import OLS

    teacher, a, b = models(0.9, 0.6, 0.55)
    standings = [standing([some], [teacher], "f1", NOTHING) for some in (a, b)]
    scores = [np.array([line["scores"]["f1"] for line in some.samples]) for some in (teacher, a, b)]
    codes = np.arange(200) // 2
    slope = (scores[1].sum() - scores[2].sum()) / scores[0].sum()
    moved = scores[1] - scores[2] - slope * scores[0]  # linearised: what is left of the difference of the ratios
    fitted = OLS(moved, np.ones(200)).fit(cov_type="cluster", cov_kwds={"groups": codes}, use_t=True)
    ratio = slope * scores[0].mean() / fitted.bse[0]
    assert p_value(*standings) == pytest.approx(2 * t.sf(abs(ratio), 99))


def test_models_share_a_rank_until_they_are_told_apart():
    teacher, *students = models(0.95, 0.8, 0.79, 0.5, 0.49, 0.1)
    found = ranks({s.record.model.name: standing([s], [teacher], "f1", NOTHING) for s in students})
    assert found == {"m1": 1, "m2": 1, "m3": 2, "m4": 2, "m5": 3}
    assert ranks({}) == {} and ranks({"a": Standing(1.0, {})}) == {"a": 1}


def test_no_model_is_told_apart_from_its_equal_more_often_than_five_per_cent():
    teacher, *students = models(0.95, *[0.6] * 6, questions=120)
    assert set(ranks({s.record.model.name: standing([s], [teacher], "f1", NOTHING) for s in students}).values()) == {1}
    wrong = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        three = {}
        for name in "abc":
            moved = random.normal(0, 0.1, size=40)
            three[name] = Standing(float(moved.sum()), {str(i): float(m - moved.mean()) for i, m in enumerate(moved)})
        wrong += max(ranks(three).values()) > 1
    assert wrong / 200 < 0.09  # 5 % and two and a half standard errors


def test_seeds_that_scatter_make_it_harder_to_tell_apart():
    passages = {str(i): 0.01 * (-1) ** i for i in range(40)}
    best, steady = Standing(0.8, passages), Standing(0.6, {})
    assert p_value(best, steady) < 0.05
    assert p_value(best, Standing(0.6, {}, (0.4, 0.6, 0.8))) > 0.05


def test_over_tasks_the_same_passages_count_once():
    one = Standing(0.5, {"p": 0.1, "q": -0.1}, (0.4, 0.6))
    both = over_tasks([one, Standing(0.7, {"p": 0.1, "q": -0.1}, (0.6, 0.8))])
    assert both.value == pytest.approx(0.6)
    assert both.passages == pytest.approx({"p": 0.1, "q": -0.1})
    assert both.seeds == pytest.approx((0.5, 0.7))
    apart = over_tasks([one, Standing(0.7, {"r": 0.1, "s": -0.1})])
    assert apart.passages == pytest.approx({"p": 0.05, "q": -0.05, "r": 0.05, "s": -0.05})
    assert apart.seeds == ()


def test_efficient_ones():
    places = [("small", 1, 0.5), ("waste", 2, 0.4), ("big", 3, 0.9), ("twin", 3, 0.9), ("worse", 3, 0.8)]
    assert efficient(places) == {"small", "big", "twin"}
    assert efficient([]) == set()
