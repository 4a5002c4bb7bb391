"""Tiny random models and a tokenizer trained on the spot: what tests use instead of real weights. No network.

Weights are drawn wider than a fresh model's, and norms and biases are not left at 1 and 0, so that an attention mask
that is a little wrong, or a bias that was not copied, shows in the logits.
"""

from functools import cache
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
)
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

ARCHITECTURES = ("llama", "qwen2", "gpt_neox", "gpt2")
EOS, PAD = "<|endoftext|>", "<|pad|>"
EOS_ID, PAD_ID = 0, 1

TEXT = [
    "Passage: The lighthouse of Northwick was built in 1874 by the engineer Ada Merrow, who had studied",
    "bridges before.",
    "Question: Who built the lighthouse, and when was it finished? Answer: Ada Merrow, in the spring of",
    "the year 1876.",
    "The harbour town had about twelve thousand people; most of them worked in the yards where the ships",
    "were repaired.",
    "What is the name of the river that flows through the city? The passage does not say, so the",
    "question is unanswerable.",
    "Captain Thomas Wend sailed from the island on the third of March and reached the northern coast",
    "after forty days.",
    "It has been said that the first library of the country was founded there, although no record of it has survived.",
    "Passage: Der Leuchtturm von Nordwyk wurde 1874 von der Ingenieurin Ada Merrow gebaut, die zuvor Brücken entwarf.",
    "Frage: Wer hat den Leuchtturm gebaut, und wann wurde er fertiggestellt? Antwort: Ada Merrow, im Frühjahr 1876.",
    "Die Hafenstadt hatte etwa zwölftausend Einwohner; die meisten arbeiteten in den Werften, wo man",
    "Schiffe ausbesserte.",
    "Wie heißt der Fluss, der durch die Stadt fließt? Das steht nicht im Text, also lässt sich die Frage",
    "nicht beantworten.",
    "Kapitän Thomas Wend segelte am dritten März von der Insel los und erreichte nach vierzig Tagen die",
    "nördliche Küste.",
    "Es heißt, dort sei die erste Bibliothek des Landes gegründet worden, doch ist keine Urkunde darüber erhalten.",
]


def tiny_config(arch: str, *, vocab_size: int = 512, layers: int = 2, width: int = 32, positions: int = 2048, **kw):
    """The config of a tiny model: 4 heads (2 key-value heads where the architecture has them), MLP twice the width.

    `kw` are config fields by the architecture's own names (tie_word_embeddings, layer_types, ...) and win over these.
    """
    ids = {"vocab_size": vocab_size, "bos_token_id": EOS_ID, "eos_token_id": EOS_ID, "pad_token_id": PAD_ID}
    if arch == "gpt2":
        fields = {"n_embd": width, "n_layer": layers, "n_head": 4, "n_inner": 2 * width, "n_positions": positions}
        fields |= {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        return GPT2Config(**{**ids, **fields, **kw})
    fields = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": 4}
    fields |= {"intermediate_size": 2 * width, "max_position_embeddings": positions}
    if arch == "gpt_neox":
        return GPTNeoXConfig(**{**ids, **fields, **kw})
    configs = {"llama": LlamaConfig, "qwen2": Qwen2Config}
    return configs[arch](**{**ids, **fields, "num_key_value_heads": 2, **kw})


def tiny_model(
    arch: str,
    *,
    vocab_size: int = 512,
    layers: int = 2,
    width: int = 32,
    seed: int = 0,
    attn_implementation: str = "sdpa",
    **kw,
) -> PreTrainedModel:
    """A random causal language model: float32, eval mode, no dropout. arch: one of ARCHITECTURES.

    The same arguments give the same weights, and the global random state is left as it was.
    """
    config = tiny_config(arch, vocab_size=vocab_size, layers=layers, width=width, **kw)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, attn_implementation=attn_implementation)
        for name, parameter in model.named_parameters():
            one = 1.0 if parameter.dim() == 1 and name.endswith("weight") else 0.0
            torch.nn.init.normal_(parameter, mean=one, std=0.1)
    return model.float().eval()


@cache
def _trained(vocab_size: int) -> str:
    tokenizer = Tokenizer(models.BPE())
    # Qwen2's normalizer and splitting, since a Qwen2 folder is read with those whatever its tokenizer.json says.
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[EOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer.to_str()


def tiny_tokenizer(vocab_size: int = 512) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer (any NFC text round-trips): end-of-sequence id 0, pad id 1; adds no special token.

    vocab_size: 258 (bytes only) up to about 780, where the training text has no more merges to give.
    """
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained(vocab_size)), eos_token=EOS, pad_token=PAD, model_max_length=2048
    )


def save_tiny(folder: str | Path, arch: str, *, tokenizer: PreTrainedTokenizerFast | None = None, **kw) -> Path:
    """Write a tiny model and tokenizer that `from_pretrained` and lm-eval's `hf` model can load; returns the folder."""
    folder = Path(folder)
    model = tiny_model(arch, **kw)
    model.generation_config = GenerationConfig(bos_token_id=EOS_ID, eos_token_id=EOS_ID, pad_token_id=PAD_ID)
    model.save_pretrained(folder)
    (tokenizer or tiny_tokenizer(model.config.vocab_size)).save_pretrained(folder)
    return folder
