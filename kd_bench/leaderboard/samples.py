"""lm-eval's logged samples as the lines that go beside a record, and the scores that follow from those lines."""

import hashlib
import json
import math
from collections import defaultdict
from numbers import Real
from typing import Any

from kd_bench.errors import UserError
from kd_bench.leaderboard.schema import check_plain
from kd_bench.leaderboard.statistics import cluster_codes, clustered_stderr

# Where a document keeps the text that several questions share: SQuAD's name, then BoolQ's and RACE's.
PASSAGE_KEYS = ("context", "passage", "article")


def sha12(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def cluster(sample: dict) -> str:
    """The hash of the sample's passage; of the document itself where there is none, so that it is a cluster of its
    own."""
    doc = sample["doc"] if isinstance(sample["doc"], dict) else {}
    for key in PASSAGE_KEYS:
        if isinstance(doc.get(key), str) and doc[key].strip():
            return sha12(doc[key])
    return sha12(f"document {sample['doc_id']}")


def prediction(filtered: Any) -> str | None:
    """What the model answered: the text it wrote, or the number of the choice it found likeliest; None if it is
    neither.

    filtered: lm-eval's `filtered_resps`: one text a request, or one (log-likelihood, greedy) a choice (as strings when
    read from a file).
    """
    if filtered and isinstance(filtered[0], str):
        return filtered[0].encode("utf-8", "replace").decode()  # half a surrogate pair could not be written
    if len(filtered) > 1 and all(isinstance(item, list | tuple) and len(item) == 2 for item in filtered):
        likelihoods = [float(item[0]) for item in filtered]
        return str(likelihoods.index(max(likelihoods)))
    return None


def lines(samples: list[dict]) -> tuple[list[dict], dict[str, str]]:
    """([{"id", "cluster", "prediction", "scores": {metric: value}}] in document order, {metric left out: why}).

    samples: one dict a (document, filter), as `lm_eval.simple_evaluate(log_samples=True)` returns and `samples_*.jsonl`
    holds. A task with several filters has its metrics named "metric,filter", as lm-eval prints them. Metrics that are
    not a share in [0, 1] (a tuple, a perplexity) are left out. Raises UserError for a score that is not finite, since
    it means that an evaluation went wrong.
    """
    filters = {sample["filter"] for sample in samples}
    documents: dict[int, dict] = {}
    left_out: dict[str, str] = {}
    broken = []
    for sample in samples:
        doc = sample["doc"] if isinstance(sample["doc"], dict) else {}
        line = documents.setdefault(
            sample["doc_id"],
            {
                "id": str(doc.get("id", sample["doc_id"])),
                "cluster": cluster(sample),
                "prediction": prediction(sample["filtered_resps"]),
                "scores": {},
            },
        )
        for metric in sample["metrics"]:
            name = metric if len(filters) == 1 else f"{metric},{sample['filter']}"
            value = sample[metric]
            if not isinstance(value, Real):
                left_out[name] = "is not one number a question"
            elif not math.isfinite(value):
                broken.append(f"{name} of document {sample['doc_id']} is {value}, not a finite number")
            elif not 0 <= value <= 1:
                left_out.setdefault(name, f"is not a share: {value:g} is not in [0, 1]")
            else:
                line["scores"][name] = float(value)
    if broken:
        raise UserError("evaluation", broken)
    result = [documents[doc_id] for doc_id in sorted(documents)]
    if len({line["id"] for line in result}) < len(result):  # ids that repeat cannot pair two models' answers
        for doc_id, line in zip(sorted(documents), result):
            line["id"] = str(doc_id)
    for line in result:
        line["scores"] = {metric: value for metric, value in line["scores"].items() if metric not in left_out}
    return result, left_out


def scores(question_lines: list[dict]) -> dict[str, dict]:
    """{metric: {"value", "stderr", "n", "clusters"}}, each over the questions that have that metric; stderr clustered
    by passage."""
    values, clusters = defaultdict(list), defaultdict(list)
    for line in question_lines:
        for metric, value in line["scores"].items():
            values[metric].append(value)
            clusters[metric].append(line["cluster"])
    return {
        metric: {
            "value": math.fsum(values[metric]) / len(values[metric]),
            "stderr": clustered_stderr(values[metric], clusters[metric]),
            "n": len(values[metric]),
            "clusters": cluster_codes(clusters[metric])[1],
        }
        for metric in values
    }


def not_a_mean(measured: dict[str, dict], task_results: dict, lower_is_better: set[str]) -> dict[str, str]:
    """{metric: why it can't stand in a table of means where higher is better}, checked against what lm-eval aggregated.

    task_results: `results["results"][task]`, with keys "metric,filter".
    """
    reasons = {}
    for metric, score in measured.items():
        name = metric.split(",")[0]
        told = [v for k, v in task_results.items() if k == metric or ("," not in metric and k.split(",")[0] == metric)]
        if name in lower_is_better:
            reasons[metric] = "is better when lower"
        elif told and not (isinstance(told[0], Real) and abs(told[0] - score["value"]) < 1e-6):
            reasons[metric] = (
                f"is not the mean over questions: lm-eval says {told[0]}, the mean is {score['value']:.6f}"
            )
    return reasons


def task_hash(samples: list[dict]) -> str:
    """lm-eval's `task_hashes` entry: it changes with any document, prompt or target. Its tracker computes it only when
    it writes files."""
    text = "".join(sample["doc_hash"] + sample["prompt_hash"] + sample["target_hash"] for sample in samples)
    return hashlib.sha256(text.encode()).hexdigest()


def encode(question_lines: list[dict]) -> str:
    return "".join(
        json.dumps(line, ensure_ascii=False, sort_keys=True, allow_nan=False) + "\n" for line in question_lines
    )


def decode(text: str) -> list[dict]:
    """The lines of a samples file. Raises ValueError with the line number where one is not as `lines` makes them."""
    result = []
    # Not splitlines(): that also splits at U+2028 and the like, which JSON leaves as they are within a string.
    for number, raw in enumerate(text.removesuffix("\n").split("\n"), 1):
        try:
            line = json.loads(raw)
            shaped = set(line) == {"id", "cluster", "prediction", "scores"} and isinstance(line["scores"], dict)
            shaped = shaped and all(isinstance(line[key], str) for key in ("id", "cluster"))
            shaped = shaped and isinstance(line["prediction"], str | None)
            check_plain(line)
            shaped = shaped and all(isinstance(v, float | int) and 0 <= v <= 1 for v in line["scores"].values())
        except (ValueError, TypeError, RecursionError):
            shaped = False
        if not shaped:
            raise ValueError(f"line {number} is not a question's scores")
        result.append(line)
    if len({line["id"] for line in result}) < len(result):
        raise ValueError("two lines have the same id")
    return result
