"""The same weights in a new model: of another config, or of the same one without the marks of quantization."""

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def rebuild(
    model: "PreTrainedModel",
    config: "PretrainedConfig",
    rename: Callable[[str], str | None] = lambda name: name,
    share: bool = False,
) -> "PreTrainedModel":
    """A model of `model`'s class made from `config`, holding copies of its weights and buffers.

    rename: what a weight of `model` is called in the new one; None leaves it out. Each keeps its dtype and device, tied
    weights stay tied, and no storage is shared with `model` unless `share` asks for it, to look and not to train. The
    new one's structure is made without memory, so this draws no random number and needs room for the kept weights
    alone. Raises RuntimeError where names do not match.
    """
    with torch.device("meta"):
        new = type(model)(config)
    state = {
        renamed: tensor.detach() for name, tensor in model.state_dict().items() if (renamed := rename(name)) is not None
    }
    # Assigned, not copied into: what is on "meta" has no memory to be copied into.
    new.load_state_dict({name: t if share else t.clone() for name, t in state.items()}, assign=True)
    new.tie_weights()
    for name, buffer in model.named_buffers():  # rotary frequencies and causal masks are in no state dict
        if (renamed := rename(name)) is not None:
            owner, _, attribute = renamed.rpartition(".")
            new.get_submodule(owner)._buffers[attribute] = buffer.detach().clone()
    if empty := [name for name, tensor in [*new.named_parameters(), *new.named_buffers()] if tensor.is_meta]:
        raise RuntimeError(f"{type(model).__name__}: {', '.join(empty)} found no weights to be copied from")
    new.generation_config = copy.deepcopy(model.generation_config)
    return new.train(model.training)


def without_quantization(config: "PretrainedConfig") -> "PretrainedConfig":
    """A copy of `config` for a model whose weights are plain numbers."""
    config = copy.deepcopy(config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    return config
