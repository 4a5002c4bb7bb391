"""A recipe as a list of stages, each with a content hash: what has to be made, out of what, and what is made already.

A stage's params hold everything that changes its result and nothing that does not, so that a repeated run finds what is
done and a changed setting redoes exactly what depends on it. No torch, no models: what has to be measured (data
fingerprints, task hashes, model fingerprints) is handed in as `facts`.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kd_bench.errors import UserError
from kd_bench.recipe import Recipe
from kd_bench.recipe_method import SFT, Method
from kd_bench.recipe_sections import Student
from kd_bench.runs.params import evaluation_params, frozen, method_settings, schedule, task_params, training_data

FORMAT = 1  # raised when what a stage leaves behind changes its meaning: older stages are then made again
UNDISTILLED = "undistilled"
Rates = Mapping[tuple[str, str], float]  # (student, method or sft) -> the learning rate that a search chose


@dataclass(frozen=True)
class Stage:
    """kind: teacher, init, completions, states, train, quantize or evaluate. name: for people, no part of the hash.
    needs: role -> stage."""

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


class Trial(NamedTuple):
    """One learning rate of one student's method (or sft): how it is trained, and how it is scored."""

    student: str
    label: str
    learning_rate: float
    train: Stage
    scored: list[Stage]


class _Shared(NamedTuple):
    """What every student of a recipe learns from; states and written answers by who wrote them, where they are used."""

    teacher: Stage
    written: Stage | None
    states: dict[str, Stage]


def make_plan(recipe: Recipe, facts: dict[str, Any], rates: Rates | None = None) -> list[Stage]:
    """The stages in an order in which each comes after what it needs.

    facts: {"tasks": {name: {"version", "hash", "fingerprint": {split: {...}}, "training_split" (default "train")}},
            "models": {source: fingerprint}}. rates: what a search chose; what it has not chosen yet stands there with
    the first rate of the grid. Raises UserError if a task or model of the recipe is not in the facts.
    """
    _check_facts(recipe, facts)
    rates = rates or {}
    plan: list[Stage] = []

    def model(name: str, stage: Stage, *, scored: bool = True) -> Stage:
        """Evaluated at once, while it is in memory."""
        plan.append(stage)
        if scored:
            plan.extend(_scores(recipe, facts, name, stage))
        return stage

    shared = _shared(recipe, facts)
    model("teacher", shared.teacher)
    plan.extend([*([shared.written] if shared.written else []), *shared.states.values()])
    for student in recipe.students:
        start = _init(recipe, facts, student, shared.teacher)
        model(f"{student.name}-{UNDISTILLED}", start, scored=UNDISTILLED in recipe.baselines)
        for seed in recipe.seeds:
            for label, method in _contestants(recipe):
                rate = rates.get((student.name, label), recipe.search and recipe.search.learning_rates[0])
                trained = _train(recipe, facts, shared, start, label, method, seed, rate)
                model(trained.name, trained)
                for bits in student.quantize:
                    name = f"{student.name}-{bits}-{label}-s{seed}"
                    model(name, Stage("quantize", name, {"bits": bits}, {"model": trained}))
    return plan


def make_trials(recipe: Recipe, facts: dict[str, Any]) -> list[Trial]:
    """Every learning rate of the search, with the first seed, for every student and method, sft included."""
    if recipe.search is None:
        return []
    _check_facts(recipe, facts)
    shared, found = _shared(recipe, facts), []
    mark = "" if recipe.evaluation.split == "validation" else ".validation"  # the name that its own evaluation has
    for student in recipe.students:
        start = _init(recipe, facts, student, shared.teacher)
        for label, method in _contestants(recipe):
            for rate in recipe.search.learning_rates:
                trained = _train(recipe, facts, shared, start, label, method, recipe.seeds[0], rate)
                scored = [
                    Stage(
                        "evaluate",
                        f"{trained.name}.{task}{mark}",
                        evaluation_params(recipe, facts, task, "validation", recipe.search.limit),
                        {"model": trained},
                    )
                    for task in recipe.evaluation_tasks
                ]
                found.append(Trial(student.name, label, rate, trained, scored))
    return found


def with_needs(stages: Iterable[Stage]) -> list[Stage]:
    """`stages` and all that they need, once each, each after what it needs."""
    found: dict[str, Stage] = {}

    def add(stage: Stage) -> None:
        if stage.key not in found:  # equal stages of two students are two: their folders have other names
            for need in stage.needs.values():
                add(need)
            found[stage.key] = stage

    for stage in stages:
        add(stage)
    return list(found.values())


def _contestants(recipe: Recipe) -> list[tuple[str, Method | None]]:
    """(label, method) of every way in which a student is trained; sft has no method."""
    baseline = [(SFT, None)] if SFT in recipe.baselines else []
    return baseline + [(method.label, method) for method in recipe.every_method]


