import numpy as np
import pytest

from kd_bench.leaderboard.statistics import (
    Estimate,
    bootstrap_sums,
    clustered_stderr,
    difference,
    retention,
    with_seeds,
)


def drawn(seed=0, n=300, clusters=40):
    """Scores of a student, a teacher and a floor that share a passage's difficulty, and the uneven passages."""
    random = np.random.default_rng(seed)
    codes = np.sort(random.integers(clusters, size=n))
    easy = random.normal(0, 0.25, size=clusters)[codes]
    teacher, student = (np.clip(level + easy + random.normal(0, 0.2, n), 0, 1) for level in (0.8, 0.6))
    floor = (random.random(n) < 0.3).astype(float)
    return student, teacher, floor, [f"p{code}" for code in codes]


def test_clustered_stderr_by_hand():
    # Mean 0.5; the two clusters' residuals sum to +1 and -1; sqrt(2/1 * (1 + 1)) / 4 = 0.5.
    assert clustered_stderr([1, 1, 0, 0], ["a", "a", "b", "b"]) == pytest.approx(0.5)
    # Each cluster holds one right and one wrong answer: no cluster differs from another.
    assert clustered_stderr([1, 0, 1, 0], ["a", "a", "b", "b"]) == 0
    assert clustered_stderr([1, 0, 1, 0], ["a"] * 4) is None


def test_clustered_stderr_is_that_of_statsmodels():
    from statsmodels.api import OLS

    values, _, _, clusters = drawn()
    codes = np.unique(clusters, return_inverse=True)[1]
    fitted = OLS(values, np.ones(len(values))).fit(cov_type="cluster", cov_kwds={"groups": codes})
    assert clustered_stderr(values, clusters) == pytest.approx(fitted.bse[0], rel=1e-12)


def test_singleton_clusters_give_the_ordinary_standard_error():
    values = drawn()[0]
    expected = values.std(ddof=1) / np.sqrt(len(values))
    assert clustered_stderr(values, range(len(values))) == pytest.approx(expected)


def test_bootstrap_draws_whole_clusters_and_keeps_columns_paired():
    columns = np.array([[1.0, 10], [2, 20], [4, 40]])
    sums = bootstrap_sums(columns, ["a", "a", "b"], draws=500)
    # Cluster a sums to 3 and b to 4; two draws with replacement.
    assert set(sums[:, 0]) == {6.0, 7.0, 8.0}
    np.testing.assert_array_equal(sums[:, 1], 10 * sums[:, 0])


def test_bootstrap_is_the_same_in_parts_and_every_time(monkeypatch):
    columns, clusters = np.random.default_rng(0).random((300, 2)), list(range(300))
    first = bootstrap_sums(columns, clusters, draws=20_000)  # more than fits one part
    np.testing.assert_array_equal(first, bootstrap_sums(columns, clusters, draws=20_000))
    assert first.shape == (20_000, 2)
    assert first.std(axis=0) == pytest.approx(columns.std(axis=0) * np.sqrt(300), rel=0.03)


def test_difference_is_paired():
    student, teacher, _, clusters = drawn()
    found = difference(teacher, student, clusters)
    assert found.value == pytest.approx(teacher.mean() - student.mean())
    assert found.stderr == pytest.approx(clustered_stderr(teacher - student, clusters))
    # Passages that are hard for both do not count against either.
    unpaired = np.hypot(clustered_stderr(teacher, clusters), clustered_stderr(student, clusters))
    assert found.stderr < 0.5 * unpaired
    assert found.low == pytest.approx(found.value - 1.96 * found.stderr, abs=0.3 * found.stderr)
    assert found.high == pytest.approx(found.value + 1.96 * found.stderr, abs=0.3 * found.stderr)


def test_retention_by_hand():
    found = retention([0.5, 0.7] * 2, [0.8, 1.0] * 2, list("abcd"), floor=0.4)
    assert found.value == pytest.approx((0.6 - 0.4) / (0.9 - 0.4))
    assert retention([0.5, 0.7] * 2, [0.8, 1.0] * 2, list("abcd")).value == pytest.approx(0.6 / 0.9)
    assert retention([1.0, 0.0], [1.0, 0.0], ["a", "a"]).value == 1  # one passage: a value, no interval
    assert retention([1.0, 0.0], [1.0, 0.0], ["a", "a"]).low is None


