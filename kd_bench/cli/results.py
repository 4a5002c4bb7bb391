"""Verbs of many models' results: rank them, put two side by side."""

import json
from pathlib import Path
from typing import Annotated

import typer

from kd_bench.cli.common import Json, Metadata, app, examples, metadata_of, names, print_json, print_table, warn
from kd_bench.errors import UserError


@app.command(
    epilog=examples(
        "kd-bench leaderboard",
        "kd-bench leaderboard --check",
        "kd-bench leaderboard --since HEAD~1",
        "kd-bench leaderboard --add lm_eval_output/",
        "kd-bench leaderboard --tasks squad_kd_zeroshot,squad_kd_oneshot --size bytes_on_disk",
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
    tasks: Annotated[
        str | None, typer.Option(help="Rank over these tasks, separated by commas; without it, over all of a run.")
    ] = None,
    size: Annotated[
        str,
        typer.Option(
            metavar="SIZE", help="What LEADERBOARD.md goes by: parameters, bytes_on_disk, ... (a wrong one lists all)."
        ),
    ] = "parameters",
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
        warn(problems)
    problems = build(results, output, check=check, tasks=names(tasks or ""), axis=size)
    warn(problems)
    if not check:
        typer.echo(output)
    elif not problems:
        typer.echo(f"{output} is what the records give")
    if before is not None:
        print_table(moved_view(moved(before, json.loads(output.with_name(DATA).read_text(encoding="utf-8")))))
    if problems:  # the rest is built, and a script can tell that something was left out
        raise typer.Exit(1)


@app.command(
    epilog=examples(
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
        a, b, results, tasks=names(tasks or ""), metric=metric, examples=examples, metadata=metadata_of(metadata)
    )
    warn(notes)
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            print_table(comparison_view(row, a, b))
