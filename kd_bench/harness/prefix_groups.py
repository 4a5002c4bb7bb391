"""Which sequences go through the model together, and how they lie in one row."""

from dataclasses import dataclass

import torch

from kd_bench.packing import common_prefix, pack

SHARE = 0.25  # requests that share at least this much are worth one pass: attention grows with the square of its length
JOIN_TOKENS = 512  # up to here that square does not matter, and requests that share nothing go together as well
ROOT = -1  # stands before every sequence so that they make one tree; never reaches the model


@dataclass(frozen=True)
class Tree:
    """Sequences as one row of `tokens` new tokens after `past` tokens that all of them see.

    input_ids, position_ids: [tokens]; visible: [tokens, tokens], bool; paths: each sequence's indices into the row.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    visible: torch.Tensor
    paths: list[torch.Tensor]

    @classmethod
    def of(cls, sequences: list[list[int]], past: int) -> "Tree":
        tree = pack([[ROOT, *sequence[past:]] for sequence in sequences])
        visible = tree.visible()[0, 1:, 1:]
        return cls(tree.input_ids[0, 1:], tree.position_ids[0, 1:] - 1 + past, visible, [p[1:] - 1 for p in tree.paths])


def plan(sequences: list[list[int]], past: int, batch_size: int) -> list[list[list[int]]]:
    """Which of `sequences` (sharing their first `past` tokens) go together: batches of groups of indices.

    A group is one pass through the model; a batch, at most `batch_size` sequences, is decoded together. A batch ends
    early rather than split a group, since the next batch would have to compute what the group shares again.
    """
    groups: list[list[int]] = []
    previous: list[int] = []
    tokens = 0
    for index in sorted(range(len(sequences)), key=sequences.__getitem__):
        sequence = sequences[index]
        shared = max(common_prefix(previous, sequence) - past, 0)
        own = len(sequence) - past
        together = shared >= SHARE * own or tokens + own - shared <= JOIN_TOKENS
        if groups and together and len(groups[-1]) < batch_size:
            groups[-1].append(index)
            tokens += own - shared
        else:
            groups.append([index])
            tokens = own
        previous = sequence

    batches: list[list[list[int]]] = []
    for group in groups:
        if batches and sum(map(len, batches[-1])) + len(group) <= batch_size:
            batches[-1].append(group)
        else:
            batches.append([group])
    return batches
