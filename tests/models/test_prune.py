import math
from itertools import pairwise

import pytest
import torch
from transformers import AutoModelForCausalLM

from kd_bench.errors import UserError
from kd_bench.models.prune import (
    block_influence,
    choose_layers,
    decoder_layers,
    greedy_layers,
    keep_layers,
    pruned_config,
)
from kd_bench.models.size import sizes
from tests.tiny import ARCHITECTURES, PAD_ID, tiny_model

IDS = torch.randint(2, 512, (2, 11), generator=torch.Generator().manual_seed(0))


def logits(model, ids=IDS, **kw):
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False, **kw).logits


def removed_by_hand(model, indices):
    """The reference: drop modules of the model itself. Right without a cache, where a layer's number plays no part."""
    name, layers = decoder_layers(model)
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, torch.nn.ModuleList([layers[i] for i in indices]))
    model.config.num_hidden_layers = len(indices)
    return model


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("attn_implementation", ["sdpa", "eager"])
def test_keeping_every_layer_changes_nothing(arch, attn_implementation):
    model = tiny_model(arch, layers=4, attn_implementation=attn_implementation)
    same = keep_layers(model, range(4))
    assert torch.equal(logits(same), logits(model))
    assert same.config._attn_implementation == attn_implementation


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_pruned_is_the_model_without_those_layers(arch):
    model = tiny_model(arch, layers=5)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pruned = keep_layers(model, [0, 2, 4])
    assert torch.equal(logits(pruned), logits(removed_by_hand(tiny_model(arch, layers=5), [0, 2, 4])))
    assert not torch.allclose(logits(pruned), logits(model))
    assert sizes(pruned)["layers"] == 3

    with torch.no_grad():
        for parameter in pruned.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert model.config.num_hidden_layers == 5


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_pruned_model_generates_with_its_cache_what_it_does_without(arch):
    pruned = keep_layers(tiny_model(arch, layers=4), [1, 3])
    mask = torch.ones_like(IDS)
    with torch.no_grad():
        first = pruned(input_ids=IDS[:, :6], use_cache=True)
        rest = pruned(input_ids=IDS[:, 6:], past_key_values=first.past_key_values)
    torch.testing.assert_close(torch.cat([first.logits, rest.logits], 1), logits(pruned), atol=1e-5, rtol=1e-5)
    options = {"attention_mask": mask, "max_new_tokens": 12, "do_sample": False, "pad_token_id": PAD_ID}
    assert torch.equal(
        pruned.generate(IDS, use_cache=True, **options), pruned.generate(IDS, use_cache=False, **options)
    )


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("tied", [True, False])
def test_a_pruned_model_is_saved_and_stays_tied(arch, tied, tmp_path):
    pruned = keep_layers(tiny_model(arch, layers=3, tie_word_embeddings=tied), [0, 2])
    assert (pruned.get_input_embeddings().weight is pruned.get_output_embeddings().weight) == tied
    pruned.save_pretrained(tmp_path)
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path)), logits(pruned))


def test_a_pruned_model_keeps_dtypes_training_mode_and_the_random_state():
    model = tiny_model("llama", layers=3).train()
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16()
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    pruned = keep_layers(model, [0, 2])
    assert torch.equal(torch.rand(1), expected)
    assert {parameter.dtype for parameter in pruned.parameters()} == {torch.bfloat16}
    assert pruned.model.rotary_emb.inv_freq.dtype == torch.float32  # rounded, positions would drift
    assert pruned.training and all(parameter.requires_grad for parameter in pruned.parameters())


def test_per_layer_lists_are_cut_with_the_layers():
    types = ["full_attention", "sliding_attention", "full_attention", "sliding_attention"]
    model = tiny_model("qwen2", layers=4, layer_types=types, use_sliding_window=True, sliding_window=4)
    pruned = keep_layers(model, [0, 1, 3])
    assert pruned.config.layer_types == ["full_attention", "sliding_attention", "sliding_attention"]
    assert model.config.layer_types == types
    by_hand = removed_by_hand(
        tiny_model("qwen2", layers=4, layer_types=types, use_sliding_window=True, sliding_window=4), [0, 1, 3]
    )
    by_hand.config.layer_types = pruned.config.layer_types
    assert torch.equal(logits(pruned), logits(by_hand))


def test_an_id_list_as_long_as_the_model_is_deep_is_not_a_per_layer_list():
    config = pruned_config(tiny_model("llama", layers=3, eos_token_id=[0, 5, 7]).config, [0, 2])
    assert config.eos_token_id == [0, 5, 7] and config.num_hidden_layers == 2


@pytest.mark.parametrize(
    "indices, message", [([], "at least one"), ([0, 4], r"\[4\] do not exist"), ([2, 1], "ascending"), ([1, 1], "once")]
)
def test_wrong_layers_are_refused(indices, message):
    with pytest.raises(UserError, match=message):
        keep_layers(tiny_model("llama", layers=4), indices)


def test_layers_whose_scale_hangs_on_their_place_are_not_taken_out():
    model = tiny_model("gpt2", layers=3, scale_attn_by_inverse_layer_idx=True)
    assert torch.equal(logits(keep_layers(model, range(3))), logits(model))
    with pytest.raises(UserError, match="scale_attn_by_inverse_layer_idx"):
        keep_layers(model, [0, 2])


