"""What a plan will take on this machine: tokens are counted, a training step is measured, the rest is arithmetic.

A linear layer of N weights takes 2 N FLOP a token forward and 4 N backward (Kaplan et al. 2020, arXiv 2001.08361,
section 2.1). The rate is that of a real training step on a model of the teacher's width with two layers; attention,
loading and the disk are left out, so an estimate is good to about a factor of two.
"""

import json
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

from kd_bench.packing import common_prefix
from kd_bench.recipe import Recipe
from kd_bench.runs.estimate import shape_of
from kd_bench.runs.facts import Facts, options_of, tokenizer_of
from kd_bench.runs.params import least
from kd_bench.runs.plan import Stage

PROBE_TOKENS, PROBE_COMPLETIONS, PROBE_LAYERS, PROBE_VOCABULARY = 512, 48, 2, 8192


class Tokens(NamedTuple):
    """read: distinct tokens that go through the body; completions: those that reach the vocabulary; largest: read in
    the largest batch."""

    read: int
    completions: int
    largest: int = 0


def training_rate(recipe: Recipe, facts: Facts, device: str) -> float | None:
    """FLOP/s of a training step as this machine does it; None where the teacher's config is not at hand."""
    import torch
    from transformers import AutoModelForCausalLM

    from kd_bench.models.load import model_config
    from kd_bench.models.prune import pruned_config

    source = recipe.teacher.model
    if source not in facts.plan["shapes"]:
        return None
    options = options_of(recipe, source)
    config = model_config(source, **options)
    config = pruned_config(config, range(min(PROBE_LAYERS, config.num_hidden_layers)))
    config.vocab_size = min(config.vocab_size, PROBE_VOCABULARY)  # a large model's would take gigabytes
    with torch.random.fork_rng(devices=[]):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=options["trust_remote_code"]).to(device)
    head = model.get_output_embeddings()
    body = sum(p.numel() for name, p in model.named_parameters() if "layers" in name or ".h." in name)
    ids = torch.randint(config.vocab_size, (1, PROBE_TOKENS), device=device)
    half = recipe.training.dtype == "bfloat16"

    def step() -> float:
        began = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=half):
            states = getattr(model, model.base_model_prefix)(input_ids=ids).last_hidden_state[0, -PROBE_COMPLETIONS:]
            loss = head(states).float().logsumexp(-1).sum()
        loss.backward()
        return time.perf_counter() - began + 0 * float(loss.detach())  # float() waits for the device

    step()
    seconds = min(step() for _ in range(3))
    return 6 * (body * PROBE_TOKENS + head.weight.numel() * PROBE_COMPLETIONS) / seconds


def count(
    recipe: Recipe,
    facts: Facts,
    progress: Callable[[str], Any] = lambda text: None,
    known: dict[tuple, Tokens] | None = None,
    training_only: bool = False,
) -> dict[tuple, Tokens]:
    """{(task, split, limit): tokens} of training splits (one epoch) and of what is evaluated, read as packed batches
    are; what is not at hand is left out. known: what was counted for other recipes, which is added to.
    training_only: without what is evaluated."""
    from kd_bench.harness.examples import examples

    source = recipe.teacher.model
    if source not in facts.plan["shapes"]:
        return {}
    tokenizer = tokenizer_of(source, **options_of(recipe, source))
    evaluation, known = recipe.evaluation, {} if known is None else known
    splits = ("test", "validation") if evaluation.split == "both" else (evaluation.split,)
    wanted = [(name, "train", recipe.training.limit, recipe.training.batch_size) for name in recipe.tasks]
    for name in () if training_only else recipe.evaluation_tasks:
        wanted += [(name, split, evaluation.limit, evaluation.batch_size) for split in splits]
        if recipe.search:
            limit = least(recipe.search.limit, evaluation.limit)
            wanted.append((name, "validation", limit, evaluation.batch_size))
    found, metadata = {}, json.dumps(recipe.data.as_metadata(), sort_keys=True, default=str)
    for name, split, limit, batch in wanted:
        if name not in facts.tasks:
            continue
        key = (source, metadata, name, split, limit, batch)
        if key not in known:
            progress(f"counting tokens of {name}, {split}")
            known[key] = _count(examples(facts.tasks[name], split, limit), tokenizer, batch)
        found[name, split, limit] = known[key]
    return found


