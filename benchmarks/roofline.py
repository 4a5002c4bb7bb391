"""How near our training step comes to what the machine can do, and where the rest goes; all measured in one run.

    KD_BENCH_DATA=... python benchmarks/roofline.py
    python benchmarks/roofline.py --config qwen2.5-7b:qwen2.5-0.5b --dtype bfloat16 --json

A step is `training_step` with stored teacher states on `--batch-size` training questions as they come. FLOP are counted
on the steps themselves (torch's `FlopCounterMode`: matrix products and attention, masked pairs included, two FLOP a
multiply-add), seconds in the same steps run again without the counter; "achieved" is their quotient. "share" is that
of the rate of an `--size` squared matrix product in the same type, the median of products before and after.

"bytes" is the least a step and its optimizer have to move, activations left out: weights read forward and backward,
gradients written; AdamW reads weight, gradient and both moments and writes all but the gradient; the embedding counts
as the head that it is tied to, or not at all. "memory_seconds" is that at the rate of a large copy, read and written
bytes together.

"groups" is the steps' time by kind of operator (torch.profiler, self time), with the rate that matrix products reach
while they run: what is lost inside them, and what is spent outside.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

if __name__ in ("__main__", "__mp_main__"):
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # this folder's names are not to hide installed packages

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from benchmarks.common import SETTINGS, Models, device, in_process, machine, parser, report, run, synchronize
from benchmarks.steps import SHARED_STORED, as_they_come, prepare, step, store
from kd_bench.distill.states import TeacherStates

# torch's counter knows attention on a GPU only; its CPU kernel does the same arithmetic.
ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda grad, q, k, v, *_, **__: sdpa_backward_flop_count(grad, q, k, v)
    ),
}
# By a part of the operator's or kernel's name, the first that fits.
GROUPS = {
    "attention": ("scaled_dot_product", "attention", "flash", "fmha", "flex"),
    "softmax": ("softmax", "logsumexp"),
    "matrix products": ("mm", "linear", "matmul", "gemm", "cutlass", "nvjet"),
    "copies": ("copy", "clone", "cat", "index", "gather", "scatter", "embedding", "memcpy", "memset", "zero", "fill"),
    "elementwise and norms": (
        "mul", "add", "sub", "div", "pow", "rsqrt", "sqrt", "mean", "sum", "silu", "gelu", "exp", "neg", "norm",
        "where", "sigmoid", "tanh", "elementwise", "reduce", "foreach", "clamp",
    ),
}  # fmt: skip


def parse() -> argparse.Namespace:
    found = parser(__doc__)
    found.add_argument("--steps", type=int, default=5, help="steps measured")
    found.add_argument("--batch-size", type=int, default=8, help="questions a step")
    found.add_argument("--size", type=int, default=2048 if device() == "cpu" else 8192, help="of the matrix product")
    return found.parse_args()


def timed(function: Callable, repeats: int) -> list[float]:
    """Seconds of `repeats` calls after one that is not counted."""
    seconds = []
    for _ in range(repeats + 1):
        synchronize()
        began = time.perf_counter()
        function()
        synchronize()
        seconds.append(time.perf_counter() - began)
    return seconds[1:]


def product_seconds(size: int, dtype: str) -> list[float]:
    a, b = (torch.randn(size, size, device=device(), dtype=getattr(torch, dtype)) for _ in range(2))
    return timed(lambda: a @ b, 5)


def copy_rate() -> float:
    """Bytes a second, read and written ones together, of a copy that no cache holds."""
    source = torch.ones(2**28, dtype=torch.uint8, device=device())
    target = torch.empty_like(source)
    return 2 * source.numel() / statistics.median(timed(lambda: target.copy_(source), 5))


def least_bytes(student, head) -> dict[str, int]:
    """What must move, by part: {"forward", "backward", "optimizer"}."""
    parameters = {id(p): p.numel() * p.element_size() for p in student.parameters()}
    every = sum(parameters.values())
    table, out = student.get_input_embeddings().weight, student.get_output_embeddings().weight
    weights = every - (parameters[id(table)] if table is not out else 0)
    teacher = sum(p.numel() * p.element_size() for p in head.parameters())
    return {"forward": weights + teacher, "backward": weights + every, "optimizer": 7 * every}


def groups(prof) -> dict[str, float]:
    """Seconds of self time by kind of operator: the GPU's kernels where there are any, else the CPU's operators."""
    found = dict.fromkeys([*GROUPS, "other"], 0.0)
    for event in prof.key_averages():
        own = event.self_device_time_total if torch.cuda.is_available() else event.self_cpu_time_total
        name = event.key.lower()
        kind = next((group for group, parts in GROUPS.items() if any(part in name for part in parts)), "other")
        found[kind] += own / 1e6
    return found


def measured(models: Models, tokenizer, rows: list[dict], size: int, folder: str, product: int) -> dict:
    _, student = models.load(teacher=False)
    states = TeacherStates(Path(folder))
    trainer, collate = prepare(SHARED_STORED, states, student, tokenizer, rows, models.dtype)
    batches = [rows[i : i + size] for i in range(0, len(rows), size)]
    step(trainer, collate, batches[0])  # not counted: warms up
    with FlopCounterMode(display=False, custom_mapping=ATTENTION) as counter:
        for batch in batches:
            step(trainer, collate, batch)
    by_operator = {str(name): flop for name, flop in counter.get_flop_counts()["Global"].items()}
    attention = sum(flop for name, flop in by_operator.items() if "attention" in name)
    flop = counter.get_total_flops()

    products = product_seconds(product, models.dtype)
    optimizer = torch.optim.AdamW(student.parameters(), 1e-4)
    found = [step(trainer, collate, batch, optimizer) for batch in batches]
    products += product_seconds(product, models.dtype)
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])
    with profile(activities=activities) as prof:
        for batch in batches:
            step(trainer, collate, batch)

    seconds, optimizer_seconds = (sum(one[key] for one in found) for key in ("seconds", "optimizer_seconds"))
    rate, bandwidth = 2 * product**3 / statistics.median(products), copy_rate()
    moved, spent = least_bytes(student, states.head()), groups(prof)
    total = sum(spent.values())
    return {
        "steps": len(batches),
        "tokens": sum(one["tokens"] for one in found),
        "flop": flop,
        "attention_flop": attention,
        "seconds": seconds,
        "achieved": flop / seconds,
        "product_rate": rate,
        "share": flop / seconds / rate,
        "bytes": {part: count * len(batches) for part, count in moved.items()},
        "copy_rate": bandwidth,
        "memory_seconds": sum(moved.values()) * len(batches) / bandwidth,
        "optimizer_seconds": optimizer_seconds,
        "groups": {name: {"seconds": one, "share": one / total} for name, one in spent.items()},
        "matrix_products_rate": (flop - attention) / spent["matrix products"] if spent["matrix products"] else None,
    }


def table(results: dict) -> str:
    from tabulate import tabulate

    lines = [_column(results[setting], results["size"]) for setting in SETTINGS]
    lines = [[name, *(column[name] for column in lines)] for name in lines[0]]
    return tabulate(lines, ["", *SETTINGS], tablefmt="github", disable_numparse=True)


def _column(row: dict, size: int) -> dict[str, str]:
    steps = row["steps"]
    bytes_a_step = sum(row["bytes"].values()) / steps
    return {
        "tokens a step": f"{row['tokens'] / steps:.0f}",
        "FLOP a step": f"{row['flop'] / steps:.3g} ({row['attention_flop'] / row['flop']:.0%} attention)",
        "time of a step": f"{row['seconds'] / steps:.3f} s, optimizer {row['optimizer_seconds'] / steps:.3f} s",
        "achieved": f"{row['achieved'] / 1e9:.1f} GFLOP/s",
        f"matrix product of {size}": f"{row['product_rate'] / 1e9:.1f} GFLOP/s",
        "share of it": f"{row['share']:.0%}",
        "matrix products while they run": f"{(row['matrix_products_rate'] or 0) / 1e9:.1f} GFLOP/s",
        **{f"time in {name}": f"{group['share']:.0%}" for name, group in row["groups"].items()},
        "bytes that must move a step": f"{bytes_a_step / 1e9:.2f} GB",
        "at the rate of a copy": f"{row['memory_seconds'] / steps:.3f} s ({row['copy_rate'] / 1e9:.1f} GB/s)",
    }


def main() -> None:
    arguments = parse()
    models = Models.of(arguments)
    tokenizer = models.tokenizer()
    results = {**machine(), "models": models.describe(), "batch_size": arguments.batch_size, "size": arguments.size}
    for setting in SETTINGS:
        task, size = getattr(arguments, setting), arguments.batch_size
        rows, split = as_they_come(task, tokenizer, arguments.metadata, arguments.steps, size)
        with tempfile.TemporaryDirectory() as folder:
            in_process(store, models, rows, folder)
            found = in_process(measured, models, tokenizer, rows, size, folder, arguments.size)
        results[setting] = {"task": task, **split, **found}
    report(results, table(results), arguments)


if __name__ == "__main__":
    run(main)
