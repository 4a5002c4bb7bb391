"""`kd-bench evaluate`: any model on any tasks, scored and recorded as a run's own models are."""

from pathlib import Path
from typing import Any

from kd_bench.errors import UserError
from kd_bench.runs.records import public_name


def evaluate_model(
    source: str,
    tasks: list[str],
    *,
    batch_size: int = 8,
    limit: int | None = None,
    metadata: dict | None = None,
    split: str = "test",
    backend: str = "kd",
    output: Path | None = None,
    trust_remote_code: bool = False,
    dtype: str = "float32",
    run: str = "evaluate",
) -> list[dict[str, Any]]:
    """`summary.rows` of `source` on `tasks` (groups count); with `output`, one record a task goes there as well.

    Raises UserError with everything that is wrong with model, tasks and prompts; only then are weights loaded.
    """
    from kd_bench.harness.evaluate import backend_problem, evaluate, load_tasks
    from kd_bench.leaderboard.record import records_from_results, write_record
    from kd_bench.models.load import DTYPES, check_model, device, load_model
    from kd_bench.models.quantize import place
    from kd_bench.runs.environment import environment
    from kd_bench.runs.facts import task_fact
    from kd_bench.runs.records import evaluation_cost, floor_of
    from kd_bench.runs.summary import rows

    problems = [f"{source}: {problem}" for problem in check_model(source, trust_remote_code=trust_remote_code)]
    if problem := backend_problem(backend, source):
        problems.append(f"--backend {backend}: {problem}.")
    if dtype not in DTYPES:
        problems.append(f"--dtype {dtype}: is not one of {', '.join(DTYPES)}.")
    loaded = []
    try:
        loaded = load_tasks(tasks, metadata, split)
    except UserError as error:
        problems += [f"{error.where}: {problem}" for problem in error.problems]
    if problems:
        raise UserError("evaluate", problems)

    model, tokenizer = load_model(source, dtype=dtype, trust_remote_code=trust_remote_code)
    place(model, device())
    results = evaluate(
        model,
        tokenizer,
        tasks,
        batch_size=batch_size,
        limit=limit,
        metadata=metadata,
        split=split,
        backend=backend,
        folder=source,
    )
    who = {"name": _name(source), "role": "other", "source": public_name(source), **_measures(model, source)}
    measured = results["kd_bench"]
    records = []
    for task in loaded:
        record, samples = records_from_results(
            results,
            task.task_name,
            model=who,
            cost=evaluation_cost(measured),
            floor=floor_of(task, results["samples"][task.task_name]),
            split=split if task.has_test_docs() else "validation",
            fingerprint=task_fact(task)["fingerprint"],
            provenance={"run": run, **environment()},
        )
        records.append(record)
        if output is not None:
            write_record(output, record, samples)
    return rows(records, [None] * len(records))


def _name(source: str) -> str:
    """The last two parts of the source: `runs/x/train-a-sft/student` is not just `student`."""
    parts = public_name(source).removeprefix("pip:").removesuffix(".gguf").split("/")
    return "-".join(part for part in parts[-2:] if part.strip("./~ ")) or "model"


def _measures(model, source: str) -> dict[str, Any]:
    from kd_bench.models.load import locate
    from kd_bench.models.size import bytes_on_disk, sizes

    path = locate(source).path
    size = bytes_on_disk(path) if path else None
    return {"family": model.config.model_type, **sizes(model), "bytes_on_disk": size}
