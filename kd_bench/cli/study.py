"""The verb of studies: many runs of one recipe."""

from pathlib import Path
from typing import Annotated

import typer

from kd_bench.cli.common import Json, Overrides, app, console, examples, print_json, print_table

ExecutorKind = Annotated[
    str, typer.Option(metavar="local|ray", help="Where stages run: this machine, or a Ray cluster (extra `ray`).")
]
Jobs = Annotated[int, typer.Option(min=1, help="local: stages at once, each in a process of its own; 1: in this one.")]
Address = Annotated[str | None, typer.Option(help="ray: the cluster, as host:port; without it, one is started here.")]
Processes = Annotated[
    int, typer.Option(min=1, help="Processes of one training, started by `accelerate launch`, on as many GPUs.")
]
AccelerateConfig = Annotated[
    Path | None, typer.Option(metavar="FILE", help="What `accelerate config` wrote: FSDP2, several machines, ...")
]


def executor_of(kind: str, jobs: int, address: str | None, processes: int, accelerate_config: Path | None):
    from kd_bench.runs.execute import Executor

    return Executor(kind, jobs=jobs, address=address, processes=processes, accelerate_config=accelerate_config)


@app.command(
    epilog=examples(
        "kd-bench study recipes/study_qa/smollm2.yaml --dry-run",
        "kd-bench study study_qa/smollm2 seeds=[0,1,2]",
        "kd-bench study study_qa/qwen --executor ray --address head:6379",
        "kd-bench study study_qa/pythia --processes 4 --accelerate-config fsdp2.yaml",
    )
)
def study(
    recipe: Annotated[str, typer.Argument(help="A study: a recipe with `grid` or `runs`; see `kd-bench ls recipes`.")],
    overrides: Overrides = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print stages, tokens, time and disk; run nothing.")
    ] = False,
    executor: ExecutorKind = "local",
    jobs: Jobs = 1,
    address: Address = None,
    processes: Processes = 1,
    accelerate_config: AccelerateConfig = None,
    as_json: Json = False,
) -> None:
    """Run a study: a recipe over a grid of settings.

    What runs have in common (a teacher, its states) is made once. What is done is not done again.
    """
    from kd_bench.runs import summary
    from kd_bench.runs.study import study as run
    from kd_bench.study import load_study

    found = load_study(recipe, overrides or [])
    rows = run(found, dry_run, console(), executor_of(executor, jobs, address, processes, accelerate_config))
    if as_json:
        print_json(rows)
    else:
        print_table(
            summary.preview_table(found.name, len(found.runs), rows) if dry_run else summary.results_table(rows)
        )
