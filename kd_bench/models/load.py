"""Load a model and its tokenizer from any source, and save them as a folder that plain `lm_eval` reads."""

import importlib.util
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from kd_bench.errors import UserError
from kd_bench.models.source import GGUF_MISSING, Source, check_model, locate, model_fingerprint, unchecked

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "check_model",
    "device",
    "load_model",
    "locate",
    "model_config",
    "model_fingerprint",
    "save_model",
    "unchecked",
]

DTYPES = ("float32", "bfloat16", "float16", "auto")
PROBE = "Straße nach Köln: “who built it?”  The naïve answer\n\twas 1874, 日本 🙂.\n\nAntwort: unanswerable"


def device() -> str:
    """Where models are run: the accelerator that torch finds, else the CPU."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def load_model(
    source: str,
    *,
    dtype: str = "float32",
    attn_implementation: str = "sdpa",
    trust_remote_code: bool = False,
    revision: str | None = None,
    quantize: str | None = None,
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """A causal language model in eval mode, and its tokenizer, whose pad token is set.

    source: a hub id, a folder, a .gguf file or pip:PACKAGE/FILE.gguf. A GGUF is dequantised to `dtype`.
    quantize: "nf4" or "int8" keeps the weights of its linear layers in so many bits, frozen: a teacher, or the base of
    a QLoRA (`lora.add_lora`); `dtype` is then what is computed in and what the rest is held in. A GGUF goes through a
    temporary folder on the way. The model is on the CPU; with weights of bitsandbytes, also where the folder was saved
    so, it is on the accelerator if there is one (`quantize.place`).
    Code out of the model's own folder runs only with trust_remote_code; weights are safetensors or GGUF, never pickles.
    Raises UserError with everything that is wrong with `source`.
    """
    if dtype not in DTYPES:
        raise UserError(source, f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")
    if problems := check_model(source, trust_remote_code=trust_remote_code):
        raise UserError(source, problems)

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from kd_bench.models.rebuild import rebuild, without_quantization

    found = locate(source)
    if quantize and found.kind == "gguf":
        with tempfile.TemporaryDirectory() as folder:
            save_model(*load_model(source, dtype=dtype), folder)
            return load_model(folder, dtype=dtype, attn_implementation=attn_implementation, quantize=quantize)
    where, options = _where(found, trust_remote_code, revision)
    weights = {"dtype": dtype if dtype == "auto" else getattr(torch, dtype), "attn_implementation": attn_implementation}
    if found.kind == "gguf":
        weights["quantization_config"] = _dequantise()
        weights["config"] = model_config(source)
    else:
        weights["use_safetensors"] = True
    if quantize:
        weights["quantization_config"] = _quantized(source, quantize, dtype, options)
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, **options)
        model, info = AutoModelForCausalLM.from_pretrained(where, **options, **weights, output_loading_info=True)
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        raise UserError(source, _reason(found, error)) from error
    # transformers only warns of a weight that the files do not have, and leaves it random.
    if missing := sorted(info["missing_keys"]):
        raise UserError(source, f"its files lack {len(missing)} of the model's weights, {missing[0]} for one")
    if found.kind == "gguf":
        # A model that came out of a GGUF refuses to be saved; the same weights in a new one do not.
        model = rebuild(model, without_quantization(model.config))
    if tokenizer.eos_token is None:
        raise UserError(source, "its tokenizer has no end-of-sequence token, so nothing would end a generated answer")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if model.generation_config is not None and model.generation_config.pad_token_id is None:
        model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model.eval(), tokenizer


def model_config(
    source: str, *, trust_remote_code: bool = False, revision: str | None = None
) -> "PretrainedConfig | None":
    """The model's config without its weights, or None when the hub cannot be reached.

    Raises UserError where the source is wrong: no such folder, package or hub model.
    """
    from transformers import AutoConfig

    from kd_bench.models.rebuild import without_quantization

    found = locate(source)
    if found.kind == "gguf" and not importlib.util.find_spec("gguf"):
        raise UserError(source, GGUF_MISSING)
    where, options = _where(found, trust_remote_code, revision)
    try:
        if found.kind == "gguf":
            return without_quantization(_gguf_config(found))
        return AutoConfig.from_pretrained(where, **options)
    except (OSError, ValueError, ImportError) as error:
        if found.kind == "hub" and isinstance(error, OSError) and not _refused(error):
            return None
        raise UserError(source, _reason(found, error)) from error


def save_model(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", folder: str | Path) -> None:
    """Write safetensors, config, generation config and tokenizer: `lm_eval --model_args pretrained=FOLDER` reads it.

    The tokenizer is read back and must give the same ids: transformers rebuilds some tokenizers by the model's
    architecture (Qwen2's, for one) whatever their files say, and a model would then be fed other ids than it learned.
    A model of bitsandbytes is written in its bits. Raises UserError for models quantized otherwise and for adapters
    that were not merged, and where the tokenizer does not survive.
    """
    from transformers import AutoTokenizer

    from kd_bench.models.quantize import is_quantized

    marked = getattr(model, "hf_quantizer", None) is not None or hasattr(model.config, "quantization_config")
    if marked and not is_quantized(model):
        raise UserError(str(folder), "a quantized model cannot be saved as a plain folder: load it dequantised")
    if getattr(model, "_hf_peft_config_loaded", False):
        raise UserError(str(folder), "transformers would save the adapters alone: merge them first (merge_lora)")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    again = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if again(PROBE).input_ids != tokenizer(PROBE).input_ids:
        kinds = f"{type(tokenizer).__name__} is read back as {type(again).__name__}"
        raise UserError(str(folder), f"the tokenizer does not survive being saved: {kinds}, which gives other ids")


def _where(found: Source, trust_remote_code: bool, revision: str | None) -> tuple[str, dict]:
    options = {"trust_remote_code": trust_remote_code}
    if found.kind == "hub":
        return found.name, options | ({"revision": revision} if revision else {})
    return str(found.folder), options | ({"gguf_file": found.gguf_file} if found.gguf_file else {})


@cache
def _gguf_config(found: Source) -> "PretrainedConfig":
    from transformers import AutoConfig

    # Reading a GGUF's header takes seconds, and a plan asks for it before the model is loaded.
    return AutoConfig.from_pretrained(str(found.folder), gguf_file=found.gguf_file)


def _quantized(source: str, kind: str, dtype: str, options: dict) -> "BitsAndBytesConfig":
    import torch

    from kd_bench.models.quantize import quantization_config

    config = model_config(source, **options)
    if before := getattr(config, "quantization_config", None):
        method = before.get("quant_method") if isinstance(before, dict) else before.quant_method
        raise UserError(source, f"quantize: {kind}, but its weights are quantized already ({method}): leave it out")
    stored = getattr(config, "dtype", None) or torch.float32
    return quantization_config(kind, stored if dtype == "auto" else getattr(torch, dtype))


def _dequantise():
    # Newer transformers keeps some architectures' GGUF weights packed unless told otherwise; older ones never do.
    import transformers

    config = getattr(transformers, "GgufConfig", None)
    return config(dequantize=True) if config else None


def _refused(error: BaseException) -> bool:
    """Whether the hub answered that it has no such model (or not for us), rather than not answering."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    while error is not None:
        if isinstance(error, GatedRepoError | RepositoryNotFoundError | RevisionNotFoundError):
            return True
        error = error.__cause__
    return False


def _reason(found: Source, error: Exception) -> str:
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if found.kind == "hub" and isinstance(error, OSError):
        return f"no such folder, and the hub did not give it as a model with safetensors weights. transformers: {first}"
    if "trust_remote_code" in str(error):
        return "it runs code of its own: read that code, then set trust_remote_code: true"
    if "bitsandbytes" in str(error):
        from kd_bench.models.quantize import MISSING

        return f"{MISSING}. transformers: {first}"
    return f"transformers cannot load it: {first}"
