"""Takes in what plain `lm_eval --output_path FOLDER [--log_samples]` wrote: models that no recipe made, in the same
tables.

lm-eval 0.4 writes one folder a model with `results_<date>.json` and, asked to, `samples_<task>_<date>.jsonl`. With the
samples a record has what kd-bench's own have: errors clustered by passage, and a fingerprint that shows that it was
measured on the same questions. Without them lm-eval's own error stands, which treats the questions as independent, and
the record gets a table of its own.
"""

import json
import math
import re
from datetime import UTC, datetime
from numbers import Real
from pathlib import Path

from kd_bench.errors import UserError
from kd_bench.leaderboard.record import problems_of, records_from_results
from kd_bench.leaderboard.schema import Key, Record, Result

RUN = "lm_eval"
NAME_LENGTH = 100
UNLOGGED = "its error is not clustered by passage, and whether its questions are those of other rows can't be told"
# Means over part of the questions; without samples lm-eval does not tell how many.
PARTIAL = ("has_ans_", "no_ans_")
RESULTS_NAME = re.compile(r"(?:results|.+)_(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.?\d*)\.json")


def ingest(folder: str | Path) -> tuple[list[Result], list[str]]:
    """(results, problems) of every lm-eval output below `folder`; `write_record` each to put it on the leaderboard.
    The problems are what `read_output` refuses and notes."""
    results, refused, notes = read_output(folder)
    return results, [*notes, *refused]


