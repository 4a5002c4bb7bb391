"""Weights in 4 bits (NF4, arXiv 2305.14314) or 8 (LLM.int8(), arXiv 2208.07339), by bitsandbytes."""

import importlib.util
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers.pytorch_utils import Conv1D

from kd_bench.errors import UserError
from kd_bench.models.rebuild import rebuild, without_quantization

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig, PreTrainedModel

KINDS = ("nf4", "int8")
# int8 warns at every layer of every step that activations become float16, which is how it is made.
logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)

MISSING = "weights in 4 or 8 bits need the package bitsandbytes: pip install 'bitsandbytes>=0.48'"


def quantization_config(kind: str, dtype: torch.dtype) -> "BitsAndBytesConfig":
    """What `from_pretrained` is told. kind: one of KINDS; dtype: what 4-bit weights are multiplied in.

    nf4 quantizes its blocks' scales as well (double quantization, arXiv 2305.14314, section 3). int8 multiplies in
    8 bits all but the columns that hold an activation above 6 anywhere in the batch, so that a token's logits depend a
    little on what else is in it. Both leave the head as it is. Raises UserError for another kind, and without
    bitsandbytes.
    """
    from transformers import BitsAndBytesConfig

    if kind not in KINDS:
        raise UserError("quantize", f"{kind!r} is not one of {', '.join(KINDS)}")
    if not importlib.util.find_spec("bitsandbytes"):
        raise UserError(f"quantize: {kind}", MISSING)
    if kind == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )


def is_quantized(model: "PreTrainedModel") -> bool:
    """Whether `model` holds weights of bitsandbytes."""
    return getattr(model, "quantization_method", None) == "bitsandbytes"


def quantized(model_folder: str | Path, kind: str, out_folder: str | Path) -> None:
    """Quantizes the model in `model_folder` after its training and saves it, with its tokenizer, to `out_folder`.

    `load_model` and `lm_eval --model hf --model_args pretrained=FOLDER` read it as they read any. Embeddings, norms
    and head stay in the type that they are stored in. Raises UserError as `load_model` does.
    """
    from kd_bench.models.load import load_model, save_model

    save_model(*load_model(str(model_folder), dtype="auto", quantize=kind), out_folder)


def place(model: "PreTrainedModel", device: str) -> "PreTrainedModel":
    """`model` on `device`; one of bitsandbytes stays where it was quantized, which is the accelerator if there is one.

    On some CPUs it rewrites 4-bit weights into a layout of their own, which would not survive the move.
    """
    return model if is_quantized(model) else model.to(device)


def memory_bytes(model: "PreTrainedModel") -> int:
    """Bytes of `model`'s parameters and buffers as loaded, quantization's scales too; a tied weight counts once."""
    state = model.state_dict()  # bitsandbytes' scales are in it and are no parameters
    return sum({t.data_ptr(): t.nbytes for t in (*state.values(), *model.buffers())}.values())


def dequantize(model: "PreTrainedModel") -> "PreTrainedModel":
    """A plain model of the same weights: float32 if `model` was quantized, else in its own type.

    It shares storage with `model`, which is used up. Raises nothing for a model that was never quantized.
    """
    was_quantized = is_quantized(model)
    for name, module in list(model.named_modules()):
        if (plain := dequantized_layer(module)) is not module:
            model.set_submodule(name, plain)
    plain = rebuild(model, without_quantization(model.config), share=True)
    return plain.float() if was_quantized else plain


@torch.no_grad()
def dequantized_layer(module: torch.nn.Module) -> torch.nn.Module:
    """A plain linear layer with the weights, in float32, that a 4- or 8-bit one stands for; any other module itself.

    GPT-2's Conv1D, which is quantized as [out, in], comes back as a Conv1D of [in, out].
    """
    if not hasattr(module, "source_cls"):  # transformers' note of what it replaced
        return module
    from bitsandbytes.functional import dequantize_4bit, int8_vectorwise_dequant

    state = module.state_dict()  # turns a CPU's own layout of 4-bit weights back
    quantized_weight = module.weight
    if (quant_state := getattr(quantized_weight, "quant_state", None)) is not None:
        weight = dequantize_4bit(quantized_weight.data, quant_state)
    else:
        weight = int8_vectorwise_dequant(quantized_weight.data, state["SCB"])
    weight = weight.float()
    with torch.device("meta"):
        if module.source_cls is Conv1D:
            plain = Conv1D(module.out_features, module.in_features)
            weight = weight.T.contiguous()
        else:
            plain = torch.nn.Linear(module.in_features, module.out_features, module.bias is not None)
    plain.weight = torch.nn.Parameter(weight)
    if module.bias is not None:
        plain.bias = torch.nn.Parameter(module.bias.detach().float())
    return plain
