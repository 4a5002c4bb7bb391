"""Adapters on tiny models: what they leave alone, what merging gives, that a killed run goes on to the same bits."""

from pathlib import Path

import pytest
import torch
from datasets import Dataset
from safetensors import safe_open

from kd_bench.distill.body import check_model as check_body
from kd_bench.distill.loss import Loss
from kd_bench.distill.train import train
from kd_bench.errors import UserError
from kd_bench.models.load import save_model
from kd_bench.models.lora import add_lora, load_lora, lora_targets, merge_lora
from tests.distill.test_exactness import rows
from tests.distill.test_train import SETTINGS, Kill, KillAt
from tests.tiny import ARCHITECTURES, tiny_config, tiny_model, tiny_tokenizer

IDS = torch.arange(2, 26).view(2, 12)
LINEAR = {
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "qwen2": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "gpt_neox": ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"],
    "gpt2": ["c_attn", "c_proj", "c_fc"],
}


@torch.no_grad()
def logits(model):
    return model(IDS, attention_mask=torch.ones_like(IDS)).logits


def adapters(model) -> dict[str, torch.Tensor]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def trained_a_little(model):
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(5)
        for parameter in adapters(model).values():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return model


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_before_training_nothing_changes_but_what_can_be_trained(arch):
    model = tiny_model(arch)
    before, kind, prefix = logits(model), type(model), model.base_model_prefix
    assert add_lora(model, rank=4, dropout=0.5) is model
    assert torch.equal(logits(model), before)
    assert type(model) is kind and getattr(model, prefix) is model.base_model and not model.training
    assert adapters(model) and all("lora_" in name for name in adapters(model))
    check_body(model)


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("tied", [True, False])
def test_merged_weights_compute_what_the_adapted_model_did(arch, tied):
    before = tiny_model(arch, tie_word_embeddings=tied)
    model = trained_a_little(add_lora(tiny_model(arch, tie_word_embeddings=tied), rank=4, alpha=6))
    adapted = logits(model)
    merged = merge_lora(model)
    assert (adapted - logits(before)).abs().max() > 0.1
    assert torch.allclose(logits(merged), adapted, rtol=1e-5, atol=1e-5)
    assert merged.state_dict().keys() == before.state_dict().keys()
    assert all(parameter.requires_grad for parameter in merged.parameters())


def test_a_merged_model_is_saved_and_an_unmerged_one_is_not(tmp_path):
    model = trained_a_little(add_lora(tiny_model("llama"), rank=2))
    with pytest.raises(UserError, match="merge them first"):
        save_model(model, tiny_tokenizer(), tmp_path / "adapted")
    merged = merge_lora(model)
    save_model(merged, tiny_tokenizer(), tmp_path / "merged")
    again = type(merged).from_pretrained(tmp_path / "merged")
    assert torch.equal(logits(again), logits(merged))


def test_alpha_scales_the_update_and_is_twice_the_rank_if_not_given():
    def update(alpha):
        model = trained_a_little(add_lora(tiny_model("llama"), rank=4, alpha=alpha))
        plain = tiny_model("llama").model.layers[0].mlp.up_proj.weight
        return merge_lora(model).model.layers[0].mlp.up_proj.weight - plain

    assert torch.allclose(update(None), update(8), atol=1e-7)
    assert torch.allclose(update(24), 3 * update(8), atol=1e-5)


def test_adapters_come_from_the_seed_and_leave_the_global_one_alone():
    state = torch.random.get_rng_state()
    first, again, other = (adapters(add_lora(tiny_model("llama"), rank=4, seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first if "lora_A" in name)


def test_adapters_of_bfloat16_weights_are_float32_and_merge_into_bfloat16():
    model = trained_a_little(add_lora(tiny_model("llama").bfloat16(), rank=4))
    assert {parameter.dtype for parameter in adapters(model).values()} == {torch.float32}
    assert {parameter.dtype for parameter in merge_lora(model).parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_all_linear_modules_but_the_head_get_adapters_unless_named(arch):
    assert lora_targets(tiny_config(arch)) == LINEAR[arch]

    def adapted(targets):
        names = adapters(add_lora(tiny_model(arch), rank=2, targets=targets))
        return {name.split(".lora_")[0].rpartition(".")[2] for name in names}

    assert adapted(None) == set(LINEAR[arch])
    assert adapted(LINEAR[arch][1:2]) == set(LINEAR[arch][1:2])


def test_targets_that_the_architecture_lacks_are_named_with_those_it_has():
    model = tiny_model("gpt2")
    with pytest.raises(UserError) as caught:
        add_lora(model, rank=0, targets=["q_proj", "c_attn", "lm_head"])
    rank, targets = caught.value.problems
    assert "0 is not at least 1" in rank
    assert targets.endswith("GPT2LMHeadModel has no linear q_proj, lm_head; it has c_attn, c_proj, c_fc")
    with pytest.raises(UserError, match="none named"):
        add_lora(model, rank=2, targets=[])
    assert not any("lora" in name for name, _ in model.named_parameters())


def test_saved_adapters_are_read_back_and_others_refused(tmp_path):
    model = trained_a_little(add_lora(tiny_model("gpt2"), rank=4))
    model.save_pretrained(tmp_path)
    fresh = add_lora(tiny_model("gpt2"), rank=4, seed=9)
    load_lora(fresh, tmp_path)
    assert torch.equal(logits(fresh), logits(model))
    for other in ({"rank": 2}, {"rank": 4, "targets": ["c_attn"]}):
        with pytest.raises(RuntimeError, match="of other modules or another rank"):
            load_lora(add_lora(tiny_model("gpt2"), **other), tmp_path)


def fit(folder: Path, arch="llama", **kw):
    """A student of adapters, distilled; returns it adapted."""
    student = add_lora(tiny_model(arch, seed=3), rank=4, dropout=0.1, seed=2)
    settings = {**SETTINGS, "teacher": tiny_model(arch, layers=3, seed=1), **kw}
    train(student, tiny_tokenizer(), Dataset.from_list(rows()), Loss("forward_kl"), folder, **settings)
    return student


@pytest.mark.parametrize("arch", ["llama", "gpt2"])
def test_a_killed_run_of_adapters_ends_with_the_same_bits(tmp_path, arch):
    whole = fit(tmp_path / "whole", arch)
    with pytest.raises(Kill):
        fit(tmp_path / "killed", arch, callbacks=[KillAt(5)])
    [checkpoint] = (tmp_path / "killed" / "checkpoints").glob("checkpoint-*")
    with safe_open(checkpoint / "adapter_model.safetensors", "pt") as saved:
        assert all("lora_" in name for name in saved.keys())  # noqa: SIM118 (no mapping)
    assert not (checkpoint / "model.safetensors").exists()
    resumed = fit(tmp_path / "killed", arch)
    state, fresh = whole.state_dict(), add_lora(tiny_model(arch, seed=3), rank=4, seed=2).state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in resumed.state_dict().items())
    assert {name for name in state if not torch.equal(state[name], fresh[name])} == set(adapters(whole))


def test_gradient_checkpointing_trains_adapters_to_the_same_weights(tmp_path):
    plain = fit(tmp_path / "plain")
    checkpointed = fit(tmp_path / "checkpointed", gradient_checkpointing=True)
    for name, parameter in adapters(plain).items():
        assert torch.allclose(parameter, adapters(checkpointed)[name], rtol=1e-4, atol=1e-6)
