"""What a student's size can be: five axes, the classes on each, and who is efficient by it."""

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from statistics import fmean
from typing import NamedTuple, TypeVar

from kd_bench.errors import UserError
from kd_bench.leaderboard.escape import MISSING, hardware, millions, size
from kd_bench.leaderboard.ranks import efficient
from kd_bench.leaderboard.schema import Model, Result

Key = TypeVar("Key", bound=Hashable)
Sizes = dict[str, float | None]  # axis -> size, None where it was not measured


def speed(number: float | None) -> str:
    return MISSING if number is None else f"{number:,.{1 if number < 10 else 0}f}"


class Axis(NamedTuple):
    """bounds: where size classes begin. measured: on a machine, so that only students measured on the same one can be
    compared by it."""

    label: str
    written: Callable[[float | None], str]
    bounds: tuple[float, ...]
    measured: bool = False
    more_is_better: bool = False


WEIGHTS = (5e7, 1.25e8, 3e8, 7e8, 2e9, 4e9, 8e9, 1.6e10)
BYTES = (2.5e8, 5e8, 1e9, 2e9, 4e9, 8e9, 1.6e10, 3.2e10)
AXES = {
    "parameters": Axis("Parameters", millions, WEIGHTS),
    "parameters_without_embeddings": Axis("Parameters without embeddings", millions, WEIGHTS),
    "bytes_on_disk": Axis("Bytes on disk", size, BYTES),
    "evaluate_peak_memory_bytes": Axis("Peak memory of evaluation", size, BYTES, measured=True),
    "generated_tokens_per_second": Axis(
        "Generated tokens a second", speed, (10, 30, 100, 300, 1000, 3000), measured=True, more_is_better=True
    ),
}
DEFAULT = "parameters"


def known_axis(name: str) -> str:
    if name not in AXES:
        raise UserError("--size", f"{name!r} is no size; there are {', '.join(AXES)}.")
    return name


def sizes_of(model: Model, results: Iterable[Result]) -> Sizes:
    """The model's own sizes, and what was measured of it in `results`: the highest peak memory, the mean speed."""
    found: Sizes = {name: getattr(model, name) for name in AXES if not AXES[name].measured}
    for name, over in (("evaluate_peak_memory_bytes", max), ("generated_tokens_per_second", fmean)):
        values = [getattr(result.record.cost, name) for result in results]
        found[name] = over(values) if values and None not in values else None
    return found


def machine(results: Iterable[Result]) -> str | None:
    """The hardware that all of `results` were measured on; None if it is not known or not one. How much memory the
    machine has does not count: it changes with the container."""
    found = [{k: v for k, v in r.record.provenance.hardware.items() if k != "memory_bytes"} for r in results]
    texts = {hardware(parts) for parts in found}
    return (texts.pop() or None) if len(texts) == 1 else None


def order(axis: str, value: float | None) -> float:
    """Sorts the better size first and the unknown last."""
    return float("inf") if value is None else -value if AXES[axis].more_is_better else value


def efficient_by(students: Iterable[tuple[Key, float, Sizes, str | None]]) -> dict[Key, dict[str, bool | None]]:
    """{key: {axis: no other is as small and as good, and smaller or better}} of (key, value, sizes, machine).

    Axes that depend on the machine compare the students of each machine among themselves. None where a student's size
    was not measured, or was on a machine that is not known or had no other student.
    """
    students = list(students)
    found: dict[Key, dict[str, bool | None]] = {key: dict.fromkeys(AXES) for key, *_ in students}
    for name, axis in AXES.items():
        groups = defaultdict(list)
        for key, value, sizes, where in students:
            if sizes[name] is not None and (where is not None or not axis.measured):
                groups[where if axis.measured else None].append((key, order(name, sizes[name]), value))
        for places in groups.values():
            if axis.measured and len(places) == 1:
                continue
            best = efficient(places)
            for key, *_ in places:
                found[key][name] = key in best
    return found


def size_class(axis: str, value: float) -> tuple[int, str]:
    """(number of the class, what it spans): 1.1e8 parameters are in "50 M to 125 M"."""
    bounds = AXES[axis].bounds
    number = bisect_right(bounds, value)
    ends = bounds[number - 1], bounds[number % len(bounds)]
    low, high = (re.sub(r"\.0+(?= )", "", AXES[axis].written(bound)) for bound in ends)
    if number == 0:
        return number, f"under {high}"
    return number, f"{low} and more" if number == len(bounds) else f"{low} to {high}"
