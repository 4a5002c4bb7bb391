"""Time and memory of a training step: TRL's own `GKDTrainer` against ours, same weights, same questions, one run.

    KD_BENCH_DATA=... python benchmarks/train_step.py                       # 20 optimizer steps as training takes them
    KD_BENCH_DATA=... python benchmarks/train_step.py --questions 1,4,8,16  # so many questions of one passage
    python benchmarks/train_step.py --config qwen2.5-7b:qwen2.5-0.5b --dtype bfloat16 --json

By default a step has `--batch-size` training questions as they come, passage by passage, and AdamW moves the weights,
so losses are a trajectory. With `--questions` a step is repeated on one passage and the weights stay as they are.
Forward KL, no gradient checkpointing. "seconds" is batch making and the trainer's `training_step` (forward and
backward); the optimizer's step, the same to all, is beside it. `speedup` is of the total over all steps,
`speedup_median` the median over single ones.

Every variant runs in a process of its own that loads what it needs and nothing else: stored states need no body of the
teacher, only its head. "peak_memory" is the highest of any step: weights of student and teacher (or its head),
gradients, AdamW's two moments (none with `--questions`), activations; on a CPU it is the process's resident set, so
the libraries too ("memory_before", measured before a model is loaded); on a GPU what torch's allocator gave out.
Differences are the largest relative ones to TRL's, over all variants and steps. Where the teacher has more vocabulary
rows than the student, TRL refuses the pair: its teacher is cut to the student's rows here.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

if __name__ in ("__main__", "__mp_main__"):
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # this folder's names are not to hide installed packages

from benchmarks.common import SETTINGS, Models, in_process, machine, parser, report, run
from benchmarks.steps import (
    SHARED,
    SHARED_STORED,
    SHIPPED,
    VARIANTS,
    Job,
    as_they_come,
    measure,
    of_one_passage,
    store,
)


def parse() -> argparse.Namespace:
    found = parser(__doc__)
    found.add_argument("--steps", type=int, default=20, help="optimizer steps, without --questions")
    found.add_argument("--batch-size", type=int, default=8, help="questions an optimizer step")
    found.add_argument(
        "--learning-rate", type=float, default=1e-5, help="constant; the higher, the faster rounding parts trajectories"
    )
    found.add_argument("--questions", type=lambda text: [int(n) for n in text.split(",")], metavar="N,N,...")
    found.add_argument("--repeats", type=int, default=3, help="with --questions: steps after one that is not counted")
    return found.parse_args()


def measured(task: str, models: Models, tokenizer, arguments: argparse.Namespace) -> dict:
    """The ratios of all variants on `task`."""
    facts = {"task": task}
    if arguments.questions:
        rows = of_one_passage(task, tokenizer, arguments.metadata, max(arguments.questions))
        each = [n for n in arguments.questions for _ in range(arguments.repeats)]
        batches, rate = [list(range(n)) for n in each], None
    else:
        size = arguments.batch_size
        rows, split = as_they_come(task, tokenizer, arguments.metadata, arguments.steps, size)
        facts |= split
        batches, rate = [list(range(i, i + size)) for i in range(0, len(rows), size)], arguments.learning_rate
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        facts["states_seconds"] = in_process(store, models, rows, folder)
        for variant in VARIANTS:
            found[variant] = in_process(measure, Job(models, tokenizer, variant, rows, batches, folder, rate))
    facts |= ratios(found, list(range(len(batches))))
    if arguments.questions:
        facts["by_questions"] = {
            n: ratios(found, [i for i, other in enumerate(each) if other == n]) for n in arguments.questions
        }
    return facts


def ratios(found: dict[str, dict], chosen: list[int]) -> dict:
    """How the variants compare over the `chosen` steps."""
    variants = {name: _summary(one["memory_before"], [one["steps"][i] for i in chosen]) for name, one in found.items()}
    trl, ours, stored = variants[SHIPPED], variants[SHARED], variants[SHARED_STORED]
    return {
        "speedup": trl["total_seconds"] / ours["total_seconds"],
        "speedup_stored": trl["total_seconds"] / stored["total_seconds"],
        "speedup_median": _median_ratio(found, SHARED, chosen),
        "speedup_stored_median": _median_ratio(found, SHARED_STORED, chosen),
        "peak_memory_ratio": ours["peak_memory"] / trl["peak_memory"],
        "peak_memory_ratio_stored": stored["peak_memory"] / trl["peak_memory"],
        "loss_difference": _difference(variants, "losses"),
        "gradient_norm_difference": _difference(variants, "gradient_norms"),
        "variants": variants,
    }


def _summary(before: int, steps: list[dict]) -> dict:
    column = {key: [step[key] for step in steps] for key in steps[0]}
    return {
        "tokens": statistics.mean(column["tokens"]),
        "seconds": statistics.median(column["seconds"]),
        "total_seconds": sum(column["seconds"]),
        "optimizer_seconds": statistics.median(column["optimizer_seconds"]),
        "peak_memory": max(column["peak_memory"]),
        "memory_before": before,
        "loss": column["loss"][-1],
        "gradient_norm": column["gradient_norm"][-1],
        "losses": column["loss"],
        "gradient_norms": column["gradient_norm"],
    }


def _median_ratio(found: dict[str, dict], variant: str, chosen: list[int]) -> float:
    pairs = [(found[SHIPPED]["steps"][i]["seconds"], found[variant]["steps"][i]["seconds"]) for i in chosen]
    return statistics.median(trl / ours for trl, ours in pairs)


def _difference(variants: dict[str, dict], key: str) -> float:
    return max(abs(a / b - 1) for one in variants.values() for a, b in zip(one[key], variants[SHIPPED][key]))


def table(results: dict) -> str:
    from tabulate import tabulate

    lines = []
    for setting in SETTINGS:
        whole = results[setting]
        for questions, part in whole.get("by_questions", {"as they come": whole}).items():
            base = part["variants"][SHIPPED]["total_seconds"]
            lines += [
                [setting, questions, name, f"{row['tokens']:.0f}", f"{row['seconds']:.2f} s",
                 f"{base / row['total_seconds']:.1f}x", f"{row['optimizer_seconds']:.2f} s",
                 f"{row['peak_memory'] / 1e9:.1f} GB", f"{row['loss']:.6f}", f"{row['gradient_norm']:.4f}"]
                for name, row in part["variants"].items()
            ]  # fmt: skip
            lines.append(
                [setting, questions, "largest difference", *[""] * 5,
                 f"{part['loss_difference']:.1e}", f"{part['gradient_norm_difference']:.1e}"]
            )  # fmt: skip
    header = ["prompt", "questions a passage", "variant", "tokens", "step", "against TRL", "optimizer", "peak memory"]
    return tabulate(lines, [*header, "loss", "gradient norm"], tablefmt="github", disable_numparse=True)


def main() -> None:
    arguments = parse()
    models = Models.of(arguments)
    tokenizer = models.tokenizer()
    results = {**machine(), "models": models.describe()}
    if arguments.questions:
        results["questions"] = arguments.questions
    else:
        results |= {"steps": arguments.steps, "batch_size": arguments.batch_size}
    for setting in SETTINGS:
        results[setting] = measured(getattr(arguments, setting), models, tokenizer, arguments)
    report(results, table(results), arguments)


if __name__ == "__main__":
    run(main)
