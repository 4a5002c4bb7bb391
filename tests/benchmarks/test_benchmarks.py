"""Each benchmark end to end on tiny random models: the numbers mean nothing here, the keys and the checks do."""

import copy
import json
import math
import os
import subprocess
import sys
from itertools import pairwise

import pytest
import torch

from benchmarks import common, evaluate, roofline, steps, study_cost, train_step
from benchmarks.named import NAMED
from kd_bench.models.size import sizes_from_config
from kd_bench.models.source import locate
from tests.conftest import ROOT
from tests.tiny import tiny_tokenizer

TASKS = ["--zeroshot", "fictqa_kd_en_zeroshot", "--oneshot", "fictqa_kd_en_oneshot", "--metadata", '{"size": 12}']

# The hub's own counts; Pythia's are also in the model cards, without embeddings.
PARAMETERS = {
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-3b": 3_085_938_688,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-0.5b": 494_032_768,
    "pythia-2.8b": 2_775_208_960,
    "pythia-1.4b": 1_414_647_808,
    "pythia-1b": 1_011_781_632,
    "pythia-410m": 405_334_016,
    "pythia-160m": 162_322_944,
    "pythia-70m": 70_426_624,
    "smollm2-1.7b": 1_711_376_384,
    "smollm2-360m": 361_821_120,
    "smollm2-135m": 134_515_008,
}
PYTHIA_WITHOUT_EMBEDDINGS = {
    "pythia-2.8b": 2_517_652_480,
    "pythia-1.4b": 1_208_602_624,
    "pythia-1b": 805_736_448,
    "pythia-410m": 302_311_424,
    "pythia-160m": 85_056_000,
    "pythia-70m": 18_915_328,
}


@pytest.fixture
def run(monkeypatch, capsys):
    """program, arguments -> its JSON; in this process, as are the processes that it would start.

    With the test tokenizer's vocabulary, and weights so wide that distributions differ by more than rounding.
    """
    monkeypatch.setattr(common.Models, "tokenizer", lambda self: tiny_tokenizer())
    for name, rows in (("tiny", 512), ("tiny-wide", 520)):
        config = copy.deepcopy(NAMED[name])
        config.vocab_size, config.initializer_range = rows, 0.1
        monkeypatch.setitem(NAMED, name, config)
    for program in (train_step, roofline):
        monkeypatch.setattr(program, "in_process", lambda function, *arguments: function(*arguments))

    def call(program, *arguments):
        monkeypatch.setattr(sys, "argv", ["program", *TASKS, "--json", *arguments])
        program.main()
        results = json.loads(capsys.readouterr().out)
        assert results["machine"] and results["torch"] == torch.__version__ and results["models"]["dtype"] == "float32"
        return results

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # models this small only wait for a second one
    yield call
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_named_configurations_have_the_real_models_sizes(name):
    sizes = sizes_from_config(NAMED[name])
    assert sizes["parameters"] == PARAMETERS[name]
    if name in PYTHIA_WITHOUT_EMBEDDINGS:
        assert sizes["parameters_without_embeddings"] == PYTHIA_WITHOUT_EMBEDDINGS[name]


def test_every_named_configuration_is_checked_and_has_smollm2s_ids():
    assert set(PARAMETERS) == {name for name in NAMED if not name.startswith("tiny")}
    assert min(config.vocab_size for config in NAMED.values()) >= 49_152
    assert NAMED["qwen2.5-7b"].vocab_size - NAMED["qwen2.5-0.5b"].vocab_size == 128


def test_train_step_follows_trls_trajectory_where_the_teacher_has_more_vocabulary(run):
    """Losses equal TRL's step by step while AdamW moves the weights of both."""
    results = run(train_step, "--config", "tiny-wide:tiny", "--steps", "3", "--batch-size", "3")
    for setting in ("zeroshot", "oneshot"):
        found = results[setting]
        assert list(found["variants"]) == list(steps.VARIANTS)
        assert found["loss_difference"] < 1e-4 and found["gradient_norm_difference"] < 1e-3
        losses = found["variants"][steps.SHIPPED]["losses"]
        assert len(losses) == 3 and len(set(losses)) == 3
        for key in ("speedup", "speedup_stored", "speedup_median", "peak_memory_ratio", "peak_memory_ratio_stored"):
            assert found[key] > 0
        trl, ours = found["variants"][steps.SHIPPED], found["variants"][steps.SHARED]
        assert found["speedup"] == pytest.approx(trl["total_seconds"] / ours["total_seconds"])
        assert ours["tokens"] < trl["tokens"]
        assert found["questions_per_passage"] > 1 and found["states_seconds"] > 0


def test_train_step_on_some_questions_of_one_passage_leaves_the_weights(run):
    results = run(train_step, "--config", "tiny-wide", "--layers", "2", "--questions", "1,2", "--repeats", "2")
    assert results["questions"] == [1, 2]
    for setting in ("zeroshot", "oneshot"):
        one, two = (results[setting]["by_questions"][n] for n in ("1", "2"))
        assert one["loss_difference"] < 1e-4
        first, second = two["variants"][steps.SHARED_STORED]["losses"]
        assert first == pytest.approx(second, rel=1e-6)
        tokens = [part["variants"][steps.SHIPPED]["tokens"] for part in (one, two)]
        assert tokens[1] >= 2 * tokens[0] > 0
        assert results[setting]["variants"][steps.SHIPPED]["tokens"] == pytest.approx(sum(tokens) / 2)


