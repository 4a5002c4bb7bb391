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


def groups(sequences: list[list[int]], past: int, size: int) -> list[list[int]]:
    """Which of `sequences` (which share their first `past` tokens) are worth one pass together, by their indices.

    At most `size` a group; what shares a passage lies in one group, or in groups that follow one another.
    """
    families: list[list[int]] = []  # what shares a passage
    lengths: list[int] = []
    previous: list[int] = []
    for index in sorted(range(len(sequences)), key=sequences.__getitem__):
        own = len(sequences[index]) - past
        shared = max(common_prefix(previous, sequences[index]) - past, 0)
        if families and shared >= SHARE * own and len(families[-1]) < size:
            families[-1].append(index)
            lengths[-1] += own - shared
        else:
            families.append([index])
            lengths.append(own)
        previous = sequences[index]

    found: list[list[int]] = []
    tokens = 0
    for family, length in zip(families, lengths):
        if found and tokens + length <= JOIN_TOKENS and len(found[-1]) + len(family) <= size:
            found[-1] += family
            tokens += length
        else:
            found.append(family)
            tokens = length
    return found
