"""A recipe as a list of stages, each with a content hash: what has to be made, out of what, and what is made already.

A stage's params hold everything that changes its result and nothing that does not, so that a repeated run finds what is
done and a changed setting redoes exactly what depends on it. No torch, no models: what has to be measured (data
fingerprints, task hashes, model fingerprints) is handed in as `facts`.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from kd_bench.errors import UserError
from kd_bench.recipe import Recipe
from kd_bench.recipe_sections import Method, Student

FORMAT = 1  # raised when what a stage leaves behind changes its meaning: older stages are then made again
UNDISTILLED, SFT = "undistilled", "sft"


@dataclass(frozen=True)
class Stage:
    """kind: teacher, init, states, train or evaluate. name: for people, no part of the hash. needs: role -> stage."""

    kind: str
    name: str
    params: dict[str, Any]
    needs: dict[str, "Stage"] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        needs = {role: stage.digest for role, stage in self.needs.items()}
        content = json.dumps([FORMAT, self.kind, self.params, needs], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def key(self) -> str:
        """The stage's folder: `train-24l-sft-s0-1a2b3c4d5e`."""
        slug = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{self.kind}-{self.name}")[:80]
        return f"{slug}-{self.digest[:10]}"


def make_plan(recipe: Recipe, facts: dict[str, Any]) -> list[Stage]:
    """The stages in an order in which each comes after what it needs.

    facts: {"tasks": {name: {"version", "hash", "fingerprint": {split: {...}}, "training_split" (default "train")}},
            "models": {source: fingerprint}}. Raises UserError if a task or model of the recipe is not in it.
    """
    _check_facts(recipe, facts)
    plan: list[Stage] = []

    def add(stage: Stage) -> Stage:
        plan.append(stage)
        return stage

    def model(name: str, stage: Stage, *, scored: bool = True) -> Stage:
        """Evaluated at once, while it is in memory."""
        add(stage)
        for task in recipe.evaluation_tasks if scored else []:
            add(Stage("evaluate", f"{name}.{task}", _evaluation(recipe, facts, task), {"model": stage}))
        return stage

    teacher = model("teacher", _teacher(recipe, facts))
    states = add(_states(recipe, facts, teacher)) if needs_states(recipe) else None
    for student in recipe.students:
        start = _init(recipe, facts, student, teacher)
        model(f"{student.name}-{UNDISTILLED}", start, scored=UNDISTILLED in recipe.baselines)
        for seed in recipe.seeds:
            if SFT in recipe.baselines:
                name = f"{student.name}-{SFT}-s{seed}"
                params = {"method": {"name": SFT}, **_training(recipe, facts, seed)}
                model(name, Stage("train", name, params, {"student": start}))
            for method in recipe.every_method:
                name = f"{student.name}-{method.label}-s{seed}"
                needs = {"student": start, "teacher": teacher}
                if states and method.lmbda == 0:
                    needs["states"] = states
                model(name, Stage("train", name, _distillation(recipe, facts, method, seed), needs))
    return plan


def stored_dtype(stage: Stage) -> str:
    """What the weights of a model's stage lie on the disk in: what is or will be trained is kept in float32."""
    return "float32" if stage.kind != "teacher" or stage.params["finetune"] else stage.params["dtype"]


def needs_states(recipe: Recipe) -> bool:
    """Stored teacher states serve fixed completions only: student-written ones are new at every step."""
    return recipe.training.store_teacher_states and any(method.lmbda == 0 for method in recipe.every_method)


def _check_facts(recipe: Recipe, facts: dict[str, Any]) -> None:
    tasks = [name for name in dict.fromkeys([*recipe.tasks, *recipe.evaluation_tasks]) if name not in facts["tasks"]]
    sources = [source for source in sources_of(recipe) if source not in facts["models"]]
    problems = [f"task {name!r}: its data and prompt are not known." for name in tasks]
    problems += [f"model {source!r}: its fingerprint is not known." for source in sources]
    if problems:
        raise UserError(f"plan of {recipe.name}", problems)


def sources_of(recipe: Recipe) -> list[str]:
    """Every model that the recipe loads from outside, once each."""
    sources = [recipe.teacher.model, *(student.model for student in recipe.students if student.model)]
    return list(dict.fromkeys(sources))


def _task(facts: dict[str, Any], name: str, split: str) -> dict[str, Any]:
    """What of a task can change a result on `split`: its prompt, its demonstrations, the questions of that split."""
    fact = facts["tasks"][name]
    fingerprint = fact["fingerprint"]
    # A harness task of somebody else's may name its splits in its own way: then all of it counts.
    data = (
        {key: fingerprint[key] for key in (split, "demo") if key in fingerprint}
        if split in fingerprint
        else fingerprint
    )
    return {"version": fact["version"], "hash": fact["hash"], "data": data}


def _data(recipe: Recipe, facts: dict[str, Any]) -> dict[str, Any]:
    """The training questions: tasks in the recipe's order, since that is the order they are mixed from."""
    tasks = [[name, _task(facts, name, facts["tasks"][name].get("training_split", "train"))] for name in recipe.tasks]
    return {"tasks": tasks, "limit": recipe.training.limit, "metadata": _metadata(recipe)}


def _metadata(recipe: Recipe) -> dict[str, Any]:
    """Without the folder: the fingerprint says what lay in it."""
    return {key: value for key, value in recipe.data.as_metadata().items() if key != "data_dir"}


