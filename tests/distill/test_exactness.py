"""Shared prefixes change no number: loss and gradients equal those of the separate sequences."""

import math

import pytest
import torch
from datasets import Dataset
from trl.experimental.gkd import GKDTrainer

from kd_bench.distill.body import check_model, predicting_states
from kd_bench.distill.collate import PackExamples
from kd_bench.distill.loss import Loss
from kd_bench.errors import UserError
from kd_bench.packing import buckets, pack
from tests.tiny import ARCHITECTURES, tiny_model

VOCABULARY = 512


def rows(seed: int = 0) -> list[dict]:
    """Two passages behind one demonstration and one behind none; questions and answers of unequal length."""
    generator = torch.Generator().manual_seed(seed)

    def some(n: int) -> list[int]:
        return torch.randint(5, VOCABULARY, (n,), generator=generator).tolist()

    demonstration, found = some(11), []
    for start in (demonstration + some(13), demonstration + some(7), some(9)):
        for question, answer in ((4, 1), (6, 3), (3, 5)):
            found.append({"prompt": start + some(question), "completion": some(answer)})
    found.append({**found[0], "completion": some(4)})  # one prompt with two answers
    found.append(found[1])  # and one example twice
    return [{**row, "index": index, "passage": index // 3} for index, row in enumerate(found)]


def separate(model, row: dict) -> torch.Tensor:
    """[completion, vocab]: the logits that predict the completion, the sequence alone in the model's own forward."""
    ids = torch.tensor([row["prompt"] + row["completion"]])
    return model(input_ids=ids).logits[0, len(row["prompt"]) - 1 : -1]


def packed(model, batch: dict) -> torch.Tensor:
    return model.get_output_embeddings()(predicting_states(model, batch["trees"], batch["positions"]))


def gradients(model, loss: torch.Tensor) -> torch.Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("keys_per_token", [math.inf, 0], ids=["whole", "parted"])
def test_packed_loss_and_gradients_equal_the_separate_ones(architecture, keys_per_token, attention):
    student = tiny_model(architecture, vocab_size=VOCABULARY, attn_implementation=attention)
    teacher = tiny_model(architecture, vocab_size=VOCABULARY, layers=3, seed=1, attn_implementation=attention)
    examples = rows()
    batch = PackExamples(keys_per_token=keys_per_token)(examples)
    loss = Loss("jsd", {"beta": 0.3}, temperature=1.5, cross_entropy=0.2)
    with torch.no_grad():
        teacher_packed = packed(teacher, batch)
        teacher_separate = torch.cat([separate(teacher, row) for row in examples])
    together = loss(packed(student, batch), teacher_packed, batch["labels"]).mean()
    one_by_one = loss(torch.cat([separate(student, row) for row in examples]), teacher_separate, batch["labels"]).mean()
    torch.testing.assert_close(together, one_by_one, rtol=1e-5, atol=0)
    ours, theirs = gradients(student, together), gradients(student, one_by_one)
    assert (ours - theirs).norm() <= 1e-5 * theirs.norm()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_loss_equals_trl_on_padded_sequences(architecture):
    """TRL's own GKD loss, on the padded batch that its collator would make."""
    student = tiny_model(architecture, vocab_size=VOCABULARY)
    teacher = tiny_model(architecture, vocab_size=VOCABULARY, layers=3, seed=1)
    examples = rows(1)
    width = max(len(row["prompt"] + row["completion"]) for row in examples)
    ids, mask, labels = (torch.full((len(examples), width), fill) for fill in (0, 0, -100))
    for i, row in enumerate(examples):
        whole = row["prompt"] + row["completion"]
        ids[i, : len(whole)] = torch.tensor(whole)
        mask[i, : len(whole)] = 1
        labels[i, len(row["prompt"]) : len(whole)] = torch.tensor(row["completion"])
    with torch.no_grad():
        logits = [model(input_ids=ids, attention_mask=mask).logits[:, :-1] for model in (student, teacher)]
        theirs = GKDTrainer.generalized_jsd_loss(*logits, labels[:, 1:], beta=0.5)
        batch = PackExamples()(examples)
        ours = Loss("jsd", {"beta": 0.5})(packed(student, batch), packed(teacher, batch), batch["labels"]).mean()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)


def test_a_prefix_is_stored_once():
    tree = pack([row["prompt"] + row["completion"] for row in rows()])
    separate_tokens = sum(len(row["prompt"] + row["completion"]) for row in rows())
    tokens = int((tree.last > 0).sum())
    assert tree.input_ids.shape[0] == 2  # the demonstration's tree and the passage without one
    # 11 + 13 + 7 + 9 of prefixes, 3 x (4 + 6 + 3 + 1 + 3 + 5) of branches, and 4 of the second answer
    assert tokens == 40 + 66 + 4 < separate_tokens


def test_paths_spell_the_sequences():
    sequences = [row["prompt"] + row["completion"] for row in rows()]
    tree = pack(sequences)
    trees, paths = buckets(tree, max_padding=0.0)
    flat = torch.cat([part.input_ids.flatten() for part in trees])
    places = torch.cat([part.position_ids.flatten() for part in trees])
    for sequence, whole, path in zip(sequences, tree.paths, paths):
        assert tree.input_ids.flatten()[whole].tolist() == sequence
        assert flat[path].tolist() == sequence
        assert places[path].tolist() == list(range(len(sequence)))


def test_a_token_sees_its_own_sequence_and_nothing_else():
    sequences = [[1, 2, 3, 4], [1, 2, 5], [1, 2, 3], [7, 8]]
    tree = pack(sequences)
    visible = tree.visible()
    width = tree.input_ids.shape[1]
    for sequence, path in zip(sequences, tree.paths):
        row, column = int(path[-1]) // width, int(path[-1]) % width
        seen = visible[row, column].nonzero().flatten() + row * width
        assert seen.tolist() == path.tolist(), sequence


def test_buckets_bound_the_padding():
    sequences = [[10 + i] * n for i, n in enumerate([3, 50, 4, 48, 100])]
    trees, _ = buckets(pack(sequences), max_padding=0.1)
    for tree in trees:
        assert (tree.last == 0).float().mean() <= 0.1
    assert len(trees) < len(sequences)


def test_a_tree_is_parted_where_its_trunk_is_cheaper_twice():
    sequences = [[1, 2] + [branch] * 30 for branch in (5, 6, 7)]
    assert pack(sequences).input_ids.shape == (1, 92)
    # One row: 92^2 pairs. Three: 3 x 32^2 pairs and four tokens more, so parting pays below 1,348 pairs a token.
    assert pack(sequences, keys_per_token=1349).input_ids.shape == (1, 92)
    assert pack(sequences, keys_per_token=1347).input_ids.shape == (3, 32)


def test_sliding_windows_are_refused():
    model = tiny_model(
        "qwen2", layer_types=["sliding_attention", "full_attention"], sliding_window=4, use_sliding_window=True
    )
    with pytest.raises(UserError, match="sliding"):
        check_model(model)


def test_a_model_that_ignores_positions_is_refused():
    model = tiny_model("llama")
    forward = model.model.forward
    model.model.forward = lambda *args, position_ids=None, **kw: forward(*args, **kw)
    with pytest.raises(UserError, match="shared-prefix"):
        check_model(model)


def test_dataset_rows_are_what_the_collator_takes():
    dataset = Dataset.from_list(rows())
    assert torch.equal(PackExamples()([dataset[i] for i in range(3)])["labels"], PackExamples()(rows()[:3])["labels"])
