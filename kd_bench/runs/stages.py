"""What each stage of a run does: a function of its parameters and the folders it needs, into a folder of its own.

A stage reads cost settings (batch sizes, checkpoint steps) from the recipe and whatever changes its result from its
own params, which its content hash is made of.
"""

import json
from pathlib import Path

import torch
from datasets import disable_progress_bars
from transformers.utils.logging import disable_progress_bar

from kd_bench.distill.body import predicting_states
from kd_bench.distill.collate import PassageSampler, pack_for
from kd_bench.distill.divergences import forward_kl
from kd_bench.distill.loss import Loss
from kd_bench.distill.states import TeacherStates, write_states
from kd_bench.distill.train import train
from kd_bench.harness.evaluate import evaluate
from kd_bench.harness.examples import stop_string
from kd_bench.models.load import load_model, save_model
from kd_bench.models.prune import block_influence, choose_layers, greedy_layers, keep_layers
from kd_bench.models.vocabulary import shared_vocabulary
from kd_bench.recipe import Recipe
from kd_bench.recipe_sections import SETTINGS
from kd_bench.runs.context import Context
from kd_bench.runs.facts import options_of
from kd_bench.runs.plan import SFT, Stage, stored_dtype
from kd_bench.runs.records import TRAINING, model_folder, save_results
from kd_bench.runs.tokens import training_tokens

MODEL = "model"  # the sub-folder that a model is saved in
LAYERS = "layers.json"  # what the choice of layers was made of
INFLUENCE_EXAMPLES = 32  # block influence settles within a few thousand tokens
LOSS_PASSAGES, LOSS_QUESTIONS = 5, 4  # each layer tried costs one forward over these


def run_stage(stage: Stage, inputs: dict[str, Path], out: Path, context: Context) -> None:
    """Does `stage`: `inputs` are the finished folders of what it needs, by role; `out` is where it writes."""
    disable_progress_bar()  # transformers' own and datasets': a bar a load would bury the run's
    disable_progress_bars()
    make = {"teacher": _teacher, "init": _init, "states": _states, "train": _train, "evaluate": _evaluate}[stage.kind]
    make(stage, inputs, out, context)