def _schedule(recipe: Recipe) -> dict[str, Any]:
    """Not here: save_steps, gradient_checkpointing and store_teacher_states, which change cost and not weights."""
    names = {"warmup_ratio", "weight_decay", "max_grad_norm", "scheduler", "dtype"}
    return recipe.training.model_dump(mode="json", include=names)


def _teacher(recipe: Recipe, facts: dict[str, Any]) -> Stage:
    teacher = recipe.teacher
    origin = {"model": facts["models"][teacher.model], "revision": teacher.revision, "dtype": teacher.dtype}
    if teacher.finetune is None:
        return Stage("teacher", "as-is", {**origin, "finetune": None})
    finetune = {**_schedule(recipe), **teacher.finetune.model_dump(mode="json")}
    # One teacher for all seeds: theirs is the students' chance, and retention needs one denominator.
    return Stage("teacher", "finetuned", {**origin, "finetune": finetune, "seed": 0, "data": _data(recipe, facts)})


def _init(recipe: Recipe, facts: dict[str, Any], student: Student, teacher: Stage) -> Stage:
    if student.init is None:
        params = {"model": facts["models"][student.model], "revision": student.revision}
        return Stage("init", student.name, params)
    init = student.init
    if init.layers is not None:
        params = {"layers": init.layers}
    else:
        params = {"keep_layers": init.keep_layers, "by": init.by}
        if init.by != "even":  # it looks at training passages
            params["data"] = _data(recipe, facts)
    return Stage("init", student.name, params, {"teacher": teacher})


def _states(recipe: Recipe, facts: dict[str, Any], teacher: Stage) -> Stage:
    training = recipe.training
    params = {"data": _data(recipe, facts), "dtype": training.dtype, "stored": training.teacher_states_dtype}
    return Stage("states", "teacher", params, {"teacher": teacher})


def _training(recipe: Recipe, facts: dict[str, Any], seed: int) -> dict[str, Any]:
    steps = recipe.training.model_dump(mode="json", include={"epochs", "learning_rate", "batch_size"})
    return {"training": {**_schedule(recipe), **steps}, "seed": seed, "data": _data(recipe, facts)}


def _distillation(recipe: Recipe, facts: dict[str, Any], method: Method, seed: int) -> dict[str, Any]:
    how = method.model_dump(mode="json", exclude_none=True, exclude={"name", "learning_rate"})
    made = {"method": {"name": "distil", **how}, **_training(recipe, facts, seed)}
    if method.learning_rate is not None:
        made["training"]["learning_rate"] = method.learning_rate
    return made


def _evaluation(recipe: Recipe, facts: dict[str, Any], task: str) -> dict[str, Any]:
    evaluation = recipe.evaluation
    return {
        "task": task,
        **_task(facts, task, evaluation.split),
        "split": evaluation.split,
        "limit": evaluation.limit,
        "backend": evaluation.backend,
        "metadata": _metadata(recipe),
    }


def describe(plan: Iterable[Stage], store, facts: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """A row a stage for --dry-run: {stage, name, key, state, bytes}.

    state: done, partial (a killed run goes on there), damaged (will be set aside and made again) or to do.
    bytes: what lies on disk if done, else an estimate, else None. Estimates need facts["completion_tokens"] and
    facts["shapes"]:
    {source: {"parameters", "layers", "hidden_size", "vocab_size", "parameters_without_embeddings"}}.
    """
    rows = []
    for stage in plan:
        state = store.state(stage)
        size = store.size(stage) if state == "done" else _estimate(stage, facts or {})
        rows.append({"stage": stage.kind, "name": stage.name, "key": stage.key, "state": state, "bytes": size})
    return rows


_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def _estimate(stage: Stage, facts: dict[str, Any]) -> int | None:
    """Weights by parameter count; states by completion tokens; evaluations are small and not estimated."""
    if stage.kind == "states":
        shape, tokens = _shape(stage.needs["teacher"], facts), facts.get("completion_tokens")
        if shape is None or tokens is None:
            return None
        head = shape["vocab_size"] * _BYTES[stage.needs["teacher"].params["dtype"]]
        return (tokens * _BYTES[stage.params["stored"]] + head) * shape["hidden_size"]
    if stage.kind == "evaluate":
        return None
    shape = _shape(stage, facts)
    return shape["parameters"] * _BYTES[stored_dtype(stage)] if shape else None


def _shape(stage: Stage, facts: dict[str, Any]) -> dict[str, int] | None:
    """Parameters and width of the model that a stage leaves behind, where its origin's are known."""
    if stage.kind == "train":
        return _shape(stage.needs["student"], facts)
    if "model" in stage.params:
        sources = [source for source, mark in facts.get("models", {}).items() if mark == stage.params["model"]]
        return next((facts["shapes"][s] for s in sources if s in facts.get("shapes", {})), None)
    shape = _shape(stage.needs["teacher"], facts)
    if shape is None:
        return None
    kept = len(stage.params["layers"]) if "layers" in stage.params else stage.params["keep_layers"]
    body = shape["parameters_without_embeddings"]
    return {
        **shape,
        "parameters": shape["parameters"] - body * (shape["layers"] - kept) // shape["layers"],
        "layers": kept,
    }