def without_effect(model, index):
    layer = decoder_layers(model)[1][index]
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if any(part in name for part in ("o_proj", "down_proj", "c_proj", "attention.dense", "dense_4h_to_h")):
                parameter.zero_()
    return model


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_layer_that_does_nothing_has_no_influence(arch):
    model = without_effect(tiny_model(arch, layers=4), 3)  # the last: the final norm must not be counted to it
    influence = block_influence(model, [{"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}])
    assert influence[3] == pytest.approx(0, abs=1e-6)
    assert min(influence[:3]) > 1e-3


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_influence_is_its_formula(arch):
    model = tiny_model(arch, layers=3)
    mask = torch.ones_like(IDS)
    states = model(input_ids=IDS, output_hidden_states=True).hidden_states[:-1]  # the last one is normed
    cosines = [torch.nn.functional.cosine_similarity(a, b, dim=-1).mean().item() for a, b in pairwise(states)]
    influence = block_influence(model, [{"input_ids": IDS, "attention_mask": mask}])
    assert influence[:2] == pytest.approx([1 - cosine for cosine in cosines], abs=1e-6)


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_and_batching_do_not_change_influence(arch, side):
    model = tiny_model(arch, layers=3).train()
    alone = [{"input_ids": IDS[:1, :5], "attention_mask": torch.ones(1, 5)}, {"input_ids": IDS[1:]}]
    padded, mask = IDS.clone(), torch.ones_like(IDS)
    blank = slice(0, 6) if side == "left" else slice(5, 11)
    padded[0, 5:] = PAD_ID
    if side == "left":
        padded[0] = padded[0].roll(6)
    mask[0, blank] = 0
    together = block_influence(model, [{"input_ids": padded, "attention_mask": mask}])
    assert together == pytest.approx(block_influence(model, alone), abs=1e-5)
    assert model.training and not decoder_layers(model)[1][0]._forward_hooks


def test_influence_without_tokens_is_refused():
    with pytest.raises(ValueError, match="no token"):
        block_influence(tiny_model("llama"), [{"input_ids": IDS, "attention_mask": torch.zeros_like(IDS)}])


def test_even_layers_keep_the_ends_and_are_spaced_evenly():
    assert choose_layers(30, 2, "even") == [0, 29]
    assert choose_layers(7, 4, "even") == [0, 2, 4, 6]
    for n in range(3, 33):
        for keep in range(2, n):
            chosen = choose_layers(n, keep, "even")
            gaps = [b - a for a, b in pairwise(chosen)]
            assert len(chosen) == keep and chosen[0] == 0 and chosen[-1] == n - 1
            assert min(gaps) >= 1 and max(gaps) - min(gaps) <= 1
            assert chosen == [n - 1 - i for i in reversed(chosen)] or (n - 1) % (keep - 1)


def test_the_layers_of_least_influence_go_and_the_ends_stay():
    influence = [0.0, 0.5, 0.1, 0.3, 0.2, 0.0]
    assert choose_layers(6, 4, "influence", influence) == [0, 1, 3, 5]
    assert choose_layers(6, 2, "influence", influence) == [0, 5]
    assert choose_layers(5, 4, "influence", [1.0] * 5) == [0, 2, 3, 4]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((4, 1, "even"), "at least 2"),
        ((4, 4, "even"), "give 3 or fewer"),
        ((4, 3, "odd"), "'odd'"),
        ((4, 3, "influence"), "got none"),
        ((4, 3, "influence", [1.0]), "got 1"),
        ((4, 3, "influence", [0.1, math.nan, 0.1, 0.1]), "not all numbers are finite"),
    ],
)
def test_choices_that_cannot_be_made_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        choose_layers(*arguments)


def test_all_problems_of_a_choice_come_at_once():
    with pytest.raises(UserError) as caught:
        choose_layers(4, 9, "odd")
    assert len(caught.value.problems) == 2


def test_greedy_takes_out_what_is_missed_least():
    """Two layers that do nothing go first, at no loss; the third to go is the best of those left, tried by hand."""
    model = without_effect(without_effect(tiny_model("llama", layers=6), 2), 4)
    wanted = logits(model)

    def loss(pruned) -> float:
        return float((logits(pruned) - wanted).pow(2).mean())

    kept, removed = greedy_layers(model, 3, loss)
    assert [layer for layer, _ in removed[:2]] == [2, 4]
    assert [value for _, value in removed[:2]] == pytest.approx([0, 0], abs=1e-9)
    by_hand = {layer: loss(keep_layers(model, [i for i in (0, 1, 3, 5) if i != layer])) for layer in (1, 3)}
    assert removed[2] == (min(by_hand, key=by_hand.get), pytest.approx(min(by_hand.values())))
    assert kept == [i for i in (0, 1, 3, 5) if i != removed[2][0]]


def test_greedy_refuses_what_leaves_no_choice():
    with pytest.raises(UserError, match="at least 2"):
        greedy_layers(tiny_model("llama", layers=4), 1, lambda model: 0.0)
