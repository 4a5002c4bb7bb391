"""Runs the stages of a plan that are not done, in order, one process a run."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kd_bench.runs.plan import Stage
from kd_bench.runs.store import Store, disk_errors

RunStage = Callable[[Stage, dict[str, Path], Path, Any], None]


def execute(
    plan: list[Stage],
    store: Store,
    run_stage: RunStage,
    console,
    context: Any = None,
    made_with: Callable[[], dict] | None = None,
) -> dict[str, Path]:
    """Makes every stage of `plan` that is not done; returns {stage key: folder} for all of them.

    run_stage(stage, {role: folder of what it needs}, folder to write into, context). The folder is the one a killed run
    of the same stage left, so that its checkpoints are there. made_with() is kept with each stage that was run. Damaged
    stages are named, set aside and made again. On Ctrl-C or an error the working folder stays. Raises UserError:
    another process has the run, the disk is full.
    """
    with store.lock():
        for number, stage in enumerate(plan, start=1):
            # console.print: a live display would fight with the progress bars of trainer and evaluator below it.
            label = f"[dim]{number:>{len(str(len(plan)))}}/{len(plan)}[/dim] {stage.kind:<8} {stage.name}"
            state = store.state(stage)
            if state == "done":
                console.print(f"{label}  [green]done before[/green]{_took(store.passport(stage).get('seconds'))}")
                continue
            if stage.kind == "states" and all(store.done(other) for other in plan if stage in other.needs.values()):
                console.print(f"{label}  [green]not needed[/green]: all that was to learn from it is done")
                continue
            with disk_errors(store.root):
                if state == "damaged":
                    reason = store.damage(stage)
                    aside = store.set_aside(stage)
                    console.print(f"{label}  [yellow]damaged: {reason}; set aside as {aside.name}, made again[/yellow]")
                resumed = store.partial(stage).is_dir()
                folder = store.begin(stage)
                console.print(f"{label}  [cyan]{'goes on where it was' if resumed else 'starts'}[/cyan]")
                began = time.monotonic()
                run_stage(stage, {role: store.path(need) for role, need in stage.needs.items()}, folder, context)
                seconds = time.monotonic() - began
                store.finish(stage, seconds, made_with() if made_with else None)
            console.print(f"{label}  [green]done[/green]{_took(seconds)}")
    return {stage.key: store.path(stage) for stage in plan}


def _took(seconds: float | None) -> str:
    return "" if seconds is None else f" in {duration(seconds)}"


def duration(seconds: float) -> str:
    """4 s, 3 min 20 s, 2 h 05 min."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
