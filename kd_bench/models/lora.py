"""Low-rank adapters (LoRA, arXiv 2106.09685): put into a model in place, trained there, merged into its weights.

On a model loaded with `quantize="nf4"` the same is QLoRA (arXiv 2305.14314).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers.pytorch_utils import Conv1D

from kd_bench.errors import UserError
from kd_bench.models.quantize import dequantize, dequantized_layer

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

ADAPTER = "default"  # transformers' and peft's name for the only one


def add_lora(
    model: "PreTrainedModel",
    *,
    rank: int,
    alpha: float | None = None,
    targets: Sequence[str] | None = None,
    dropout: float = 0.0,
    seed: int = 0,
) -> "PreTrainedModel":
    """`model` with adapters, in place: its class and names stay, all but the adapters is frozen. `merge_lora` ends it.

    A linear module's output becomes W x + (alpha / rank) B A x (arXiv 2106.09685, eq. 3), A of [rank, in] drawn from
    `seed`, the global random state left alone, and B of [out, rank] zero, so that nothing changes before training.
    alpha: None is twice the rank. targets: names of linear modules (q_proj, ...); None is all but the head. dropout: on
    the adapters' input. Adapters are float32 whatever the weights are. Raises UserError for a rank below 1 and for
    targets that the architecture does not have.
    """
    from peft import LoraConfig

    names = _names(model)
    problems = [] if rank >= 1 else [f"rank: {rank} is not at least 1; 8 to 64 are usual"]
    if missing := [name for name in targets or () if name not in names]:
        problems.append(
            f"targets: {type(model).__name__} has no linear {', '.join(missing)}; it has {', '.join(names)}"
        )
    if targets is not None and not targets:
        problems.append(f"targets: none named; leave them out for all, or choose among {', '.join(names)}")
    if problems:
        raise UserError("lora", problems)
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank if alpha is None else alpha,
        lora_dropout=dropout,
        target_modules=list(targets or names),
        # GPT-2 keeps its weights as [in, out]; once quantized they are [out, in] as everybody's.
        fan_in_fan_out=any(type(module) is Conv1D for module in model.modules()),
    )
    training = model.training
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        # transformers' own way in, not peft's: it tells the trainer that a quantized model has something to train, and
        # gradient checkpointing that the embeddings are frozen.
        model.add_adapter(config, ADAPTER)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model.train(training)


def load_lora(model: "PreTrainedModel", folder: str | Path) -> None:
    """Reads into `model`'s adapters those that `save_pretrained` wrote to `folder`, as in a trainer's checkpoint.

    Raises RuntimeError where the file's adapters are not those of the model.
    """
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    saved = load_file(Path(folder) / "adapter_model.safetensors")
    saved = {name.removeprefix("base_model.model."): tensor for name, tensor in saved.items()}
    wanted = model.get_adapter_state_dict(ADAPTER)
    if {name: t.shape for name, t in saved.items()} != {name: t.shape for name, t in wanted.items()}:
        raise RuntimeError(f"{folder}: the adapters there are of other modules or another rank than the model's")
    set_peft_model_state_dict(model, saved, ADAPTER)


@torch.no_grad()
def merge_lora(model: "PreTrainedModel") -> "PreTrainedModel":
    """The plain model with W + (alpha / rank) B A for every W that has an adapter; `model` is used up by it.

    Its state has the names it had before `add_lora`, and all of it can be trained. Out of a quantized base (QLoRA)
    comes a float32 model: the base is dequantized and the adapters are added to that. It computes what the adapted
    model computed up to rounding, is no longer in 4 bits, and quantizing it again gives other weights than the base's,
    since the sum does not lie on the old grid.
    """
    for name, layer in list(_adapted(model)):
        base = dequantized_layer(layer.get_base_layer())
        update = layer.lora_B[ADAPTER].weight @ layer.lora_A[ADAPTER].weight * layer.scaling[ADAPTER]
        update = update.T if isinstance(base, Conv1D) else update
        base.weight.data = (base.weight + update).to(base.weight.dtype)
        model.set_submodule(name, base)
    return dequantize(model)


def lora_targets(config: "PretrainedConfig", *, trust_remote_code: bool = False) -> list[str]:
    """What `targets` of `add_lora` can name in the model that `config` describes, without making its weights."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return _names(AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code))


def _names(model: "PreTrainedModel") -> list[str]:
    """The last parts of the names of all linear modules but the head, in the order of the first layer."""
    head = model.get_output_embeddings()
    linear = (name for name, m in model.named_modules() if isinstance(m, torch.nn.Linear | Conv1D) and m is not head)
    return list(dict.fromkeys(name.rpartition(".")[2] for name in linear))


def _adapted(model: "PreTrainedModel") -> Iterator[tuple[str, torch.nn.Module]]:
    from peft.tuners.lora import LoraLayer

    return ((name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer))
