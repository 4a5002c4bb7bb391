"""What a demonstration in the prompt gains a model, against its size, and where it stops helping."""

from collections import defaultdict
from itertools import product
from typing import NamedTuple

from kd_bench.leaderboard.cells import metric_name
from kd_bench.leaderboard.escape import code, escape, grid, millions, percent
from kd_bench.leaderboard.paired import change, mean_score
from kd_bench.leaderboard.ranking import headline_of
from kd_bench.leaderboard.rows import Row
from kd_bench.leaderboard.schema import Model, Result
from kd_bench.leaderboard.statistics import Estimate
from kd_bench.report.draw import Plot, dodged, error_bars, looks, plot, size_axis, zero_line
from kd_bench.report.study import Study, method_of, model, questions_name, same_questions, size_then_method
from kd_bench.report.words import difference, side, verdict

TITLE = "## One-shot gain"
READING = """\
One-shot minus zero-shot score of the same student, method and seeds, in points, with the 95 % interval: paired by
question, over passages, and over seeds where there are several. Where the two are models of two runs, each was trained
on its own prompts."""
ABSENT = "No model was measured both zero-shot and one-shot: a study with both tasks of a data set makes them."


class Gain(NamedTuple):
    questions: str
    model: Model
    variant: str
    metric: str
    zero: float
    one: float
    change: Estimate


def gains(study: Study) -> list[Gain]:
    """By data set and method, the largest model first."""
    groups = defaultdict(lambda: defaultdict(list))
    for table in study.tables:
        groups[same_questions(table)][table.num_fewshot].append(table)
    found = []
    for shots in groups.values():
        for zero, one in product(shots[0], shots[1]):
            known = {_which(study, row): row for row in study.rows(one)}
            for row in study.rows(zero):
                other = known.get(_which(study, row))
                pair = same_seeds(other.results, row.results) if other else ([], [])
                metrics = set.intersection(*(set(r.record.scores) for own in pair for r in own)) if all(pair) else ()
                if metrics:
                    metric = headline_of(metrics)
                    ends = mean_score(pair[1], metric), mean_score(pair[0], metric)
                    who = questions_name(zero), model(row), study.variants[row.run], metric
                    found.append(Gain(*who, *ends, change(*pair, metric)))
    return sorted(found, key=lambda gain: (gain.questions, gain.variant, *size_then_method(gain.model)))


def _which(study: Study, row: Row) -> tuple:
    """Equal for one model in two prompt settings: two runs may call students of different sizes by one name."""
    return row.name, model(row).parameters, study.variants[row.run]


def same_seeds(a: list[Result], b: list[Result]) -> tuple[list[Result], list[Result]]:
    common = {result.record.seed for result in a} & {result.record.seed for result in b}
    return tuple([result for result in side if result.record.seed in common] for side in (a, b))


def section(study: Study) -> list[str | Plot] | str:
    found = gains(study)
    if not found:
        return ABSENT
    lines = [
        [
            gain.questions,
            code(gain.model.name) + (f", {escape(gain.variant)}" if gain.variant else ""),
            millions(gain.model.parameters),
            metric_name(gain.metric),
            percent(gain.zero),
            percent(gain.one),
            difference(gain.change),
            verdict(gain.change, "**helps**", "**hurts**"),
        ]
        for gain in found
    ]
    headers = ["Questions", "Model", "Parameters", "Score", "Zero-shot", "One-shot", "Gain", "Verdict"]
    parts = [TITLE, READING, grid(lines, headers, left=2), "\n".join(f"- {said}" for said in stops(found))]
    sized = [gain for gain in found if gain.model.parameters]
    return [*parts, drawn(study, sized)] if sized else parts


def stops(found: list[Gain]) -> list[str]:
    """For each method where, from the largest student down, one-shot no longer helps."""
    groups = defaultdict(list)
    for gain in found:
        if gain.model.student and side(gain.change) is not None:
            groups[gain.questions, method_of(gain.model), gain.variant].append(gain)
    told = []
    for (questions, method, variant), own in sorted(groups.items()):
        helped = [i for i, gain in enumerate(own) if side(gain.change) == 1]
        hurt = [gain for gain in own if side(gain.change) == -1]
        if not helped:
            text = f"no gain can be told from none at any size, {named(own)}"
        elif helped[-1] == len(own) - 1:
            text = f"one-shot still helps at the smallest measured, {named(own[-1:])}"
        else:
            text = (
                f"one-shot last helps at {named([own[helped[-1]]])} and stops helping at {named([own[helped[-1] + 1]])}"
            )
        if hurt:
            text += f"; it hurts at {named(hurt)}"
        who = code(method) + (f", {escape(variant)}" if variant else "")
        told.append(f"{questions}, {who}: {text}.")
    return told or ["No intervals: where one-shot stops helping can't be told."]


def named(own: list[Gain]) -> str:
    return ", ".join(f"{code(gain.model.student)} ({millions(gain.model.parameters)})" for gain in own)


def drawn(study: Study, found: list[Gain]) -> Plot:
    names, look = sorted({gain.questions for gain in found}), looks(study.methods)

    def fill(axes, number: int) -> None:
        own = [gain for gain in found if gain.questions == names[number]]
        size_axis(axes, {gain.model.parameters for gain in own})
        groups = sorted({(method_of(gain.model), gain.variant) for gain in own})
        for i, (method, variant) in enumerate(groups):
            mine = [gain for gain in own if (method_of(gain.model), gain.variant) == (method, variant)]
            ends = [None if g.change.low is None else (100 * g.change.low, 100 * g.change.high) for g in mine]
            x = dodged(axes, [gain.model.parameters for gain in mine], i, len(groups))
            y = [100 * gain.change.value for gain in mine]
            error_bars(axes, x, y, ends, look.get(method, look["teacher"]), method)
        zero_line(axes)
        axes.set_ylabel(f"one-shot − zero-shot, {metric_name(own[0].metric)}")

    return plot("oneshot_gain", "One-shot gain in points against parameters; bars: 95 % intervals.", names, fill)
