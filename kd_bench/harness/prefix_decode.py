"""Reading a prefix tree of prompts and writing their continuations side by side, in one row of keys and values.

What all prompts share is computed once for the run; prompts that share more are packed as a prefix tree
(`kd_bench.packing`) and go through the model in one pass. Their answers are then written in that same packed row: each
new token sees its own path through the tree and its own earlier tokens, so keys and values are never copied out for a
branch, and a branch that has ended costs nothing.
"""

from collections.abc import Callable, Collection, Iterator

import torch
from torch import nn
from transformers import DynamicCache

from kd_bench.harness.prefix_groups import Tree, groups
from kd_bench.packing import common_prefix

KeysValues = list[tuple[torch.Tensor, torch.Tensor]]  # a layer each; [1, heads, tokens, head width]
DECODED = 4  # batches' worth of branches written together: their prompts' keys are there once, whatever their number


def greedy(logits: torch.Tensor) -> list[int]:
    return logits.argmax(-1).tolist()


class PrefixDecoder:
    """A causal language model with `sdpa` or `eager` attention. Nothing here needs gradients, nor changes the model."""

    def __init__(self, model: nn.Module, tokenizer, device: torch.device | str | None = None):
        self.model, self.tokenizer = model, tokenizer
        self.device = device or next(model.parameters()).device

    def decode(
        self,
        prompts: list[list[int]],
        *,
        until: Collection[str],
        max_tokens: int,
        batch_size: int,
        choose: Callable[[torch.Tensor], list[int]] = greedy,
    ) -> Iterator[tuple[int, list[int]]]:
        """(index, tokens) of each prompt's continuation, as they end: stop string or end token included.

        until: the stop strings, beside the end tokens of the model's generation config. batch_size: prompts read in one
        pass. choose: [branches, vocab] logits to a token each. A group of prompts joins as soon as there is room for
        all of it: for its branches, and for its keys beside the others', of which there are never more than
        `batch_size` separate prompts would have.
        """
        past, prefix = self.prefix(prompts, [1] * len(prompts))
        ends = self._end_tokens()
        # A string of n bytes spans at most n tokens, whatever way the model came to spell it.
        window = max((len(text.encode()) for text in until), default=0) + 2
        most_keys = batch_size * (max(map(len, prompts)) + max_tokens)
        waiting = ((group, Tree.of([prompts[i] for i in group], past)) for group in groups(prompts, past, batch_size))
        group, tree = next(waiting)
        written: dict[int, list[int]] = {}  # of the branches that have not ended
        following: list[int] = []  # the next token of each
        cache, visible = _cache(prefix), torch.ones(0, past, dtype=torch.bool)  # visible: [branches, keys]

        def room() -> bool:
            branches = len(written) + len(group)
            keys = visible.any(0).sum() + len(tree.input_ids) + branches * max_tokens
            return not written or (branches <= DECODED * batch_size and keys <= most_keys)

        while group or written:
            while group and room():
                logits, new = self.forward(tree, past, prefix, keep=torch.stack([path[-1] for path in tree.paths]))
                cache, visible = _join(cache, visible, tree, past, prefix, new)
                written |= {index: [] for index in group}
                following += choose(logits.float())
                group, tree = next(waiting, ([], None))

            for tokens, token in zip(written.values(), following):
                tokens.append(token)
            tails = self.tokenizer.batch_decode([tokens[-window:] for tokens in written.values()])
            ended = [
                tokens[-1] in ends or len(tokens) >= max_tokens or any(text in tail for text in until)
                for tokens, tail in zip(written.values(), tails)
            ]
            yield from (item for item, done in zip(written.items(), ended) if done)
            written = {index: tokens for (index, tokens), done in zip(written.items(), ended) if not done}
            visible = torch.cat([visible[~torch.tensor(ended)], torch.eye(len(written), dtype=torch.bool)], dim=1)
            following = choose(self._step(prompts, written, visible, cache)) if written else []

    def _end_tokens(self) -> set[int]:
        ends = self.model.generation_config.eos_token_id
        return set() if ends is None else set(ends) if isinstance(ends, list) else {ends}

    def _step(self, prompts, written: dict[int, list[int]], visible: torch.Tensor, cache: DynamicCache) -> torch.Tensor:
        """[branches, vocab]: what follows the last token of each branch; those are read here, all in one row."""
        tokens = [tokens[-1] for tokens in written.values()]
        positions = [len(prompts[index]) + len(tokens) - 1 for index, tokens in written.items()]
        with torch.no_grad():
            logits = self.model(
                input_ids=torch.tensor([tokens], device=self.device),
                position_ids=torch.tensor([positions], device=self.device),
                attention_mask=self._mask(visible),
                past_key_values=cache,
                use_cache=True,
            ).logits
        return logits[0].float()

    def prefix(self, sequences: list[list[int]], needed: list[int]) -> tuple[int, KeysValues]:
        """How many leading tokens all sequences share, and those tokens' keys and values.

        The last `needed[i]` tokens of sequence i are left out of it, since what the model says there is asked for.
        """
        past = common_prefix(min(sequences), max(sequences))
        past = min(past, *(len(sequence) - count for sequence, count in zip(sequences, needed)))
        if past == 0 or len(sequences) == 1:
            return 0, []
        tree = Tree.of([sequences[0][:past]], past=0)
        return past, self.forward(tree, 0, [], keep=torch.tensor([past - 1]))[1]

    def forward(self, tree: Tree, past: int, prefix: KeysValues, keep: torch.Tensor) -> tuple[torch.Tensor, KeysValues]:
        """Logits [len(keep), vocabulary] at the columns `keep` of `tree`, and the tree's own keys and values."""
        cache = _cache(prefix)
        visible = torch.cat([tree.visible.new_ones(len(tree.visible), past), tree.visible], dim=1)
        with torch.no_grad():
            logits = self.model(
                input_ids=tree.input_ids[None].to(self.device),
                position_ids=tree.position_ids[None].to(self.device),
                attention_mask=self._mask(visible),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=keep.to(self.device),
            ).logits
        return logits[0], [(layer.keys[:, :, past:], layer.values[:, :, past:]) for layer in cache.layers]

    def _mask(self, visible: torch.Tensor) -> torch.Tensor:
        """Additive mask [1, 1, queries, keys]: float, since transformers' `eager` attention adds what it is given."""
        dtype = self.model.dtype
        mask = torch.zeros(visible.shape, dtype=dtype).masked_fill_(~visible, torch.finfo(dtype).min)
        return mask[None, None].to(self.device)


