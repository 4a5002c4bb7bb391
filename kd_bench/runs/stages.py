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
from kd_bench.distill.completions import write_completions
from kd_bench.distill.divergences import forward_kl
from kd_bench.distill.states import write_states
from kd_bench.harness.evaluate import evaluate
from kd_bench.harness.examples import longest_answer, stop_string
from kd_bench.models.load import device, load_model, save_model
from kd_bench.models.prune import block_influence, choose_layers, greedy_layers, keep_layers
from kd_bench.models.quantize import place, quantized
from kd_bench.runs.context import Context
from kd_bench.runs.facts import options_of
from kd_bench.runs.plan import Stage, stored_dtype
from kd_bench.runs.records import model_folder, save_results
from kd_bench.runs.tokens import training_tokens
from kd_bench.runs.training import COMPLETIONS, finetune_teacher, train_student, writes, written_answers

MODEL = "model"  # the sub-folder that a model is saved in
LAYERS = "layers.json"  # what the choice of layers was made of
INFLUENCE_EXAMPLES = 32  # block influence settles within a few thousand tokens
LOSS_PASSAGES, LOSS_QUESTIONS = 5, 4  # each layer tried costs one forward over these


def run_stage(stage: Stage, inputs: dict[str, Path], out: Path, context: Context) -> None:
    """Does `stage`: `inputs` are the finished folders of what it needs, by role; `out` is where it writes."""
    disable_progress_bar()  # transformers' own and datasets': a bar a load would bury the run's
    disable_progress_bars()
    KINDS[stage.kind](stage, inputs, out, context)


def _teacher(stage: Stage, inputs: dict[str, Path], out: Path, context: Context) -> None:
    recipe = context.recipe
    finetune = stage.params["finetune"]
    # A model that is trained keeps float32 weights: an update of 1e-4 is lost in bfloat16's eight bits.
    dtype = "float32" if finetune else recipe.teacher.dtype
    options = options_of(recipe, recipe.teacher.model)
    quantize = finetune.get("quantize") if finetune else None
    model, tokenizer = load_model(recipe.teacher.model, dtype=dtype, quantize=quantize, **options)
    if finetune:
        model = finetune_teacher(model, tokenizer, stage, out, context)
    _save(model, tokenizer, stage, out, context)


def _save(model, tokenizer, stage: Stage, out: Path, context: Context) -> None:
    if writes():
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


def _completions(stage: Stage, inputs: dict[str, Path], out: Path, context: Context) -> None:
    """The teacher's own answers to the training questions, written once (SeqKD)."""
    teacher, tokenizer = context.models.take(inputs["teacher"], context.recipe.teacher.dtype)
    task = context.tasks[context.recipe.tasks[0]]
    written = write_completions(
        place(teacher, device()),
        tokenizer,
        training_tokens(context, stage.params["data"], teacher, tokenizer),
        stop=stop_string(task),
        max_new_tokens=longest_answer(task),
        batch_size=context.recipe.evaluation.batch_size,
    )
    written.save_to_disk(str(out / COMPLETIONS))
    context.models.keep(inputs["teacher"], teacher, tokenizer)


def _states(stage: Stage, inputs: dict[str, Path], out: Path, context: Context) -> None:
    training = context.recipe.training
    quantize = stage.params.get("quantize")
    teacher, tokenizer = context.models.take(inputs["teacher"], context.recipe.teacher.dtype, quantize)
    tokens = training_tokens(context, stage.params["data"], teacher, tokenizer)
    write_states(
        place(teacher, device()),
        written_answers(inputs["completions"], teacher) if "completions" in inputs else tokens,
        out,
        dtype=stage.params["stored"],
        batch_size=training.batch_size,
        bf16=training.dtype == "bfloat16",
    )
    context.models.keep(inputs["teacher"], teacher, tokenizer, quantize)


def _train(stage: Stage, inputs: dict[str, Path], out: Path, context: Context) -> None:
    model, tokenizer = context.models.take(inputs["student"], "float32")
    _save(train_student(model, tokenizer, stage, inputs, out, context), tokenizer, stage, out, context)


def _quantize(stage: Stage, inputs: dict[str, Path], out: Path, context: Context) -> None:
    quantized(model_folder(inputs["model"]), stage.params["bits"], out / MODEL)


def _evaluate(stage: Stage, inputs: dict[str, Path], out: Path, context: Context) -> None:
    evaluation = context.recipe.evaluation
    model, tokenizer = context.models.take(inputs["model"], stored_dtype(stage.needs["model"]))
    results = evaluate(
        place(model, device()),
        tokenizer,
        stage.params["task"],
        batch_size=evaluation.batch_size,
        limit=stage.params["limit"],
        metadata=context.recipe.data.as_metadata(),
        split=stage.params["split"],
        backend=evaluation.backend,
        folder=str(model_folder(inputs["model"])),
    )
    context.models.keep(inputs["model"], model, tokenizer)
    save_results(results, out)


KINDS = {
    "teacher": _teacher,
    "init": _init,
    "completions": _completions,
    "states": _states,
    "train": _train,
    "quantize": _quantize,
    "evaluate": _evaluate,
}
