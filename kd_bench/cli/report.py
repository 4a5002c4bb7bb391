"""The verb that writes a study's report."""

from pathlib import Path
from typing import Annotated

import typer

from kd_bench.cli.common import app, examples, warn


@app.command(
    epilog=examples(
        "kd-bench report qa_smollm2",
        "kd-bench report smollm2_squad --output my_reports",
        "kd-bench report qa_smollm2 qa_sensitivity --results runs/results --check",
    )
)
def report(
    studies: Annotated[
        list[str], typer.Argument(metavar="STUDY...", help="Studies, or runs, as the records name them.")
    ],
    results: Annotated[Path, typer.Option(help="Folder of records.")] = Path("leaderboard/results"),
    output: Annotated[Path, typer.Option(help="Where a folder for each study is made.")] = Path("reports"),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 unless the files are what the records give.")
    ] = False,
) -> None:
    """Write one study's report, with tables and plots.

    From the records alone: OUTPUT/STUDY/report.md, report.html (opens from disk) and plots/. The same records, the same
    bytes.
    """
    from kd_bench.report.build import build

    with_problems = build(studies, results, output, check)
    warn(with_problems)
    for name in dict.fromkeys(studies):
        if not check:
            typer.echo(output / name / "report.md")
        elif not with_problems:
            typer.echo(f"{output / name} is what the records give")
    if with_problems:  # the rest is written, and a script can tell that something was left out
        raise typer.Exit(1)
