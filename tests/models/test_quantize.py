"""Models in 4 and 8 bits: saved, read back by plain lm-eval, trained on by adapters, and made plain again."""

import importlib.util
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from lm_eval.models.huggingface import HFLM

from kd_bench.distill.body import check_model as check_body
from kd_bench.distill.body import predicting_states
from kd_bench.distill.loss import Loss
from kd_bench.distill.train import train
from kd_bench.errors import UserError
from kd_bench.harness.prefix_lm import PrefixLM
from kd_bench.models.load import check_model, load_model, save_model
from kd_bench.models.lora import add_lora, merge_lora
from kd_bench.models.prune import keep_layers
from kd_bench.models.quantize import dequantize, memory_bytes, place, quantized
from kd_bench.models.size import bytes_on_disk, sizes, sizes_from_config
from kd_bench.packing import pack
from tests.distill.test_exactness import rows
from tests.distill.test_train import SETTINGS, Kill, KillAt
from tests.harness.test_prefix_lm import generating
from tests.models.test_lora import adapters, logits, trained_a_little
from tests.tiny import ARCHITECTURES, save_tiny, tiny_tokenizer


def _cannot() -> str:
    """Why no model can be quantized here; empty where one can."""
    try:
        import bitsandbytes as bnb

        weight = bnb.nn.Params4bit(torch.ones(64, 64), quant_type="nf4").to("cpu")
        bnb.functional.dequantize_4bit(weight.data, weight.quant_state)
    except Exception as error:  # whatever a missing library raises
        return f"{type(error).__name__}: {error}"
    return ""


CANNOT = _cannot()
pytestmark = pytest.mark.skipif(bool(CANNOT), reason=f"bitsandbytes does not quantize on this CPU: {CANNOT}")


@pytest.fixture
def folder(tmp_path):
    return save_tiny(tmp_path / "model", "llama", width=64)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_model_in_4_bits_is_frozen_small_and_near_the_plain_one(arch, tmp_path):
    folder = str(save_tiny(tmp_path, arch, width=64))
    plain, small = load_model(folder)[0], load_model(folder, quantize="nf4")[0]
    assert not small.training and small.dtype == torch.float32
    linear = [parameter for parameter in small.parameters() if parameter.dtype == torch.uint8]
    assert linear and not any(parameter.requires_grad for parameter in linear)
    assert all(parameter.quant_state.nested for parameter in linear)  # double quantization
    error = (logits(small) - logits(plain)).norm() / logits(plain).norm()
    assert 0.01 < error < 0.5  # random weights drawn wide, two layers of them
    assert sizes(small) == sizes(plain) == sizes_from_config(small.config)
    counted = {"parameters": sizes(plain)["parameters"] * 4, "buffers": sum(b.nbytes for b in plain.buffers())}
    assert memory_bytes(plain) == sum(counted.values())
    weights = sum(4 * parameter.quant_state.shape.numel() for parameter in linear)
    saved = memory_bytes(plain) - memory_bytes(small)
    assert 0.8 * weights < saved < 7 / 8 * weights  # an eighth of float32, and the scales


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_prefix_tree_changes_no_number_of_a_model_in_4_bits(arch, tmp_path):
    model, _ = load_model(str(save_tiny(tmp_path, arch, width=64)), quantize="nf4")
    check_body(model)
    sequences = [list(range(2, 40)) + [50 + i] * (i + 1) for i in range(3)]
    with torch.no_grad():
        tree = pack(sequences)
        packed = model.get_output_embeddings()(predicting_states(model, [tree], torch.cat(tree.paths)))
        alone = torch.cat([model(input_ids=torch.tensor([ids])).logits[0] for ids in sequences])
    # A CPU with bfloat16 instructions multiplies its 4-bit weights in bfloat16, whatever was asked.
    assert (packed - alone).abs().max() / alone.abs().max() < (2e-2 if _in_bfloat16() else 1e-5)


def _in_bfloat16() -> bool:
    from bitsandbytes.functional import has_avx512bf16

    return has_avx512bf16()


def test_the_prefix_cached_evaluator_takes_a_model_in_4_bits(folder):
    model, tokenizer = load_model(str(folder), quantize="nf4")
    prompts = [f"Passage: The lighthouse was built in 1874.\nQuestion: {q}\nAnswer:" for q in ("Who?", "When?", "Why?")]
    requests = generating(prompts, until=["\n"], max_gen_toks=8)
    plain = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1).generate_until(requests, True)
    cached = PrefixLM(pretrained=model, tokenizer=tokenizer, batch_size=2)
    assert cached.unshared is None
    assert cached.generate_until(requests, True) == plain
    assert len(set(plain)) > 1  # a model that answers everything alike would prove nothing


