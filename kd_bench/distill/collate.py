"""Batches: examples packed as prefix trees, drawn passage by passage."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import nn
from torch.utils.data import Sampler

from kd_bench.distill.body import keys_per_token, skips_empty_blocks
from kd_bench.packing import buckets, one_row, pack, parts


@dataclass
class PackExamples:
    """Collates rows of `features` into one batch.

    trees: the packed tokens, a list of PrefixTree; positions: [n], where in the flattened trees a completion token is
    predicted; labels: [n], those tokens; `prompts`: token ids, for a student that writes its own completions;
    `teacher_states`: [n, width], where `states` (index -> [tokens, width]) has them stored.
    Over `max_tokens` the batch is what fits a forward, and the others are its `rest`, batches like it. `shift_labels`
    are the labels of all of them (the name under which transformers counts a step's tokens without dropping one).

    keys_per_token: see `pack`. one_row: all trees in one row, for an attention that skips what a mask leaves empty.
    one_forward: all trees as rows of one forward whatever the padding, where every process has to run equally many. No
    rows at all make a batch with nothing to predict, whose loss and gradients are 0.
    """

    states: Callable[[int], torch.Tensor] | None = None
    keys_per_token: float = math.inf
    max_tokens: int | None = None
    one_row: bool = False
    one_forward: bool = False

    def __call__(self, rows: list[dict]) -> dict:
        found = parts([row["prompt"] + row["completion"] for row in rows], self.max_tokens) if rows else [[]]
        first, *rest = [self._batch([rows[index] for index in part]) for part in found]
        labels = torch.cat([batch["labels"] for batch in (first, *rest)])
        return {**first, "rest": rest, "shift_labels": labels}

    def _batch(self, rows: list[dict]) -> dict:
        sequences = [row["prompt"] + row["completion"] for row in rows] or [[0]]
        tree = one_row(pack(sequences)) if self.one_row else pack(sequences, keys_per_token=self.keys_per_token)
        trees, paths = ([tree], tree.paths) if self.one_row or self.one_forward else buckets(tree)
        places = [path[len(row["prompt"]) - 1 : -1] for path, row in zip(paths, rows)]
        batch = {
            "trees": trees,
            "positions": torch.cat([paths[0][:0], *places]),
            "labels": torch.tensor([token for row in rows for token in row["completion"]], dtype=torch.long),
            "prompts": [row["prompt"] for row in rows],
        }
        if self.states:
            batch["teacher_states"] = torch.cat([self.states(0)[:0], *(self.states(row["index"]) for row in rows)])
        return batch


def pack_for(
    model: nn.Module, *, states=None, max_tokens: int | None = None, one_forward: bool = False
) -> PackExamples:
    """The collator whose batches `model` computes fastest."""
    return PackExamples(states, keys_per_token(model), max_tokens, skips_empty_blocks(model), one_forward)


class PassageSampler(Sampler[int]):
    """Example indices in a fresh order every epoch, the examples of a passage together, their own order shuffled.

    A pure function of (`seed`, epoch), so that a resumed run draws what the killed one would have drawn.
    """

    def __init__(self, passages: Sequence[int], seed: int):
        """passages: the passage number of each example."""
        members: dict[int, list[int]] = {}
        for index, passage in enumerate(passages):
            members.setdefault(passage, []).append(index)
        self.passages, self.seed, self.epoch = list(members.values()), seed, 0

    def __len__(self) -> int:
        return sum(map(len, self.passages))

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        for passage in torch.randperm(len(self.passages), generator=generator).tolist():
            indices = self.passages[passage]
            for place in torch.randperm(len(indices), generator=generator).tolist():
                yield indices[place]


class StepSampler(Sampler[list[int]]):
    """The share of each optimizer step's indices that falls to one of `processes`.

    Together the shares are the `batch_size` indices that a single process would have drawn, the smaller last batch of
    an epoch included, with none repeated: where it has fewer indices than there are processes, some shares are empty.
    """

    def __init__(self, sampler: PassageSampler, batch_size: int, process: int = 0, processes: int = 1):
        self.sampler, self.batch_size, self.process, self.processes = sampler, batch_size, process, processes

    def __len__(self) -> int:
        return math.ceil(len(self.sampler) / self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        indices = iter(self.sampler)
        while batch := list(islice(indices, self.batch_size)):
            yield share(batch, self.process, self.processes)


def share(items: list, process: int, processes: int) -> list:
    """The items of `process`: those in order from its share of the list's length to the next one's."""
    return items[len(items) * process // processes : len(items) * (process + 1) // processes]
