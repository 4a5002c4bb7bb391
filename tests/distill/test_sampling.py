"""Adaptive and paired training on tiny models: what each step is trained on, and that a killed run ends the same."""

import copy
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from datasets import Dataset

from kd_bench.distill.checkpoint import last_good_checkpoint
from kd_bench.distill.loss import Loss
from kd_bench.distill.sampling import STATE
from kd_bench.distill.states import TeacherStates, write_states
from kd_bench.distill.trainer import DistillTrainer
from kd_bench.errors import UserError
from tests.conftest import ROOT
from tests.distill.test_exactness import gradients, packed, rows
from tests.distill.test_train import Kill, KillAt, distil, weights
from tests.tiny import tiny_model

NEW = 6


def adaptive(folder, **kw):
    """Every validation after the first counts as worse, so that fixed, fresh and replayed steps all come."""
    settings = {"sampling": "adaptive", "margin": -100.0, "validation": Dataset.from_list(rows(1)), "epochs": 8}
    return distil(folder, Dataset.from_list(rows()), **{**settings, "max_new_tokens": NEW, "capacity": 12, **kw})


@pytest.fixture
def sources(monkeypatch):
    """What `_batches` gave each step, noted: "fixed", "fresh" or "replay", in their order."""
    found, own = [], DistillTrainer._batches

    def noted(self, model, inputs, tokens):
        before = list(self.writing.replay.batches)
        batches = own(self, model, inputs, tokens)
        fresh = list(self.writing.replay.batches) != before
        found.append("fresh" if fresh else "fixed" if batches[0][0] is inputs else "replay")
        return batches

    monkeypatch.setattr(DistillTrainer, "_batches", noted)
    return found


def test_adaptive_training_uses_all_three_sources(tmp_path, sources):
    _, result = adaptive(tmp_path)
    assert {"fixed", "fresh", "replay"} == set(sources) and len(sources) == result["steps"] == 24
    assert sources.index("fresh") < sources.index("replay")
    share = result["student_share"]
    assert [row["step"] for row in share] == [0, 3, 5, 8, 10, 12, 15, 17, 20, 22]
    assert [row["phi"] for row in share] == pytest.approx([index / 10 for index in range(10)])
    assert share[-1]["validation_loss"] < share[0]["validation_loss"]


def test_the_validation_loss_is_the_mean_over_all_completion_tokens(tmp_path):
    settings = {"epochs": 1, "validation_limit": 7, "max_tokens": 60}
    _, result = adaptive(tmp_path, **settings)
    student, teacher = tiny_model("llama", seed=3), tiny_model("llama", layers=3, seed=1)
    with torch.no_grad():
        logits = [
            torch.cat([model(torch.tensor([ids])).logits[0, -n - 1 : -1] for ids, n in sequences()])
            for model in (student, teacher)
        ]
    expected = Loss("forward_kl")(*logits, torch.zeros(len(logits[0]), dtype=torch.long)).mean()
    assert result["student_share"][0]["validation_loss"] == pytest.approx(float(expected), rel=1e-5)


def sequences():
    return [(row["prompt"] + row["completion"], len(row["completion"])) for row in rows(1)[:7]]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return adaptive(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("step", [3, 11, 17, 22])
def test_a_killed_adaptive_run_ends_with_the_same_bits(tmp_path, step, uninterrupted):
    whole, expected = uninterrupted
    with pytest.raises(Kill):
        adaptive(tmp_path / "killed", callbacks=[KillAt(step)])
    resumed, result = adaptive(tmp_path / "killed")
    assert torch.equal(weights(whole), weights(resumed))
    assert result["student_share"] == expected["student_share"]


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.distill import test_sampling as t
from tests.distill.test_train import TrainerCallback

class Die(TrainerCallback):
    def on_step_begin(self, args, state, control, **kw):
        if state.global_step == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)

