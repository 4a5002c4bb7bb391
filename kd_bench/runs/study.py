"""`kd-bench study`: all runs of a study in one store, with what there is to do told before it begins."""

from typing import Any

from kd_bench.runs.cost import count, epochs, flop, tokens_of, training_completions, training_rate
from kd_bench.runs.distill import Planned, carry_out, plan_runs
from kd_bench.runs.estimate import describe
from kd_bench.runs.execute import Executor
from kd_bench.runs.plan import Stage
from kd_bench.runs.store import Store
from kd_bench.study import Study

KINDS = ("teacher", "init", "completions", "states", "train", "quantize", "evaluate")


def study(found: Study, dry_run: bool, console, executor: Executor | None = None) -> list[dict[str, Any]]:
    """Says what there is to do, and does it unless it is a dry run. Returns a row a kind of stage (`preview`) with
    dry_run, else a row a (run, model, task). Raises UserError with everything that is wrong, before anything is
    written."""
    from kd_bench.models.load import device
    from kd_bench.runs.summary import preview_table

    store = Store(found.root)
    planned = plan_runs(found.runs, store, console, dry_run)
    with console.status("") as status:
        rows = preview(planned, store, device(), lambda text: status.update(f"{text} ..."))
    if dry_run:
        return rows
    console.print(preview_table(found.name, len(found.runs), rows))
    return carry_out(planned, store, console, executor)


def preview(planned: list[Planned], store: Store, device: str, progress) -> list[dict[str, Any]]:
    """A row a kind of stage, and one of all: {stage, stages, done, tokens, seconds, bytes}.

    tokens: read by what is to do, a training's in all its epochs. seconds: one stage after another on this machine.
    bytes: left on the disk by what is to do. None where something needed for it is not at hand.
    """
    stages: dict[str, tuple[Stage, Planned]] = {}
    costs = []
    waits = any(store.state(stage) not in ("done", "failed") for this in planned for stage in this.stages())
    known = {}
    for this in planned:
        counted = this.counted = count(this.recipe, this.facts, progress, known) if waits else {}
        this.facts.plan["completion_tokens"] = training_completions(this.recipe, counted)
        for stage in this.stages():
            if stage.key not in stages:
                stages[stage.key] = (stage, this)
                costs.append((stage, this, flop(stage, this.facts, counted), read(stage, counted)))
    progress("measuring a training step")
    rate = training_rate(planned[0].recipe, planned[0].facts, device) if waits else None
    rows = []
    for kind in KINDS:
        own = [cost for cost in costs if cost[0].kind == kind]
        if not own:
            continue
        waiting = [cost for cost in own if store.state(cost[0]) not in ("done", "failed")]
        sizes = [describe([stage], store, this.facts.plan)[0]["bytes"] for stage, this, _, _ in waiting]
        work = _sum(flops for _, _, flops, _ in waiting)
        rows.append(
            {
                "stage": kind,
                "stages": len(own),
                "done": len(own) - len(waiting),
                "tokens": _sum(tokens for _, _, _, tokens in waiting),
                "seconds": 0.0 if not waiting else None if rate is None or work is None else work / rate,
                "bytes": _sum(0 if kind in ("evaluate", "completions") else size for size in sizes),
            }
        )
    total = {key: _sum(row[key] for row in rows) for key in ("stages", "done", "tokens", "seconds", "bytes")}
    return [*rows, {"stage": "all", **total}]


def read(stage: Stage, counted: dict) -> int | None:
    """Distinct tokens that a stage reads, in all its epochs."""
    tokens = tokens_of(stage, counted)
    return tokens and round(tokens.read * epochs(stage))


def _sum(values) -> float | None:
    values = list(values)
    return None if None in values else sum(values)
