"""`kd-bench submit`: records made elsewhere, checked as far as they can be, put where the leaderboard reads them.

Nothing in a record is taken on trust that can be computed here: scores are computed again from the answers' text,
questions are compared with the task's, and what a model was trained on with what it was measured on.
"""

import math
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from kd_bench.errors import UserError
from kd_bench.leaderboard.audit import DRIFT, SubmissionKey
from kd_bench.leaderboard.ingest import RESULTS_NAME, read_output
from kd_bench.leaderboard.record import problems_of, read_record, read_records, read_samples, write_record
from kd_bench.leaderboard.schema import Record, Result, TrainedOn, Verified, stem
from kd_bench.runs.facts import split_names
from kd_bench.runs.questions import load, measured_role, split_documents
from kd_bench.runs.rescore import rescore

SPLITS, ALONE = ("train", "validation", "test"), ("none", "unknown")


class Outcome(NamedTuple):
    """added: the records' paths in the results folder. refused: a line a reason. notes: what to know of the rest."""

    added: list[Path]
    refused: list[str]
    notes: list[str]


def submit(
    run: Path,
    results: Path,
    *,
    metadata: dict[str, Any] | None = None,
    trained_on: list[str] | None = None,
    verify: str | None = None,
    dry_run: bool = False,
) -> Outcome:
    """Checks every record of `run` and writes those that hold into the folder `results`; the others are named with the
    reason, and the rest goes on.

    run: a record, a folder of records, or a folder that `lm_eval --output_path --log_samples` wrote. metadata: what the
    tasks' data gets. trained_on: which of the task's splits the model was trained on, or "none" or "unknown". verify: a
    model's folder or hub id, evaluated again here and compared. dry_run: writes nothing. Raises UserError if there is
    nothing to submit, or an option is wrong.
    """
    trained_on = trained_on or []
    _check_declaration(trained_on)
    found, refused, notes = read_run(run)
    if verify and len({(result.record.model.name, result.record.seed) for _, result in found}) > 1:
        raise UserError("--verify", f"{run} has records of several models: submit them one by one")
    here = _records_in(results)
    claimed = {SubmissionKey.of(record): f"{stem(record)}.json in {results}" for record in here}
    added, tasks = [], {}
    for name, result in found:
        try:
            checked, told = check(result, tasks, metadata or {}, trained_on)
            key, path = SubmissionKey.of(checked.record), results / f"{stem(checked.record)}.json"
            if key in claimed:
                raise UserError(name, f"claims the same student, task, recipe and seed as {claimed[key]}")
            if path.exists() or path in added:
                raise UserError(name, f"{path} is another record: give one of the two models or runs another name")
            if verify:
                verified = verified_by(verify, checked, tasks[checked.record.task.name], metadata or {})
                checked = checked._replace(record=checked.record.model_copy(update={"verified": verified}))
        except UserError as error:
            refused += [f"{name}: refused: {problem}" for problem in error.problems]
            continue
        if not dry_run:
            write_record(results, *checked)
        claimed[key] = name
        added.append(path)
        notes += [f"{name}: {note}" for note in told]
    return Outcome(added, refused, notes)


def read_run(run: Path) -> tuple[list[tuple[str, Result]], list[str], list[str]]:
    """([(file or model and task, result)], what does not read, what to know of the rest). Raises UserError if there is
    nothing."""
    if not run.exists():
        raise UserError(str(run), "no such file or folder; give a record, a folder of records or lm_eval's output")
    paths = sorted(run.glob("*.json")) if run.is_dir() else [run]
    paths = [path for path in paths if not path.name.startswith(".") and not RESULTS_NAME.fullmatch(path.name)]
    if run.is_dir() and not paths:
        taken, refused, notes = read_output(run)
        named = [(f"{result.record.model.name} on {result.record.task.name}", result) for result in taken]
        return named, refused, notes
    found, refused = [], []
    for path in paths:
        try:
            record = read_record(path)
            found.append((path.name, Result(record, read_samples(path.parent, record))))
        except FileNotFoundError as error:
            refused.append(f"{path.name}: refused: no {Path(error.filename).name} beside it")
        except (ValueError, OSError) as error:
            refused += [f"{path.name}: refused: {problem}" for problem in problems_of(error)]
    return found, refused, []


