"""Records as documents of Every Eval Ever, the EvalEval Coalition's shared schema of evaluation results.

One aggregate document a record, in the folders of the coalition's datastore:
data/kd-bench-<task>/<developer>/<model>/<uuid>.json. Schema and folder rules: github.com/evaleval/every_eval_ever, as
released in every-eval-ever 0.3.0; the schema lies in tests/leaderboard/every_eval_ever. Raw scores alone are exported:
what is kept of a teacher is said in relation to another record, for which the schema has no place.

There are no instance-level files. Their schema requires each question's text and its gold answers, and records hold
neither, by the data sets' licences.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import UUID

from kd_bench.errors import UserError
from kd_bench.leaderboard.origin import dataset, reproduce_command
from kd_bench.leaderboard.record import write_atomically
from kd_bench.leaderboard.schema import Record, Result, Score, stem

VERSION = "0.3.0"
OURS = "kd-bench"
HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
COMMIT = re.compile(r"[0-9a-f]{40}")
# The ids and the prefix of all others that the coalition's own lm-eval converter gives: results join whoever exports.
METRIC_IDS = {"acc": "accuracy", "em": "exact-match", "exact_match": "exact-match", "f1": "f1", "rougeL": "rouge-l"}
HARNESS = "lm-evaluation-harness"
# What the datastore refuses as a folder.
NOT_PORTABLE = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(1, 10))}


def export(folder: Path, records: Iterable[Record]) -> list[Path]:
    """Writes each record's document below `folder` and returns their paths; the same records give the same bytes.

    Raises UserError if one can't be written. A document that is there from before is replaced, others are left alone:
    `folder` may be a clone of the datastore.
    """
    written = []
    for record in records:
        made = document(record)
        path = Path(folder) / place(made, record.task.name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps(made, indent=1, sort_keys=True, allow_nan=False) + "\n")
        except OSError as error:
            raise UserError(str(path), f"can't be written: {error.strerror or error}") from None
        written.append(path)
    return written


def place(made: dict[str, Any], task: str) -> PurePosixPath:
    """A document's path in the datastore.

    Its uuid follows from evaluation_id, hence from the record's key and date, and an export that is repeated replaces
    the file. It has the form of version 4, the only one that the datastore takes, though uuid5 would say what it is.
    """
    developer, model = made["model_info"]["id"].split("/")
    digest = hashlib.sha256(made["evaluation_id"].encode()).digest()
    name = f"{UUID(bytes=digest[:16], version=4)}.json"
    return PurePosixPath("data", *map(portable, (f"{OURS}-{task}", developer, model)), name)


def portable(name: str) -> str:
    """`name` as a folder on any system, by the datastore's rules."""
    name = NOT_PORTABLE.sub("_", name).rstrip(". ")
    return f"_{name}" if name in ("", "data") or name.split(".")[0].upper() in RESERVED else name


def document(record: Record) -> dict[str, Any]:
    task, origin, model = record.task, record.provenance, model_info(record)
    created = datetime.fromisoformat(origin.created)
    seconds = str(int((created if created.tzinfo else created.replace(tzinfo=UTC)).timestamp()))
    return {
        "schema_version": VERSION,
        "evaluation_id": "/".join([f"{OURS}-{task.name}", model["id"], stem(record), seconds]),
        "evaluation_timestamp": seconds,
        "retrieved_timestamp": seconds,
        "source_metadata": {
            "source_name": "kd-bench leaderboard",
            "source_type": "evaluation_run",
            "source_organization_name": OURS,
            "evaluator_relationship": relationship(record),
            "additional_details": texts(
                origin.model_dump(include={"run", "recipe", "recipe_hash", "overrides", "commit", "dirty", "hardware"})
            ),
        },
        "eval_library": {
            "name": "lm_eval",
            "version": origin.versions.get("lm_eval") or "unknown",
            "additional_details": texts(origin.versions),
        },
        "model_info": model,
        "evaluation_results": [result(record, metric, score) for metric, score in sorted(record.scores.items())],
    }


