"""A run's training questions as token ids: rendered and tokenised once, then read from the disk by every stage."""

import hashlib
import json
import shutil
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path
from uuid import uuid4

from datasets import Dataset, load_from_disk

from kd_bench.distill.features import check_lengths, features
from kd_bench.harness.examples import Example, examples
from kd_bench.runs.context import Context
from kd_bench.runs.plan import FORMAT

VALIDATED = 64  # questions that DistiLLM's schedule looks at
FOLDER = "tokens"  # in the run's folder, one sub-folder a (data, tokenizer)


def training_examples(context: Context) -> list[Example]:
    """The first `training.limit` training examples of each of the recipe's tasks, one task after another."""
    recipe = context.recipe
    return [e for name in recipe.tasks for e in examples(context.tasks[name], "train", recipe.training.limit)]


def training_tokens(context: Context, data: dict, model, tokenizer) -> Dataset:
    """`features` of the recipe's training examples as `tokenizer` reads them; checked against `model`'s context.

    data: what a stage's params say of the data, fingerprints of prompts and questions included. With that and the
    tokenizer's whole content for a key, what is stored cannot be another split's, prompt's or tokenizer's.
    """
    return _stored(context, data, lambda: training_examples(context), model, tokenizer)


def validation_tokens(context: Context, data: list, model, tokenizer) -> Dataset:
    """The same of the validation split of the recipe's tasks, question by question from each in turn, so that the first
    VALIDATED are of every task. data: what a stage's params say of it."""

    def found() -> list[Example]:
        each = [examples(context.tasks[name], "validation", VALIDATED) for name in context.recipe.tasks]
        return [example for some in zip_longest(*each) for example in some if example is not None]

    return _stored(context, {"validation": data, "first": VALIDATED}, found, model, tokenizer)


def _stored(context: Context, data: dict, found: Callable[[], list[Example]], model, tokenizer) -> Dataset:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    whole = backend.to_str() if backend else json.dumps(sorted(tokenizer.get_vocab().items()))
    text = json.dumps([FORMAT, data, whole, sorted(tokenizer.special_tokens_map.items())], sort_keys=True, default=str)
    folder = context.folder / FOLDER / hashlib.sha256(text.encode()).hexdigest()[:16]
    if not folder.is_dir():
        _write(features(found(), tokenizer), folder)
    tokens = load_from_disk(str(folder))
    check_lengths(tokens, _context_length(model))
    return tokens


def _write(tokens: Dataset, folder: Path) -> None:
    """Stages that run at the same time may write the same tokens: the first to be finished stays, and serves all."""
    partial = folder.with_name(f".{folder.name}-{uuid4().hex}")
    tokens.save_to_disk(str(partial))
    try:
        partial.rename(folder)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        if not folder.is_dir():
            raise


def _context_length(model) -> int | None:
    """How many tokens the model's positions reach, as far as its config says."""
    config = model.config.get_text_config()
    return getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
