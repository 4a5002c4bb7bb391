"""What of a recipe and of the world goes into a stage's params: all that changes its result, and nothing else."""

from typing import Any

from kd_bench.recipe import Recipe
from kd_bench.recipe_method import Method


def task_params(facts: dict[str, Any], name: str, split: str) -> dict[str, Any]:
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


def training_data(recipe: Recipe, facts: dict[str, Any]) -> dict[str, Any]:
    """The training questions: tasks in the recipe's order, since that is the order they are mixed from."""
    tasks = [
        [name, task_params(facts, name, facts["tasks"][name].get("training_split", "train"))] for name in recipe.tasks
    ]
    return {"tasks": tasks, "limit": recipe.training.limit, "metadata": metadata_params(recipe)}


def metadata_params(recipe: Recipe) -> dict[str, Any]:
    """Without the folder: the fingerprint says what lay in it."""
    return {key: value for key, value in recipe.data.as_metadata().items() if key != "data_dir"}


def schedule(recipe: Recipe) -> dict[str, Any]:
    """Not here: save_steps, gradient_checkpointing and max_tokens, which change cost and not weights."""
    names = {"warmup_ratio", "weight_decay", "max_grad_norm", "scheduler", "dtype"}
    return recipe.training.model_dump(mode="json", include=names)


def frozen(recipe: Recipe) -> dict[str, Any]:
    """How the teacher is loaded to teach, where that is not as it lies on the disk."""
    return {"quantize": recipe.teacher.quantize} if recipe.teacher.quantize else {}


def method_settings(method: Method) -> dict[str, Any]:
    """The method's settings that change a result; what came later is left out where it changes nothing."""
    how = method.model_dump(mode="json", exclude_none=True, exclude={"name", "learning_rate", "preset"})
    return {
        key: value for key, value in how.items() if (key, value) not in (("completions", "data"), ("sampling", "fixed"))
    }


def evaluation_params(
    recipe: Recipe, facts: dict[str, Any], task: str, split: str, limit: int | None = None
) -> dict[str, Any]:
    """limit: of the questions, beside the recipe's own."""
    evaluation = recipe.evaluation
    return {
        "task": task,
        **task_params(facts, task, split),
        "split": split,
        "limit": least(limit, evaluation.limit),
        "backend": evaluation.backend,
        "metadata": metadata_params(recipe),
    }


def least(*limits: int | None) -> int | None:
    """The smallest of them; None is no limit."""
    return min((limit for limit in limits if limit is not None), default=None)