t.adaptive(Path(sys.argv[1]), callbacks=[Die()])
"""


def test_an_adaptive_process_killed_outright_resumes_to_the_same_bits(tmp_path, uninterrupted):
    step = random.randrange(3, 24)  # any step: that is the claim
    child = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "killed"), str(step)], cwd=ROOT)
    assert child.returncode == -signal.SIGKILL
    assert last_good_checkpoint(tmp_path / "killed" / "checkpoints"), step
    resumed, _ = adaptive(tmp_path / "killed")
    assert torch.equal(weights(uninterrupted[0]), weights(resumed)), step


def test_a_torn_sampling_state_makes_a_checkpoint_a_damaged_one(tmp_path, caplog):
    with pytest.raises(Kill):
        adaptive(tmp_path, callbacks=[KillAt(7)])
    newest = last_good_checkpoint(tmp_path / "checkpoints")
    with Path(newest, STATE).open("r+b") as file:
        file.truncate(50)
    assert last_good_checkpoint(tmp_path / "checkpoints") is None
    assert "damaged checkpoint" in caplog.text


@pytest.mark.parametrize("beta", [0.0, 0.5, 2.0])
def test_a_pair_weighs_the_means_of_its_halves(tmp_path, beta, monkeypatch):
    """The first step's loss and gradient norm, against both halves computed apart."""
    own, halves = DistillTrainer._batches, []

    def noted(self, *args):
        batches = own(self, *args)
        halves.append(batches)
        return batches

    monkeypatch.setattr(DistillTrainer, "_batches", noted)
    loss, student_loss = Loss("skew_kl"), Loss("skew_reverse_kl")
    settings = {"sampling": "pair", "student_loss": student_loss, "beta": beta, "max_new_tokens": NEW, "epochs": 1}
    _, result = distil(tmp_path, Dataset.from_list(rows()), loss=loss, **settings)
    student, teacher = tiny_model("llama", seed=3), tiny_model("llama", layers=3, seed=1)
    expected = 0
    assert len(halves[0]) == (1 if beta in (0, 2) else 2)
    for batch, token_loss, _ in halves[0]:
        weight = (2 - beta) / 2 if token_loss is loss else beta / 2
        with torch.no_grad():
            wanted = packed(teacher, batch)
        expected = expected + weight * token_loss(packed(student, batch), wanted, batch["labels"]).mean()
    assert result["loss"][0]["loss"] == pytest.approx(float(expected.detach()), rel=1e-5)
    assert result["loss"][0]["grad_norm"] == pytest.approx(float(gradients(student, expected).norm()), rel=1e-4)
    if beta:
        prompts = sorted(prompt for prompt in halves[0][-1][0]["prompts"])
        assert all(prompt in [row["prompt"] for row in rows()] for prompt in prompts)


@pytest.mark.parametrize("sampling", ["fixed", "pair"])
def test_states_beside_a_live_teacher_change_no_number_and_spare_its_forwards(tmp_path, sampling):
    features, teacher = Dataset.from_list(rows()), tiny_model("llama", layers=3, seed=1)
    write_states(teacher, features, tmp_path, progress=False)
    settings = {"sampling": sampling, "max_new_tokens": NEW, "max_tokens": 60}
    settings |= {"lmbda": 0.5} if sampling == "fixed" else {"student_loss": Loss("reverse_kl")}
    reads = []
    teacher.model.register_forward_pre_hook(lambda *_: reads.append(1))
    _, live = distil(tmp_path / "live", features, teacher=teacher, **settings)
    every, reads[:] = len(reads), []
    _, both = distil(tmp_path / "both", features, teacher=teacher, states=TeacherStates(tmp_path), **settings)
    assert 0 < len(reads) < every
    for a, b in zip(live["loss"][:4], both["loss"][:4], strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)


def test_adaptive_sampling_needs_a_live_teacher(tmp_path):
    write_states(tiny_model("llama", layers=3, seed=1), Dataset.from_list(rows()), tmp_path, progress=False)
    with pytest.raises(UserError, match="live teacher"):
        adaptive(tmp_path / "run", teacher=TeacherStates(tmp_path))


@pytest.mark.parametrize("bf16", [False, True])
def test_training_leaves_the_model_its_own_forward(tmp_path, bf16):
    """In float32, and a copy's is the copy's: what training sets on the instance would call the original's."""
    student, _ = distil(tmp_path, Dataset.from_list(rows()), bf16=bf16, epochs=1)
    fresh, copied = tiny_model("llama", seed=3), copy.deepcopy(student)
    fresh.load_state_dict(student.state_dict())
    torch.nn.init.zeros_(copied.lm_head.weight)
    ids = torch.tensor([rows()[0]["prompt"]])
    with torch.no_grad():
        assert torch.equal(student(ids).logits, fresh(ids).logits)
        assert not copied(ids).logits.any()
