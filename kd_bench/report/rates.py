"""Which learning rates were tried, how each did on the validation split, and which was chosen."""

from collections import defaultdict
from typing import NamedTuple

from kd_bench.leaderboard.cells import metric_name
from kd_bench.leaderboard.escape import MISSING, code, escape, grid, percent
from kd_bench.leaderboard.schema import Model, Selection, Trial
from kd_bench.report.draw import Plot, looks, plot, value_ticks
from kd_bench.report.study import Study, method_of, size_then_method
from kd_bench.report.words import number

ABSENT = "No learning rate was searched for: a study with `search: {learning_rates: [...]}` does."

MOST_NAMED = 3


class Searched(NamedTuple):
    run: str
    model: Model
    selection: Selection
    chosen: Trial | None


def searches(study: Study) -> list[Searched]:
    """One a (run, model): all its seeds and tasks have the same."""
    found = {}
    for run, records in study.runs.items():
        for record in records:
            if record.selection and (run, record.model.name) not in found:
                found[run, record.model.name] = Searched(run, record.model, record.selection, chosen(record.selection))
    return sorted(found.values(), key=lambda some: (study.where(some.run), *size_then_method(some.model)))


def chosen(selection: Selection) -> Trial | None:
    """The best trial, of equal ones the lower rate, as the search chooses; None where all failed."""
    scored = [trial for trial in selection.trials if trial.score is not None]
    return max(scored, key=lambda trial: (trial.score, -trial.learning_rate), default=None)


def section(study: Study) -> list[str | Plot] | str:
    found = searches(study)
    if not found:
        return ABSENT
    rates = sorted({trial.learning_rate for some in found for trial in some.selection.trials})
    lines, failed, ends = [], defaultdict(list), defaultdict(list)
    for run, model, selection, best in found:
        trials = {trial.learning_rate: trial for trial in selection.trials}
        lines.append(
            [
                escape(study.where(run)),
                code(model.student or model.name),
                code(method_of(model)),
                *(cell(trials.get(rate), best) for rate in rates),
            ]
        )
        who = f"{code(model.name)} ({escape(study.where(run))})"
        for trial in selection.trials:
            if trial.score is None:
                failed[trial.learning_rate, trial.error or "no reason was kept"].append(who)
        if best and len(trials) > 1 and best.learning_rate in (min(trials), max(trials)):
            ends["lowest" if best.learning_rate == min(trials) else "highest"].append(who)
    remarks = [
        f"Best at the {end} rate tried, so that a better one may lie beyond it: {listed(own)}."
        for end, own in sorted(ends.items(), reverse=True)
    ]
    remarks += [f"Failed at {rate:g}: {listed(own)}: {escape(why)}." for (rate, why), own in sorted(failed.items())]
    metrics = ", ".join(sorted({metric_name(some.selection.metric) for some in found}))
    asked = sorted({some.selection.questions for some in found})
    seeds = sorted({some.selection.seed for some in found})
    told = (
        f"{metrics} on {' / '.join(f'{n:,}' for n in asked)} questions of the validation split, "
        f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}; the chosen rate is bold."
        f" {number(sum(len(some.selection.trials) for some in found), 'trial')} in all."
    )
    parts = [
        "## Learning rates",
        told,
        grid(lines, ["On", "Student", "Method", *(f"{rate:g}" for rate in rates)], left=3),
    ]
    parts += ["\n".join(f"- {remark}" for remark in remarks)] if remarks else []
    return [*parts, drawn(study, found)]


def listed(names: list[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def cell(trial: Trial | None, best: Trial | None) -> str:
    if trial is None:
        return MISSING
    if trial.score is None:
        return "failed"
    return f"**{percent(trial.score)}**" if trial is best else percent(trial.score)


def drawn(study: Study, found: list[Searched]) -> Plot:
    panels = defaultdict(list)
    for some in found:
        panels[study.where(some.run), some.model.student or some.model.name].append(some)
    look, names = looks(study.methods), list(panels)

    def fill(axes, number: int) -> None:
        rates = set()
        for _, model, selection, best in panels[names[number]]:
            color, marker = look.get(method_of(model), look["teacher"])
            scored = sorted((t.learning_rate, 100 * t.score) for t in selection.trials if t.score is not None)
            failed = [t.learning_rate for t in selection.trials if t.score is None]
            rates |= {rate for rate, _ in scored} | {*failed}
            axes.plot(*zip(*scored), color=color, marker=marker, linewidth=1.2, label=method_of(model))
            if best:
                ring = {"markersize": 11, "markerfacecolor": "none", "linestyle": "none"}
                axes.plot([best.learning_rate], [100 * best.score], marker="o", color=color, **ring)
            if failed:  # a line without points has a place all the same, at the figure's corner, and takes its room
                level = [0.04] * len(failed)
                axes.plot(failed, level, "x", color=color, transform=axes.get_xaxis_transform(), clip_on=False)
        value_ticks(axes, rates, log=True)
        axes.set_xlabel("learning rate")
        axes.set_ylabel(f"{metric_name(panels[names[number]][0].selection.metric)}, %")

    text = "Validation score against learning rate, a panel a student; circles: the chosen rates, crosses: failed ones."
    return plot("learning_rates", text, [f"{student} on {where}" for where, student in names], fill)
