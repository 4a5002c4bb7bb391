"""What bounds memory changes no number: a step in parts, the vocabulary in chunks, FlexAttention's empty blocks."""

import pytest
import torch
from datasets import Dataset
from torch import nn
from torch.nn.attention.flex_attention import create_mask
from transformers import TrainerCallback

from kd_bench.distill import loss as losses
from kd_bench.distill.body import choose_attention, predicting_states
from kd_bench.distill.collate import PackExamples
from kd_bench.distill.divergences import DIVERGENCES
from kd_bench.distill.loss import Loss
from kd_bench.distill.states import TeacherStates, write_states
from kd_bench.packing import one_row, pack, parts
from tests.distill.test_exactness import rows
from tests.distill.test_train import distil, weights
from tests.tiny import tiny_model


def sequences() -> list[list[int]]:
    return [row["prompt"] + row["completion"] for row in rows()]


def test_parts_fit_and_name_every_sequence_once():
    whole, longest = sequences(), max(map(len, sequences()))
    for most in (longest, 60, 90, 1000):
        found = parts(whole, most)
        assert sorted(index for part in found for index in part) == list(range(len(whole)))
        tokens = [int((pack([whole[index] for index in part]).last > 0).sum()) for part in found]
        assert max(tokens) <= most
    assert len(found) == 1
    assert all(len(part) == 1 for part in parts(whole, 5))  # none is so short, and none is cut
    assert parts(whole, None) == [list(range(len(whole)))]


def test_parts_are_even():
    alike = [[passage] * 50 + [100 + question] for passage in range(8) for question in range(2)]
    found = parts(alike, 130)  # 8 x 52 tokens: four parts of 104 and not three of 130 and one of 26
    assert [len(part) for part in found] == [4, 4, 4, 4]


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_step_in_parts_trains_to_the_same_weights(tmp_path, stored, checkpointing):
    features = Dataset.from_list(rows())
    teacher = tiny_model("llama", layers=3, seed=1)
    if stored:
        write_states(teacher, features, tmp_path, progress=False)
        teacher = TeacherStates(tmp_path)
    whole, expected = distil(tmp_path / "whole", features, teacher=teacher, batch_size=6)
    reads = []
    student, result = distil(
        tmp_path / "parts",
        features,
        teacher=teacher,
        batch_size=6,
        max_tokens=50,
        gradient_checkpointing=checkpointing,
        callbacks=[Reads(reads)],
    )
    assert max(reads) <= 50 / 0.75 and len(reads) > result["steps"]  # up to a quarter of a forward is padding
    for a, b in zip(expected["loss"], result["loss"]):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-5)
        assert b["grad_norm"] == pytest.approx(a["grad_norm"], rel=1e-4)
    # Adam divides by the root of a gradient's square: where that is near 0, rounding shows.
    torch.testing.assert_close(weights(whole), weights(student), rtol=1e-3, atol=1e-4)


class Reads(TrainerCallback):
    """Notes how many tokens each forward of the training reads."""

    def __init__(self, reads: list[int]):
        self.reads = reads

    def on_train_begin(self, args, state, control, model=None, **kw):
        model.model.register_forward_pre_hook(
            lambda _, args, kwargs: self.reads.append(kwargs["input_ids"].numel()), with_kwargs=True
        )


@pytest.mark.parametrize("divergence", [None, *DIVERGENCES])
def test_chunks_of_the_vocabulary_change_no_number(divergence, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    head, teacher_head = nn.Linear(16, 40, bias=False), nn.Linear(24, 44).requires_grad_(False)
    states = torch.randn(23, 16, generator=generator, requires_grad=True)
    teacher_states = torch.randn(23, 24, generator=generator)
    labels = torch.randint(0, 40, (23,), generator=generator)
    loss = Loss(divergence, temperature=2.0, cross_entropy=0.3, vocabulary=38)

    def measured():
        head.weight.grad = states.grad = None
        total = loss.total(head, states, teacher_head if divergence else None, teacher_states, labels)
        total.backward()
        return total.detach(), head.weight.grad, states.grad

    whole = measured()
    monkeypatch.setattr(losses, "CHUNK_LOGITS", 40 * 5)
    widths = []
    head.register_forward_hook(lambda _, args, output: widths.append(len(output)))
    for a, b in zip(whole, measured()):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert max(widths) == 5 and len(widths) == 2 * 5  # each made once forward and once again backward


def test_noise_is_the_same_when_a_chunk_is_made_again(monkeypatch):
    """The gradient is of the loss that was reported, not of another draw's."""
    head, teacher_head = nn.Linear(8, 12, bias=False).double(), nn.Linear(8, 12).double().requires_grad_(False)
    states, labels = torch.randn(9, 8, dtype=torch.float64, requires_grad=True), torch.zeros(9, dtype=int)
    loss, teacher_states = Loss("reverse_kl", noise=1.0), torch.randn(9, 8, dtype=torch.float64)
    monkeypatch.setattr(losses, "CHUNK_LOGITS", 12 * 2)

    def total(states):
        torch.manual_seed(5)
        return loss.total(head, states, teacher_head, teacher_states, labels)

    assert torch.autograd.gradcheck(total, states)


def test_one_row_spells_the_sequences():
    tree = pack(sequences())
    row = one_row(tree)
    assert row.input_ids.shape == (1, int((tree.last > 0).sum()))
    for sequence, path in zip(sequences(), row.paths):
        assert row.input_ids[0][path].tolist() == sequence
        assert row.position_ids[0][path].tolist() == list(range(len(sequence)))
        assert row.visible()[0, path[-1]].nonzero().flatten().tolist() == path.tolist()


def test_the_block_mask_is_the_dense_one():
    for tree in (pack(sequences()), one_row(pack(sequences()))):
        count, width = tree.input_ids.shape
        mask = tree.block_mask()
        dense = create_mask(mask.mask_mod, count, None, width, width, device="cpu")[:, 0]
        real = (tree.last > 0)[:, :, None].expand_as(dense)  # what padding sees is nobody's business
        assert torch.equal(dense[real], tree.visible()[real])


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt_neox"])
def test_flex_attention_gives_the_dense_masks_states(architecture):
    """Forward, in eager mode: torch has no backward pass of it on a CPU."""
    model = tiny_model(architecture)
    dense, flex = PackExamples()(rows()), PackExamples(one_row=True)(rows())
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        expected = predicting_states(model, dense["trees"], dense["positions"])
        model.set_attn_implementation("flex_attention")
        found = predicting_states(model, flex["trees"], flex["positions"])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_cpu_keeps_dense_masks():
    model = tiny_model("llama")
    choose_attention(model)
    assert model.config._attn_implementation == "sdpa"