def test_questions_come_as_training_draws_them():
    rows, split = steps.as_they_come("fictqa_kd_en_zeroshot", tiny_tokenizer(), {"size": 12}, 3, 4)
    assert [row["index"] for row in rows] == list(range(12))
    passages = [row["passage"] for row in rows]
    changes = sum(a != b for a, b in pairwise(passages))
    assert changes == len(set(passages)) - 1  # a passage's questions stand together
    assert split["training_questions"] > 12


def test_evaluate_gives_the_same_answers(tmp_path):
    """As its user runs it: in a process of its own, with the real tokenizer."""
    arguments = ["--config", "tiny", *TASKS, "--limit", "3", "--batch-size", "2", "--json"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "evaluate.py"), *arguments],
        cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert results["unshared"] is None and results["batch_size"] == 2
    for setting in ("zeroshot", "oneshot"):
        found = results[setting]
        assert found["identical"] == 1.0 and found["documents"] == 3
        seconds = found["seconds"]
        assert found["speedup"] == pytest.approx(seconds[evaluate.HF] / seconds[evaluate.OURS])
        assert 1 <= found["generated_tokens"] <= found["limit"] == 48


def test_study_cost_counts_the_teachers_forwards(run):
    results = run(study_cost, "--config", "tiny-wide", "--students", "3,2", "--steps", "1", "--batch-size", "4",
                  "--seeds", "2", "--epochs", "2")  # fmt: skip
    trl, ours = (results["check"][name] for name in (study_cost.TRL, study_cost.OURS))
    assert ours["teacher_tokens_by_student"] == [0, 0] and ours["teacher_tokens_once"] > 0
    assert len(set(trl["teacher_tokens_by_student"])) == 1 and trl["teacher_tokens_by_student"][0] > 0
    assert results["tolerance"] == study_cost.TOLERANCE
    sizes = [(row["students"], row["seeds"], row["epochs"]) for row in results["studies"]]
    assert sizes == [(1, 1, 1), (1, 1, 2), (1, 2, 2), (2, 2, 2)]
    read = [[row[name]["teacher_tokens"] for row in results["studies"]] for name in (study_cost.TRL, study_cost.OURS)]
    assert len(set(read[1])) == 1  # however many students, seeds and epochs
    assert read[0] == pytest.approx([read[0][0] * times for times in (1, 2, 4, 8)], abs=4)
    assert all(row["speedup"] > 0 for row in results["studies"])


def test_a_study_costs_what_it_is_made_of():
    measured = {
        "once": 10.0,
        "teacher_tokens_once": 100,
        "students": [{"seconds": s, "teacher_seconds": 0.0, "teacher_tokens": 0} for s in (3.0, 2.0)],
    }
    assert study_cost.cost(measured, 2, 5, 3, 4.0) == {
        "seconds": 4 * (10 + 15 * 5),
        "teacher_seconds": 40.0,
        "teacher_tokens": 400,
    }
    twice = {**measured, "students": [{**one, "seconds": 2 * one["seconds"]} for one in measured["students"]]}
    assert study_cost.checked(measured, twice)["within_tolerance"]
    slower = {**twice, "once": 50.0}
    assert not study_cost.checked(measured, slower)["within_tolerance"]


def test_roofline_counts_the_steps_arithmetic(run):
    results = run(roofline, "--config", "tiny", "--layers", "2", "--steps", "2", "--batch-size", "4", "--size", "64")
    for setting in ("zeroshot", "oneshot"):
        found = results[setting]
        assert found["share"] == pytest.approx(found["flop"] / found["seconds"] / found["product_rate"])
        assert 0 < found["attention_flop"] < found["flop"]
        assert sum(group["share"] for group in found["groups"].values()) == pytest.approx(1)
        assert found["groups"]["matrix products"]["seconds"] > 0
        # A layer of `tiny`: q and o 32x32, k and v 32x16, three of 32x64; forward and twice that backward.
        linear = 2 * 3 * found["tokens"] * 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64)
        assert linear < found["flop"] - found["attention_flop"]
        student = sizes_from_config(NAMED["tiny"])["parameters"] - (2 * (32 * 32 + 32 * 16) + 3 * 32 * 64 + 64)
        assert found["bytes"]["optimizer"] == 2 * 7 * 4 * student
        assert found["bytes"]["backward"] == 2 * 2 * 4 * student
        assert math.isfinite(found["memory_seconds"]) and found["copy_rate"] > 0


def test_a_recipes_models_are_taken(monkeypatch):
    def models(*arguments):
        return common.Models.of(common.parser("").parse_args(arguments))

    first = models("--recipe", str(ROOT / "recipes" / "qwen.yaml"), "--dtype", "bfloat16")
    assert (first.teacher, first.student, first.dtype) == ("Qwen/Qwen2.5-7B", "Qwen/Qwen2.5-3B", "bfloat16")
    pruned = models("--recipe", str(ROOT / "recipes" / "smollm2_squad.yaml"))
    assert len(pruned.student) == 24 and pruned.teacher == common.SMOLLM2
    assert models("--config", "pythia-1b", "--layers", "4").student == 4
    assert models("--config", "a:b").student == "config:b"


def test_an_unknown_configuration_names_those_that_there_are(run, capsys):
    with pytest.raises(SystemExit) as caught:
        common.run(lambda: common.Models("config:qwen-9b", 2).load())
    assert caught.value.code == 2
    assert "qwen-9b" in (told := capsys.readouterr().err) and "qwen2.5-7b" in told


def test_a_process_of_its_own_and_a_users_mistake_in_it():
    assert common.in_process(os.getpid) != os.getpid()
    with pytest.raises(SystemExit, match="no such folder"):
        common.in_process(locate, "./nowhere")
