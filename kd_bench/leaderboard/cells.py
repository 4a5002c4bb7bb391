"""What stands in the cells of LEADERBOARD.md's tables."""

from kd_bench.leaderboard.escape import MISSING, escape, percent
from kd_bench.leaderboard.ranking import ANSWERABLE
from kd_bench.leaderboard.rows import Measure, Overall, Row, Table
from kd_bench.leaderboard.sizes import AXES, DEFAULT
from kd_bench.leaderboard.statistics import Estimate

ROLES = {"sft": "fine-tuned"}
METRICS = {"f1": "F1", "em": "EM", "rougeL": "ROUGE-L", ANSWERABLE: "F1, answerable"}


def metric_name(metric: str) -> str:
    return METRICS.get(metric) or escape(metric.replace("_", " "))


def score(measure: Measure | None) -> str:
    if measure is None:
        return MISSING
    text = percent(measure.value)
    if measure.stderr is not None:
        text += f" ± {percent(measure.stderr)}"
    return text if measure.std is None else f"{text} (sd {percent(measure.std)})"


def share(estimate: Estimate) -> str:
    if estimate.value is None:
        return MISSING
    interval = "" if estimate.low is None else f" [{percent(estimate.low, 0)}, {percent(estimate.high, 0)}]"
    return f"{percent(estimate.value, 0)} %{interval}"


def place(rank: int | None, efficient: dict[str, bool | None], axis: str) -> str:
    return MISSING if rank is None else f"{rank} ◆" if efficient.get(axis) else str(rank)


def floor_score(table: Table, metric: str) -> str:
    value = table.floor.scores.get(metric) if table.floor else None
    return MISSING if value is None else percent(value)


def resized(row: Row) -> str:
    """How much smaller than its teacher, as a change: "−19.7 %"."""
    if row.fewer is None:
        return MISSING
    return f"{'+' if row.fewer < 0 else ''}{percent(-row.fewer)} %"


def sized(some: Row | Overall, axis: str) -> str:
    """Its size, and in brackets how many fewer parameters than its teacher it has, where these are the size."""
    row = some.row if isinstance(some, Overall) else some
    text = AXES[axis].written(some.sizes[axis])
    return f"{text} ({resized(row)})" if axis == DEFAULT and row.fewer is not None else text
