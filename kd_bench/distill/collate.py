"""Batches: examples packed as prefix trees, drawn passage by passage."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import Sampler

from kd_bench.packing import buckets, pack


@dataclass
class PackExamples:
    """Collates rows of `features` into one batch.

    trees: the packed tokens, a list of PrefixTree; positions: [n], where in the flattened trees a completion token is
    predicted; labels: [n], those tokens (again as `shift_labels`, the name under which transformers counts them
    without dropping one); `prompts`: token ids, for a student that writes its own completions; `teacher_states`:
    [n, width], where `states` (index -> [tokens, width]) has them stored.
    keys_per_token: see `pack`.
    """

    states: Callable[[int], torch.Tensor] | None = None
    keys_per_token: float = math.inf

    def __call__(self, rows: list[dict]) -> dict:
        tree = pack([row["prompt"] + row["completion"] for row in rows], keys_per_token=self.keys_per_token)
        trees, paths = buckets(tree)
        labels = torch.tensor([token for row in rows for token in row["completion"]])
        batch = {
            "trees": trees,
            "positions": torch.cat([path[len(row["prompt"]) - 1 : -1] for path, row in zip(paths, rows)]),
            "labels": labels,
            "shift_labels": labels,
            "prompts": [row["prompt"] for row in rows],
        }
        if self.states:
            batch["teacher_states"] = torch.cat([self.states(row["index"]) for row in rows])
        return batch


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
