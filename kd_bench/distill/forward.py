"""Training through a model's own `forward`, so that what wraps it (DDP, FSDP2) sees every step."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@contextmanager
def own_forward(model: nn.Module) -> Iterator[None]:
    """Gives `model` its `forward` back after the block: TRL and accelerate set others on the instance, that compute in
    bfloat16, or that in a copy of the model would still be the original's.
    """
    names = ("forward", "_original_forward")
    before = {name: vars(model)[name] for name in names if name in vars(model)}
    try:
        yield
    finally:
        for name in names:
            vars(model).pop(name, None)
        vars(model).update(before)


@contextmanager
def computing(model: nn.Module) -> Iterator[None]:
    """`model(compute=function)` returns `function(model)` inside the block; other calls are as ever.

    A function and no tensors, since wrappers copy and cast the tensors that they find in arguments.
    """
    own = model.forward

    @wraps(own)
    def forward(*args, compute=None, **kw):
        return own(*args, **kw) if compute is None else compute(model)

    with own_forward(model):
        model.forward = forward
        yield


class Unhooked:
    """A linear head without its hooks: FSDP2's would reduce gradients once a call, and processes call it unequally
    often, a chunk of positions each. Its weights are gathered already, together with the norm's before it.
    """

    def __init__(self, head: nn.Linear):
        self.head = head

    @property
    def weight(self) -> Tensor:
        return self.head.weight

    def __call__(self, states: Tensor) -> Tensor:
        return F.linear(states, self.head.weight, self.head.bias)


@contextmanager
def copy_to_shard(model: nn.Module) -> Iterator[nn.Module]:
    """A copy of `model` that FSDP2 may take apart; its trained weights are in `model` after the block, whole.

    FSDP2 changes a model for good, and the caller wants theirs back. Gathered a parameter at a time, on all processes.
    """
    sharded = copy.deepcopy(model)
    yield sharded
    with torch.no_grad():
        for whole, part in zip(model.parameters(), sharded.parameters(), strict=True):
            whole.copy_(part.full_tensor() if hasattr(part, "full_tensor") else part)