def read_output(folder: str | Path) -> tuple[list[Result], list[str], list[str]]:
    """(results, what could not be taken in, what to know of the rest) of every lm-eval output below `folder`.

    A model measured twice on a task is taken as last measured. What can't be taken in is named and the rest goes on: a
    file that is not lm-eval's, a score that is not finite. A metric that is not a mean of shares is left out. Raises
    UserError if there is nothing of lm-eval's.
    """
    folder = Path(folder)
    files = sorted(path for path in folder.rglob("*.json") if RESULTS_NAME.fullmatch(path.name))
    if not files:
        raise UserError(
            str(folder), "no results_<date>.json in it: give the folder that `lm_eval --output_path` wrote to"
        )
    found: dict[Key, tuple[str, Result]] = {}
    refused, notes = [], []
    for path in files:
        where = str(path.relative_to(folder))
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            tasks = [name for name in content["results"] if name in content["configs"]]  # the others are groups
        except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
            refused.append(f"{where}: not a results file of lm-eval ({type(error).__name__}: {error}); left out")
            continue
        for task in tasks:
            try:
                result, told = one_task(path, content, task)
            except (UserError, ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
                told = error.problems if isinstance(error, UserError) else problems_of(error)
                refused += [f"{where}: {task}: {problem}; left out" for problem in told]
                continue
            notes += [f"{where}: {task}: {note}" for note in told]
            key, created = result.record.key, result.record.provenance.created
            if key in found:
                notes.append(f"{where}: {task}: {key.model} was measured more than once; the last is taken")
            if key not in found or created >= found[key][0]:
                found[key] = created, result
    return [found[key][1] for key in sorted(found, key=str)], refused, notes


def one_task(path: Path, content: dict, task: str) -> tuple[Result, list[str]]:
    """(the result of one task, what to know about it). path: the results file; content: what it holds."""
    date = RESULTS_NAME.fullmatch(path.name).group(1)
    samples_path = path.with_name(f"samples_{task}_{date}.jsonl")
    common = {
        "model": model_of(content),
        "provenance": {
            "run": RUN,
            "versions": {
                "lm_eval": content.get("lm_eval_version"),
                "transformers": content.get("transformers_version"),
            },
            "hardware": {"device": str(content["config"].get("device"))},
            "created": datetime.fromtimestamp(content["date"], UTC).isoformat(timespec="seconds"),
        },
        "cost": {"evaluate_seconds": seconds_of(content)},
    }
    if not samples_path.is_file():
        record = without_samples(content, task, common)
        return Result(record, None), [f"no {samples_path.name}: {UNLOGGED}. Run lm_eval with --log_samples"]
    samples = [json.loads(line) for line in samples_path.read_text(encoding="utf-8").split("\n") if line]
    expected = content["n-samples"][task]["effective"]
    if len({sample["doc_id"] for sample in samples}) != expected:
        raise ValueError(f"{samples_path.name} does not have the {expected} documents that were scored")
    split = split_of(content, task)
    record, lines = records_from_results(
        {**content, "samples": {task: samples}}, task, split=split, fingerprint=fingerprint_of(samples, split), **common
    )
    taken = {metric.split(",")[0] for metric in record.scores}
    omitted = sorted({metric for sample in samples for metric in sample["metrics"]} - taken)
    return Result(record, lines), [f"{name} is not a mean of shares, or lower is better; left out" for name in omitted]


def without_samples(content: dict, task: str, common: dict) -> Record:
    """The record of a task whose questions were not logged: lm-eval's means and its unclustered errors. Raises
    ValidationError."""
    measured, count = {}, content["n-samples"][task]["effective"]
    filters = {key.split(",")[1] for key in content["results"][task] if "," in key}
    lower = {metric for metric, higher in content.get("higher_is_better", {}).get(task, {}).items() if higher is False}
    for key, value in content["results"][task].items():
        metric, _, how = key.partition(",")
        if not how or metric.endswith("_stderr") or metric in lower or not isinstance(value, Real):
            continue
        if not math.isfinite(value):
            raise ValueError(f"{metric} is {value}, not a finite number")
        if not 0 <= value <= 1 or metric.startswith(PARTIAL):
            continue
        error = content["results"][task].get(f"{metric}_stderr,{how}")
        finite = isinstance(error, Real) and math.isfinite(error)
        measured[metric if len(filters) == 1 else key] = {
            "value": float(value),
            "stderr": float(error) if finite else None,
            "n": count,
            "clusters": None,
        }
    return Record.model_validate(
        {
            **common,
            "task": {
                "name": task,
                "version": content["versions"].get(task),
                "num_fewshot": content["n-shot"].get(task) or 0,
                "split": split_of(content, task),
                "fingerprint": {"questions": count},
            },
            "scores": measured,
        }
    )


def model_of(content: dict) -> dict:
    """The record's `model`: a hub id as it is, of a path the last two parts, since a home folder is nobody's
    business."""
    told = str(content.get("model_name") or content["config"].get("model"))
    parts = [part for part in told.replace("\\", "/").split("/") if part not in ("", ".", "..", "~")][-2:]
    name = re.sub(r"[^\w.+=@-]+", "_", "-".join(parts)).strip("._")[:NAME_LENGTH] or "model"
    parameters = content["config"].get("model_num_parameters")
    return {
        "name": name,
        "role": "other",
        "source": "/".join(parts) or name,
        "revision": content["config"].get("model_sha") or content["config"].get("model_revision") or None,
        "parameters": parameters if isinstance(parameters, int) and parameters > 0 else None,
    }


def seconds_of(content: dict) -> float | None:
    """How long the evaluation took; None if several tasks share the time. lm-eval counts loading the model in."""
    return float(content["total_evaluation_time_seconds"]) if len(content["configs"]) == 1 else None


def split_of(content: dict, task: str) -> str:
    config = content["configs"][task]
    return config.get("test_split") or config.get("validation_split") or "unknown"


def fingerprint_of(samples: list[dict], split: str) -> dict:
    """The measured split's fingerprint, equal to that of kd-bench's own evaluation of the whole split."""
    from kd_bench.data.splits import fingerprint

    documents = {sample["doc_id"]: sample["doc"] for sample in samples}
    if not all(isinstance(doc, dict) for doc in documents.values()):
        return {"questions": len(documents)}
    return fingerprint({split: [documents[doc_id] for doc_id in sorted(documents)]})
