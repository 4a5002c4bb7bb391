"""What students keep of their teacher above the floor, against how much smaller they are."""

from kd_bench.leaderboard.cells import metric_name, resized, share
from kd_bench.leaderboard.escape import code, escape, grid
from kd_bench.leaderboard.ranking import retention_notes
from kd_bench.leaderboard.rows import NOT_STUDENTS, Row, Table
from kd_bench.leaderboard.statistics import Estimate
from kd_bench.report.draw import Plot, dodged, error_bars, looks, plot, zero_line
from kd_bench.report.study import Study, method_of, model

TITLE = "## What is kept, and at what size"
READING = """\
Above the floor: (student − floor) / (teacher − floor), with the 95 % interval over passages, and over seeds where there
are several. At 0 % a student is no better than the best constant answer, at 100 % it is as good as its teacher. The
plain ratio, student / teacher, stands beside it: where the floor is high, always giving one answer "keeps" most of a
teacher by it."""
ABSENT = "No student has a score, its teacher's and a floor on the same questions: the teacher's own record is needed."


def section(study: Study) -> list[str | Plot] | str:
    found = [(table, rows) for table in study.tables if (rows := kept_by(study, table))]
    if not found:
        return ABSENT
    lines = [
        [
            code(table.task),
            study.called(model(row), row.run),
            resized(row),
            metric_name(table.headline),
            share(row.above_floor),
            share(Estimate(row.kept.value)),
        ]
        for table, rows in found
        for row in rows
    ]
    headers = ["Task", "Student", "Parameters", "Score", "Above floor", "Of teacher"]
    parts = [TITLE, READING, grid(lines, headers, left=2)]
    notes = dict.fromkeys(
        note for table, _ in found for note in retention_notes(study.rows(table), table.floor, table.headline)
    )
    parts += ["\n".join(f"- {escape(note)}" for note in notes)] if notes else []
    sized = [(table, own) for table, rows in found if (own := [row for row in rows if row.fewer is not None])]
    return [*parts, drawn(study, sized)] if sized else parts


def kept_by(study: Study, table: Table) -> list[Row]:
    return [row for row in study.rows(table) if row.role not in NOT_STUDENTS and row.above_floor.value is not None]


def drawn(study: Study, found: list[tuple[Table, list[Row]]]) -> Plot:
    look = looks(study.methods)

    def fill(axes, number: int) -> None:
        _, rows = found[number]
        sizes = [100 * row.fewer for row in rows]
        margin = 0.13 * (max(sizes) - min(sizes)) or 5
        axes.set_xlim(min(sizes) - margin, max(sizes) + margin)
        groups = sorted({(method_of(model(row)), study.variants[row.run]) for row in rows})
        for i, (method, variant) in enumerate(groups):
            own = [r for r in rows if (method_of(model(r)), study.variants[r.run]) == (method, variant)]
            ends = [
                None if row.above_floor.low is None else (100 * row.above_floor.low, 100 * row.above_floor.high)
                for row in own
            ]
            x = dodged(axes, [100 * row.fewer for row in own], i, len(groups))
            error_bars(axes, x, [100 * row.above_floor.value for row in own], ends, look[method], method)
        zero_line(axes)
        axes.set_xlabel("parameters fewer than the teacher, %")
        axes.set_ylabel("kept above the floor, %")

    text = "What is kept of the teacher above the floor, against compression; bars: 95 % intervals."
    return plot("retention", text, [table.task for table, _ in found], fill)
