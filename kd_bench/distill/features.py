"""Examples as token ids, tokenised the way lm-eval tokenises what it evaluates, and checked against the context."""

from itertools import groupby

from datasets import Dataset

from kd_bench.errors import UserError
from kd_bench.harness.examples import Example
from kd_bench.packing import common_prefix


def encode(example: Example, tokenizer) -> tuple[list[int], list[int]]:
    """(prompt ids, completion ids) of `example`, equal to what lm-eval's `hf` model reads and scores.

    The prompt is encoded alone, as at evaluation; the completion's ids are those that prompt + completion has after
    it. Where the two merge into one token at their seam, a generated completion is encoded alone, since the prompt it
    continues stands alone too. A generating task without a stop string ends with the end-of-text token.
    """
    prompt = tokenizer(example.prompt)["input_ids"]
    whole = tokenizer(example.prompt + example.completion)["input_ids"]
    if example.generated and whole[: len(prompt)] != prompt:
        completion = tokenizer(example.completion, add_special_tokens=False)["input_ids"]
    else:
        completion = whole[len(prompt) :]
    if example.generated and not example.stop and tokenizer.eos_token_id is not None:
        completion = [*completion, tokenizer.eos_token_id]
    return prompt, completion


def features(examples: list[Example], tokenizer) -> Dataset:
    """`examples` as a Dataset of prompt (ids), completion (ids), index, passage (a number) and document (its id), in
    the order given."""
    rows = [encode(example, tokenizer) for example in examples]
    return Dataset.from_dict(
        {
            "prompt": [prompt for prompt, _ in rows],
            "completion": [completion for _, completion in rows],
            "index": list(range(len(rows))),
            "passage": _passage_numbers(examples, [prompt for prompt, _ in rows]),
            "document": [example.doc_id for example in examples],
        }
    )


def check_lengths(features: Dataset, context: int | None) -> None:
    """Raises UserError, counted over all examples, where prompt and completion do not fit `context` tokens: nothing is
    ever cut."""
    lengths = [len(row["prompt"]) + len(row["completion"]) for row in features]
    most = max(lengths)
    if context is not None and most > context:
        raise UserError(
            "training examples",
            f"{sum(length > context for length in lengths)} of {len(lengths)} are longer than the model's context of "
            f"{context} tokens (the longest, {features[lengths.index(most)]['document']}, has {most}). Nothing is "
            "truncated: take a model with a longer context or a task without them.",
        )


def _passage_numbers(examples: list[Example], prompts: list[list[int]]) -> list[int]:
    """Task by task: what all prompts of one share (its demonstration) says nothing about passages, and differs."""
    numbers: list[int] = []
    for _, block in groupby(range(len(examples)), key=lambda index: examples[index].task):
        first = numbers[-1] + 1 if numbers else 0
        runs = passages([prompts[index] for index in block])
        numbers += [first + number for number, run in enumerate(runs) for _ in run]
    return numbers


def passages(prompts: list[list[int]]) -> list[list[int]]:
    """Indices of `prompts` (token ids) in runs that share at least half of their tokens with the one before.

    lm-eval documents of one passage stand together, so a run is a passage's questions; what all prompts share (a
    demonstration) does not count as shared.
    """
    if not prompts:
        return []
    everywhere = min(common_prefix(prompts[0], prompt) for prompt in prompts)
    runs = [[0]]
    for index in range(1, len(prompts)):
        before, this = prompts[index - 1], prompts[index]
        own = common_prefix(before, this) - everywhere
        if 2 * own >= len(this) - everywhere and own > 0:
            runs[-1].append(index)
        else:
            runs.append([index])
    return runs