def training_completions(recipe: Recipe, counted: dict[tuple, Tokens]) -> int | None:
    """Tokens of all the answers that are trained on; None where some were not counted."""
    parts = [counted.get((name, "train", recipe.training.limit)) for name in recipe.tasks]
    return None if None in parts else sum(part.completions for part in parts)


def _count(some, tokenizer, batch_size: int) -> Tokens:
    prompts = tokenizer([example.prompt for example in some])["input_ids"]
    whole = tokenizer([example.prompt + example.completion for example in some])["input_ids"]
    batches = [sorted(whole[start : start + batch_size]) for start in range(0, len(whole), batch_size)]
    sizes = [len(batch[0]) + sum(len(b) - common_prefix(a, b) for a, b in pairwise(batch)) for batch in batches]
    return Tokens(sum(sizes), sum(map(len, whole)) - sum(map(len, prompts)), max(sizes, default=0))


def tokens_of(stage: Stage, counted: dict[tuple, Tokens]) -> Tokens | None:
    """What a stage goes over, once; none for what only moves weights, None where it was not counted."""
    if stage.kind in ("init", "quantize") or (stage.kind == "teacher" and not stage.params["finetune"]):
        return Tokens(0, 0)
    if stage.kind == "evaluate":
        return counted.get((stage.params["task"], stage.params["split"], stage.params["limit"]))
    data = stage.params["data"]
    parts = [counted.get((name, "train", data["limit"])) for name, _ in data["tasks"]]
    if None in parts:
        return None
    read, completions, largest = zip(*parts)
    return Tokens(sum(read), sum(completions), max(largest))


def training_of(stage: Stage) -> dict[str, Any] | None:
    """How a stage trains; None if it does not."""
    return stage.params.get("training") or stage.params.get("finetune")


def epochs(stage: Stage) -> float:
    """How often a stage goes over its questions."""
    return (training_of(stage) or {}).get("epochs", 1)


def flop(stage: Stage, facts: Facts, counted: dict[tuple, Tokens]) -> float | None:
    """What a stage takes, in FLOP; 0 for what only moves weights, None where sizes or tokens are not known."""
    tokens = tokens_of(stage, counted)
    if tokens is None or not tokens.read:
        return tokens and 0.0
    if stage.kind == "evaluate":
        model = shape_of(stage.needs["model"], facts.plan)
        return model and _forward(model, tokens) + _written(model, tokens)
    teacher = shape_of(stage.needs["teacher"], facts.plan) if "teacher" in stage.needs else None
    if stage.kind in ("states", "completions"):
        return teacher and _forward(teacher, tokens) + (_written(teacher, tokens) if stage.kind == "completions" else 0)
    model = shape_of(stage, facts.plan)
    if model is None:
        return None
    total = 3 * (_forward(model, tokens) + _head(model, tokens))
    method = stage.params.get("method", {})
    if teacher:
        total += _head(teacher, tokens)
        writes = {"adaptive": 0.5, "pair": 1.0}.get(method.get("sampling"), method.get("lmbda", 0.0))
        total += writes * (_written(model, tokens) + _forward(teacher, tokens))
        total += 0 if "states" in stage.needs else (1 - writes) * _forward(teacher, tokens)
        total += total / 2 if method.get("sampling") == "pair" else 0
    return epochs(stage) * total


def _forward(shape: dict[str, int], tokens: Tokens) -> float:
    return 2.0 * shape["parameters_without_embeddings"] * tokens.read


def _head(shape: dict[str, int], tokens: Tokens) -> float:
    return 2.0 * shape["vocab_size"] * shape["hidden_size"] * tokens.completions


def _written(shape: dict[str, int], tokens: Tokens) -> float:
    """A token after another: body and head once for each."""
    return 2.0 * shape["parameters_without_embeddings"] * tokens.completions + _head(shape, tokens)
