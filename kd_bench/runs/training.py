"""The stages that train: a teacher's fine-tune, sft, and every method, as calls of `distill.train`."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from datasets import Dataset, load_from_disk

from kd_bench.distill.loss import Loss
from kd_bench.distill.states import TeacherStates
from kd_bench.distill.train import train
from kd_bench.errors import UserError
from kd_bench.harness.examples import longest_answer, stop_string
from kd_bench.models.lora import add_lora, merge_lora
from kd_bench.models.vocabulary import shared_vocabulary
from kd_bench.recipe_method import SETTINGS, SFT
from kd_bench.runs.context import Context
from kd_bench.runs.plan import Stage
from kd_bench.runs.records import TRAINING, model_folder
from kd_bench.runs.tokens import training_tokens, validation_tokens

COMPLETIONS = "completions"  # the sub-folder of answers that the teacher wrote


def finetune_teacher(model, tokenizer, stage: Stage, out: Path, context: Context):
    """The fine-tuned `model`, adapters merged."""
    settings = dict(stage.params["finetune"])
    settings.pop("quantize", None)  # the model came so
    return _fit(model, tokenizer, Loss(), settings, stage, out, context)


def train_student(model, tokenizer, stage: Stage, inputs: dict[str, Path], out: Path, context: Context):
    """The student of a `train` stage, trained by its method; what it cost lies in `out`."""
    method, loss, how = stage.params["method"], Loss(), {}
    if method["name"] != SFT:
        how = {key: method[key] for key in ("sampling", "lmbda") if key in method}
        how |= {key: method[key] for key in ("capacity", "margin") if key in method}
        loss = Loss(cross_entropy=1.0)
        if method["cross_entropy"] < 1:
            loss = _loss(method, model, tokenizer, inputs, how, context, stage)
        if method.get("sampling") == "adaptive":
            how["validation"] = validation_tokens(context, stage.params["validation"], model, tokenizer)
        if method.get("sampling") == "pair":
            how |= {"beta": method["contrast"], "student_loss": replace(loss, divergence="skew_reverse_kl")}
    return _fit(model, tokenizer, loss, stage.params["training"], stage, out, context, inputs.get("completions"), **how)


def _loss(method, model, tokenizer, inputs, how: dict[str, Any], context: Context, stage: Stage) -> Loss:
    """The method's loss; what it needs of the teacher goes into `how`: stored states where answers are fixed, the model
    itself where the student writes."""
    writes = method.get("sampling", "fixed") != "fixed" or method["lmbda"] > 0
    if "states" in inputs:
        how["states"] = TeacherStates(inputs["states"])
        teachers, rows = tokenizer_in(inputs["teacher"]), how["states"].head().out_features
    if writes or "states" not in inputs:
        quantize = stage.params.get("quantize")
        teacher, teachers = context.models.take(inputs["teacher"], context.recipe.teacher.dtype, quantize)
        how["teacher"], rows = teacher, teacher.get_output_embeddings().weight.shape[0]
    return Loss(
        method["divergence"],
        {key: method[key] for key in SETTINGS if method.get(key) is not None},
        method["temperature"],
        method["cross_entropy"],
        shared_vocabulary(teachers, tokenizer, rows, model.get_output_embeddings().out_features),
        method["teacher_noise"],
    )


def _fit(
    model,
    tokenizer,
    loss: Loss,
    settings: dict[str, Any],
    stage: Stage,
    out: Path,
    context: Context,
    written: Path | None = None,
    **how,
):
    """Trains `model` on the recipe's examples, or on the answers in `written`; writes what it cost; returns the model.

    settings: the stage's, with `lora` where adapters are trained.
    """
    recipe = context.recipe
    task = context.tasks[recipe.tasks[0]]
    settings = dict(settings)
    lora = settings.pop("lora", None)
    if lora:
        add_lora(model, **lora, seed=stage.params["seed"])
    tokens = training_tokens(context, stage.params["data"], model, tokenizer)
    result = train(
        model,
        tokenizer,
        written_answers(written, model) if written else tokens,
        loss,
        out,
        bf16=settings.pop("dtype") == "bfloat16",
        gradient_checkpointing=recipe.training.gradient_checkpointing,
        max_tokens=recipe.training.max_tokens,
        save_steps=recipe.training.save_steps,
        stop=stop_string(task),
        max_new_tokens=longest_answer(task),
        seed=stage.params["seed"],
        **how,
        **settings,
    )
    if writes():
        (out / TRAINING).write_text(json.dumps(result), encoding="utf-8")
    return merge_lora(model) if lora else model


def writes() -> bool:
    """Whether this process writes what a stage leaves: of a training's several, `accelerate launch` has one do so."""
    return os.environ.get("RANK", "0") == "0"


def written_answers(folder: Path, model) -> Dataset:
    """The questions with the teacher's answers. Raises UserError for a token that `model` does not have."""
    found = load_from_disk(str(folder / COMPLETIONS))
    highest = max(max(completion) for completion in found["completion"])
    if highest >= model.get_input_embeddings().weight.shape[0]:
        raise UserError("completions: teacher", f"the teacher wrote token {highest}, which the student does not have")
    return found


def tokenizer_in(folder: Path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model_folder(folder))
