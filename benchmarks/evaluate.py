"""Time of an evaluation: lm-eval's own `hf` model against ours, same model, same documents, same batch size, one run.

    KD_BENCH_DATA=... python benchmarks/evaluate.py                      # the default teacher as it comes
    KD_BENCH_DATA=... python benchmarks/evaluate.py --model FOLDER       # any model, a fine-tuned student for one
    python benchmarks/evaluate.py --model config:qwen2.5-0.5b --json     # random weights

Both are given one loaded model and run `lm_eval.evaluate` over the first `--limit` documents of each task's test
split, after one document that is not counted; "seconds" is all of it, prompts and scores too. `identical` is the share
of documents with the same answer. What an answer costs depends on its length: "generated_tokens" is the mean of ours,
the one that ends an answer included, and "limit" where the task cuts an answer off. The mean is near the limit for a
model that was never taught to stop, and a few tokens for one that was fine-tuned on the task.
"""

import argparse
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # this folder's names are not to hide installed packages

import lm_eval
from lm_eval.models.huggingface import HFLM

from benchmarks.common import SETTINGS, Models, machine, parser, report, run, synchronize
from kd_bench.harness.evaluate import load_tasks
from kd_bench.harness.examples import quiet
from kd_bench.harness.prefix_lm import PrefixLM

HF, OURS = "lm-eval hf", "kd-bench"


def parse() -> argparse.Namespace:
    found = parser(__doc__)
    found.add_argument("--limit", type=int, default=74, help="documents a task")
    found.add_argument("--batch-size", type=int, default=8)
    return found.parse_args()


def answers(lm, task, limit: int) -> tuple[float, list[str]]:
    """Seconds, and what `lm` wrote for the first `limit` documents of `task`."""
    synchronize()
    began = time.perf_counter()
    with quiet():
        results = lm_eval.evaluate(
            lm, {"tasks": {task.task_name: task}}, limit=limit, log_samples=True, bootstrap_iters=0
        )
    synchronize()
    seconds = time.perf_counter() - began
    samples = sorted(results["samples"][task.task_name], key=lambda sample: sample["doc_id"])
    return seconds, [sample["resps"][0][0] for sample in samples]


def compared(task, lms: dict[str, HFLM], limit: int) -> dict:
    found = {}
    for name, lm in lms.items():
        answers(lm, task, 1)
        before = getattr(lm, "generated_tokens", 0)
        found[name] = answers(lm, task, limit)
    written = lms[OURS].generated_tokens - before
    (hf_seconds, theirs), (seconds, ours) = found[HF], found[OURS]
    return {
        "task": task.task_name,
        "documents": len(ours),
        "speedup": hf_seconds / seconds,
        "identical": sum(a == b for a, b in zip(theirs, ours)) / len(ours),
        "seconds": {HF: hf_seconds, OURS: seconds},
        "generated_tokens": written / len(ours),
        "limit": task.config.generation_kwargs["max_gen_toks"],
    }


def table(results: dict) -> str:
    from tabulate import tabulate

    lines = []
    for setting in SETTINGS:
        row = results[setting]
        lines.append(
            [setting, row["documents"], f"{row['seconds'][HF]:.1f} s", f"{row['seconds'][OURS]:.1f} s",
             f"{row['speedup']:.1f}x", f"{row['identical']:.1%}",
             f"{row['generated_tokens']:.1f} of {row['limit']}"]
        )  # fmt: skip
    header = ["prompt", "documents", HF, OURS, "speed", "same answers", "tokens an answer"]
    return tabulate(lines, header, tablefmt="github", disable_numparse=True)


def main() -> None:
    arguments = parse()
    models = Models.of(arguments)
    model, tokenizer = models.load_teacher(), models.tokenizer()
    settings = {"pretrained": model, "tokenizer": tokenizer, "batch_size": arguments.batch_size}
    lms = {HF: HFLM(**settings), OURS: PrefixLM(**settings)}
    results = {
        **machine(),
        "models": {"model": models.teacher, "dtype": models.dtype},
        "batch_size": arguments.batch_size,
        "unshared": lms[OURS].unshared,
    }
    for setting in SETTINGS:
        (task,) = load_tasks(getattr(arguments, setting), arguments.metadata)
        results[setting] = compared(task, lms, arguments.limit)
    report(results, table(results), arguments)


if __name__ == "__main__":
    run(main)
