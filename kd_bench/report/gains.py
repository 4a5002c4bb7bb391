"""Does distillation beat fine-tuning? Each distilled student against the same student trained without a teacher."""

from kd_bench.leaderboard.cells import metric_name
from kd_bench.leaderboard.escape import code, escape, grid, percent
from kd_bench.report.study import Study, method_of, model, size_then_method
from kd_bench.report.words import difference, number, side, verdict

READING = """\
The difference in points to the same student fine-tuned without a teacher (`sft`), with its 95 % interval: paired by
question, over passages, and over seeds where there are several. It is not corrected for their number: were there no
difference anywhere, about one interval in twenty would still leave out 0."""
ABSENT = "No distilled student has a fine-tuned sibling here: a study with `sft` among its methods makes them."


def section(study: Study) -> list[str] | str:
    found = [(table, some) for table in study.tables for some in table.contrasts if some.other.role == "sft"]
    if not found:
        return ABSENT
    found.sort(key=lambda item: (item[0].task, *size_then_method(model(item[1].distilled)), item[1].distilled.run))
    lines = []
    for table, (distilled, other, change) in found:
        student, variant = model(distilled), study.variants[distilled.run]
        lines.append(
            [
                code(table.task),
                code(student.student or student.name),
                code(method_of(student)) + (f", {escape(variant)}" if variant else ""),
                metric_name(table.headline),
                percent(other.scores[table.headline].value),
                percent(distilled.scores[table.headline].value),
                difference(change),
                " / ".join(dict.fromkeys((str(len(distilled.results)), str(len(other.results))))),
                verdict(change, "**better**", "**worse**"),
            ]
        )
    sides = [side(some.change) for _, some in found]
    counts = f"{sides.count(1)} better than fine-tuning, {sides.count(-1)} worse, {sides.count(0)} not told apart"
    if None in sides:
        counts += f", {sides.count(None)} without an interval"
    headers = ["Task", "Student", "Method", "Score", "Fine-tuned", "Distilled", "Difference", "Seeds", "Verdict"]
    told = f"Of {number(len(found), 'comparison')}: {counts}."
    return ["## Does distillation beat fine-tuning?", READING, told, grid(lines, headers, left=4)]
