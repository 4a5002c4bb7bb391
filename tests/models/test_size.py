import pytest

from kd_bench.models.prune import pruned_config
from kd_bench.models.size import bytes_on_disk, sizes, sizes_from_config
from tests.tiny import ARCHITECTURES, save_tiny, tiny_model

V, W = 300, 32


@pytest.mark.parametrize("tied", [True, False])
def test_llama_is_counted_by_hand(tied):
    attention = 2 * W * W + 2 * W * (W // 2)  # 2 of 4 heads hold keys and values
    layer = attention + 3 * W * 2 * W + 2 * W
    body = 2 * layer + W
    counted = sizes(tiny_model("llama", vocab_size=V, tie_word_embeddings=tied))
    assert counted == {
        "parameters": body + V * W * (1 if tied else 2),
        "parameters_without_embeddings": body,
        "layers": 2,
    }


def test_learned_positions_are_embeddings():
    few, many = (sizes(tiny_model("gpt2", n_positions=n)) for n in (8, 64))
    assert many["parameters"] - few["parameters"] == 56 * W
    assert many["parameters_without_embeddings"] == few["parameters_without_embeddings"]


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("tied", [True, False])
def test_the_vocabulary_does_not_count_without_embeddings(arch, tied):
    small, large = (sizes(tiny_model(arch, vocab_size=n, tie_word_embeddings=tied)) for n in (300, 400))
    assert small["parameters_without_embeddings"] == large["parameters_without_embeddings"]
    assert large["parameters"] - small["parameters"] == 100 * W * (1 if tied else 2)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_config_tells_the_size_before_there_is_a_model(arch):
    model = tiny_model(arch, layers=4)
    assert sizes_from_config(model.config) == sizes(model)
    assert sizes_from_config(pruned_config(model.config, [0, 1, 3])) == sizes(tiny_model(arch, layers=3))


def test_bytes_on_disk_are_those_of_the_weights(tmp_path):
    folder = save_tiny(tmp_path / "model", "llama")
    (folder / "checkpoint-1").mkdir()
    (folder / "checkpoint-1" / "model.safetensors").write_bytes(b"x" * 100)
    weights = folder / "model.safetensors"
    assert bytes_on_disk(folder) == bytes_on_disk(weights) == weights.stat().st_size
    assert weights.stat().st_size > 4 * sizes(tiny_model("llama"))["parameters"]
    with pytest.raises(FileNotFoundError):
        bytes_on_disk(tmp_path)
