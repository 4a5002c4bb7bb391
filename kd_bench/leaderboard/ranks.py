"""Who is better than whom, as far as the questions can tell: ranks that students share until a test tells them apart.

A student's standing is its retention above the floor, on one task or averaged over several that it was measured on. Two
students are compared on what they differ by, passage by passage (the passages of several tasks that are the same count
as one), so that what makes a passage hard for both counts against neither. All pairs are tested, Holm-corrected.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, variance
from typing import TypeVar

import numpy as np

from kd_bench.leaderboard.paired import aligned, floor_scores
from kd_bench.leaderboard.schema import Floor, Result
from kd_bench.leaderboard.statistics import LEVEL, Estimate, critical_t, pooled, with_seeds

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Standing:
    """value: mean retention. passages: {passage: what it moves the value by, to first order}; their squares, summed,
    are its variance. seeds: the value of each training seed alone."""

    value: float
    passages: dict[str, float]
    seeds: tuple[float, ...] = ()

    @property
    def seed_variance(self) -> float:
        return variance(self.seeds) / len(self.seeds) if len(self.seeds) > 1 else 0.0

    def estimate(self) -> Estimate:
        """With the linearised error over passages, that over seeds, and Student's t for the interval."""
        count = len(self.passages)
        if count < 2:
            return Estimate(self.value)
        error = (count / (count - 1) * sum(moved * moved for moved in self.passages.values())) ** 0.5
        half = error * critical_t(count - 1)
        within = Estimate(self.value, error, self.value - half, self.value + half)
        return with_seeds(within, list(self.seeds), count)


def standing(student: list[Result], teacher: list[Result], metric: str, floor: Floor | None) -> Standing | None:
    """On one task; None where the questions can't be paired, or the teacher is not above the floor.

    Linearised as the standard error of `statistics.retention` is: question q moves (student - floor) / (teacher -
    floor) by (student_q - floor_q - value (teacher_q - floor_q)) / sum(teacher - floor).
    """
    pairs = aligned(student, teacher, metric)
    base = floor_scores(floor, student, metric)
    if pairs is None or base is None:
        return None
    names, clusters, mine, best = pairs
    bottom = np.array([base[name] for name in names]) if not isinstance(base, float | int) else float(base)
    gained, lead = np.asarray(mine) - bottom, np.asarray(best) - bottom
    if not lead.mean() > 1e-12:
        return None
    value = float(gained.mean() / lead.mean())
    passages: dict[str, float] = defaultdict(float)
    for cluster, moved in zip(clusters, (gained - value * lead) / lead.sum()):
        passages[cluster] += float(moved)
    bottom = float(np.mean(bottom))
    seeds = tuple((r.record.scores[metric].value - bottom) / float(lead.mean()) for r in student)
    return Standing(value, dict(passages), seeds)


def over_tasks(standings: Sequence[Standing]) -> Standing:
    """The mean over tasks. Seeds are matched by their order where every task has as many, else not counted."""
    passages: dict[str, float] = defaultdict(float)
    for some in standings:
        for name, moved in some.passages.items():
            passages[name] += moved / len(standings)
    counts = {len(some.seeds) for some in standings}
    seeds = tuple(map(fmean, zip(*(some.seeds for some in standings)))) if len(counts) == 1 else ()
    return Standing(fmean(some.value for some in standings), dict(passages), seeds)


def p_value(a: Standing, b: Standing) -> float:
    """Two-sided, of as large a difference if a and b kept the same: t over passages, seeds' variance added; 1 where
    nothing differs or one passage is all there is."""
    from scipy.stats import t

    moved = [a.passages.get(name, 0.0) - b.passages.get(name, 0.0) for name in sorted({*a.passages, *b.passages})]
    count = len(moved)
    if count < 2:
        return 1.0
    within = count / (count - 1) * sum(value * value for value in moved)
    parts = [(within, count - 1), *((some.seed_variance, len(some.seeds) - 1) for some in (a, b))]
    parts = [part for part in parts if part[0] > 0]
    if not parts:
        return 1.0 if a.value == b.value else 0.0
    total, freedom = pooled(parts)
    return float(2 * t.sf(abs(a.value - b.value) / total**0.5, freedom))


def ranks(standings: Mapping[Key, Standing]) -> dict[Key, int]:
    """{key: rank from 1}, dense. The best is 1, and with it all that no test tells apart from it; the best of the
    others is 2, and so on. Tests of all pairs, Holm-corrected (1979) at 5 %."""
    from statsmodels.stats.multitest import multipletests

    names = sorted(standings, key=lambda name: (-standings[name].value, name))
    pairs = list(combinations(names, 2))
    apart = set()
    if pairs:
        rejected = multipletests([p_value(*map(standings.get, pair)) for pair in pairs], 1 - LEVEL, "holm")[0]
        apart = {pair for pair, told in zip(pairs, rejected) if told}
    found: dict[Key, int] = {}
    best, rank = None, 0
    for name in names:
        if best is None or (best, name) in apart:
            best, rank = name, rank + 1
        found[name] = rank
    return found


def efficient(places: Iterable[tuple[Key, float, float]]) -> set[Key]:
    """Of (key, size, value), the Pareto-efficient keys: no other is as small and as good, and smaller or better."""
    places = list(places)
    return {
        name
        for name, size, value in places
        if not any(s <= size and v >= value and (s < size or v > value) for _, s, v in places)
    }
