"""What ran: runs, models, seeds, questions, time, machine, versions."""

from collections import defaultdict
from collections.abc import Iterable

from kd_bench.leaderboard.escape import MISSING, code, duration, escape, grid
from kd_bench.leaderboard.origin import provenance, reproduce_command
from kd_bench.leaderboard.schema import Record, Result
from kd_bench.report.study import Study, setting, short, shown
from kd_bench.report.words import number


def section(study: Study) -> list[str]:
    parts = ["## What ran", totals(study), grid(*runs(study), left=3), grid(*questions(study), left=3)]
    parts.append(made_with(study))
    if study.left_out:
        parts.append("Left out, and in no number below:")
        parts.append("\n".join(f"- {escape(problem)}" for problem in study.left_out))
    return parts


def totals(study: Study) -> str:
    records = [result.record for result in study.results]
    seeds = {record.seed for record in records} - {None}
    told = [
        number(len(study.runs), "run"),
        number(len({record.model.name for record in records}), "model"),
        number(len(seeds), "seed") + (f" ({', '.join(map(str, sorted(seeds)))})" if seeds else ""),
        number(len(records), "record"),
    ]
    trained = once((r.model.name, r.seed, r.cost.train_seconds) for r in records)
    asked = once((r.model.name, r.seed, r.task.name, r.cost.evaluate_seconds) for r in records)
    return (
        f"{', '.join(told)}. Training took {duration(trained)} and evaluation on the test questions {duration(asked)},"
        " one after another; what several runs share is counted once, and learning-rate trials are not in it."
    )


def once(costs: Iterable[tuple]) -> float | None:
    """The sum of the last of each tuple, in seconds: equal ones, to the last digit of a measured time, are one stage of
    several runs, or one training behind several tasks. None if nothing was measured."""
    found = [cost[-1] for cost in sorted({cost for cost in costs if cost[-1] is not None}, key=repr)]
    return sum(found) if found else None


def runs(study: Study) -> tuple[list[list[str]], list[str]]:
    rows = []
    for run, records in study.runs.items():
        point = ", ".join(f"{short(key)} {shown(value)}" for key, value in records[0].provenance.point.items())
        tasks = ", ".join(code(name) for name in sorted({record.task.name for record in records}))
        seeds = sorted({record.seed for record in records} - {None})
        rows.append(
            [
                code(run.removeprefix(f"{study.name}.")),
                escape(point) or MISSING,
                tasks,
                str(len({record.model.name for record in records})),
                ", ".join(map(str, seeds)) or MISSING,
            ]
        )
    return rows, ["Run", "Sets", "Tasks", "Models", "Seeds"]


def questions(study: Study) -> tuple[list[list[str]], list[str]]:
    rows = []
    for table in study.tables:
        validated = {validation_n(r.record) for row in table.rows for r in row.results} - {None}
        rows.append(
            [
                code(table.task),
                setting(table),
                escape(table.split),
                f"{table.questions:,}",
                f"{table.passages:,}" if table.passages else MISSING,
                " / ".join(f"{n:,}" for n in sorted(validated)) or MISSING,
            ]
        )
    return rows, ["Task", "Prompts", "Split", "Questions", "Passages", "Validation questions"]


def validation_n(record: Record) -> int | None:
    return max(score.n for score in record.validation.scores.values()) if record.validation else None


def made_with(study: Study) -> str:
    """Commit, machine and versions of all runs together, and the commands that make them again."""
    together = [
        Result(
            result.record.model_copy(
                update={"provenance": result.record.provenance.model_copy(update={"run": study.name})}
            ),
            None,
        )
        for result in study.results
    ]
    made = defaultdict(list)
    for (record, _), renamed in zip(study.results, together):
        made[record.provenance.run, record.model.name].append(renamed)
    again = sorted({code(reproduce_command(own[0].record, own)) for own in made.values()})
    return f"{provenance(together)[1]}\n- Made again by {' and '.join(again)}."
