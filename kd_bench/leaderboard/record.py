"""One measured model on one task: a JSON record, and beside it a line a question.

Everything the leaderboard shows is computed from these two files. The lines hold what each question scored and what the
model wrote, and never the passage, the question or the gold answer: the data sets' licences stay with the data.
"""

import json
import os
import stat
import tempfile
from pathlib import Path

from pydantic import ValidationError

from kd_bench.errors import UserError
from kd_bench.leaderboard import samples as sampled
from kd_bench.leaderboard.schema import Key, Record, Result, stem

RECORD_BYTES, SAMPLES_BYTES = 1 << 20, 1 << 26  # far above what any record or questions file has


def problems_of(error: Exception) -> list[str]:
    """A pydantic error as one line a problem, with the key's path; any other error as its own text."""
    if not isinstance(error, ValidationError):
        return [str(error) or type(error).__name__]
    return [
        f"{'.'.join(map(str, problem['loc'])) or 'record'}: {problem['msg'].removeprefix('Value error, ')}"
        for problem in error.errors(include_url=False)
    ]


def records_from_results(
    results: dict,
    task_name: str,
    *,
    model: dict,
    provenance: dict,
    fingerprint: dict,
    method: dict | None = None,
    seed: int | None = None,
    cost: dict | None = None,
    floor: dict | None = None,
    split: str | None = None,
) -> tuple[Record, list[dict]]:
    """(record, its samples' lines) of one task in what `lm_eval.simple_evaluate(..., log_samples=True)` returned.

    model, provenance, cost, floor: the fields of the classes above. split: the split that was measured, by default the
    task's own. Metrics that are not means of shares in [0, 1] where higher is better are left out. Raises UserError
    naming every problem: no samples logged, a score that is not finite, a field that does not fit.
    """
    where = f"record of {task_name}"
    logged = (results.get("samples") or {}).get(task_name)
    if not logged:
        raise UserError(where, "the results have no samples of this task: evaluate with log_samples=True")
    try:
        question_lines, left_out = sampled.lines(logged)
    except UserError as error:
        raise UserError(where, error.problems) from None
    measured = sampled.scores(question_lines)
    lower = {m for m, higher in results.get("higher_is_better", {}).get(task_name, {}).items() if higher is False}
    left_out |= sampled.not_a_mean(measured, results["results"][task_name], lower)
    if not set(measured) - set(left_out):
        raise UserError(where, ["no metric can be ranked:", *(f"{metric} {why}" for metric, why in left_out.items())])
    for line in question_lines:
        line["scores"] = {metric: value for metric, value in line["scores"].items() if metric not in left_out}
    config = results.get("configs", {}).get(task_name, {})
    try:
        record = Record.model_validate(
            {
                "model": model,
                "task": {
                    "name": task_name,
                    "version": results.get("versions", {}).get(task_name),
                    "hash": sampled.task_hash(logged),
                    "num_fewshot": results.get("n-shot", {}).get(task_name) or 0,
                    "split": split or config.get("test_split") or config.get("validation_split") or "unknown",
                    "fingerprint": fingerprint,
                },
                "method": method,
                "seed": seed,
                "scores": {metric: score for metric, score in measured.items() if metric not in left_out},
                "floor": floor,
                "cost": cost or {},
                "provenance": provenance,
            }
        )
    except ValidationError as error:
        raise UserError(where, problems_of(error)) from None
    return record, question_lines


def write_atomically(path: Path, text: str) -> None:
    """Writes beside `path` and renames: a reader sees the old file or the new one, and a full disk leaves the old
    one."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)  # mkstemp's 0600 would travel into checkouts and shared folders
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_record(folder: str | Path, record: Record, samples: list[dict] | None) -> Path:
    """Writes <run>.<model>[.seed<n>].<task>.json and, if there are `samples`, .samples.jsonl beside it; returns the
    record's path.

    The same record and samples give the same bytes. The samples go first, so a record that is there has its samples.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    name = stem(record)
    samples_name = f"{name}.samples.jsonl" if samples is not None else None
    record = record.model_copy(update={"samples": samples_name})
    if samples is not None:
        write_atomically(folder / samples_name, sampled.encode(samples))
    text = json.dumps(record.model_dump(), ensure_ascii=False, indent=1, sort_keys=True, allow_nan=False)
    write_atomically(folder / f"{name}.json", text + "\n")
    return folder / f"{name}.json"


