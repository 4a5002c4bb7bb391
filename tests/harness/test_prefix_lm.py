"""PrefixLM against lm-eval's own HFLM: the same answers and the same log-likelihoods, whatever is packed with what."""

import logging

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import MistralConfig, MistralForCausalLM

from kd_bench.harness.prefix_groups import Tree, groups
from kd_bench.harness.prefix_lm import PrefixLM
from tests.tiny import ARCHITECTURES, EOS_ID, TEXT, tiny_model, tiny_tokenizer

DESCRIPTION = "Answer the question with words from the passage.\n\n"
DEMONSTRATION = f"{TEXT[0]}\nQuestion: Who built it?\nAnswer: Ada Merrow\n\n"
# Passages of unequal length and number of questions; two begin alike, one is a prefix of another.
PASSAGES = [(TEXT[0], 3), (TEXT[4], 1), (TEXT[6] + TEXT[7], 6), (TEXT[8], 2), (TEXT[8][:25], 1)]


def wide_model(arch, attention="sdpa"):
    """A tiny model whose attention matters: greedy texts differ from prompt to prompt."""
    model = tiny_model(arch, attn_implementation=attention)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2 and "embed" not in name and "wpe" not in name:
                parameter *= 3
    return model


def contexts(shots):
    before = DESCRIPTION + shots * DEMONSTRATION
    return [
        f"{before}Passage: {passage}\nQuestion: {TEXT[question + 1]} {question}?\nAnswer:"
        for passage, questions in PASSAGES
        for question in range(questions)
    ]


def generating(texts, **gen_kwargs):
    return [Instance("generate_until", {}, (text, dict(gen_kwargs)), index) for index, text in enumerate(texts)]


def choosing(texts):
    choices = [" unanswerable", " Ada", " the spring of the year 1876", " the"]
    requests = [(text, choice) for text in texts for choice in choices]
    return [Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(requests)]


def answers(model, requests, batch_size=None):
    """HFLM's answers at batch size 1, or PrefixLM's at `batch_size`."""
    if batch_size is None:
        return HFLM(pretrained=model, tokenizer=tiny_tokenizer(), batch_size=1).generate_until(requests, True)
    lm = PrefixLM(pretrained=model, tokenizer=tiny_tokenizer(), batch_size=batch_size)
    assert lm.unshared is None
    return lm.generate_until(requests, True)


@pytest.mark.parametrize("shots", [0, 1])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_same_answers(arch, shots):
    model = wide_model(arch)
    requests = generating(contexts(shots), until=["e", " t", "\n"], max_gen_toks=12, do_sample=False)
    expected = answers(model, requests)
    assert len({len(text) for text in expected}) > 3, "the answers should be of many lengths"
    for batch_size in (1, 3, 8, 64):
        assert answers(model, requests, batch_size) == expected


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_same_answers_with_end_tokens_and_eager_attention(arch):
    model = wide_model(arch, "eager")
    requests = generating(contexts(1), until=[], max_gen_toks=12)
    unended = answers(model, requests)
    model.generation_config.eos_token_id = [EOS_ID, *range(2, 512, 3)]
    expected = answers(model, requests)
    assert expected != unended
    assert answers(model, requests, 5) == expected


def test_same_answers_for_mixed_requests():
    """Several generation arguments, tasks and repeated prompts in one call; answers come in the requests' order."""
    model = wide_model("llama")
    requests = generating(contexts(0), until=["e"], max_gen_toks=9) + generating(contexts(1)[:4], max_gen_toks=3)
    requests += generating(contexts(0)[:2] * 2, until="a", max_gen_toks=5)
    for index, request in enumerate(requests):
        request.task_name = f"task {index % 2}"
    requests = requests[::3] + requests[1::3] + requests[2::3]
    assert answers(model, requests, 4) == answers(model, requests)


def test_prompts_too_long_are_cut_as_hflm_cuts_them():
    model = wide_model("qwen2")
    requests = generating(contexts(1), until=["e"], max_gen_toks=12)
    arguments = {"pretrained": model, "tokenizer": tiny_tokenizer(), "max_length": 60}
    expected = HFLM(**arguments, batch_size=1).generate_until(requests, True)
    assert expected != answers(model, requests)
    assert PrefixLM(**arguments, batch_size=4).generate_until(requests, True) == expected


def test_counts_tokens_and_seconds():
    model = wide_model("gpt2")
    model.generation_config.eos_token_id = None
    lm = PrefixLM(pretrained=model, tokenizer=tiny_tokenizer(), batch_size=4)
    lm.generate_until(generating(contexts(0), until=["never written"], max_gen_toks=7), True)
    assert lm.generated_tokens == 7 * len(contexts(0))
    assert lm.generate_seconds > 0


