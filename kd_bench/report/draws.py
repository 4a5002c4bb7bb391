"""Cross-validation over demonstrations and splits: is a disagreement of validation and test the student's, or the
draw's?"""

from collections import defaultdict
from statistics import fmean, variance
from typing import NamedTuple

from kd_bench.leaderboard.escape import MISSING, code, escape, grid, percent
from kd_bench.report.draw import FAINT, Plot, looks, plot
from kd_bench.report.study import DRAWS, TOLD_ELSEWHERE, Study, method_of, model, short, shown
from kd_bench.report.validation import ABSENT as NO_VALIDATION
from kd_bench.report.validation import Gap, gaps

TITLE = "### Over demonstrations and splits"
READING = """\
The same models under other demonstrations and other deals of the articles. Standard deviations in points: what the
demonstration and the split each move, and the rest (their interplay, training, and the sample of questions). Where
every pair was run they are variance components of the crossed design without repetition, from its mean squares
(negative ones are 0); where one of the two alone varies, its deviation has the rest in it. *Marked*: in how many of the
runs † or ‡ stands."""
ABSENT = "One demonstration and one split: a study with `data.demo_seed` or `data.split_seed` in its grid has several."


class Components(NamedTuple):
    """Variances: between demonstrations, between splits, of the rest; None where it can't be told."""

    demo: float | None
    split: float | None
    rest: float | None


def components(values: dict[tuple, float]) -> Components:
    """Of {(demonstration, split): value}. With every pair of several of both: the method of moments on the mean squares
    of a two-way layout with random effects and one value a cell (Searle, Casella and McCulloch 1992, ch. 4), var_demo =
    (MS_demo - MS_rest) / splits."""
    demos, splits = (sorted({key[i] for key in values}, key=repr) for i in (0, 1))
    a, b = len(demos), len(splits)
    if len(values) != a * b or len(values) < 2:
        return Components(None, None, None)
    if b == 1:
        return Components(variance(values.values()), None, None)
    if a == 1:
        return Components(None, variance(values.values()), None)
    mean = fmean(values.values())
    by_demo = {d: fmean(values[d, s] for s in splits) for d in demos}
    by_split = {s: fmean(values[d, s] for d in demos) for s in splits}
    of_demo, of_split = b * variance(by_demo.values()), a * variance(by_split.values())
    rest = sum((values[d, s] - by_demo[d] - by_split[s] + mean) ** 2 for d, s in values) / ((a - 1) * (b - 1))
    return Components(max(0.0, (of_demo - rest) / b), max(0.0, (of_split - rest) / a), rest)


def section(study: Study) -> list[str | Plot] | str:
    if not {*DRAWS} & {*study.varied}:
        return ABSENT
    found = gaps(study)
    if not found:
        return NO_VALIDATION
    groups: dict[tuple, dict[tuple, Gap]] = defaultdict(dict)
    for gap in found:
        point = gap.row.results[0].record.provenance.point
        rest = [
            f"{short(k)} {shown(v)}" for k, v in sorted(point.items()) if k not in TOLD_ELSEWHERE and k not in DRAWS
        ]
        groups[gap.table.task, gap.row.name, ", ".join(rest)][tuple(point.get(key) for key in DRAWS)] = gap
    lines = []
    for (task, name, rest), own in groups.items():
        flags = [gap.flag for gap in own.values()]
        marked = f"{len(flags) - flags.count('')} of {len(flags)}, ‡ {flags.count('‡')}"
        for kind, values, said in (
            ("test", {key: gap.test for key, gap in own.items()}, ""),
            ("validation − test", {key: gap.change.value for key, gap in own.items()}, marked),
        ):
            model_name = code(name) + (f", {escape(rest)}" if rest else "")
            mean = percent(fmean(values.values()))
            lines.append([code(task), model_name, kind, str(len(own)), mean, *map(deviation, components(values)), said])
    headers = ["Task", "Model", "Of", "Runs", "Mean", "Demonstrations", "Splits", "Rest", "Marked"]
    return [TITLE, READING, grid(lines, headers, left=3), drawn(study, found)]


def deviation(component: float | None) -> str:
    return MISSING if component is None else percent(component**0.5)


def drawn(study: Study, found: list[Gap]) -> Plot:
    tasks, look = sorted({gap.table.task for gap in found}), looks(study.methods)

    def fill(axes, number: int) -> None:
        own = [gap for gap in found if gap.table.task == tasks[number]]
        for method in sorted({method_of(model(gap.row)) for gap in own}):
            mine = [gap for gap in own if method_of(model(gap.row)) == method]
            color, marker = look.get(method, look["teacher"])
            x, y = (
                [round(100 * value, 6) for value in values] for values in zip(*((g.test, g.validation) for g in mine))
            )
            axes.plot(x, y, marker=marker, color=color, alpha=0.75, linestyle="none", label=method)
        ends = [100 * value for gap in own for value in (gap.test, gap.validation)]
        margin = 0.05 * (max(ends) - min(ends)) or 1
        line = [min(ends) - margin, max(ends) + margin]
        axes.plot(line, line, color=FAINT, linewidth=1, zorder=1)
        axes.set_xlabel("test, %")
        axes.set_ylabel("validation, %")

    text = "Validation score against test score, a dot a run and model; on the line the two are equal."
    return plot("draws", text, tasks, fill)