@pytest.mark.parametrize("arch", ["qwen2", "gpt2"])
def test_a_student_quantized_after_training_is_read_back_by_us_and_by_lm_eval(arch, tmp_path):
    source = save_tiny(tmp_path / "plain", arch, width=64)
    quantized(source, "nf4", tmp_path / "nf4")
    assert check_model(str(tmp_path / "nf4")) == []
    assert bytes_on_disk(tmp_path / "nf4") < 0.8 * bytes_on_disk(source)
    again, tokenizer = load_model(str(tmp_path / "nf4"))
    assert torch.equal(logits(again), logits(load_model(str(source), quantize="nf4")[0]))
    assert sizes(again) == sizes(load_model(str(source))[0]) == sizes_from_config(again.config)
    harness = HFLM(pretrained=str(tmp_path / "nf4"), device="cpu", dtype="float32")
    assert torch.equal(logits(harness.model), logits(again))
    assert harness.tok_encode("Ada Merrow") == tokenizer("Ada Merrow").input_ids
    with pytest.raises(UserError, match="already"):
        load_model(str(tmp_path / "nf4"), quantize="nf4")


def test_eight_bits_are_nearer_than_four_and_follow_a_prefix_tree_as_far_as_they_go(folder, tmp_path):
    plain = load_model(str(folder))[0]
    quantized(folder, "int8", tmp_path / "int8")
    eight, four = load_model(str(tmp_path / "int8"))[0], load_model(str(folder), quantize="nf4")[0]
    wanted = logits(plain)
    assert (logits(eight) - wanted).norm() < 0.5 * (logits(four) - wanted).norm()
    assert sizes(eight) == sizes(plain)
    assert memory_bytes(four) < memory_bytes(eight) < memory_bytes(plain)
    # Activations are rounded to 8 bits too, so a sum in another order can land on the next step.
    check_body(eight)
    back = dequantize(eight)
    assert back.dtype == torch.float32 and back.state_dict().keys() == plain.state_dict().keys()
    weight, was = (m.model.layers[0].mlp.up_proj.weight for m in (back, plain))
    assert (weight - was).abs().max() <= was.abs().max() / 127


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_adapters_merge_into_the_dequantized_base(arch, tmp_path):
    folder = str(save_tiny(tmp_path / "base", arch, width=64))
    plain = load_model(folder)[0]
    model = trained_a_little(add_lora(load_model(folder, quantize="nf4")[0], rank=4))
    base, adapted = logits(load_model(folder, quantize="nf4")[0]), logits(model)
    merged = merge_lora(model)
    assert (adapted - base).abs().max() > 0.1
    tolerance = 3e-2 if _in_bfloat16() else 1e-5
    assert (logits(merged) - adapted).abs().max() / adapted.abs().max() < tolerance
    assert merged.dtype == torch.float32 and merged.state_dict().keys() == plain.state_dict().keys()
    assert all(parameter.requires_grad for parameter in merged.parameters())
    save_model(merged, tiny_tokenizer(), tmp_path / "merged")
    assert torch.equal(logits(load_model(str(tmp_path / "merged"))[0]), logits(merged))


def qlora(source: Path, folder: Path, **kw):
    model, tokenizer = load_model(str(source), quantize="nf4")
    add_lora(model, rank=4, dropout=0.1, seed=2)
    train(model, tokenizer, Dataset.from_list(rows()), Loss(), folder, **{**SETTINGS, "epochs": 2, **kw})
    return model


def test_a_killed_qlora_ends_with_the_same_bits_and_float32_adapters(folder, tmp_path):
    whole = qlora(folder, tmp_path / "whole")
    with pytest.raises(Kill):
        qlora(folder, tmp_path / "killed", callbacks=[KillAt(3)])
    resumed = qlora(folder, tmp_path / "killed")
    state, wanted = adapters(resumed), adapters(whole)
    assert all(torch.equal(state[name], tensor) and tensor.dtype == torch.float32 for name, tensor in wanted.items())
    # More than bfloat16's eight bits are in use.
    assert any(not torch.equal(tensor, tensor.bfloat16().float()) for tensor in wanted.values())
    merged = merge_lora(resumed)
    assert (logits(merged) - logits(whole)).abs().max() / logits(whole).abs().max() < (3e-2 if _in_bfloat16() else 1e-5)


def test_layers_are_taken_out_of_plain_models_only(folder):
    model, _ = load_model(str(folder), quantize="nf4")
    with pytest.raises(UserError, match="load it dequantised"):
        keep_layers(model, [0])
    assert keep_layers(dequantize(model), [0]).config.num_hidden_layers == 1


def test_a_quantized_model_stays_where_it_is_placed(folder):
    model, _ = load_model(str(folder), quantize="nf4")
    assert place(model, "meta") is model and model.device.type != "meta"
    assert place(load_model(str(folder))[0], "meta").device.type == "meta"


def test_an_unknown_kind_is_refused(folder):
    with pytest.raises(UserError, match="'int4' is not one of nf4, int8"):
        load_model(str(folder), quantize="int4")


def test_without_bitsandbytes_it_is_said_what_to_install(folder, monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else there(name))
    with pytest.raises(UserError, match="pip install 'bitsandbytes"):
        load_model(str(folder), quantize="nf4")
