"""A run's training questions as token ids: rendered and tokenised once, then read from the disk by every stage."""

import hashlib
import json
import shutil
from pathlib import Path

from datasets import Dataset, load_from_disk

from kd_bench.distill.features import check_lengths, features
from kd_bench.harness.examples import Example, examples
from kd_bench.runs.context import Context
from kd_bench.runs.plan import FORMAT

FOLDER = "tokens"  # in the run's folder, one sub-folder a (data, tokenizer)


def training_examples(context: Context) -> list[Example]:
    """The first `training.limit` training examples of each of the recipe's tasks, one task after another."""
    recipe = context.recipe
    return [example for name in recipe.tasks for example in examples(context.tasks[name])[: recipe.training.limit]]


def training_tokens(context: Context, data: dict, model, tokenizer) -> Dataset:
    """`features` of the recipe's training examples as `tokenizer` reads them; checked against `model`'s context.

    data: what a stage's params say of the data, fingerprints of prompts and questions included. With that and the
    tokenizer's whole content for a key, what is stored cannot be another split's, prompt's or tokenizer's.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    whole = backend.to_str() if backend else json.dumps(sorted(tokenizer.get_vocab().items()))
    text = json.dumps([FORMAT, data, whole, sorted(tokenizer.special_tokens_map.items())], sort_keys=True, default=str)
    folder = context.folder / FOLDER / hashlib.sha256(text.encode()).hexdigest()[:16]
    if not folder.is_dir():
        _write(features(training_examples(context), tokenizer), folder)
    found = load_from_disk(str(folder))
    check_lengths(found, _context_length(model))
    return found


def _write(tokens: Dataset, folder: Path) -> None:
    partial = folder.with_name(f".{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    tokens.save_to_disk(str(partial))
    partial.rename(folder)


def _context_length(model) -> int | None:
    """How many tokens the model's positions reach, as far as its config says."""
    config = model.config.get_text_config()
    return getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
