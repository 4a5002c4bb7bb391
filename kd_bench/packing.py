"""Token sequences as a prefix tree: what they share is computed once.

QA data asks many questions of one passage and one-shot prompts all begin with the same demonstration. Sorted
lexicographically, each sequence shares its longest prefix with its neighbour; laid out depth first, every token's
descendants are the contiguous run that follows it. One number a token (`last`) therefore says the whole attention mask:
a query at `i` sees a key at `j` exactly when `j <= i < last[j]`, and its position is its depth in the tree.
"""

import math
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
import torch


@dataclass(frozen=True)
class PrefixTree:
    """Sequences packed into `rows` x `width` tokens; those that share no first token lie in rows of their own.

    input_ids, position_ids: [rows, width], long.
    last: [rows, width], long; the column after a token's last descendant (0 for padding, which nothing sees).
    paths: for each sequence, in the order given, the flat indices (row * width + column) of its tokens, long.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    last: torch.Tensor
    paths: list[torch.Tensor]

    def visible(self) -> torch.Tensor:
        """Which key each query sees: [rows, width, width], bool. Padding sees itself, so that no softmax is empty."""
        column = torch.arange(self.input_ids.shape[1], device=self.last.device)
        return _sees(column[:, None], column[None, :], self.last[:, None, :])

    def attention_mask(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Additive mask [rows, 1, width, width]: 0 or the most negative number of `dtype`.

        Float, never bool: transformers' `eager` attention adds the mask, so a boolean one is silently wrong there.
        """
        mask = torch.zeros(1, dtype=dtype, device=self.last.device)
        return mask.new_full((), torch.finfo(dtype).min).where(~self.visible(), mask)[:, None]

    def block_mask(self):
        """The same mask for FlexAttention: blocks of 128 x 128 that nobody sees are never computed."""
        from torch.nn.attention.flex_attention import create_block_mask

        last = self.last
        rows, width = last.shape

        def visible(row, head, query, key):
            return _sees(query, key, last[row, key])

        return create_block_mask(visible, rows, None, width, width, device=last.device)

    def to(self, device: torch.device | str) -> "PrefixTree":
        """The same tree on `device`."""
        moved = [tensor.to(device) for tensor in (self.input_ids, self.position_ids, self.last)]
        return PrefixTree(*moved, [path.to(device) for path in self.paths])


