"""One training run: a model, its features, a loss, a folder; the same for a fine-tune, `sft` and distillation."""

import shutil
import time
import warnings
from pathlib import Path
from typing import Literal

import torch
from accelerate.utils import broadcast_object_list, gather_object
from datasets import Dataset
from torch import nn
from tqdm import tqdm
from transformers import PrinterCallback, TrainerCallback

from kd_bench.distill.checkpoint import last_good_checkpoint
from kd_bench.distill.loss import Loss
from kd_bench.distill.sampling import Sampling
from kd_bench.distill.states import TeacherStates
from kd_bench.distill.trainer import DistillTrainer, GKDConfig
from kd_bench.errors import UserError
from kd_bench.memory import PeakMemory


def train(
    model: nn.Module,
    tokenizer,
    features: Dataset,
    loss: Loss,
    folder: Path,
    *,
    teacher: nn.Module | TeacherStates | None = None,
    states: TeacherStates | None = None,
    epochs: float = 1,
    learning_rate: float = 1e-4,
    batch_size: int = 32,
    max_tokens: int | None = None,
    warmup_ratio: float = 0.1,
    weight_decay: float = 0.0,
    max_grad_norm: float = 1.0,
    scheduler: str = "cosine",
    gradient_checkpointing: bool = False,
    bf16: bool = False,
    save_steps: int = 50,
    sampling: Literal["fixed", "adaptive", "pair"] = "fixed",
    lmbda: float = 0.0,
    student_loss: Loss | None = None,
    beta: float = 1.0,
    validation: Dataset | None = None,
    validation_limit: int = 64,
    validations: int = 10,
    margin: float = 0.1,
    capacity: int = 1000,
    max_new_tokens: int = 48,
    stop: str = "",
    seed: int = 0,
    progress: bool = True,
    callbacks: list[TrainerCallback] | None = None,
) -> dict:
    """Trains `model` in place and returns what it cost; goes on from the last good checkpoint in `folder`.

    teacher: a live one, or its stored states; or a live one for what the student writes beside `states` for the fixed
    completions. sampling, lmbda, student_loss, beta, validation and what follows it: who writes the completions, see
    `Sampling` and `Adaptive`; `capacity` rows are kept for replay.

    `batch_size` is questions an optimizer step, drawn passage by passage, over all processes that `accelerate launch`
    started; `max_tokens` is how many distinct tokens of them go through the model at once (padding adds up to a third),
    which changes cost and no number. A checkpoint (weights, optimizer, schedule, random states, what the student wrote)
    is written every `save_steps` steps and removed at the end, so a killed run ends with the weights of one that was
    not.

    Returns, in every process the same, {"steps", "seconds", "tokens" (completion tokens a pass), "loss" (curve of
    {"step", "loss", "learning_rate", "grad_norm"}), "peak_memory_bytes" (of the process that used most)}, and for
    adaptive sampling "student_share" (curve of {"step", "phi", "validation_loss"}); seconds count all parts of a
    resumed run. Raises UserError for settings that do not go together.
    """
    checkpoints = Path(folder) / "checkpoints"
    with warnings.catch_warnings():
        # Its new name in transformers 5.23 is unknown to the versions before.
        warnings.filterwarnings("ignore", "`gradient_checkpointing", FutureWarning)
        arguments = GKDConfig(
            output_dir=str(checkpoints),
            per_device_train_batch_size=batch_size,
            num_train_epochs=epochs,
            learning_rate=learning_rate,
            lr_scheduler_type=scheduler,
            warmup_steps=warmup_ratio,  # below 1: a share of all steps
            weight_decay=weight_decay,
            max_grad_norm=max_grad_norm,
            gradient_checkpointing=gradient_checkpointing,
            bf16=bf16,
            use_cpu=not torch.cuda.is_available(),  # bf16 on a CPU is refused unless this is said
            lmbda=lmbda,
            max_new_tokens=max_new_tokens,
            save_strategy="steps",
            save_steps=save_steps,
            save_total_limit=1,
            logging_steps=1,
            logging_nan_inf_filter=False,
            disable_tqdm=True,
            report_to=[],
            seed=seed,
            data_seed=seed,
            max_length=None,
            dataloader_pin_memory=torch.cuda.is_available(),
            ddp_find_unused_parameters=False,
            ddp_broadcast_buffers=False,  # they are constants
        )
    if batch_size % arguments.world_size:
        raise UserError(
            "training.batch_size",
            f"{batch_size} questions a step are not dealt evenly to {arguments.world_size} processes: take a multiple",
        )
    arguments.per_device_train_batch_size = batch_size // arguments.world_size
    attention = model.config.get_text_config()._attn_implementation
    trainer = DistillTrainer(
        model,
        teacher,
        loss,
        arguments,
        states=states,
        sampling=Sampling(
            sampling, lmbda, beta, student_loss, validation, validation_limit, validations, margin, capacity
        ),
        stop=stop,
        max_tokens=max_tokens,
        processing_class=tokenizer,
        train_dataset=features,
        callbacks=[_Progress(folder.name, progress), *(callbacks or [])],
    )
    trainer.remove_callback(PrinterCallback)
    main, several = arguments.process_index == 0, arguments.world_size > 1
    found = [last_good_checkpoint(checkpoints) if main else None]
    if several:
        broadcast_object_list(found)
    with PeakMemory() as memory:
        trainer.train(resume_from_checkpoint=found[0])
    model.set_attn_implementation(attention)
    model.eval()
    trainer.accelerator.wait_for_everyone()
    if main:
        shutil.rmtree(checkpoints, ignore_errors=True)
    curve = [
        {"step": row["step"], **{key: row[key] for key in ("loss", "learning_rate", "grad_norm")}}
        for row in trainer.state.log_history
        if "loss" in row
    ]
    result = {
        "steps": trainer.state.global_step,
        "seconds": trainer.state.log_history[-1]["seconds"],
        "tokens": sum(map(len, features["completion"])),
        "loss": curve,
        "peak_memory_bytes": memory.bytes,
    }
    if sampling == "adaptive":
        result["student_share"] = trainer.writing.curve
    results = gather_object([result])
    return {**results[0], "peak_memory_bytes": max(each["peak_memory_bytes"] for each in results)}


class _Progress(TrainerCallback):
    """A bar with the loss, and in the log history the seconds spent, those before a kill included."""

    def __init__(self, name: str, visible: bool):
        self.name, self.visible = name, visible

    def on_train_begin(self, args, state, control, **kw):
        before = next((row["seconds"] for row in reversed(state.log_history) if "seconds" in row), 0.0)
        self.start = time.perf_counter() - before
        visible = self.visible and state.is_world_process_zero
        self.bar = tqdm(
            total=state.max_steps, initial=state.global_step, desc=self.name, unit="step", disable=not visible
        )

    def on_step_end(self, args, state, control, **kw):
        self.bar.update(1)

    def on_log(self, args, state, control, logs=None, **kw):
        state.log_history[-1]["seconds"] = time.perf_counter() - self.start
        if "loss" in logs:
            self.bar.set_postfix(loss=f"{logs['loss']:.4f}")

    def on_train_end(self, args, state, control, **kw):
        self.bar.close()
