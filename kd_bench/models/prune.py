"""Smaller students out of a bigger model: whole decoder layers taken out, those that matter least first."""

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import torch

from kd_bench.errors import UserError
from kd_bench.models.rebuild import rebuild

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def decoder_layers(model: "PreTrainedModel") -> tuple[str, torch.nn.ModuleList]:
    """The list of decoder layers and its name in the model's state, as ("model.layers", ModuleList).

    Raises UserError for models without one plain list of them (encoder-decoders, mixtures with shared blocks).
    """
    count = model.config.num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.ModuleList) and name.endswith(("layers", ".h")) and len(module) == count:
            return name, module
    raise UserError(type(model).__name__, f"no list of its {count} layers found, so none can be taken out")


def pruned_config(config: "PretrainedConfig", indices: Sequence[int]) -> "PretrainedConfig":
    """A copy of `config` for a model of the layers `indices`; per-layer lists (layer_types, ...) are cut to them."""
    count = config.num_hidden_layers
    _check_indices(count, indices)
    if getattr(config, "scale_attn_by_inverse_layer_idx", False) and list(indices) != list(range(len(indices))):
        raise UserError(config.model_type, "scale_attn_by_inverse_layer_idx ties each layer to its place: none can go")
    pruned = copy.deepcopy(config)
    for name, value in config.to_dict().items():
        # A per-layer list is one that is as long as the model is deep; ids and class names only look like it.
        if isinstance(value, list | tuple) and len(value) == count and not name.endswith(("token_id", "architectures")):
            setattr(pruned, name, [value[i] for i in indices])
    pruned.num_hidden_layers = len(indices)
    return pruned


def keep_layers(model: "PreTrainedModel", indices: Sequence[int], *, share: bool = False) -> "PreTrainedModel":
    """A new model of the decoder layers `indices` (ascending, from 0) of `model` alone, with copies of its weights.

    It is built from the pruned config, so each layer knows its new place in the key-value cache. `model` is not
    touched and shares no storage with the result, unless `share` asks for a view that is not to be trained. Raises
    UserError for indices that are not layers of it, and for quantized models.
    """
    if getattr(model, "hf_quantizer", None) is not None:
        raise UserError(type(model).__name__, "layers of a quantized model cannot be copied: load it dequantised")
    config = pruned_config(model.config, indices)
    prefix = decoder_layers(model)[0] + "."
    place = {old: new for new, old in enumerate(indices)}

    def rename(name):
        if not name.startswith(prefix):
            return name
        old, rest = name.removeprefix(prefix).split(".", 1)
        return f"{prefix}{place[int(old)]}.{rest}" if int(old) in place else None

    return rebuild(model, config, rename, share)


@torch.no_grad()
def block_influence(model: "PreTrainedModel", batches: Iterable[dict]) -> list[float]:
    """How much each layer turns the hidden state: ShortGPT's Block Influence (arXiv 2403.03853, section 2.3).

    BI_i = 1 - mean over tokens of cos(x_i, x_{i+1}), x_i being what layer i is given and x_{i+1} what it gives.
    batches: dicts of input_ids and attention_mask, [batch, length] each, padding on either side; it is not counted.
    Returns one number in [0, 2] a layer, 0 for a layer that changes nothing but lengths. Raises ValueError where
    there is no token to measure.
    """
    _, layers = decoder_layers(model)
    sums = torch.zeros(len(layers), dtype=torch.float64)
    tokens = 0
    inputs, real = {}, None

    # Hooks, since the last of output_hidden_states has been through the final norm.
    def before(index):
        def hook(module, args, kwargs):
            inputs[index] = args[0] if args else kwargs["hidden_states"]

        return hook

    def after(index):
        def hook(module, args, output):
            given = inputs.pop(index)[real].float()
            gives = (output[0] if isinstance(output, tuple) else output)[real].float()
            sums[index] += torch.nn.functional.cosine_similarity(given, gives, dim=-1).double().sum().cpu()

        return hook

    handles = [layer.register_forward_pre_hook(before(i), with_kwargs=True) for i, layer in enumerate(layers)]
    handles += [layer.register_forward_hook(after(i)) for i, layer in enumerate(layers)]
    training = model.training
    model.eval()
    try:
        for batch in batches:
            ids = batch["input_ids"].to(model.device)
            mask = batch["attention_mask"].to(model.device) if "attention_mask" in batch else torch.ones_like(ids)
            real = mask.bool()
            positions = (mask.long().cumsum(-1) - 1).clamp(min=0)
            model.base_model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
            tokens += int(real.sum())
    finally:
        for handle in handles:
            handle.remove()
        model.train(training)
    if not tokens:
        raise ValueError("block_influence: the batches have no token that is not padding")
    return (1 - sums / tokens).tolist()


