"""Published model shapes by name, so that what a step costs is measured without the weights.

Numbers are those of the models' own `config.json` on the hub: the Qwen2.5 base models (arXiv 2412.15115), Pythia
(arXiv 2304.01373), SmolLM2 (arXiv 2502.02737). `tiny` and `tiny-wide` are for trying programs out; the latter has
vocabulary rows that `tiny` has not, as Qwen2.5-7B has beside its students.
"""

from transformers import GPTNeoXConfig, LlamaConfig, PretrainedConfig, Qwen2Config


def _qwen(width: int, layers: int, heads: int, kv_heads: int, mlp: int, context: int, **own) -> Qwen2Config:
    return Qwen2Config(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv_heads,
        intermediate_size=mlp, max_position_embeddings=context, rope_theta=1e6,
        **{"vocab_size": 151936, "tie_word_embeddings": True, **own},
    )  # fmt: skip


def _pythia(width: int, layers: int, heads: int) -> GPTNeoXConfig:
    return GPTNeoXConfig(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=4 * width,
        vocab_size=50304, max_position_embeddings=2048, tie_word_embeddings=False,
    )  # fmt: skip


def _llama(width: int, layers: int, heads: int, kv_heads: int, mlp: int, **own) -> LlamaConfig:
    return LlamaConfig(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv_heads,
        intermediate_size=mlp, max_position_embeddings=8192, tie_word_embeddings=True, rms_norm_eps=1e-5,
        **{"vocab_size": 49152, "rope_theta": 1e5, **own},
    )  # fmt: skip


NAMED: dict[str, PretrainedConfig] = {
    "qwen2.5-7b": _qwen(3584, 28, 28, 4, 18944, 131072, vocab_size=152064, tie_word_embeddings=False),
    "qwen2.5-3b": _qwen(2048, 36, 16, 2, 11008, 32768),
    "qwen2.5-1.5b": _qwen(1536, 28, 12, 2, 8960, 131072),
    "qwen2.5-0.5b": _qwen(896, 24, 14, 2, 4864, 32768),
    "pythia-2.8b": _pythia(2560, 32, 32),
    "pythia-1.4b": _pythia(2048, 24, 16),
    "pythia-1b": _pythia(2048, 16, 8),
    "pythia-410m": _pythia(1024, 24, 16),
    "pythia-160m": _pythia(768, 12, 12),
    "pythia-70m": _pythia(512, 6, 8),
    "smollm2-1.7b": _llama(2048, 24, 32, 32, 8192, rope_theta=1.3e5),
    "smollm2-360m": _llama(960, 32, 15, 5, 2560),
    "smollm2-135m": _llama(576, 30, 9, 3, 1536),
    "tiny": _llama(32, 3, 4, 2, 64),
    "tiny-wide": _llama(48, 4, 4, 2, 96, vocab_size=49280),
}
