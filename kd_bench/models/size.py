"""How big a model is: parameters, with and without what grows with the vocabulary, and bytes of weights on disk."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def sizes(model: "PreTrainedModel") -> dict[str, int]:
    """{"parameters", "parameters_without_embeddings", "layers"}; a tied weight counts once.

    Without embeddings: less the input embedding, learned position embeddings (GPT-2's) and an output layer of its own,
    so that students are compared by the part that pruning can shrink. A weight packed to 4 bits counts unpacked.
    """
    embeddings = [module for module in model.modules() if isinstance(module, torch.nn.Embedding)]
    if (head := model.get_output_embeddings()) is not None:
        embeddings.append(head)
    left_out = {id(parameter) for module in embeddings for parameter in module.parameters()}
    every = list(model.parameters())
    return {
        "parameters": sum(map(_count, every)),
        "parameters_without_embeddings": sum(_count(parameter) for parameter in every if id(parameter) not in left_out),
        "layers": model.config.num_hidden_layers,
    }


def sizes_from_config(config: "PretrainedConfig", *, trust_remote_code: bool = False) -> dict[str, int]:
    """`sizes` of the model that `config` describes, without making its weights (for plans)."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return sizes(AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code))


def bytes_on_disk(path: str | Path) -> int:
    """Bytes of the weight files (safetensors, GGUF) in a model's folder, or of one such file. Not of its subfolders."""
    path = Path(path)
    files = [path] if path.is_file() else [*path.glob("*.safetensors"), *path.glob("*.gguf")]
    if not files:
        raise FileNotFoundError(f"no weights in {path}")
    return sum(file.stat().st_size for file in files)


def _count(parameter: torch.Tensor) -> int:
    quantized = getattr(parameter, "quant_state", None)  # bitsandbytes: two 4-bit weights to a stored byte
    return quantized.shape.numel() if quantized is not None else parameter.numel()