def device() -> str:
    """Where models are run: the accelerator that torch finds, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _teacher(stage: Stage, inputs: dict[str, Path], out: Path, context: Context) -> None:
    recipe = context.recipe
    finetune = stage.params["finetune"]
    # A model that is trained keeps float32 weights: an update of 1e-4 is lost in bfloat16's eight bits.
    dtype = "float32" if finetune else recipe.teacher.dtype
    model, tokenizer = load_model(recipe.teacher.model, dtype=dtype, **options_of(recipe, recipe.teacher.model))
    if finetune:
        _fit(model, tokenizer, Loss(), finetune, stage, out, context)
    _save(model, tokenizer, stage, out, context)


def _save(model, tokenizer, stage: Stage, out: Path, context: Context) -> None:
    save_model(model, tokenizer, out / MODEL)
    context.models.keep(context.folder / stage.key, model, tokenizer)


def _init(stage: Stage, inputs: dict[str, Path], out: Path, context: Context) -> None:
    recipe = context.recipe
    student = next(student for student in recipe.students if student.name == stage.name)
    if student.model:
        model, tokenizer = load_model(student.model, **options_of(recipe, student.model))
    else:
        teacher, tokenizer = context.models.take(inputs["teacher"], "float32")
        layers = student.init.layers or _chosen(teacher, tokenizer, stage, student.init, out, context)
        model = keep_layers(teacher, layers)
    _save(model, tokenizer, stage, out, context)


def _chosen(teacher, tokenizer, stage: Stage, init, out: Path, context: Context) -> list[int]:
    """The layers that stay; what was measured to choose them lies beside the model."""
    count = teacher.config.get_text_config().num_hidden_layers
    if init.by == "even":
        return choose_layers(count, init.keep_layers, "even")
    data = training_tokens(context, stage.params["data"], teacher.to(device()), tokenizer)
    if init.by == "influence":
        rows = [data[i] for i in range(0, len(data), max(1, len(data) // INFLUENCE_EXAMPLES))]
        influence = block_influence(teacher, (_batch(row) for row in rows))
        layers = choose_layers(count, init.keep_layers, "influence", influence)
        measured = {"influence": influence}
    else:
        layers, removed = greedy_layers(teacher, init.keep_layers, _distance(teacher, data, context), progress=True)
        measured = {"removed": removed}
    (out / LAYERS).write_text(json.dumps({**measured, "layers": layers}), encoding="utf-8")
    return layers


def _batch(row: dict) -> dict[str, torch.Tensor]:
    ids = torch.tensor([row["prompt"] + row["completion"]], device=device())
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _distance(teacher, data, context: Context):
    """model -> its mean forward KL from `teacher` on some completions: what distillation will have to make up for."""
    half = context.recipe.training.dtype == "bfloat16"
    runs = PassageSampler(data["passage"], seed=0).passages
    rows = [data[i] for run in runs[:: max(1, len(runs) // LOSS_PASSAGES)] for i in run[:LOSS_QUESTIONS]]
    batch = pack_for(teacher)(rows)

    @torch.no_grad()
    def logits(model):
        with torch.autocast(device(), torch.bfloat16, enabled=half):
            return model.get_output_embeddings()(predicting_states(model, batch["trees"], batch["positions"]))

    wanted = logits(teacher)
    return lambda model: float(forward_kl(logits(model), wanted).mean())


def _states(stage: Stage, inputs: dict[str, Path], out: Path, context: Context) -> None:
    training = context.recipe.training
    teacher, tokenizer = context.models.take(inputs["teacher"], context.recipe.teacher.dtype)
    write_states(
        teacher.to(device()),
        training_tokens(context, stage.params["data"], teacher, tokenizer),
        out,
        dtype=stage.params["stored"],
        batch_size=training.batch_size,
        bf16=training.dtype == "bfloat16",
    )
    context.models.keep(inputs["teacher"], teacher, tokenizer)


def _train(stage: Stage, inputs: dict[str, Path], out: Path, context: Context) -> None:
    method = dict(stage.params["method"])
    model, tokenizer = context.models.take(inputs["student"], "float32")
    loss, teacher = Loss(), None
    if method.pop("name") != SFT:
        if "states" in inputs:
            teacher, teachers = TeacherStates(inputs["states"]), _tokenizer(inputs["teacher"])
            teacher_rows = teacher.head().out_features
        else:
            teacher, teachers = context.models.take(inputs["teacher"], context.recipe.teacher.dtype)
            teacher_rows = teacher.get_output_embeddings().weight.shape[0]
        loss = Loss(
            method["divergence"],
            {key: method[key] for key in SETTINGS if method.get(key) is not None},
            method["temperature"],
            method["cross_entropy"],
            shared_vocabulary(teachers, tokenizer, teacher_rows, model.get_output_embeddings().out_features),
            method["teacher_noise"],
        )
    settings = {**stage.params["training"], "lmbda": method.get("lmbda", 0.0)}
    _fit(model, tokenizer, loss, settings, stage, out, context, teacher)
    _save(model, tokenizer, stage, out, context)


def _fit(model, tokenizer, loss: Loss, settings: dict, stage: Stage, out: Path, context: Context, teacher=None) -> None:
    """Trains `model` on the recipe's examples and writes what it cost."""
    recipe: Recipe = context.recipe
    settings = dict(settings)
    result = train(
        model,
        tokenizer,
        training_tokens(context, stage.params["data"], model, tokenizer),
        loss,
        out,
        teacher=teacher,
        bf16=settings.pop("dtype") == "bfloat16",
        gradient_checkpointing=recipe.training.gradient_checkpointing,
        max_tokens=recipe.training.max_tokens,
        save_steps=recipe.training.save_steps,
        stop=stop_string(context.tasks[recipe.tasks[0]]),
        seed=stage.params["seed"],
        **settings,
    )
    (out / TRAINING).write_text(json.dumps(result), encoding="utf-8")


def _evaluate(stage: Stage, inputs: dict[str, Path], out: Path, context: Context) -> None:
    evaluation = context.recipe.evaluation
    model, tokenizer = context.models.take(inputs["model"], stored_dtype(stage.needs["model"]))
    results = evaluate(
        model.to(device()),
        tokenizer,
        stage.params["task"],
        batch_size=evaluation.batch_size,
        limit=evaluation.limit,
        metadata=context.recipe.data.as_metadata(),
        split=evaluation.split,
        backend=evaluation.backend,
        folder=str(model_folder(inputs["model"])),
    )
    context.models.keep(inputs["model"], model, tokenizer)
    save_results(results, out)


def _tokenizer(folder: Path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model_folder(folder))
