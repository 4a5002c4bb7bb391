"""The verb of studies: many runs of one recipe."""

from typing import Annotated

import typer

from kd_bench.cli.common import (
    AccelerateConfig,
    Address,
    ExecutorKind,
    Jobs,
    Json,
    Overrides,
    Processes,
    app,
    console,
    examples,
    executor_of,
    print_json,
    print_table,
)


@app.command(
    epilog=examples(
        "kd-bench study recipes/study_qa/smollm2.yaml --dry-run",
        "kd-bench study study_qa/smollm2 seeds=[0,1,2]",
        "kd-bench study study_qa/smollm2_reduced --run squad_zeroshot --jobs 2",
        "kd-bench study study_qa/qwen --executor ray --address head:6379",
        "kd-bench study study_qa/pythia --processes 4 --accelerate-config fsdp2.yaml",
    )
)
def study(
    recipe: Annotated[str, typer.Argument(help="A study: a recipe with `grid` or `runs`; see `kd-bench ls recipes`.")],
    overrides: Overrides = None,
    run: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL", help="This run of the study alone, by its label; may be given several times."),
    ] = None,
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
    from kd_bench.runs.study import study as carry_out
    from kd_bench.study import load_study, only

    found = load_study(recipe, overrides or [])
    found = only(found, run) if run else found
    rows = carry_out(found, dry_run, console(), executor_of(executor, jobs, address, processes, accelerate_config))
    if as_json:
        print_json(rows)
    else:
        print_table(
            summary.preview_table(found.name, len(found.runs), rows) if dry_run else summary.results_table(rows)
        )
