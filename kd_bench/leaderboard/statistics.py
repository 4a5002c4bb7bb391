"""How sure a score is. Questions of one passage stand or fall together, so passages are what is drawn at random, never
single questions.

Pure numpy on arrays of one value a question. Everything is deterministic: the bootstrap has a fixed seed and uses the
legacy `RandomState`, whose stream numpy promises never to change (`default_rng` may change with any numpy release, and
with it a table's bytes).
"""

from statistics import variance
from typing import NamedTuple

import numpy as np

DRAWS = 2000
LEVEL = 0.95


class Estimate(NamedTuple):
    """A value, its standard error and the ends of its 95 % interval; None where undefined."""

    value: float | None
    stderr: float | None = None
    low: float | None = None
    high: float | None = None


UNDEFINED = Estimate(None)


def cluster_codes(clusters) -> tuple[np.ndarray, int]:
    """([n] int: which cluster each question belongs to, number of clusters)."""
    names, codes = np.unique(np.asarray(clusters), return_inverse=True)
    return codes.reshape(-1), len(names)


def clustered_stderr(values, clusters) -> float | None:
    """Standard error of the mean of `values` [n], clustered by `clusters` [n]; None with fewer than two clusters.

    The clustered standard error of "Adding Error Bars to Evals" (arXiv 2411.00640) with the small-sample factor G / (G
    - 1) over it: sqrt(G / (G - 1) * sum over clusters of (sum of that cluster's residuals)^2) / n. It equals
    statsmodels' `OLS(values, 1).fit(cov_type="cluster")`; with a cluster a question it is the ordinary standard error.
    """
    values = np.asarray(values, dtype=np.float64)
    codes, count = cluster_codes(clusters)
    if count < 2:
        return None
    sums = np.bincount(codes, weights=values - values.mean(), minlength=count)
    return float(np.sqrt(count / (count - 1) * (sums @ sums)) / len(values))


def bootstrap_sums(columns: np.ndarray, clusters, *, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Sums of each of `columns` [n, k] over whole clusters drawn with replacement, as many as there are: [draws, k].

    One draw takes the same clusters for every column, so what is computed from two columns is paired.
    """
    codes, count = cluster_codes(clusters)
    columns = np.asarray(columns, dtype=np.float64)
    totals = np.stack([np.bincount(codes, weights=column, minlength=count) for column in columns.T], axis=1)
    random = np.random.RandomState(seed)
    # A few draws at a time: with a cluster a question and 10,000 questions, all at once would take gigabytes.
    step = max(1, 2_000_000 // count)
    parts = [
        totals[random.randint(count, size=(min(step, draws - i), count))].sum(axis=1) for i in range(0, draws, step)
    ]
    return np.concatenate(parts)


def difference(a, b, clusters) -> Estimate:
    """mean(a) - mean(b) over the same questions [n], with the paired clustered standard error and percentile
    interval."""
    change = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    stderr = clustered_stderr(change, clusters)
    if stderr is None:
        return Estimate(float(change.mean()))
    sums = bootstrap_sums(np.stack([change, np.ones_like(change)], axis=1), clusters)
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [0.025, 0.975])
    return Estimate(float(change.mean()), stderr, float(low), float(high))


def retention(student, teacher, clusters, floor=0.0) -> Estimate:
    """(student - floor) / (teacher - floor): what the student keeps of what the teacher has above the floor.

    student, teacher [n]: scores on the same questions. floor: the constant answer's scores on those questions [n], or
    one number where they are not known (it is then taken as certain). floor 0 gives the plain ratio. Returns UNDEFINED
    if the teacher is not clearly above the floor: if the 95 % interval of its lead (clustered t) reaches 0, as it is
    then that a ratio to it has no finite interval (Fieller 1954). The standard error is linearised: that of the mean
    of (student - floor) - value * (teacher - floor), over the teacher's lead. The interval is a percentile bootstrap
    over clusters; None if the teacher is at or below the floor in any draw.
    """
    student, teacher = np.asarray(student, dtype=np.float64), np.asarray(teacher, dtype=np.float64)
    gained, lead = student - floor, teacher - floor
    error = clustered_stderr(lead, clusters)
    if not lead.mean() > (1e-12 if error is None else max(1e-12, error * critical_t(cluster_codes(clusters)[1] - 1))):
        return UNDEFINED
    value = float(gained.mean() / lead.mean())
    stderr = clustered_stderr(gained - value * lead, clusters)
    if stderr is None:
        return Estimate(value)
    sums = bootstrap_sums(np.stack([gained, lead], axis=1), clusters)
    if sums[:, 1].min() <= 0:
        return Estimate(value)
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [0.025, 0.975])
    return Estimate(value, float(stderr / lead.mean()), float(low), float(high))


def with_seeds(estimate: Estimate, seeds: list[float], clusters: int) -> Estimate:
    """`estimate`, an average over seeds, with what training again would have changed in its error too.

    seeds: the value of each seed alone. clusters: how many passages the estimate's own error comes from. The variance
    of the average over seeds, s^2 / seeds, is added to that over passages; the interval is Student's t with
    Satterthwaite's degrees of freedom (1946). Unchanged with one seed, or where there is no error to add to.
    """
    if len(seeds) < 2 or estimate.stderr is None or clusters < 2:
        return estimate
    within, between = estimate.stderr**2, variance(seeds) / len(seeds)
    if not between > 0:
        return estimate
    total, freedom = pooled([(within, clusters - 1), (between, len(seeds) - 1)])
    stderr = float(np.sqrt(total))
    half = stderr * critical_t(freedom)
    return Estimate(estimate.value, stderr, estimate.value - half, estimate.value + half)


def pooled(parts: list[tuple[float, float]]) -> tuple[float, float]:
    """(variance, degrees of freedom) of a sum of independent parts, each (variance above 0, its degrees of freedom);
    Satterthwaite's approximation (1946)."""
    total = sum(variance for variance, _ in parts)
    return total, total**2 / sum(variance**2 / freedom for variance, freedom in parts)


def critical_t(freedom: float) -> float:
    """How many standard errors a 95 % interval reaches on either side."""
    from scipy.stats import t

    return float(t.ppf((1 + LEVEL) / 2, freedom))
