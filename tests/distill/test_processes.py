"""Two processes under `accelerate launch`, DDP and FSDP2 on a CPU, train as one does on the same batches."""

import os
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
import torch
from datasets import Dataset

from kd_bench.distill.collate import PackExamples, PassageSampler, StepSampler
from kd_bench.distill.loss import Loss
from kd_bench.distill.states import write_states
from tests.conftest import ROOT
from tests.distill.several import EXACT, SETTINGS, WHOLE, WRITTEN, trained
from tests.distill.test_exactness import packed, rows
from tests.tiny import tiny_model

LAUNCH = ["--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
LAUNCH += ["--main_process_port", "0"]  # any that is free
FSDP2 = ["--use_fsdp", "--fsdp_version", "2", "--fsdp_auto_wrap_policy", "TRANSFORMER_BASED_WRAP"]


def launched(folder: Path, how: list[str], names) -> dict[str, list]:
    """What both processes leave of each case. Without `--cpu`, with which accelerate starts one process, not two."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with_states(folder)
    command = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", *how, *LAUNCH]
    command += ["-m", "tests.distill.several", str(folder), *names]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return {name: [torch.load(folder / f"{name}.{rank}.pt", weights_only=False) for rank in (0, 1)] for name in names}


def with_states(folder: Path) -> Path:
    (folder / "states").mkdir()
    write_states(tiny_model("llama", layers=3, seed=1), Dataset.from_list(rows()), folder / "states", progress=False)
    return folder


@pytest.fixture(scope="module")
def ddp(tmp_path_factory):
    return launched(tmp_path_factory.mktemp("ddp"), ["--multi_gpu"], [*EXACT, *WRITTEN])


@pytest.fixture(scope="module")
def fsdp(tmp_path_factory):
    return launched(tmp_path_factory.mktemp("fsdp"), FSDP2, [*EXACT, "lmbda"])


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """Each case in this process, with as many questions a step."""
    folder = with_states(tmp_path_factory.mktemp("one"))
    return {name: trained(name, folder) for name in EXACT}


def check_equal(both: list[dict], alone: dict) -> None:
    first, second = both
    assert first["result"] == second["result"] and torch.equal(first["weights"], second["weights"])
    for ours, expected in zip(first["result"]["loss"], alone["result"]["loss"], strict=True):
        assert ours["step"] == expected["step"] and ours["learning_rate"] == expected["learning_rate"]
        assert ours["loss"] == pytest.approx(expected["loss"], rel=1e-5)
        assert ours["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-5)
    torch.testing.assert_close(first["weights"], alone["weights"], rtol=1e-5, atol=1e-6)
    assert (first["weights"] - alone["weights"]).norm() < 1e-4 * alone["moved"]  # and they have moved


@pytest.mark.parametrize("name", EXACT)
def test_ddp_trains_to_one_processs_weights(name, ddp, one):
    check_equal(ddp[name], one[name])


@pytest.mark.parametrize("name", EXACT)
def test_fsdp2_trains_to_one_processs_weights(name, fsdp, one):
    check_equal(fsdp[name], one[name])


def test_fsdp2_goes_on_from_a_checkpoint_of_whole_weights_too(tmp_path, one):
    found = launched(tmp_path, [*FSDP2, "--fsdp_state_dict_type", "FULL_STATE_DICT"], ["qwen2 killed"])
    check_equal(found["qwen2 killed"], one["qwen2 killed"])


def test_a_mean_of_the_processes_means_would_be_another_loss(ddp):
    student, teacher = tiny_model("llama", seed=3), tiny_model("llama", layers=3, seed=1)
    means, tokens = [], []
    for process in range(2):
        sampler = PassageSampler([row["passage"] for row in rows()], SETTINGS["seed"])
        batch = PackExamples()([rows()[i] for i in next(iter(StepSampler(sampler, WHOLE["batch_size"], process, 2)))])
        with torch.no_grad():
            means.append(float(Loss("jsd")(packed(student, batch), packed(teacher, batch), batch["labels"]).mean()))
        tokens.append(len(batch["labels"]))
    reported = ddp["llama"][0]["result"]["loss"][0]["loss"]
    assert tokens[0] != tokens[1]
    assert sum(map(float.__mul__, means, map(float, tokens))) / sum(tokens) == pytest.approx(reported, rel=1e-5)
    assert sum(means) / 2 != pytest.approx(reported, rel=1e-3)


@pytest.mark.parametrize("name", ["lmbda", "pair", "adaptive"])
def test_what_students_write_keeps_processes_together(name, ddp):
    first, second = ddp[name]
    assert first["result"] == second["result"] and torch.equal(first["weights"], second["weights"])
    assert first["moved"] > 0.01


def test_a_killed_adaptive_run_of_two_processes_ends_with_the_same_bits(ddp):
    (whole, _), (resumed, _) = ddp["adaptive"], ddp["adaptive killed"]
    assert torch.equal(whole["weights"], resumed["weights"])
    assert whole["result"]["student_share"] == resumed["result"]["student_share"]


def test_what_cannot_be_dealt_or_written_is_refused(ddp, fsdp):
    assert all("5 questions a step" in error and "2 processes" in error for error in ddp["odd"])
    assert all("do not go with FSDP" in error for error in fsdp["lmbda"])


@pytest.mark.parametrize("processes", [2, 3])
def test_the_processes_shares_are_the_one_processs_batches(processes):
    passages = [row["passage"] for row in rows()]
    for epoch in (0, 1):
        shares = []
        for process in range(processes):
            steps = StepSampler(PassageSampler(passages, seed=1), 2 * processes, process, processes)
            steps.set_epoch(epoch)
            shares.append(list(steps))
            assert len(shares[-1]) == len(steps)
        alone = StepSampler(PassageSampler(passages, seed=1), 2 * processes)
        alone.set_epoch(epoch)
        assert [list(chain(*step)) for step in zip(*shares, strict=True)] == list(alone)
        assert sorted(chain(*alone)) == list(range(len(passages)))