def test_retention_interval_agrees_with_the_linearised_error():
    student, teacher, floor, clusters = drawn(n=2000, clusters=200)
    found = retention(student, teacher, clusters, floor)
    assert found.low < found.value < found.high
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(found.stderr, rel=0.1)


def test_retention_of_the_teacher_itself_is_certain():
    _, teacher, floor, clusters = drawn()
    assert retention(teacher, teacher, clusters, floor) == pytest.approx((1, 0, 1, 1))


def test_retention_is_undefined_where_the_teacher_is_not_above_the_floor():
    assert retention([0.2, 0.2], [0.5, 0.3], ["a", "b"], floor=0.4).value is None
    assert retention([0.2, 0.2], [0.1, 0.1], ["a", "b"], floor=0.4).value is None
    # Above it on average, below it on half of the passages: its lead may be none.
    assert retention([0.5] * 4, [1.0, 0.1, 0.9, 0.1], list("abcd"), floor=0.5).value is None
    # Clearly above it, but not in every draw: a ratio, without an interval.
    clear = retention([0.5] * 9, [0.9] * 6 + [0.0] * 3, list("abcdefghi"), floor=0.2)
    assert clear.value == pytest.approx(0.3 / 0.4)
    assert clear.low is None and clear.high is None


@pytest.mark.parametrize("keeps", [0.3, 0.6, 1.0])
def test_the_interval_of_retention_covers_the_truth(keeps):
    """Passages of one to eleven questions, each with its own difficulty for teacher and student."""
    held, trials = 0, 400
    for trial in range(trials):
        random = np.random.default_rng(trial)
        sizes = random.integers(1, 12, size=100)
        codes = np.repeat(np.arange(len(sizes)), sizes)
        easy = random.uniform(-0.25, 0.25, size=len(sizes))[codes]
        teacher = (random.random(len(codes)) < 0.7 + easy).astype(float)
        floor = 0.2
        student = (random.random(len(codes)) < floor + keeps * (0.7 + easy - floor)).astype(float)
        found = retention(student, teacher, codes, floor)
        held += found.low <= keeps <= found.high
    assert 0.93 <= held / trials <= 0.97


def test_seeds_add_their_variance():
    one = Estimate(0.5, 0.03, 0.44, 0.56)
    assert with_seeds(one, [0.5], 100) == one
    assert with_seeds(one, [0.5, 0.5], 100) == one
    both = with_seeds(one, [0.4, 0.5, 0.6], 100)
    assert both.stderr == pytest.approx((0.03**2 + 0.01 / 3) ** 0.5)
    assert both.value == 0.5 and both.high - 0.5 == pytest.approx(0.5 - both.low)
    assert 1.96 * both.stderr < both.high - 0.5 < 4.31 * both.stderr  # t with between 2 and infinitely many degrees
    assert with_seeds(Estimate(0.5), [0.4, 0.6], 100) == Estimate(0.5)


@pytest.mark.parametrize("scatter", [0.0, 0.05])
def test_the_interval_over_seeds_and_passages_covers_the_truth(scatter):
    """Three trainings whose ability scatters, measured on the same 60 passages of five questions."""
    held, trials = 0, 400
    for trial in range(trials):
        random = np.random.default_rng(trial)
        easy = np.repeat(random.uniform(-0.3, 0.3, size=60), 5)
        seeds = [(random.random(300) < 0.5 + easy + random.normal(0, scatter)).astype(float) for _ in range(3)]
        codes = np.repeat(np.arange(60), 5)
        found = difference(np.mean(seeds, axis=0), np.zeros(300), codes)
        found = with_seeds(found, [float(seed.mean()) for seed in seeds], 60)
        held += found.low <= 0.5 <= found.high
    assert held / trials >= 0.93