def _sees(query: torch.Tensor, key: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    """Whether columns `query` see columns `key`, whose last descendants end before `last`."""
    return ((key <= query) & (query < last)) | (key == query)


def common_prefix(a: list[int], b: list[int]) -> int:
    """How many leading tokens `a` and `b` share."""
    shortest = min(len(a), len(b))
    different = np.flatnonzero(np.asarray(a[:shortest]) != np.asarray(b[:shortest]))
    return int(different[0]) if different.size else shortest


def pack(sequences: list[list[int]], *, keys_per_token: float = math.inf) -> PrefixTree:
    """The prefix tree of `sequences` (lists of token ids, none empty), one row a tree of the forest.

    A dense mask makes every query pay for every key of its row, so a short prefix that all share (a task's
    instruction) can cost more in one row than repeated in several. `keys_per_token` says how many query-key pairs
    cost as much as one token through the linear layers; a tree is parted at its first branching where that is
    cheaper. The default never parts.
    """
    if not sequences or not all(sequences):
        raise ValueError("a prefix tree needs at least one sequence, and no empty one")
    order = sorted(range(len(sequences)), key=sequences.__getitem__)
    rows: list[tuple[list[int], list[int], list[int]]] = []  # tokens, positions and last of each row
    columns: list[tuple[int, list[int]]] = [(0, [])] * len(sequences)  # row and columns of each sequence
    for tree in _branches(order, sequences, 0):
        for group in _parted(tree, sequences, keys_per_token):
            row, paths = _grow([sequences[index] for index in group])
            for index, path in zip(group, paths):
                columns[index] = (len(rows), path)
            rows.append(row)

    width = max(len(tokens) for tokens, _, _ in rows)
    packed = np.zeros((3, len(rows), width), dtype=np.int64)
    for row, parts in enumerate(rows):
        for part, values in enumerate(parts):
            packed[part, row, : len(values)] = values
    return PrefixTree(*torch.from_numpy(packed), [torch.tensor(path) + row * width for row, path in columns])


def parts(sequences: list[list[int]], max_tokens: int | None) -> list[list[int]]:
    """`sequences`, by their indices, in parts whose prefix trees have at most `max_tokens` tokens, and about as many.

    Neighbours in the sorted order stay together, so that a prefix is repeated only where a part ends inside its
    branches. A sequence that is longer by itself is a part by itself. None: one part.
    """
    if max_tokens is None:
        return [list(range(len(sequences)))]
    order = sorted(range(len(sequences)), key=sequences.__getitem__)
    added = [len(sequences[b]) - common_prefix(sequences[a], sequences[b]) for a, b in pairwise(order)]
    total = len(sequences[order[0]]) + sum(added)
    enough = total / math.ceil(total / max_tokens)
    found: list[list[int]] = []
    tokens = max_tokens
    for index, new in zip(order, [0, *added]):
        if tokens >= enough or tokens + new > max_tokens:
            found.append([])
            tokens, new = 0, len(sequences[index])
        found[-1].append(index)
        tokens += new
    return [sorted(part) for part in found]


def one_row(tree: PrefixTree) -> PrefixTree:
    """The rows of `tree` end to end without their padding: for a mask whose empty blocks cost nothing."""
    real = tree.last > 0
    widths = real.sum(1)
    starts = widths.cumsum(0) - widths
    width = tree.input_ids.shape[1]
    last = tree.last + starts[:, None]
    flat = [part[real][None] for part in (tree.input_ids, tree.position_ids, last)]
    return PrefixTree(*flat, [starts[path // width] + path % width for path in tree.paths])


def _branches(order: list[int], sequences: list[list[int]], depth: int) -> list[list[int]]:
    """`order` (sorted indices) in runs of the same token at `depth`."""
    return [list(run) for _, run in groupby(order, key=lambda index: sequences[index][depth : depth + 1])]


def _parted(tree: list[int], sequences: list[list[int]], keys_per_token: float) -> list[list[int]]:
    """`tree` whole, or its branches after the prefix that all share, whichever `pack` says is cheaper."""
    trunk = common_prefix(sequences[tree[0]], sequences[tree[-1]])
    branches = _branches(tree, sequences, trunk)
    if len(branches) == 1:
        return [tree]
    sizes = [len(_grow([sequences[index] for index in branch])[0][0]) for branch in branches]
    together = sum(sizes) - trunk * (len(sizes) - 1)
    tokens, pairs = len(sizes) * max(sizes), len(sizes) * max(sizes) ** 2  # apart, as rows padded to one width
    return branches if together**2 - pairs > keys_per_token * (tokens - together) else [tree]


def _grow(ordered: list[list[int]]) -> tuple[tuple[list[int], list[int], list[int]], list[list[int]]]:
    """One row out of sorted sequences: its tokens, positions and last, and the columns of each sequence."""
    tokens, positions, last, paths = [], [], [], []
    previous: list[int] = []
    path: list[int] = []
    for sequence in ordered:
        shared = common_prefix(previous, sequence)
        for column in path[shared:]:
            last[column] = len(tokens)
        path = path[:shared] + list(range(len(tokens), len(tokens) + len(sequence) - shared))
        tokens.extend(sequence[shared:])
        positions.extend(range(shared, len(sequence)))
        last.extend([0] * (len(sequence) - shared))
        paths.append(path)
        previous = sequence
    for column in path:
        last[column] = len(tokens)
    return (tokens, positions, last), paths


def buckets(tree: PrefixTree, max_padding: float = 0.25) -> tuple[list[PrefixTree], list[torch.Tensor]]:
    """The rows of `tree` in groups of like width, so that at most `max_padding` of each group's tokens is padding.

    A group is a forward, and each forward reads every weight and adds to every gradient: a little padding is cheaper.
    Returns the groups and, for each sequence, the indices of its tokens into the groups' tokens, each group
    flattened and one after another. A row's numbers do not depend on the rows beside it.
    """
    widths = (tree.last > 0).sum(1).tolist()
    order = sorted(range(len(widths)), key=widths.__getitem__)
    groups: list[list[int]] = []
    tokens = 0
    for row in order:
        tokens += widths[row]
        if not groups or (len(groups[-1]) + 1) * widths[row] * (1 - max_padding) > tokens:
            groups.append([])
            tokens = widths[row]
        groups[-1].append(row)

    starts = torch.zeros(len(widths), dtype=torch.long)  # where each row begins in the flattened groups
    offset, trees = 0, []
    for rows in groups:
        width = widths[rows[-1]]
        starts[rows] = offset + torch.arange(len(rows)) * width
        offset += len(rows) * width
        parts = [part[rows, :width] for part in (tree.input_ids, tree.position_ids, tree.last)]
        trees.append(PrefixTree(*parts, paths=[]))
    full = tree.input_ids.shape[1]
    return trees, [starts[path // full] + path % full for path in tree.paths]
