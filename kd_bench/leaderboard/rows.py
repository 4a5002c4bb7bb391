"""What a table is made of. No computation."""

from dataclasses import dataclass, field
from typing import NamedTuple

from kd_bench.leaderboard.ranks import Standing
from kd_bench.leaderboard.schema import Floor, Result
from kd_bench.leaderboard.sizes import Sizes
from kd_bench.leaderboard.statistics import UNDEFINED, Estimate

Models = dict[tuple[str, str], list[Result]]  # (run, model name) -> its results, one a seed
NOT_STUDENTS = ("teacher", "other")


class Measure(NamedTuple):
    """A raw score: the mean over seeds, its standard error over passages and, with several seeds, the standard
    deviation between them."""

    value: float
    stderr: float | None
    std: float | None
    seeds: int


@dataclass(frozen=True)
class Row:
    """One model in one table. results: one a seed; empty if it was not measured on this task. siblings: equal for the
    rows of one student. sizes: by axis of `sizes.AXES`; machine: what it was measured on, where that is known and one.

    kept, above_floor: the plain ratio to the teacher and retention above the floor, of the headline metric; gap_closed:
    (student - undistilled) / (teacher - undistilled); fewer: 1 - parameters / teacher's parameters. rank: among the
    table's students, from 1, shared by those that can't be told apart; efficient: by axis, no other student is as small
    and keeps as much. A value of None is undefined.
    """

    run: str
    name: str
    role: str
    teacher: str | None
    siblings: str
    sizes: Sizes
    machine: str | None = None
    results: list[Result] = field(default_factory=list)
    scores: dict[str, Measure] = field(default_factory=dict)
    kept: Estimate = UNDEFINED
    above_floor: Estimate = UNDEFINED
    gap_closed: Estimate = UNDEFINED
    answerable_kept: float | None = None
    fewer: float | None = None
    standing: Standing | None = None
    rank: int | None = None
    efficient: dict[str, bool | None] = field(default_factory=dict)

    @property
    def parameters(self) -> int | None:
        return self.sizes["parameters"]


class Overall(NamedTuple):
    """A student over several tables: its mean retention above the floor, its rank, and the tasks it lacks (then it has
    neither). own: its rows there; row: the first row that it has."""

    row: Row
    own: list[Row]
    kept: Estimate
    rank: int | None
    sizes: Sizes
    efficient: dict[str, bool | None]
    missing: list[str]


class Ranking(NamedTuple):
    """The students over one set of tasks. tables: their numbers in the list of tables. whole: these are all tasks that
    runs were measured on, or those that were asked for; else it is a part of them, such as the zero-shot ones."""

    name: str
    tables: list[int]
    tasks: list[str]
    whole: bool
    students: list[Overall]


class Contrast(NamedTuple):
    """What distilling a student gains over training it without a teacher (or, where there is no such row, over leaving
    it as it is)."""

    distilled: Row
    other: Row
    change: Estimate


@dataclass(frozen=True)
class Table:
    """Everything measured on the same questions of one task."""

    task: str
    version: str
    num_fewshot: int
    split: str
    questions: int
    passages: int | None
    split_hash: str | None
    headline: str
    metrics: list[str]
    floor: Floor | None
    rows: list[Row]
    contrasts: list[Contrast]
    notes: list[str]
