"""The application, and what its verbs share: option types, where things are printed."""

import json
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


def examples(*lines: str) -> str:
    # \b keeps click from filling the lines up into one paragraph.
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def console():
    """Everything for people goes to stderr: stdout is for results, so that a pipe gets those and no more."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"kd-bench {__version__}")
        raise typer.Exit


@app.callback(
    epilog=examples(
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


def names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def executor_of(kind: str, jobs: int, address: str | None, processes: int, accelerate_config: Path | None):
    from kd_bench.runs.execute import Executor

    return Executor(kind, jobs=jobs, address=address, processes=processes, accelerate_config=accelerate_config)


def metadata_of(text: str | None) -> dict:
    try:
        value = json.loads(text or "{}")
    except ValueError as error:
        raise UserError("--metadata", f"{text!r} is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise UserError("--metadata", f"""{text!r} is not a JSON object such as '{{"data_dir": "data"}}'.""")
    return value


def warn(problems: list[str]) -> None:
    from kd_bench.leaderboard.escape import one_line

    for problem in problems:
        typer.echo(one_line(problem), err=True)  # they quote what strangers wrote


def print_table(what) -> None:
    from rich.console import Console

    Console(highlight=False).print(what)


def print_json(value) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
