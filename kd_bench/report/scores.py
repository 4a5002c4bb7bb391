"""The study's scores in tables as its paper's (arXiv 2507.07630): models by size and method, exact match, ROUGE-L and
F1, zero- and one-shot, validation and test, mean and standard deviation over seeds."""

from collections import defaultdict
from collections.abc import Callable

from kd_bench.leaderboard.cells import metric_name
from kd_bench.leaderboard.escape import MISSING, escape, grid, millions, percent
from kd_bench.leaderboard.ranking import measures
from kd_bench.leaderboard.rows import Row, Table
from kd_bench.leaderboard.schema import Floor, Result
from kd_bench.report.study import Study, model, on_validation, questions_name, same_questions, setting
from kd_bench.report.validation import ABSENT
from kd_bench.report.words import spread

COLUMNS = ("em", "rougeL", "f1")
READING = """\
In per cent: the mean over seeds ± the standard deviation between them, which says how much training again moves a score
and not how much other questions would. The floor is the best constant answer."""


def section(study: Study) -> list[str]:
    groups = defaultdict(list)
    for table in study.tables:
        groups[same_questions(table)].append(table)
    parts = ["## Scores", READING]
    for tables in groups.values():
        tables = sorted(tables, key=lambda table: (table.num_fewshot, table.task))
        name, questions = questions_name(tables[0]), f"{tables[0].questions:,} questions"
        parts += [f"### {name}, {escape(tables[0].split)}, {questions}", scores(study, tables, list, lambda t: t.floor)]
        if any(on_validation(row.results) for table in tables for row in table.rows):
            parts += [f"### {name}, validation", scores(study, tables, on_validation, validation_floor)]
        else:
            parts.append(ABSENT)
    return parts


def validation_floor(table: Table) -> Floor | None:
    found = [result.record.floor for row in table.rows for result in on_validation(row.results)]
    return next((floor for floor in found if floor), None)


def scores(
    study: Study,
    tables: list[Table],
    of: Callable[[list[Result]], list[Result]],
    floor_of: Callable[[Table], Floor | None],
) -> str:
    """One table over the prompt settings of one data set. of: the results that are scored, of a row's."""
    known = {metric for table in tables for metric in table.metrics}
    metrics = [metric for metric in COLUMNS if metric in known] or [tables[0].headline]
    rows: dict[tuple, dict[str, Row]] = {}
    for table in tables:
        for row in study.rows(table):
            if of(row.results):
                rows.setdefault((row.name, study.variants[row.run]), {})[table.task] = row
    floors = [floor_of(table) for table in tables]
    floor_cells = [floor_cell(floor, metric) for floor in floors for metric in metrics]
    answers = sorted({floor.answer for floor in floors if floor})
    lines = [[f"*floor*: “{escape(' / '.join(answers))}”", "", "", *floor_cells]] if answers else []
    for own in rows.values():
        first = next(iter(own.values()))
        counts = sorted({len(of(row.results)) for row in own.values()})
        line = [
            study.called(model(first), first.run),
            millions(first.parameters),
            MISSING if first.results[0].record.seed is None else " / ".join(map(str, counts)),
        ]
        for table in tables:
            found = measures(of(own[table.task].results)) if table.task in own else {}
            line += [spread(found.get(metric)) for metric in metrics]
        lines.append(line)
    headers = [f"{setting(table)} {metric_name(metric)}" for table in tables for metric in metrics]
    return grid(lines, ["Model", "Parameters", "Seeds", *headers])


def floor_cell(floor: Floor | None, metric: str) -> str:
    value = floor.scores.get(metric) if floor else None
    return MISSING if value is None else percent(value)
