"""How much main memory a stage takes at its peak, for whoever hands stages to machines: arithmetic over sizes and
counted tokens, good to about a factor of two.

Training in full keeps 16 bytes a parameter: float32 weights, gradients and Adam's two moments (Rajbhandari et al. 2020,
arXiv 1910.02054, section 3.1). Between forward and backward pass lie 34 bytes a token, layer and unit of width in 16
bits, and twice as many in 32 (Korthikanti et al. 2022, arXiv 2205.05198, section 4.1, without the attention scores).
"""

from kd_bench.recipe import Recipe
from kd_bench.runs.cost import Tokens, tokens_of, training_of
from kd_bench.runs.estimate import BYTES, shape_of
from kd_bench.runs.facts import Facts
from kd_bench.runs.plan import Stage, stored_dtype

PROCESS = 6 * 10**8  # Python with the libraries, before any model
TRAINED = 12  # bytes a parameter beside its weight: the gradient and two moments
BETWEEN = {"float32": 68, "bfloat16": 34}  # bytes a token, layer and unit of width that wait for the backward pass
CACHE = 16  # as many of a key and a value in float32, the old and the longer one; fewer where heads share them


def memory(
    stage: Stage, recipe: Recipe, facts: Facts, counted: dict[tuple, Tokens], on_gpu: bool = False
) -> int | None:
    """Bytes. on_gpu: the stage's work is in a GPU's own memory, and here are the process and the weights that go there.
    None where a model's size or the tokens are not known."""
    models = _models(stage, recipe)
    shapes = [shape_of(some, facts.plan) for some, _ in models]
    if None in shapes:
        return None
    still = PROCESS + sum(shape["parameters"] * BYTES[dtype] for shape, (_, dtype) in zip(shapes, models))
    tokens, shape = _tokens_at_once(stage, recipe, counted), shapes[0]
    if on_gpu or tokens == 0:
        return still
    if tokens is None:
        return None
    width, layers = tokens * shape["hidden_size"], shape["layers"]
    between = BETWEEN[recipe.training.dtype] * width
    how = training_of(stage)
    if how is None:
        return still + between + CACHE * width * layers
    moments = 0 if how.get("lora") else TRAINED * shape["parameters"]
    if recipe.training.gradient_checkpointing:  # one layer at a time, and what went into each
        return still + moments + between + BYTES["float32"] * width * layers
    return still + moments + between * layers


def _models(stage: Stage, recipe: Recipe) -> list[tuple[Stage, str]]:
    """What is loaded, the one that works first, as (the stage it comes from, its dtype here)."""
    if stage.kind == "train":
        method, found = stage.params["method"], [(stage.needs["student"], "float32")]
        writes = method.get("sampling", "fixed") != "fixed" or method.get("lmbda", 0) > 0
        if "teacher" in stage.needs and (writes or "states" not in stage.needs):  # states have the head with them
            found.append((stage.needs["teacher"], recipe.teacher.dtype))
        return found
    if stage.kind in ("states", "completions"):
        return [(stage.needs["teacher"], recipe.teacher.dtype)]
    if stage.kind in ("evaluate", "quantize"):
        return [(stage.needs["model"], stored_dtype(stage.needs["model"]))]
    if stage.kind == "init":
        return [(some, "float32") for some in (*stage.needs.values(), stage)]
    return [(stage, stored_dtype(stage))]


def _tokens_at_once(stage: Stage, recipe: Recipe, counted: dict[tuple, Tokens]) -> int | None:
    """Distinct tokens of the largest batch, as far as they go through the model together; 0 where none do."""
    tokens = tokens_of(stage, counted)
    if tokens is None or stage.kind == "evaluate":
        return tokens and tokens.largest
    ours = recipe.training.batch_size  # which they were counted by
    size = (
        recipe.evaluation.batch_size
        if stage.kind == "completions"
        else (training_of(stage) or {}).get("batch_size", ours)
    )
    largest = -(-tokens.largest * size // ours)
    return min(largest, recipe.training.max_tokens or largest) if training_of(stage) else largest