def choose_layers(n_layers: int, keep: int, by: str, influence: Sequence[float] | None = None) -> list[int]:
    """The `keep` layers that stay, ascending; the first and the last always do.

    by "even": spaced evenly. by "influence": those of least `influence` go, the lower one first where two are equal.
    Raises UserError, all problems at once, for a number that leaves no choice and for influences that do not fit.
    """
    problems = []
    if by not in ("even", "influence"):
        problems.append(f"by: {by!r} is neither 'even' nor 'influence'")
    if keep < 2:
        problems.append(f"{keep} layers: the first and the last always stay, so at least 2")
    elif keep >= n_layers:
        problems.append(f"{keep} of {n_layers} layers takes none out: give {n_layers - 1} or fewer")
    if by == "influence":
        if influence is None or len(influence) != n_layers:
            got = "none" if influence is None else len(influence)
            problems.append(f"influence: {n_layers} numbers are needed, one a layer; got {got}")
        elif not all(math.isfinite(value) for value in influence):
            problems.append("influence: not all numbers are finite; do the weights hold NaN?")
    if problems:
        raise UserError("keep_layers", problems)
    if by == "even":
        # Rounding halves up by integers: round() would send them to the even neighbour, and spacing would wobble.
        gaps = keep - 1
        return [(2 * i * (n_layers - 1) + gaps) // (2 * gaps) for i in range(keep)]
    inner = sorted(range(1, n_layers - 1), key=lambda i: (influence[i], i))
    out = set(inner[: n_layers - keep])
    return [i for i in range(n_layers) if i not in out]


def greedy_layers(
    model: "PreTrainedModel", keep: int, loss: Callable[["PreTrainedModel"], float], progress: bool = False
) -> tuple[list[int], list[tuple[int, float]]]:
    """The `keep` layers that stay when, one after another, the layer goes without which `loss` is least.

    SLEB's search (arXiv 2402.09025, algorithm 1), with a loss of the caller's choice instead of perplexity; the first
    and last layer always stay. Unlike block influence it sees how layers make up for each other, and costs about
    n_layers evaluations of `loss` a layer taken out. Returns the layers, ascending, and (layer, loss) in the order
    taken out. Raises UserError for a number that leaves no choice.
    """
    from tqdm import tqdm

    count = len(decoder_layers(model)[1])
    choose_layers(count, keep, "even")  # refuses what cannot be kept
    kept, removed = list(range(count)), []
    inner = [len(kept) - 2 - i for i in range(count - keep)]
    with tqdm(total=sum(inner), desc="layers to take out", unit="try", disable=not progress) as bar:
        while len(kept) > keep:
            tries = {}
            for layer in kept[1:-1]:
                tries[layer] = loss(keep_layers(model, [i for i in kept if i != layer], share=True))
                bar.update(1)
            layer = min(tries, key=lambda i: (tries[i], i))
            kept.remove(layer)
            removed.append((layer, tries[layer]))
    return kept, removed


def _check_indices(count: int, indices: Sequence[int]) -> None:
    problems = []
    if not indices:
        problems.append("no layers: name at least one")
    if outside := [i for i in indices if not 0 <= i < count]:
        problems.append(f"layers {outside} do not exist: the model's are 0 to {count - 1}")
    if list(indices) != sorted(set(indices)):
        problems.append(f"layers {list(indices)} must be ascending, each named once")
    if problems:
        raise UserError("layers", problems)