def made_here(record: Record) -> bool:
    """Whether the run made the model: by training, or by taking layers out, which `source` then says after a comma."""
    return record.method is not None or record.model.role in ("sft", "distilled") or ", " in record.model.source


def as_published(record: Record) -> bool:
    """Whether the model was measured as `source` has it. `kd-bench evaluate` shortens a folder to two parts, which then
    reads like a hub id; only a commit tells the two apart."""
    return not made_here(record) and HUB_ID.fullmatch(record.model.source) is not None


def at_commit(record: Record) -> bool:
    return as_published(record) and COMMIT.fullmatch(record.model.revision or "") is not None


def relationship(record: Record) -> str:
    """Who makes a model in a run measures it too: first party. Of a hub's model another made the weights; of a folder
    or a package nobody knows who did."""
    if made_here(record):
        return "first_party"
    return "third_party" if at_commit(record) else "other"


def model_info(record: Record) -> dict[str, Any]:
    model, versions = record.model, record.provenance.versions
    by_kd_bench = "kd_bench" in versions  # else it was read from lm-eval's output, and any backend may have run it
    pinned = at_commit(record)
    details = {
        **model.model_dump(exclude={"name"}),
        "seed": record.seed,
        "method": record.method,
        "deployment_type": "self_deployed" if by_kd_bench else "unknown",
        "model_availability": "open_weights" if pinned else "unknown",
    }
    info = {
        "name": model.name,
        "id": model.source if as_published(record) else f"{OURS}/{portable(f'{record.provenance.run}.{model.name}')}",
        "additional_details": texts(details),
    }
    if pinned:
        info["developer"] = model.source.split("/")[0]
    if by_kd_bench:
        info["inference_engine"] = {"name": "transformers", "version": versions.get("transformers") or "unknown"}
    return info


def result(record: Record, metric: str, score: Score) -> dict[str, Any]:
    """One metric's entry. `metric` may be "name,filter", as lm-eval prints those of a task with several filters."""
    task = record.task
    name, _, how = metric.partition(",")
    uncertainty: dict[str, Any] = {"num_samples": score.n}
    if score.stderr is not None:
        # Unclustered is lm-eval's own, which does not tell how it was computed.
        how_made = {} if score.clusters is None else {"method": "analytic, clustered by passage"}
        uncertainty["standard_error"] = {"value": score.stderr, **how_made}
    repository = dataset(task.name)
    return {
        "evaluation_result_id": f"{name}:{how}" if how else name,
        "evaluation_name": f"{task.name}/{how}" if how else task.name,
        "source_data": {
            "dataset_name": task.name,
            **({"source_type": "hf_dataset", "hf_repo": repository} if repository else {"source_type": "other"}),
            # No hf_split: kd-bench splits by article, and its `test` is not the hub's.
            "additional_details": texts(task.model_dump(include={"version", "hash", "split", "fingerprint"})),
        },
        "metric_config": {
            "metric_id": METRIC_IDS.get(name, f"{HARNESS}.{name}"),
            "metric_name": name,
            "metric_unit": "proportion",
            "lower_is_better": False,
            "score_type": "continuous",
            "min_score": 0,
            "max_score": 1,
            # The schema wants a direction of every metric; how often a model abstains has none.
            **({"additional_details": {"polarity": "not_applicable"}} if name == "abstained" else {}),
        },
        "score_details": {
            "score": score.value,
            "uncertainty": uncertainty,
            "details": texts({"clusters": score.clusters}),
        },
        "generation_config": {
            "generation_args": {"execution_command": reproduce_command(record, [Result(record, None)])},
            "additional_details": texts({"num_fewshot": task.num_fewshot}),
        },
    }


def texts(parts: dict[str, Any]) -> dict[str, str]:
    """What is known of `parts`, as the strings that the schema asks for."""
    return {
        key: value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        for key, value in parts.items()
        if value not in (None, [], {})
    }
