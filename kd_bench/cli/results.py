"""Verbs of many models' results: rank them, add to them, put two side by side."""

import json
from pathlib import Path
from typing import Annotated

import typer

from kd_bench.cli.common import (
    Json,
    Metadata,
    app,
    console,
    examples,
    metadata_of,
    names,
    print_json,
    print_table,
    warn,
)
from kd_bench.errors import UserError


@app.command(
    epilog=examples(
        "kd-bench leaderboard",
        "kd-bench leaderboard --check",
        "kd-bench leaderboard --since HEAD~1",
        "kd-bench leaderboard --check --since HEAD~1",
        "kd-bench leaderboard --add lm_eval_output/",
        "kd-bench leaderboard --tasks squad_kd_zeroshot,squad_kd_oneshot --size bytes_on_disk",
        "kd-bench leaderboard --results my/results --output my/LEADERBOARD.md",
        "kd-bench leaderboard --texts with_passages.html",
        "kd-bench leaderboard --every-eval-ever EEE_datastore/",
    )
)
def leaderboard(
    results: Annotated[Path, typer.Option(help="Folder of records.")] = Path("leaderboard/results"),
    output: Annotated[Path, typer.Option(help="The file to write.")] = Path("leaderboard/LEADERBOARD.md"),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 unless all records hold and give the files.")
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
        str | None,
        typer.Option(metavar="REV", help="Then say what moved since this git revision; with --check, refuse it."),
    ] = None,
    texts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also write the page with questions, passages and gold answers there: for your own eyes.",
        ),
    ] = None,
    metadata: Metadata = None,
    every_eval_ever: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Also write the records in the Every Eval Ever schema there.")
    ] = None,
) -> None:
    """Turn the records into LEADERBOARD.md and a page.

    Beside it: index.html, which opens from disk, leaderboard.csv, leaderboard.json. The same records, the same bytes.
    """
    from kd_bench.leaderboard.audit import audit, audit_since
    from kd_bench.leaderboard.build import DATA, build
    from kd_bench.leaderboard.ingest import ingest
    from kd_bench.leaderboard.moved import data_at, moved, moved_view
    from kd_bench.leaderboard.record import write_record

    for option, given in (("--add", add), ("--every-eval-ever", every_eval_ever), ("--texts", texts)):
        if check and given is not None:
            raise UserError("leaderboard", f"--check writes nothing and {option} does: give one of the two.")
    before = data_at(since, output.with_name(DATA)) if since and not check else None
    if add is not None:
        taken, problems = ingest(add)
        for result in taken:
            typer.echo(write_record(results, result.record, result.samples))
        warn(problems)
    problems = build(results, output, check=check, tasks=names(tasks or ""), axis=size)
    if check:
        audited = [*audit(results), *(audit_since(results, since) if since else [])]
        problems = list(dict.fromkeys([*problems, *audited]))  # both name what does not read
    warn(problems)
    if not check:
        typer.echo(output)
    elif not problems:
        typer.echo(f"{output} is what the records give, and every record holds")
    if every_eval_ever is not None:
        from kd_bench.leaderboard.every_eval_ever import export
        from kd_bench.leaderboard.record import read_records

        typer.echo(f"{every_eval_ever}: {len(export(every_eval_ever, read_records(results)[0]))} documents")
    if texts is not None:
        from kd_bench.leaderboard.record import write_atomically
        from kd_bench.runs.texts import page_with_texts

        data = json.loads(output.with_name(DATA).read_text(encoding="utf-8"))
        page, notes = page_with_texts(data, results, metadata_of(metadata))
        write_atomically(texts, page)
        warn(notes)
        typer.echo(texts)
    if before is not None:
        print_table(moved_view(moved(before, json.loads(output.with_name(DATA).read_text(encoding="utf-8")))))
    if problems:  # the rest is built, and a script can tell that something was left out
        raise typer.Exit(1)


@app.command(
    epilog=examples(
        "kd-bench submit my_records/",
        "kd-bench submit lm_eval_output/ --trained-on unknown --dry-run",
        "kd-bench submit my_records/ --trained-on train,validation --verify me/my-student",
    )
)
def submit(
    run: Annotated[Path, typer.Argument(help="A record, a folder of records, or what lm_eval --output_path wrote.")],
    results: Annotated[Path, typer.Option(help="Folder that they are added to.")] = Path("leaderboard/results"),
    metadata: Metadata = None,
    trained_on: Annotated[
        str | None,
        typer.Option(
            metavar="SPLIT,...",
            help="Which of the task's splits the model was trained on: train, validation, test, none of them or "
            "unknown. A recipe's records say it themselves.",
        ),
    ] = None,
    verify: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Evaluate this model here; refuse scores that are not its.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, write nothing.")] = False,
) -> None:
    """Check records and put them where the leaderboard reads them.

    Scores are computed again from the answers' text, so the tasks' data is needed. What does not hold is named with the
    reason, the rest is added, and the exit code is 1.
    """
    from kd_bench.runs.submit import submit as add

    with console().status("checking ..."):
        outcome = add(
            run,
            results,
            metadata=metadata_of(metadata),
            trained_on=names(trained_on or ""),
            verify=verify,
            dry_run=dry_run,
        )
    warn([*outcome.notes, *outcome.refused])
    for path in outcome.added:
        typer.echo(f"{path} would be added" if dry_run else path)
    if outcome.added and not dry_run:
        warn(["next: kd-bench leaderboard, then commit what changed and open a pull request"])
    if outcome.refused:
        raise typer.Exit(1)


@app.command(
    epilog=examples(
        "kd-bench compare 24l-reverse_kl 24l-forward_kl",
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
