"""Validation against test: where a model's two scores disagree, and disagree more than its teacher's do."""

from statistics import fmean, variance
from typing import NamedTuple

from kd_bench.leaderboard.cells import metric_name
from kd_bench.leaderboard.escape import code, grid, percent
from kd_bench.leaderboard.ranking import measures
from kd_bench.leaderboard.rows import Row, Table
from kd_bench.leaderboard.schema import Result, Score
from kd_bench.leaderboard.statistics import UNDEFINED, Estimate
from kd_bench.report.study import Study, model, on_validation
from kd_bench.report.words import difference, independent, number, side

READING = """\
Validation minus test, in points, with the 95 % interval. The two splits have other articles, so their errors are
independent: the clustered variances of both are added, and that of the difference over seeds. **†** marks a model whose
interval leaves out 0: its validation score does not tell its test score, which is the study's own sign of a student
that fails. Articles differ in difficulty, and the teacher met the same ones: **‡** marks a student that is marked † and
whose difference is also another than its teacher's, by the 95 % interval of the two differences' difference. (The
answers on the validation split are not kept, so student and teacher are taken as independent there and on the test
split, which makes that interval too wide rather than too narrow.) Without any disagreement about one interval in twenty
would be marked †."""
ABSENT = "No scores on the validation split: a study with `evaluation: {split: both}` makes them."


class Gap(NamedTuple):
    """validation, test: means over the seeds that have both. change: their difference. beyond: by how much more they
    differ than the teacher's."""

    table: Table
    row: Row
    validation: float
    test: float
    change: Estimate
    beyond: Estimate

    @property
    def flag(self) -> str:
        if not side(self.change):
            return ""
        return "‡" if side(self.beyond) else "†"


def gaps(study: Study) -> list[Gap]:
    found = []
    for table in study.tables:
        metric = table.headline
        known = {(row.run, row.name): row for row in table.rows}
        for row in study.rows(table):
            parts = parts_of(row.results, metric)
            teacher = known.get((row.run, row.teacher))
            theirs = parts_of(teacher.results, metric) if teacher else None
            if parts is None:
                continue
            validation, test, variances = parts
            beyond = UNDEFINED
            if theirs:
                change = (validation - test) - (theirs[0] - theirs[1])
                beyond = independent(change, [*variances, *theirs[2]])
            found.append(Gap(table, row, validation, test, independent(validation - test, variances), beyond))
    return found


def parts_of(results: list[Result], metric: str) -> tuple[float, float, list] | None:
    """(mean validation score, mean test score, the independent parts of their difference's variance, each with its
    degrees of freedom, None for one that is not known); None without a validation score."""
    pairs = [(r, s) for r in results for s in on_validation([r]) if metric in s.record.scores]
    if not pairs:
        return None
    test, validation = [[pair[i] for pair in pairs] for i in (0, 1)]
    parts = [over_passages(validation, metric), over_passages(test, metric)]
    seeds = [s.record.scores[metric].value - r.record.scores[metric].value for r, s in pairs]
    if len(seeds) > 1:
        parts.append((variance(seeds) / len(seeds), len(seeds) - 1))
    return measures(validation)[metric].value, measures(test)[metric].value, parts


def over_passages(results: list[Result], metric: str) -> tuple[float, float] | None:
    """(variance of the mean score, degrees of freedom) by the stored clustered errors."""
    error, score = measures(results)[metric].stderr, results[0].record.scores[metric]
    clusters = drawn_at_random(score)
    return None if error is None or clusters < 2 else (error**2, clusters - 1)


def drawn_at_random(score: Score) -> int:
    return score.n if score.clusters is None else score.clusters


def section(study: Study) -> list[str] | str:
    found = gaps(study)
    if not found:
        return ABSENT
    lines = [
        [
            code(gap.table.task),
            study.called(model(gap.row), gap.row.run),
            metric_name(gap.table.headline),
            percent(gap.validation),
            percent(gap.test),
            difference(gap.change),
            difference(gap.beyond),
            gap.flag,
        ]
        for gap in found
    ]
    students = [gap for gap in found if gap.row.role not in ("teacher", "other")]
    flags = [gap.flag for gap in students]
    mean = f" Students' mean difference: {percent(fmean(g.change.value for g in students))} points." if students else ""
    told = (
        f"Of {number(len(flags), 'student row')}, {len(flags) - flags.count('')} are marked † or ‡,"
        f" {flags.count('‡')} of them ‡.{mean}"
    )
    headers = ["Task", "Model", "Score", "Validation", "Test", "Difference", "Beyond the teacher's", "Mark"]
    return ["## Validation against test", READING, told, grid(lines, headers, left=3)]