def _check_size(path: Path, most: int) -> None:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):  # a link to /dev/zero has no size and no end
        raise ValueError("is not a regular file")
    if found.st_size > most:
        raise ValueError(f"{found.st_size:,} bytes, more than the {most:,} that are read")


def read_record(path: Path) -> Record:
    """Raises ValueError (pydantic's is one) or OSError."""
    _check_size(path, RECORD_BYTES)
    return parse_record(path.read_text(encoding="utf-8"))


def parse_record(text: str) -> Record:
    """Raises ValueError (pydantic's is one)."""

    def refuse(constant: str):
        raise ValueError(f"{constant} is not a number that JSON allows")

    try:
        content = json.loads(text, parse_constant=refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if isinstance(content, dict) and content.get("schema_version") != 1:
        raise ValueError(f"schema_version {content.get('schema_version')!r} is not 1, the one this version reads")
    return Record.model_validate(content)


def read_samples(folder: Path, record: Record) -> list[dict] | None:
    """The lines beside `record`, checked to give its scores. Raises ValueError if they don't, OSError if there is no
    such file."""
    if record.samples is None:
        return None
    _check_size(folder / record.samples, SAMPLES_BYTES)
    question_lines = sampled.decode((folder / record.samples).read_text(encoding="utf-8"))
    measured = sampled.scores(question_lines)
    for metric, score in record.scores.items():
        own = measured.get(metric, {"value": -1, "n": 0})
        if own["n"] != score.n or abs(own["value"] - score.value) > 1e-9:
            raise ValueError(f"its {metric} is not that of the record: one of the two was changed or cut short")
        if own["clusters"] != score.clusters or abs((own["stderr"] or 0) - (score.stderr or 0)) > 1e-6:
            raise ValueError(f"its {metric}'s standard error is not that of the record: one of the two was changed")
    return question_lines


def read_results(folder: str | Path) -> tuple[list[Result], list[str]]:
    """(results in a fixed order, problems) of every record in `folder`.

    A record that is damaged, contradicts its samples or repeats another's run, model, task and seed is named and left
    out, and the rest goes on. One whose samples file is missing is named and kept without its questions: its scores
    stand, its intervals can't be computed. Raises UserError if there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(str(folder), "no such folder; `kd-bench distill RECIPE` writes records, and makes it")
    results: dict[Key, Result] = {}
    files: dict[Key, str] = {}
    problems = []
    for path in sorted(folder.glob("*.json")):
        if path.name.startswith("."):
            continue
        try:
            record = read_record(path)
        except (ValueError, OSError) as error:
            problems += [f"{path.name}: {problem}; left out" for problem in problems_of(error)]
            continue
        if record.key in results:
            problems.append(f"{path.name}: same run, model, task and seed as {files[record.key]}; left out")
            continue
        question_lines = None
        try:
            question_lines = read_samples(folder, record)
        except OSError:
            problems.append(f"{path.name}: its samples file {record.samples} is missing; shown without intervals")
        except ValueError as error:
            problems.append(f"{path.name}: {record.samples}: {error}; left out")
            continue
        results[record.key] = Result(record, question_lines)
        files[record.key] = path.name
    in_order = sorted(results.values(), key=lambda result: tuple(map(str, result.record.key)))
    return in_order, problems


def read_records(folder: str | Path) -> tuple[list[Record], list[str]]:
    """`read_results` without the questions."""
    results, problems = read_results(folder)
    return [result.record for result in results], problems