def test_shared_tokens_are_computed_once():
    model, read = wide_model("llama"), []
    lm = PrefixLM(pretrained=model, tokenizer=tiny_tokenizer(), batch_size=6)
    prompts = [tiny_tokenizer()(text)["input_ids"] for text in contexts(1)]
    model.model.register_forward_pre_hook(
        lambda _, args, kwargs: read.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    lm.generate_until(generating(contexts(1), until=[], max_gen_toks=1), True)
    distinct = {tuple(prompt[:end]) for prompt in prompts for end in range(1, len(prompt) + 1)}
    assert sum(read) == len(distinct)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_same_loglikelihoods(arch):
    model, requests = wide_model(arch), choosing(contexts(1))
    expected = HFLM(pretrained=model, tokenizer=tiny_tokenizer(), batch_size=4).loglikelihood(requests, True)
    for batch_size in (1, 5, 64):
        lm = PrefixLM(pretrained=model, tokenizer=tiny_tokenizer(), batch_size=batch_size)
        found = lm.loglikelihood(requests, True)
        assert [score for score, _ in found] == pytest.approx([score for score, _ in expected], abs=1e-4)
        assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]


def test_loglikelihood_knows_the_greedy_choice():
    model, text = wide_model("llama"), contexts(0)[0]
    lm = PrefixLM(pretrained=model, tokenizer=tiny_tokenizer(), batch_size=4)
    context = lm.tok_encode(text)
    with torch.no_grad():
        best = int(model(torch.tensor([context])).logits[0, -1].argmax())
    found = lm._loglikelihood_tokens([((text, ""), context, [best]), ((text, ""), context, [best + 1])], True)
    assert [greedy for _, greedy in found] == [True, False]
    assert found[0][0] > found[1][0]


def test_same_rolling_loglikelihoods():
    model = wide_model("gpt_neox")
    requests = [Instance("loglikelihood_rolling", {}, (text,), index) for index, text in enumerate(TEXT[:6])]
    arguments = {"pretrained": model, "tokenizer": tiny_tokenizer(), "max_length": 16, "batch_size": 3}
    expected = HFLM(**arguments).loglikelihood_rolling(requests, True)
    assert PrefixLM(**arguments).loglikelihood_rolling(requests, True) == pytest.approx(expected, abs=1e-3)


def test_what_is_not_greedy_goes_the_models_own_way():
    model = wide_model("qwen2")
    lm = PrefixLM(pretrained=model, tokenizer=tiny_tokenizer(), batch_size=1)
    beams = generating(contexts(0)[:3], until=["e"], max_gen_toks=6, num_beams=3)
    assert lm.generate_until(beams, True) == answers(model, beams)

    greedy = generating(contexts(0)[:3], until=[], max_gen_toks=12)
    before = lm.generate_until(greedy, True)
    model.generation_config.repetition_penalty = 3.0  # generate() obeys it in greedy decoding as well
    expected = answers(model, greedy)
    assert expected != before
    assert lm.generate_until(greedy, True) == expected


def test_sliding_windows_are_not_packed(caplog):
    config = MistralConfig(
        vocab_size=512, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=8, eos_token_id=EOS_ID, pad_token_id=1, bos_token_id=None,
    )  # fmt: skip
    model = MistralForCausalLM(config).eval()
    with caplog.at_level(logging.WARNING, logger="kd_bench"):
        lm = PrefixLM(pretrained=model, tokenizer=tiny_tokenizer(), batch_size=1)
    assert "whole context" in lm.unshared and lm.unshared in caplog.text
    requests = generating(contexts(0)[:4], until=["e"], max_gen_toks=6)
    assert lm.generate_until(requests, True) == answers(model, requests)


def test_a_model_that_ignores_its_mask_is_found_out():
    model = wide_model("llama")
    forward = model.model.forward
    model.model.forward = lambda *args, attention_mask=None, **kwargs: forward(*args, **kwargs)
    lm = PrefixLM(pretrained=model, tokenizer=tiny_tokenizer(), batch_size=2)
    assert lm.unshared == "packed prompts change its output"


def test_groups_keep_passages_together_and_name_everyone_once():
    passages = [[1] + [10 + passage] * 600 for passage in range(4)]
    sequences = [[*passage, 100 + question] for question in range(3) for passage in passages]
    found = groups(sequences, past=1, size=7)
    assert sorted(index for group in found for index in group) == list(range(12))
    assert [{sequences[index][1] for index in group} for group in found] == [{10}, {11}, {12}, {13}]
    assert [len(group) for group in groups(sequences, past=1, size=2)] == [2, 1] * 4
    assert [len(group) for group in groups([[1, n] for n in range(9)], past=1, size=4)] == [4, 4, 1]


def test_tree_of_sequences_that_share_nothing_is_one_row():
    tree = Tree.of([[5, 6, 7], [5, 8], [9]], past=0)
    assert tree.input_ids.tolist() == [5, 6, 7, 8, 9]
    assert tree.position_ids.tolist() == [0, 1, 2, 1, 0]
    assert [tree.input_ids[path].tolist() for path in tree.paths] == [[5, 6, 7], [5, 8], [9]]
    assert tree.visible.int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 0, 0, 1, 0],
        [0, 0, 0, 0, 1],
    ]
