"""Completions that a model writes: how tokens are drawn, and a teacher's answers for sequence-level distillation."""

import logging
from collections.abc import Callable

import torch
from datasets import Dataset
from torch import Tensor, nn
from tqdm import tqdm

from kd_bench.distill.body import dense_attention
from kd_bench.harness.prefix_decode import PrefixDecoder, greedy

log = logging.getLogger(__name__)


def sampled(temperature: float, generator: torch.Generator, tokenizer) -> Callable[[Tensor], list[int]]:
    """[branches, vocab] logits to a token each: greedy at temperature 0, else drawn from softmax(logits / temperature).

    Among the tokenizer's tokens alone: the rows that pad a model's vocabulary stand for nothing, and another model may
    not have them. generator: on the logits' device.
    """
    known = max(tokenizer.get_vocab().values()) + 1
    if temperature == 0:
        return lambda logits: greedy(logits[:, :known])

    def choose(logits: Tensor) -> list[int]:
        probabilities = (logits[:, :known] / temperature).softmax(-1)
        return torch.multinomial(probabilities, 1, generator=generator)[:, 0].tolist()

    return choose


def write_completions(
    teacher: nn.Module,
    tokenizer,
    features: Dataset,
    *,
    stop: str,
    max_new_tokens: int,
    batch_size: int,
    temperature: float = 0.0,
    seed: int = 0,
    progress: bool = True,
) -> Dataset:
    """`features` with `teacher`'s own answers as completions: SeqKD (Kim and Rush 2016, arXiv 1606.07947, section 3.2).

    Greedy at temperature 0, in place of the paper's beam search, else sampled by `seed`; what prompts share is read
    once. An answer ends with the token that completes `stop`, or with an end token; nothing is cut off it, since that
    is what the teacher would write at evaluation. One that reaches `max_new_tokens` ends there without either: it is
    kept as it is, the student learns its tokens and no end, and how many there are is logged.
    """
    prompts, written = features["prompt"][:], {}
    generator = torch.Generator(next(teacher.parameters()).device).manual_seed(seed)
    teacher.eval()
    with dense_attention(teacher):
        decoder = PrefixDecoder(teacher, tokenizer)
        answers = decoder.decode(
            prompts,
            until=[stop] if stop else [],
            max_tokens=max_new_tokens,
            batch_size=batch_size,
            choose=sampled(temperature, generator, tokenizer),
        )
        for index, tokens in tqdm(answers, "teacher answers", total=len(prompts), disable=not progress):
            written[index] = tokens
    completions = [written[index] for index in range(len(prompts))]
    full = sum(len(tokens) == max_new_tokens for tokens in completions)
    if full:
        log.warning(
            "%d of %d answers reach max_new_tokens (%d) and may lack an end", full, len(prompts), max_new_tokens
        )
    columns = {**features.to_dict(), "completion": completions}
    return Dataset.from_dict(columns, features=features.features)
