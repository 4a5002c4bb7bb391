"""What a plan will leave on the disk and how big its models are, told without loading any."""

from collections.abc import Iterable
from typing import Any

from kd_bench.runs.plan import Stage, stored_dtype


def describe(plan: Iterable[Stage], store, facts: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """A row a stage for --dry-run: {stage, name, key, state, bytes}.

    state: done, partial (a killed run goes on there), damaged (will be set aside and made again), failed (a learning
    rate, and not tried again) or to do.
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


BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def _estimate(stage: Stage, facts: dict[str, Any]) -> int | None:
    """Weights by parameter count; states by completion tokens; evaluations are small and not estimated."""
    if stage.kind == "states":
        shape, tokens = shape_of(stage.needs["teacher"], facts), facts.get("completion_tokens")
        if shape is None or tokens is None:
            return None
        head = shape["vocab_size"] * BYTES[stage.needs["teacher"].params["dtype"]]
        return (tokens * BYTES[stage.params["stored"]] + head) * shape["hidden_size"]
    if stage.kind in ("evaluate", "completions"):
        return None
    shape = shape_of(stage, facts)
    if stage.kind == "quantize":
        return shape and _quantized_bytes(shape, stage.params["bits"])
    return shape["parameters"] * BYTES[stored_dtype(stage)] if shape else None


def _quantized_bytes(shape: dict[str, int], bits: str) -> int:
    """Linear layers in 4 or 8 bits, embeddings in float32."""
    body = shape["parameters_without_embeddings"]
    return 4 * (shape["parameters"] - body) + body // (2 if bits == "nf4" else 1)


def shape_of(stage: Stage, facts: dict[str, Any]) -> dict[str, int] | None:
    """Parameters and width of the model that a stage leaves behind, where its origin's are known."""
    if stage.kind in ("train", "quantize"):
        return shape_of(stage.needs["student" if stage.kind == "train" else "model"], facts)
    if "model" in stage.params:
        sources = [source for source, mark in facts.get("models", {}).items() if mark == stage.params["model"]]
        return next((facts["shapes"][s] for s in sources if s in facts.get("shapes", {})), None)
    if (shape := shape_of(stage.needs["teacher"], facts)) is None:
        return None
    kept = len(stage.params["layers"]) if "layers" in stage.params else stage.params["keep_layers"]
    body = shape["parameters_without_embeddings"]
    return {
        **shape,
        "parameters": shape["parameters"] - body * (shape["layers"] - kept) // shape["layers"],
        "layers": kept,
    }