def _cache(layers) -> DynamicCache:
    cache = DynamicCache()
    for index, (keys, values) in enumerate(layers):
        cache.update(keys, values, index)
    return cache


def _join(
    cache: DynamicCache, visible: torch.Tensor, tree: Tree, past: int, prefix: KeysValues, new: KeysValues
) -> tuple[DynamicCache, torch.Tensor]:
    """`cache` and `visible` with the branches of `tree` added; keys that no branch sees any more are dropped."""
    if len(visible):
        live = visible.any(0)
        index = live.nonzero()[:, 0].to(new[0][0].device)
        kept = [(layer.keys.index_select(2, index), layer.values.index_select(2, index)) for layer in cache.layers]
        visible = visible[:, live]
    else:
        kept, visible = prefix, visible[:, :past]
    rows = torch.zeros(len(tree.paths), visible.shape[1] + len(tree.input_ids), dtype=torch.bool)
    rows[:, :past] = True  # what all share stands first
    for row, path in zip(rows, tree.paths):
        row[visible.shape[1] + path] = True
    padding = torch.zeros(len(visible), len(tree.input_ids), dtype=torch.bool)
    layers = [[torch.cat(parts, dim=2) for parts in zip(*layer)] for layer in zip(*filter(None, [kept, new]))]
    return _cache(layers), torch.cat([torch.cat([visible, padding], dim=1), rows])