def _shared(recipe: Recipe, facts: dict[str, Any]) -> _Shared:
    teacher = _teacher(recipe, facts)
    methods = recipe.every_method
    written = None
    if any(method.completions == "teacher" for method in methods):
        written = Stage("completions", "teacher", {"data": training_data(recipe, facts)}, {"teacher": teacher})
    states = {}
    if recipe.training.store_teacher_states:
        # Student-written answers are new at every step: nothing to store where there are no others.
        storing = [method for method in methods if method.uses_teacher and method.lmbda < 1]
        for author in dict.fromkeys(method.completions for method in storing):
            states[author] = _states(recipe, facts, teacher, written if author == "teacher" else None)
    return _Shared(teacher, written, states)


def stored_dtype(stage: Stage) -> str:
    """What the weights of a model's stage lie on the disk in: what is or will be trained is kept in float32."""
    return "float32" if stage.kind != "teacher" or stage.params["finetune"] else stage.params["dtype"]


def _scores(recipe: Recipe, facts: dict[str, Any], name: str, model: Stage) -> list[Stage]:
    """The evaluations of `model`, on the test split, the validation split, or both."""
    both = recipe.evaluation.split == "both"
    found = []
    for task in recipe.evaluation_tasks:
        for split in ("test", "validation") if both else (recipe.evaluation.split,):
            mark = ".validation" if both and split == "validation" else ""
            found.append(
                Stage(
                    "evaluate", f"{name}.{task}{mark}", evaluation_params(recipe, facts, task, split), {"model": model}
                )
            )
    return found


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


def _teacher(recipe: Recipe, facts: dict[str, Any]) -> Stage:
    teacher = recipe.teacher
    origin = {"model": facts["models"][teacher.model], "revision": teacher.revision, "dtype": teacher.dtype}
    if teacher.finetune is None:
        return Stage("teacher", "as-is", {**origin, "finetune": None})
    finetune = {**schedule(recipe), **teacher.finetune.model_dump(mode="json", exclude_none=True)}
    # One teacher for all seeds: theirs is the students' chance, and retention needs one denominator.
    return Stage(
        "teacher", "finetuned", {**origin, "finetune": finetune, "seed": 0, "data": training_data(recipe, facts)}
    )


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
            params["data"] = training_data(recipe, facts)
        if init.by == "loss" and recipe.training.dtype != "float32":
            params["dtype"] = recipe.training.dtype
    return Stage("init", student.name, params, {"teacher": teacher})


def _states(recipe: Recipe, facts: dict[str, Any], teacher: Stage, written: Stage | None) -> Stage:
    training = recipe.training
    params = {"data": training_data(recipe, facts), "dtype": training.dtype, "stored": training.teacher_states_dtype}
    params |= frozen(recipe)
    if written is None:
        return Stage("states", "teacher", params, {"teacher": teacher})
    return Stage("states", "teacher-written", params, {"teacher": teacher, "completions": written})


def _train(
    recipe: Recipe,
    facts: dict[str, Any],
    shared: _Shared,
    start: Stage,
    label: str,
    method: Method | None,
    seed: int,
    rate: float | None,
) -> Stage:
    """rate: what a search says; None leaves it to the method and the recipe."""
    training = recipe.training
    steps = training.model_dump(
        mode="json", include={"epochs", "learning_rate", "batch_size", "lora"}, exclude_none=True
    )
    params = {"training": {**schedule(recipe), **steps}, "seed": seed, "data": training_data(recipe, facts)}
    needs = {"student": start}
    if method is None:
        params["method"] = {"name": SFT}
    else:
        params["method"] = {"name": "distil", **method_settings(method)}
        needs |= _teaching(shared, method)
        if method.uses_teacher:
            params |= frozen(recipe)
        if method.learning_rate is not None:
            params["training"]["learning_rate"] = method.learning_rate
        if method.sampling == "adaptive":  # it looks at validation questions
            params["validation"] = [[name, task_params(facts, name, "validation")] for name in recipe.tasks]
    if rate is not None:
        params["training"]["learning_rate"] = rate
    return Stage("train", f"{start.name}-{label}-s{seed}", params, needs)


def _teaching(shared: _Shared, method: Method) -> dict[str, Stage]:
    """What a method learns from: the teacher itself, its stored states, the answers that it wrote."""
    needs = {"teacher": shared.teacher} if method.uses_teacher else {}
    if method.uses_teacher and method.lmbda < 1 and method.completions in shared.states:
        needs["states"] = shared.states[method.completions]
    if method.completions == "teacher":
        needs["completions"] = shared.written
    return needs
