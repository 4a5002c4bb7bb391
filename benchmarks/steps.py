"""Training steps on the same questions from the same weights: TRL's `GKDTrainer`, and ours in several variants."""

import tempfile
import time
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import torch
from datasets import Dataset
from torch import nn
from tqdm import tqdm

from benchmarks.common import Models, synchronize
from kd_bench.distill.collate import PackExamples, PassageSampler
from kd_bench.distill.features import features, passages
from kd_bench.distill.loss import Loss
from kd_bench.distill.states import TeacherStates, write_states
from kd_bench.distill.trainer import DistillTrainer, GKDConfig, GKDTrainer
from kd_bench.harness.examples import examples, load_task
from kd_bench.memory import PeakMemory
from kd_bench.packing import PrefixTree

SHIPPED, COMPLETION, STORED = "TRL GKDTrainer", "completion positions only", "+ teacher states stored"
SHARED, SHARED_STORED = "shared prefix", "shared prefix + teacher states stored"
VARIANTS = (SHIPPED, COMPLETION, STORED, SHARED, SHARED_STORED)
WITH_STATES = (STORED, SHARED_STORED)


@dataclass(frozen=True)
class Job:
    """What a process is told to measure.

    rows: of `features`; batches: indices into them, an optimizer step each; states: the folder that `store` wrote.
    learning_rate: of AdamW; None drops the gradients, and takes one step of every new batch that is not counted.
    """

    models: Models
    tokenizer: object
    variant: str
    rows: list[dict]
    batches: list[list[int]]
    states: str
    learning_rate: float | None


def as_they_come(task: str, tokenizer, metadata: dict, steps: int, batch_size: int) -> tuple[list[dict], dict]:
    """The training questions of the first `steps` optimizer steps (once more round where they do not suffice).

    Drawn as training draws them: passage by passage, all of a passage's questions. Also what the whole training split
    is like: {"training_questions", "questions_per_passage"}.
    """
    data = features(examples(load_task(task, metadata)), tokenizer)
    order = islice(cycle(PassageSampler(data["passage"], seed=0)), steps * batch_size)
    split = {"training_questions": len(data), "questions_per_passage": len(data) / len(set(data["passage"]))}
    return _numbered([data[i] for i in order]), split


def of_one_passage(task: str, tokenizer, metadata: dict, questions: int) -> list[dict]:
    """`questions` training questions of one passage: the middle one of those that have as many."""
    data = features(examples(load_task(task, metadata)), tokenizer)
    runs = [run for run in passages(data["prompt"]) if len(run) >= questions]
    if not runs:
        raise SystemExit(f"{task}: no passage has {questions} questions")
    return _numbered([data[i] for i in runs[len(runs) // 2][:questions]])


def _numbered(rows: list[dict]) -> list[dict]:
    return [{**row, "index": index} for index, row in enumerate(rows)]


def store(models: Models, rows: list[dict], folder: str) -> float:
    """Stores the teacher's states of `rows`; returns seconds."""
    teacher = models.load_teacher()
    began = time.perf_counter()
    write_states(teacher, Dataset.from_list(rows), Path(folder), bf16=models.dtype == "bfloat16", progress=False)
    return time.perf_counter() - began


def prepare(variant: str, teacher: nn.Module | TeacherStates, student, tokenizer, rows: list[dict], dtype: str):
    """(trainer, collate): the real trainer of `variant`, and what makes a batch of rows for it."""
    config = GKDConfig(
        output_dir=tempfile.gettempdir(), beta=0.0, lmbda=0.0, gradient_checkpointing=False, report_to=[],
        max_length=None, use_cpu=not torch.cuda.is_available(), disable_tqdm=True, bf16=dtype == "bfloat16",
    )  # fmt: skip
    common = {"processing_class": tokenizer, "train_dataset": Dataset.from_list(rows)}
    size = student.get_output_embeddings().out_features
    if variant == SHIPPED:
        if teacher.get_output_embeddings().out_features > size:  # TRL refuses Qwen2.5-7B's 128 rows more
            teacher.resize_token_embeddings(size)
        trainer = GKDTrainer(student, teacher, args=config, data_collator=list, **common)
        return trainer, lambda rows: padded(rows, tokenizer.pad_token_id)
    head = teacher.head() if isinstance(teacher, TeacherStates) else teacher.get_output_embeddings()
    loss = Loss("forward_kl", vocabulary=min(size, head.out_features))
    trainer = DistillTrainer(student, teacher, loss, config, **common)
    if variant in (SHARED, SHARED_STORED):
        return trainer, trainer.data_collator
    collate = PackExamples(teacher.rows if isinstance(teacher, TeacherStates) else None)
    return trainer, lambda rows: unshared(collate(rows), rows)


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


def tokens(batch: dict) -> int:
    """How many tokens go through the student, padding included."""
    return sum(tree.input_ids.numel() for tree in batch["trees"]) if "trees" in batch else batch["input_ids"].numel()


def step(trainer, collate, rows: list[dict], optimizer: torch.optim.Optimizer | None = None) -> dict:
    """One step on `rows`: its "seconds" (batch making, forward, backward), "loss" and "gradient_norm" and the rest.

    Without an optimizer the gradients are dropped. Gradients are clipped to norm 1, as recipes do.
    """
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    synchronize()
    with PeakMemory() as memory:
        began = time.perf_counter()
        batch = collate(rows)
        count = tokens(batch)
        loss = trainer.training_step(trainer.model, batch)
        synchronize()
        seconds = time.perf_counter() - began
        norm = float(nn.utils.clip_grad_norm_(trainer.model.parameters(), 1.0))
        began = time.perf_counter()
        if optimizer:
            optimizer.step()
        synchronize()
        optimizer_seconds = time.perf_counter() - began
    trainer.model.zero_grad(set_to_none=True)
    return {
        "tokens": count,
        "seconds": seconds,
        "optimizer_seconds": optimizer_seconds,
        "peak_memory": memory.bytes,
        "loss": float(loss),
        "gradient_norm": norm,
    }


def measure(job: Job) -> dict:
    """{"memory_before": bytes without any model, "steps": what `step` returns, for each batch}."""
    with PeakMemory() as before:
        pass
    teacher, student = job.models.load(teacher=job.variant not in WITH_STATES)
    teacher = teacher or TeacherStates(Path(job.states))
    trainer, collate = prepare(job.variant, teacher, student, job.tokenizer, job.rows, job.models.dtype)
    optimizer = torch.optim.AdamW(student.parameters(), job.learning_rate) if job.learning_rate else None
    found, previous = [], None
    for batch in tqdm(job.batches, job.variant, unit="step"):
        rows = [job.rows[index] for index in batch]
        if previous is None or (optimizer is None and batch != previous):
            step(trainer, collate, rows)
        found.append(step(trainer, collate, rows, optimizer))
        previous = batch
    return {"memory_before": before.bytes, "steps": found}