def check(result: Result, tasks: dict[str, Any], metadata: dict, trained_on: list[str]) -> tuple[Result, list[str]]:
    """(the result as it may be added, what to know about it). tasks: those loaded so far, filled here.

    Raises UserError naming what is wrong with it, or what is needed to find out.
    """
    record = result.record
    if result.samples is None:
        raise UserError(record.task.name, "has no samples to compute its scores from: evaluate with --log_samples")
    if record.task.split_hash is None:
        raise UserError(record.task.name, "does not say which questions it was measured on: no split fingerprint")
    name = record.task.name
    if name not in tasks:
        tasks[name] = load(name, metadata)
    task = tasks[name]
    try:
        docs = split_documents(task, record)
    except UserError as error:
        hint = 'give the metadata that it was measured with: --metadata \'{"data_dir": ..., "size": ...}\''
        raise UserError(name, [f"{problem}; {hint}" for problem in error.problems]) from None
    checked, notes = rescore(result, task, docs)
    changes: dict[str, Any] = {"trained_on": declaration(record, task, trained_on)}
    if record.verified:
        changes["verified"] = None
        notes.append("was marked as verified elsewhere; the mark is taken off")
    checked = checked._replace(record=checked.record.model_copy(update=changes))
    if checked.record.saw_its_questions:
        notes.append("was trained on the questions that it is measured on: it is shown, and not ranked")
    return checked, notes


def declaration(record: Record, task, given: list[str]) -> TrainedOn:
    """What the model was trained on: as `given`, else as the record declares, else what its recipe implies.

    Raises UserError if nothing says it, or it contradicts the splits' fingerprints.
    """
    from kd_bench.data.splits import fingerprint

    names = {role: name for role, name in split_names(task).items() if name in task.dataset}
    prints = fingerprint({role: task.dataset[name] for role, name in names.items() if role in SPLITS})
    role, own = measured_role(task, record.task.split), record.task.split_hash
    by_recipe = record.provenance.recipe_hash is not None
    recipes = record.task.fingerprint.get("train") if by_recipe else None
    recipes = recipes.get("hash") if isinstance(recipes, dict) else None
    declared = given or (record.trained_on.declared if record.trained_on else []) or (["train"] if by_recipe else [])
    if not declared:
        choices = "one or more of train, validation and test, or none of them, or unknown"
        raise UserError(record.task.name, f"does not say what it was trained on: add --trained-on with {choices}")
    problems = [f"--trained-on {s}: the task has no such split" for s in declared if s in SPLITS and s not in prints]
    if "train" in declared and recipes and "train" in prints and recipes != prints["train"]["hash"]:
        problems.append(
            "its recipe's training split is not that of the task's data here, so it can't be compared with what it is"
            " measured on: give the same data, or declare --trained-on unknown"
        )
    hashes = {split: prints[split]["hash"] for split in declared if split in prints}
    if role in declared:
        hashes[role] = own
    elif own in {recipes, *hashes.values()}:
        truth = ",".join([*hashes, role])
        problems.append(f"was trained on the questions that it is measured on: declare it, --trained-on {truth}")
    if problems:
        raise UserError(record.task.name, problems)
    return TrainedOn(declared=list(declared), hashes=hashes)


def verified_by(model: str, result: Result, task, metadata: dict) -> Verified:
    """Evaluates `model` on the questions of `result`. Raises UserError if a score differs by more than 0.001."""
    from kd_bench.runs.environment import environment
    from kd_bench.runs.evaluate import evaluate_model

    record, lines = result
    name, role = record.task.name, measured_role(task, record.task.split)
    with tempfile.TemporaryDirectory() as folder:
        evaluate_model(model, [name], limit=len(lines), metadata=metadata, split=role, output=Path(folder))
        ((_, again),), _, _ = read_run(Path(folder))
    wrote = {line["id"]: line["prediction"] for line in again.samples}
    same = sum(wrote.get(line["id"]) == line["prediction"] for line in lines) / len(lines)
    here = {metric: score.value for metric, score in again.record.scores.items()}
    told = {metric: score.value for metric, score in record.scores.items()}
    apart = {metric: abs(here.get(metric, math.inf) - value) for metric, value in told.items()}
    if wrong := [metric for metric in told if apart[metric] > DRIFT]:
        problems = [f"{metric} is {here.get(metric)} here and {told[metric]} in the record" for metric in wrong]
        raise UserError(name, [f"--verify {model}: {problem}" for problem in problems])
    made = environment()
    return Verified(
        date=made["created"], commit=made["commit"], same_answers=same, largest_difference=max(apart.values())
    )


def _check_declaration(trained_on: list[str]) -> None:
    problems = [f"{s!r} is not one of {', '.join(SPLITS + ALONE)}" for s in trained_on if s not in SPLITS + ALONE]
    problems += [f"{s!r} says that there is no other" for s in trained_on if s in ALONE and len(trained_on) > 1]
    if problems:
        raise UserError("--trained-on", problems)


def _records_in(results: Path) -> list[Record]:
    return read_records(results)[0] if results.is_dir() else []
