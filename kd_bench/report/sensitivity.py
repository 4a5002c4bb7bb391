"""How much a setting matters: the score against each setting that the study's runs vary."""

from collections import defaultdict
from typing import Any, NamedTuple

from kd_bench.leaderboard.cells import metric_name
from kd_bench.leaderboard.escape import code, escape, grid
from kd_bench.leaderboard.rows import Row, Table
from kd_bench.report.draw import Plot, looks, plot, value_ticks
from kd_bench.report.study import DRAWS, TOLD_ELSEWHERE, Study, method_of, model, short, shown
from kd_bench.report.words import points, spread

TITLE = "## Sensitivity to settings"
READING = """\
The score under each value of a setting, all else as it was: mean over seeds ± their standard deviation, in per cent.
*Range* is the best mean minus the worst. Of several values the best looks better than it is: choose by the validation
split."""
ABSENT = "No run varies a method's setting or a learning rate: a study with such keys in `grid` or `runs` does."
NO_SETTINGS = (*TOLD_ELSEWHERE, "data", *DRAWS)


class Varied(NamedTuple):
    """One model under several values of `key`. rest: what else its runs set."""

    key: str
    table: Table
    name: str
    rest: str
    rows: list[tuple[Any, Row]]


def varied(study: Study) -> list[Varied]:
    found = defaultdict(list)
    for table in study.tables:
        for row in study.rows(table):
            point = row.results[0].record.provenance.point
            for key in study.varied:
                if key in point and key not in NO_SETTINGS and matters(key, row):
                    # Draws are told apart too: a setting is compared within one demonstration and one split.
                    rest = {k: v for k, v in sorted(point.items()) if k not in (key, "tasks", "students", "seeds")}
                    found[key, table.task, table.questions, row.name, repr(rest)].append((point[key], table, row, rest))
    listed = []
    for (key, _, _, name, _), own in found.items():
        rows = sorted(((value, row) for value, _, row, _ in own), key=lambda item: order(item[0]))
        if len({repr(value) for value, _ in rows}) > 1:
            rest = ", ".join(f"{short(k)} {shown(v)}" for k, v in own[0][3].items() if k not in TOLD_ELSEWHERE)
            listed.append(Varied(key, own[0][1], name, rest, rows))
    return sorted(listed, key=lambda some: (some.key, some.table.task, some.name, some.rest))


def matters(key: str, row: Row) -> bool:
    """Whether a setting reaches a model: a method's the distilled ones, any other all that are trained as students."""
    return row.role == "distilled" or (row.role == "sft" and not key.startswith("method"))


def order(value: Any) -> tuple:
    number = is_number(value)
    return not number, value if number else 0, shown(value)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def section(study: Study) -> list[str | Plot] | str:
    found = [some for some in varied(study) if all(some.table.headline in row.scores for _, row in some.rows)]
    if not found:
        return ABSENT
    lines = []
    for some in found:
        measures = [row.scores[some.table.headline] for _, row in some.rows]
        means = [measure.value for measure in measures]
        cells = "; ".join(f"{escape(shown(value))}: {spread(m)}" for (value, _), m in zip(some.rows, measures))
        seeds = " / ".join(map(str, sorted({measure.seeds for measure in measures})))
        model_name = code(some.name) + (f", {escape(some.rest)}" if some.rest else "")
        score = metric_name(some.table.headline)
        lines.append(
            [code(some.key), model_name, code(some.table.task), score, cells, seeds, points(max(means) - min(means))]
        )
    headers = ["Setting", "Model", "Task", "Score", "By value", "Seeds", "Range"]
    return [TITLE, READING, grid(lines, headers, left=5), drawn(study, found)]


def drawn(study: Study, found: list[Varied]) -> Plot:
    panels = defaultdict(list)
    for some in found:
        panels[some.key, some.table.task].append(some)
    names, look = list(panels), looks(study.methods)

    def fill(axes, number: int) -> None:
        own = panels[names[number]]
        values = {shown(value): value for some in own for value, _ in some.rows}
        ordered = sorted(values, key=lambda text: order(values[text]))
        numbers = all(map(is_number, values.values()))
        log = numbers and min(values.values()) > 0 and max(values.values()) >= 8 * min(values.values())
        place = {text: values[text] if numbers else i for i, text in enumerate(ordered)}
        for some in own:
            color, marker = look.get(method_of(model(some.rows[0][1])), look["teacher"])
            metric = some.table.headline
            x = [place[shown(value)] for value, _ in some.rows]
            means = [round(100 * row.scores[metric].value, 6) for _, row in some.rows]
            axes.plot(
                x, means, color=color, linewidth=1.4, label=f"{some.name}, {some.rest}" if some.rest else some.name
            )
            dots = [
                (at, 100 * r.record.scores[metric].value) for at, (_, row) in zip(x, some.rows) for r in row.results
            ]
            axes.plot(*zip(*dots), color=color, marker=marker, linestyle="none", markersize=4.5, alpha=0.75)
        if numbers:
            value_ticks(axes, place.values(), log)
        else:
            axes.set_xticks(range(len(ordered)), ordered)
        axes.set_xlabel(short(names[number][0]))
        axes.set_ylabel(f"{metric_name(own[0].table.headline)}, %")

    text = "Score against each setting; dots: seeds, lines: their mean."
    return plot("sensitivity", text, [f"{key} on {task}" for key, task in names], fill)
