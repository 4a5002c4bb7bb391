"""The teacher's own answers are what the model's `generate` writes, in the questions' order."""

import pytest
import torch
from datasets import Dataset

from kd_bench.distill.completions import sampled, write_completions
from tests.distill.test_exactness import rows
from tests.tiny import tiny_model, tiny_tokenizer

NEW = 6


@pytest.fixture
def teacher():
    model = tiny_model("llama", layers=3, seed=1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2 and "embed" not in name:
                parameter *= 3  # so that attention matters, and prompts are answered in different words
    return model


def written(teacher, stop="", **kw) -> Dataset:
    features = Dataset.from_list([{**row, "document": str(row["index"])} for row in rows()])
    settings = {"stop": stop, "max_new_tokens": NEW, "batch_size": 3, "progress": False, **kw}
    found = write_completions(teacher, tiny_tokenizer(), features, **settings)
    kept = [name for name in features.column_names if name != "completion"]
    assert found.column_names == features.column_names and found.features == features.features
    assert found.select_columns(kept).to_dict() == features.select_columns(kept).to_dict()
    return found


@pytest.mark.parametrize("ends", [None, list(range(2, 512, 5))])
def test_a_greedy_teacher_writes_what_generate_does(teacher, ends):
    teacher.generation_config.eos_token_id = ends
    found = written(teacher)["completion"][:]
    for row, completion in zip(rows(), found):
        ids = torch.tensor([row["prompt"]])
        whole = teacher.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, do_sample=False)
        assert completion == whole[0, ids.shape[1] :].tolist()
    assert len(set(map(tuple, found))) > 3 and (ends is None) == (set(map(len, found)) == {NEW})


def test_an_answer_ends_with_its_stop_string_or_is_said_to_be_full(teacher, caplog):
    teacher.generation_config.eos_token_id = None
    tokenizer, lengths = tiny_tokenizer(), set()
    for tokens in written(teacher, stop="e", temperature=1.5, seed=1)["completion"]:
        ended = ["e" in tokenizer.decode(tokens[: place + 1]) for place in range(len(tokens))]
        assert not any(ended[:-1]) and (ended[-1] or len(tokens) == NEW)
        lengths.add(len(tokens))
    assert len(lengths) > 1
    assert f"reach max_new_tokens ({NEW})" in caplog.text


def test_samples_are_the_seeds(teacher):
    first, again, other = (written(teacher, temperature=1.0, seed=seed)["completion"][:] for seed in (0, 0, 1))
    assert first == again != other


def test_nobody_writes_a_row_that_pads_the_vocabulary():
    tokenizer = tiny_tokenizer(512)
    logits = torch.zeros(3, 520)
    logits[:, 515], logits[:, 7] = 9.0, 5.0
    for temperature in (0.0, 1.0):
        choose = sampled(temperature, torch.Generator().manual_seed(0), tokenizer)
        assert all(token < 512 for _ in range(50) for token in choose(logits))
    assert sampled(0.0, torch.Generator(), tokenizer)(logits) == [7, 7, 7]
