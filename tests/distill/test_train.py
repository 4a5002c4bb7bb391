"""The trainer on tiny models: it learns, it resumes to the same bits, it stops at what is not a number."""

import math
import random
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers import TrainerCallback

from kd_bench.distill.checkpoint import last_good_checkpoint
from kd_bench.distill.collate import PassageSampler
from kd_bench.distill.features import features as tokenise
from kd_bench.distill.loss import Loss
from kd_bench.distill.states import TeacherStates, write_states
from kd_bench.distill.train import train
from kd_bench.errors import UserError
from kd_bench.harness.examples import Example
from tests.conftest import ROOT
from tests.distill.test_exactness import rows
from tests.tiny import tiny_model, tiny_tokenizer

KD = Loss("forward_kl")
SETTINGS = {"epochs": 4, "batch_size": 4, "learning_rate": 3e-3, "save_steps": 2, "progress": False, "seed": 7}


class Kill(Exception):
    pass


class KillAt(TrainerCallback):
    def __init__(self, step: int):
        self.step = step

    def on_step_begin(self, args, state, control, **kw):
        if state.global_step == self.step:
            raise Kill


@pytest.fixture
def features():
    return Dataset.from_list(rows())


def weights(model) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def distil(folder, features, **kw):
    student = tiny_model("llama", seed=3)
    settings = {**SETTINGS, "teacher": tiny_model("llama", layers=3, seed=1), **kw}
    result = train(student, tiny_tokenizer(), features, settings.pop("loss", KD), folder, **settings)
    return student, result


def test_the_loss_falls(tmp_path, features):
    _, result = distil(tmp_path, features, epochs=30)
    losses = [row["loss"] for row in result["loss"]]
    assert result["steps"] == len(losses) == 30 * math.ceil(len(features) / 4)
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("lmbda", [0.0, 0.5])
@pytest.mark.parametrize("step", [1, 5, 9])
def test_a_killed_run_ends_with_the_same_bits(tmp_path, features, step, lmbda):
    whole, _ = distil(tmp_path / "whole", features, lmbda=lmbda, max_new_tokens=6)
    with pytest.raises(Kill):
        distil(tmp_path / "killed", features, lmbda=lmbda, max_new_tokens=6, callbacks=[KillAt(step)])
    resumed, result = distil(tmp_path / "killed", features, lmbda=lmbda, max_new_tokens=6)
    assert torch.equal(weights(whole), weights(resumed))
    assert [row["step"] for row in result["loss"]] == list(range(1, result["steps"] + 1))


KILLED = """
import os, signal, sys
from pathlib import Path
from datasets import Dataset
from tests.distill import test_train as t

class Die(t.TrainerCallback):
    def on_step_begin(self, args, state, control, **kw):
        if state.global_step == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)

t.distil(Path(sys.argv[1]), Dataset.from_list(t.rows()), callbacks=[Die()])
"""


def test_a_process_killed_outright_resumes_to_the_same_bits(tmp_path, features):
    step = random.randrange(3, 11)  # any step: that is the claim
    child = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "killed"), str(step)], cwd=ROOT)
    assert child.returncode == -signal.SIGKILL
    assert last_good_checkpoint(tmp_path / "killed" / "checkpoints"), step
    whole, _ = distil(tmp_path / "whole", features)
    resumed, _ = distil(tmp_path / "killed", features)
    assert torch.equal(weights(whole), weights(resumed)), step


def test_a_damaged_checkpoint_is_set_aside(tmp_path, features, caplog):
    whole, _ = distil(tmp_path / "whole", features)
    with pytest.raises(Kill):
        distil(tmp_path / "killed", features, callbacks=[KillAt(5)])
    newest = last_good_checkpoint(tmp_path / "killed" / "checkpoints")
    with Path(newest, "model.safetensors").open("r+b") as file:
        file.truncate(1000)
    resumed, _ = distil(tmp_path / "killed", features)
    assert "damaged checkpoint" in caplog.text
    assert torch.equal(weights(whole), weights(resumed))


def test_a_loss_that_is_not_a_number_stops_and_keeps_the_checkpoint(tmp_path, features):
    class Poison(TrainerCallback):
        def on_step_begin(self, args, state, control, model=None, **kw):
            if state.global_step == 5:
                model.lm_head.weight.data[0] = float("nan")

    with pytest.raises(UserError, match="nan at step 6 of"):
        distil(tmp_path, features, callbacks=[Poison()])
    kept = last_good_checkpoint(tmp_path / "checkpoints")
    assert kept.endswith("checkpoint-4")


def test_stored_states_train_to_the_live_teachers_weights(tmp_path, features):
    teacher = tiny_model("llama", layers=3, seed=1)
    write_states(teacher, features, tmp_path, batch_size=3, progress=False)
    live, live_result = distil(tmp_path / "live", features, teacher=teacher)
    stored, stored_result = distil(tmp_path / "stored", features, teacher=TeacherStates(tmp_path))
    for a, b in zip(live_result["loss"], stored_result["loss"]):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
    torch.testing.assert_close(weights(live), weights(stored), rtol=1e-3, atol=1e-5)


def test_a_wider_teacher_vocabulary_is_met_on_the_shared_ids(tmp_path, features):
    """Qwen2.5's 7B has 152,064 rows and its 0.5B 151,936: the pair that TRL refuses."""
    wide = tiny_model("qwen2", vocab_size=520, layers=3, seed=1)
    _, result = distil(tmp_path, features, teacher=wide, loss=Loss("forward_kl", vocabulary=512))
    assert math.isfinite(result["loss"][-1]["loss"])


def test_sft_needs_no_teacher(tmp_path, features):
    _, result = distil(tmp_path, features, teacher=None, loss=Loss(), epochs=30)
    assert result["loss"][-1]["loss"] < 0.5 * result["loss"][0]["loss"]


def test_student_written_completions_need_a_live_teacher(tmp_path, features):
    write_states(tiny_model("llama", layers=3, seed=1), features, tmp_path, progress=False)
    with pytest.raises(UserError, match="live teacher"):
        distil(tmp_path / "run", features, teacher=TeacherStates(tmp_path), lmbda=0.5)


def test_an_epoch_draws_every_example_once_and_passages_together():
    passages = [0, 0, 0, 1, 1, 2, 3, 3, 3, 3]
    sampler = PassageSampler(passages, seed=3)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
        assert sorted(orders[-1]) == list(range(10)) and len(sampler) == 10
        drawn = [passages[index] for index in orders[-1]]
        assert len([1 for a, b in pairwise(drawn) if a != b]) == 3  # four runs, none of them broken
    assert orders[0] == orders[2] != orders[1]


def test_passages_are_told_apart_within_each_task():
    """Behind one task's demonstration all prompts look alike to another's."""
    tokenizer = tiny_tokenizer()
    demonstration = "The lighthouse of Northwick was built in 1874 by the engineer Ada Merrow. " * 4
    texts = ["Captain Wend sailed from the island.", "The harbour town had many people.", "Where is the river?"]
    found = [
        Example(f"{start}{text} Who was it? {number}", " Ada", "", task=task)
        for task, start in (("plain", ""), ("shown", demonstration))
        for text in texts
        for number in (1, 2)
    ]
    assert tokenise(found, tokenizer)["passage"] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


def test_bfloat16_keeps_float32_weights(tmp_path, features):
    student, result = distil(tmp_path, features, bf16=True, epochs=30)
    assert {p.dtype for p in student.parameters()} == {torch.float32}
    assert result["loss"][-1]["loss"] < 0.6 * result["loss"][0]["loss"]
