"""Verbs of recipes: run one, check one, list them, copy one."""

from pathlib import Path
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
    RecipeArgument,
    app,
    console,
    examples,
    executor_of,
    print_json,
    print_table,
)
from kd_bench.errors import UserError

Runs = Annotated[Path, typer.Option(help="The folder that recipes name as `output`.")]


@app.command(
    epilog=examples(
        "kd-bench distill quickstart",
        "kd-bench distill recipes/smollm2_squad.yaml method.divergence=reverse_kl seeds=[0,1,2]",
        "kd-bench distill qwen --dry-run",
        "kd-bench distill quickstart --json > rows.json",
    )
)
def distill(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan, sizes and what is done; run nothing.")
    ] = False,
    executor: ExecutorKind = "local",
    jobs: Jobs = 1,
    address: Address = None,
    processes: Processes = 1,
    accelerate_config: AccelerateConfig = None,
    as_json: Json = False,
) -> None:
    """Run a recipe: teacher, students, baselines, records.

    What is done is not done again, and what was killed goes on where it was.
    """
    from kd_bench.recipe import load_recipe
    from kd_bench.runs import summary
    from kd_bench.runs.distill import distill as run

    loaded = load_recipe(recipe, overrides or [])
    rows = run(loaded, dry_run, console(), executor_of(executor, jobs, address, processes, accelerate_config))
    if as_json:
        print_json(rows)
    else:
        print_table(summary.plan_table(rows) if dry_run else summary.results_table(rows))


@app.command(
    epilog=examples(
        "kd-bench validate quickstart",
        "kd-bench validate recipes/qwen.yaml data.dir=/data teacher.model=/models/qwen7b",
        "kd-bench validate study_qa/smollm2_reduced",
    )
)
def validate(recipe: RecipeArgument, overrides: Overrides = None, as_json: Json = False) -> None:
    """Check a recipe, or every run of a study, without loading weights.

    Says of each check whether it was made, what it found, and if not, why not.
    """
    from kd_bench.runs import summary
    from kd_bench.runs.validate import validate as run
    from kd_bench.study import load_study

    runs = [one.recipe for one in load_study(recipe, overrides or []).runs]
    checks = []
    with console().status("") as status:
        for each in runs:
            found = run(each, lambda text: status.update(f"{text} ..."))
            if len(runs) > 1:  # a study's models are checked in every run; each result is told once
                found = [
                    {**row, "check": f"{row['check']} ({each.name})"} if row["check"] == "plan" else row
                    for row in found
                ]
            checks += [row for row in found if row not in checks]
    if as_json:
        print_json(checks)
    else:
        print_table(summary.checks_table(checks))
    problems = [f"{row['check']}: {row['detail']}" for row in checks if row["result"] == "problem"]
    if problems:
        raise UserError(recipe, problems)


@app.command(
    epilog=examples("kd-bench ls recipes", "kd-bench ls tasks", "kd-bench ls methods", "kd-bench ls divergences")
)
def ls(
    what: Annotated[str, typer.Argument(help="recipes, tasks, methods, divergences or runs.")],
    runs: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """List recipes, tasks, methods, divergences or runs."""
    from kd_bench.runs import listing

    lists = {"recipes": listing.recipes, "tasks": listing.tasks, "methods": listing.methods}
    lists |= {"divergences": listing.divergences, "runs": lambda: listing.runs(runs)}
    if what not in lists:
        raise UserError("ls", f"{what!r} is not one of {', '.join(lists)}.")
    rows = lists[what]()
    if as_json:
        print_json(rows)
    else:
        print_table(listing.table(what, rows))


@app.command(epilog=examples("kd-bench cp quickstart my.yaml", "kd-bench cp smollm2_squad recipes/mine.yaml"))
def cp(
    recipe: RecipeArgument,
    destination: Annotated[Path, typer.Argument(help="The new file, or a folder for it; never overwritten.")],
) -> None:
    """Copy a recipe to make it your own.

    Its `name` becomes the new file's, so that its runs stand apart.
    """
    from kd_bench.runs.listing import copy_recipe

    typer.echo(copy_recipe(recipe, destination))


cache = typer.Typer(
    no_args_is_help=True,
    help="Look at and remove what runs keep to save time.",
    epilog=examples("kd-bench cache ls", "kd-bench cache rm smollm2_squad"),
)
app.add_typer(cache, name="cache")


@cache.command("ls", epilog=examples("kd-bench cache ls", "kd-bench cache ls --runs /scratch/runs --json"))
def cache_ls(runs: Runs = Path("runs"), as_json: Json = False) -> None:
    """List stored teacher states and tokenised questions, with their size."""
    from kd_bench.runs import listing
    from kd_bench.runs.cache import entries

    rows = entries(runs)
    if as_json:
        print_json(rows)
    else:
        print_table(listing.table("cache", rows))


@cache.command("rm", epilog=examples("kd-bench cache rm smollm2_squad", "kd-bench cache rm quickstart/tokens/0123abcd"))
def cache_rm(
    keys: Annotated[list[str], typer.Argument(metavar="KEY...", help="Keys that `cache ls` shows, or names of runs.")],
    runs: Runs = Path("runs"),
) -> None:
    """Remove what is kept under these keys.

    Models, records and results are never touched; what a repeated command needs, it makes again.
    """
    from kd_bench.runs.cache import remove

    for row in remove(runs, keys):
        typer.echo(f"removed {row['key']} ({row['bytes']:,} bytes)")
