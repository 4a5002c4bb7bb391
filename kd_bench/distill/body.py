"""Hidden states at the positions that predict the completion, out of a prefix-tree forward, and the head over them.

Only those positions reach the vocabulary: for a 49,152-token vocabulary and answers of five tokens that is one logit
row in twenty-five, for teacher and student alike.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from kd_bench.errors import UserError
from kd_bench.packing import PrefixTree, pack

log = logging.getLogger(__name__)


def body(model: nn.Module) -> nn.Module:
    """The transformer under the language-model head."""
    return getattr(model, model.base_model_prefix)


def keys_per_token(model: nn.Module) -> float:
    """`pack`'s exchange rate for a dense mask: 4 width.

    A layer's linear maps take about 24 width^2 FLOP a token and attention 4 width a query-key pair, so 6 width by
    arithmetic; attention reaches about two thirds of a matrix product's rate (measured on a CPU, 135M model).
    """
    return 4.0 * model.config.get_text_config().hidden_size


def predicting_states(model: nn.Module, trees: list[PrefixTree], positions: Tensor) -> Tensor:
    """[n, width]: `model`'s last hidden states at `positions` of the flattened `trees`, after the final norm."""
    parameter = next(model.parameters())
    sparse = skips_empty_blocks(model)
    states = []
    for tree in trees:
        tree = tree.to(parameter.device)
        mask = tree.block_mask() if sparse else tree.attention_mask(parameter.dtype)
        given = {"input_ids": tree.input_ids, "position_ids": tree.position_ids, "attention_mask": mask}
        states.append(body(model)(**given, use_cache=False).last_hidden_state.flatten(0, 1))
    return torch.cat(states)[positions.to(parameter.device)]


def skips_empty_blocks(model: nn.Module) -> bool:
    """Whether `model` attends by FlexAttention, for which one long row of trees costs no more than several short."""
    return model.config.get_text_config()._attn_implementation == "flex_attention"


def choose_attention(model: nn.Module) -> None:
    """Sets FlexAttention where it is there and gives the model's own numbers: on CUDA. Else leaves SDPA's dense mask.

    torch has no backward pass of it on a CPU. Tried out on the device, kernels compiled, so that what fails shows here.
    """
    if next(model.parameters()).device.type != "cuda" or not getattr(model, "_supports_flex_attn", False):
        return
    before = model.config.get_text_config()._attn_implementation
    try:
        model.set_attn_implementation("flex_attention")
        check_model(model)
    except Exception as error:  # whatever a compiler raises
        log.warning("FlexAttention is not used, dense masks are: %s", error)
        model.set_attn_implementation(before)


@contextmanager
def dense_attention(model: nn.Module) -> Iterator[None]:
    """`model` with an attention that takes a dense mask, which decoding with a key-value cache gives it."""
    before = model.config.get_text_config()._attn_implementation
    if before != "flex_attention":
        yield
        return
    model.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def check_model(model: nn.Module, *, tolerance: float = 1e-3) -> None:
    """Refuses a model whose numbers the prefix tree would change.

    Compares logits of two sequences with a shared prefix, packed and through the head alone, with the model's own
    forward: a head that is more than a linear map (soft caps, scales), attention that ignores a given mask, or
    positions that are not taken from `position_ids` all show. Sliding windows are refused by name, since a short
    sequence does not reach them. Raises UserError.
    """
    config = model.config.get_text_config()
    name = type(model).__name__
    kinds = getattr(config, "layer_types", None) or []
    if any("sliding" in kind or "chunked" in kind for kind in kinds):
        raise UserError(name, "has sliding-window attention layers, which a shared-prefix batch would widen silently")
    sequences = [[1, 2, 3, 4, 5], [1, 2, 3, 6, 7, 8]]
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    with torch.no_grad():
        tree = pack(sequences)
        packed = model.get_output_embeddings()(predicting_states(model, [tree], torch.cat(tree.paths)))
        alone = torch.cat([model(input_ids=torch.tensor([ids], device=device)).logits[0] for ids in sequences])
    model.train(training)
    difference = (packed - alone).abs().max() / alone.abs().max().clamp_min(1e-9)
    # LLM.int8() rounds activations as well, and by columns of the whole batch: 0.01 to 0.02 was measured.
    exact = alone.dtype == torch.float32 and not getattr(model, "is_loaded_in_8bit", False)
    if not difference <= tolerance * (1 if exact else 50):
        raise UserError(
            name,
            f"a shared-prefix forward differs from its own by {difference:.1e} (relative): its attention does not "
            "follow a given mask and positions (`attn_implementation: sdpa` or `eager` do), or its head is not linear.",
        )
