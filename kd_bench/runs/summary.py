"""What a command ends with: results as rows for machines and as a table for people."""

from collections.abc import Iterable
from typing import Any

from kd_bench.leaderboard.escape import size
from kd_bench.leaderboard.record import Record
from kd_bench.runs.execute import duration

_SHOWN = ("em", "f1", "has_ans_f1", "rougeL", "acc", "acc_norm", "exact_match")


def rows(records: Iterable[Record], folders: Iterable[str | None]) -> list[dict[str, Any]]:
    """A flat row a record: scores, and per metric the plain ratio to the teacher's score on the same task.

    `above_floor` is (score - floor) / (teacher - floor); both are None where there is no teacher, no floor, or nothing
    to divide by.
    """
    records = list(records)
    teachers = {record.task.name: record for record in records if record.model.role == "teacher"}
    found = []
    for record, folder in zip(records, folders):
        teacher = teachers.get(record.task.name)
        floor = record.floor.scores if record.floor else {}
        scores = {metric: score.value for metric, score in record.scores.items()}
        base = {metric: score.value for metric, score in teacher.scores.items()} if teacher else {}
        found.append(
            {
                "task": record.task.name,
                "model": record.model.name,
                "role": record.model.role,
                "seed": record.seed,
                "scores": scores,
                "stderr": {metric: score.stderr for metric, score in record.scores.items()},
                "retention": {m: _ratio(v, base.get(m)) for m, v in scores.items()},
                "above_floor": {m: _ratio(v, base.get(m), floor.get(m)) for m, v in scores.items() if m in floor},
                "floor": floor,
                "questions": max(score.n for score in record.scores.values()),
                "layers": record.model.layers,
                "parameters": record.model.parameters,
                "bytes_on_disk": record.model.bytes_on_disk,
                "train_seconds": record.cost.train_seconds,
                "evaluate_seconds": record.cost.evaluate_seconds,
                "folder": folder,
            }
        )
    return found


def _ratio(value: float, teacher: float | None, floor: float | None = 0.0) -> float | None:
    if teacher is None or floor is None or teacher == floor:
        return None
    return (value - floor) / (teacher - floor)


def results_table(found: list[dict[str, Any]]):
    """A rich table a task: floor, then teacher and students, raw scores beside what is kept of the teacher."""
    from rich.console import Group

    tasks = list(dict.fromkeys(row["task"] for row in found))
    return Group(*(_task_table(task, [row for row in found if row["task"] == task]) for task in tasks))


def _task_table(task: str, found: list[dict[str, Any]]):
    from rich import box
    from rich.table import Table

    measured = {metric for row in found for metric in row["scores"]}
    # Three fit beside names, sizes and times into a terminal of 80 columns; --json and the leaderboard have all.
    metrics = ([metric for metric in _SHOWN if metric in measured] or sorted(measured))[:3]
    headline = "f1" if "f1" in metrics else metrics[0]
    floor = found[0]["floor"]
    # As on the leaderboard: where half the questions have no answer, a plain ratio pays for always abstaining.
    ratio = "above_floor" if floor else "retention"
    formula = "(student - floor) / (teacher - floor)" if floor else "student / teacher"
    title = f"{task}: {found[0]['questions']:,} questions; kept: {headline}, {formula}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("model", overflow="fold")
    for name in (*metrics, "kept", "size", "trained"):
        table.add_column(name, justify="right", no_wrap=True)
    seeds = len({row["seed"] for row in found} - {None})
    if floor:
        table.add_row("best constant answer", *(_score(floor.get(metric)) for metric in metrics), style="dim")
    for row in found:
        kept = None if row["role"] == "teacher" else row[ratio].get(headline)
        table.add_row(
            row["model"] + (f", seed {row['seed']}" if seeds > 1 and row["seed"] is not None else ""),
            *(_score(row["scores"].get(metric)) for metric in metrics),
            "" if kept is None else f"{kept:.0%}",
            "" if row["parameters"] is None else f"{row['parameters'] / 1e6:,.1f} M",
            "" if row["train_seconds"] is None else duration(row["train_seconds"]),
        )
    return table


def plan_table(found: list[dict[str, Any]]):
    """The plan as a rich table, with the room that the stages to come will take where that can be told."""
    from rich.table import Table

    to_come = [row for row in found if row["state"] != "done"]
    room = sum(row["bytes"] or 0 for row in to_come)
    done = f"{len(found) - len(to_come)} of {len(found)} stages done"
    caption = f"{done}; those to come leave about {size(room)}, checkpoints apart" if room else done
    table = Table(caption=caption, caption_justify="left")
    for name in ("stage", "name", "state"):
        table.add_column(name)
    table.add_column("size", justify="right")
    for row in found:
        estimate = "" if row["state"] == "done" else "about "
        table.add_row(
            row["stage"], row["name"], row["state"], f"{estimate}{size(row['bytes'])}" if row["bytes"] else ""
        )
    return table


def preview_table(name: str, runs: int, found: list[dict[str, Any]]):
    """What a study has to do, by kind of stage: `study.preview`'s rows."""
    from rich.table import Table

    table = Table(
        title=f"{name}: {runs} run{'s' if runs > 1 else ''}",
        title_justify="left",
        caption="time: one stage after another on this machine, from a measured training step; good to a factor of two",
        caption_justify="left",
    )
    table.add_column("stage")
    for column in ("stages", "done", "tokens to read", "time", "disk"):
        table.add_column(column, justify="right")
    for row in found:
        if row["stage"] == "all":
            table.add_section()
        table.add_row(
            row["stage"],
            f"{row['stages']:,}",
            f"{row['done']:,}",
            "not known" if row["tokens"] is None else f"{row['tokens']:,}",
            "not known" if row["seconds"] is None else duration(row["seconds"]),
            "not known" if row["bytes"] is None else size(row["bytes"]),
        )
    return table


def checks_table(checks: list[dict[str, str]]):
    """What was checked, and what was not and why."""
    from rich.markup import escape
    from rich.table import Table

    styles = {"ok": "green", "problem": "red", "not checked": "yellow"}
    table = Table()
    for name in ("check", "result", "detail"):
        table.add_column(name, overflow="fold")
    for row in checks:
        style = styles[row["result"]]
        table.add_row(escape(row["check"]), f"[{style}]{row['result']}[/{style}]", escape(row["detail"]))
    return table


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
