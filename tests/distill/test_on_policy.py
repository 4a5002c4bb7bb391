"""What a student writes itself: its own words, prefixes read once, gradient checkpointing or not."""

import pytest
import torch
from datasets import Dataset

from kd_bench.distill.loss import Loss
from kd_bench.distill.trainer import DistillTrainer, GKDConfig
from tests.distill.test_exactness import rows
from tests.distill.test_train import distil, weights
from tests.tiny import tiny_model, tiny_tokenizer

NEW = 6


def trainer(folder, *, temperature: float, stop: str = "", **settings) -> DistillTrainer:
    student = tiny_model("llama", seed=3)
    with torch.no_grad():
        for name, parameter in student.named_parameters():
            if parameter.dim() == 2 and "embed" not in name:
                parameter *= 3  # so that attention matters, and prompts are answered in different words
    arguments = GKDConfig(
        output_dir=str(folder), lmbda=1.0, temperature=temperature, max_new_tokens=NEW, report_to=[], max_length=None,
        use_cpu=True, bf16=False, gradient_checkpointing=settings.pop("gradient_checkpointing", False),
    )  # fmt: skip
    return DistillTrainer(
        student,
        tiny_model("llama", layers=3, seed=1),
        Loss("reverse_kl"),
        arguments,
        stop=stop,
        processing_class=tiny_tokenizer(),
        train_dataset=Dataset.from_list(rows()),
        **settings,
    )


def written(own: DistillTrainer) -> list[list[int]]:
    """What the student writes after each prompt of one batch, in the batch's order."""
    batch = own.student_writes(own.model, own.data_collator(rows()))
    every = [batch, *batch["rest"]]
    found, labels = [], torch.cat([part["labels"] for part in every]).tolist()
    assert labels == batch["shift_labels"].tolist()
    lengths = [len(prompt) for part in every for prompt in part["prompts"]]
    assert sorted(lengths) == sorted(len(row["prompt"]) for row in rows())
    while labels:
        found.append(labels[:NEW])
        labels = labels[NEW:]
    return found


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_cold_student_writes_what_generate_does(tmp_path, checkpointing):
    own = trainer(tmp_path, temperature=1e-4, gradient_checkpointing=checkpointing)
    own.model.generation_config.eos_token_id = None
    own.model.train()
    found = written(own)
    own.model.eval()
    expected = []
    for row in rows():
        ids = torch.tensor([row["prompt"]])
        whole = own.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, do_sample=False)
        expected.append(whole[0, ids.shape[1] :].tolist())
    assert found == expected
    assert len(set(map(tuple, expected))) > 3


def test_a_warm_student_writes_by_its_own_probabilities(tmp_path):
    """The first token of many samples of one prompt, against the softmax of its logits."""
    own, prompt, count = trainer(tmp_path, temperature=0.7), rows()[0]["prompt"], 400
    own.args.max_new_tokens = 1
    copies = [{"prompt": prompt, "completion": [5], "index": 0}] * count
    torch.manual_seed(0)
    first = own.student_writes(own.model, own.data_collator(copies))["labels"]
    with torch.no_grad():
        probabilities = (own.model(torch.tensor([prompt])).logits[0, -1] / 0.7).softmax(-1)
    seen = torch.bincount(first, minlength=512) / count
    assert 0 < (seen > 0).sum() < 512 and len(first) == count
    # The total variation between 400 draws and their distribution is near sqrt(effective choices / count) / 2.
    assert (seen - probabilities).abs().sum() / 2 < (probabilities.sqrt().sum() ** 2 / count).sqrt()


def test_it_stops_after_the_stop_string_or_an_end_token(tmp_path):
    own = trainer(tmp_path, temperature=1.0, stop="e")
    own.model.generation_config.eos_token_id = list(range(2, 512, 7))
    torch.manual_seed(1)
    tokenizer, ends, lengths = own.processing_class, set(own.model.generation_config.eos_token_id), set()
    for row in rows():
        tokens = own.student_writes(own.model, own.data_collator([row]))["labels"].tolist()
        ended = [tokens[i] in ends or "e" in tokenizer.decode(tokens[: i + 1]) for i in range(len(tokens))]
        assert not any(ended[:-1]) and (ended[-1] or len(tokens) == NEW)
        lengths.add(len(tokens))
    assert len(lengths) > 2


def test_parts_and_checkpointing_change_no_weight(tmp_path):
    features = Dataset.from_list(rows())
    settings = {"lmbda": 1.0, "max_new_tokens": NEW, "epochs": 2, "batch_size": 6}
    whole, _ = distil(tmp_path / "whole", features, **settings)
    parts, _ = distil(tmp_path / "parts", features, max_tokens=60, gradient_checkpointing=True, **settings)
    torch.testing.assert_close(weights(whole), weights(parts), rtol=1e-3, atol=1e-4)
