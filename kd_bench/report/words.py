"""Estimates as they stand in a report's cells, and what may be said of them."""

from kd_bench.leaderboard.escape import MISSING, percent
from kd_bench.leaderboard.rows import Measure
from kd_bench.leaderboard.statistics import Estimate, critical_t, pooled


def points(share: float, digits: int = 1) -> str:
    """0.012 -> +1.2: a difference in percentage points."""
    text = percent(share, digits)
    return f"+{text}" if share > 0 and float(text) > 0 else text


def difference(estimate: Estimate) -> str:
    """+1.2 [0.3, 2.1]; a dash where it is undefined."""
    if estimate.value is None:
        return MISSING
    if estimate.low is None:
        return points(estimate.value)
    return f"{points(estimate.value)} [{percent(estimate.low)}, {percent(estimate.high)}]"


def spread(measure: Measure | None) -> str:
    """The mean over seeds ± their standard deviation, where there are several."""
    if measure is None:
        return MISSING
    return percent(measure.value) + ("" if measure.std is None else f" ± {percent(measure.std)}")


def side(estimate: Estimate) -> int | None:
    """1 or -1 where the 95 % interval lies above or below 0, 0 where it has 0 in it; None without an interval."""
    if estimate.low is None:
        return None
    return 1 if estimate.low > 0 else -1 if estimate.high < 0 else 0


def verdict(estimate: Estimate, above: str, below: str) -> str:
    return {1: above, -1: below, 0: "not told apart", None: "no interval"}[side(estimate)]


def independent(value: float, parts: list[tuple[float, float] | None]) -> Estimate:
    """A sum or difference of independent parts, each (variance, degrees of freedom): Student's t with Satterthwaite's
    degrees of freedom. Without an interval where a part is None, not known, or all are 0."""
    if None in parts:
        return Estimate(value)
    parts = [part for part in parts if part[0] > 0]
    if not parts:
        return Estimate(value)
    total, freedom = pooled(parts)
    half = total**0.5 * critical_t(freedom)
    return Estimate(value, total**0.5, value - half, value + half)


def number(count: int, one: str, many: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"
