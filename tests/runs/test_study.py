"""Whole studies on tiny models: the paper's own files with tiny Qwen2 and Pythia in place of the real ones, and what a
study leaves behind."""

import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from kd_bench.errors import UserError
from kd_bench.leaderboard.record import read_results
from kd_bench.recipe_files import put, read_yaml
from kd_bench.runs.study import study
from kd_bench.study import load_study
from tests.conftest import ROOT
from tests.tiny import save_tiny, tiny_tokenizer

QUIET = Console(stderr=True, quiet=True)
SMALL = """\
name: small
grid: {{tasks: [[fictqa_kd_en_zeroshot], [fictqa_kd_en_oneshot]]}}
teacher: {{model: {folder}/teacher, finetune: {{epochs: 1, learning_rate: 1e-3, batch_size: 4}}}}
students: [{{name: half, init: {{keep_layers: 2, by: even}}}}]
methods: [sft, kd, distillm, distillm2, seqkd]
search: {{learning_rates: [1e-3, 3e-3], limit: 3}}
training: {{epochs: 1, batch_size: 4, limit: 8}}
evaluation: {{split: both, limit: 3}}
seeds: [0, 1]
data: {{size: 12}}
output: {folder}/runs
leaderboard: {folder}/results
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """(folder, file) of a finished study."""
    folder = tmp_path_factory.mktemp("study")
    save_tiny(folder / "teacher", "llama", layers=3)
    path = folder / "small.yaml"
    path.write_text(SMALL.format(folder=folder))
    study(load_study(path), False, QUIET)
    return folder, path


def records(folder: Path) -> dict:
    results, problems = read_results(folder / "results")
    assert not problems
    return {result.record.key: result.record for result in results}


def test_every_model_of_every_run_has_a_record_with_both_splits_trials_and_curve(small):
    found = records(small[0])
    runs = {key.run for key in found}
    assert runs == {"small.fictqa_kd_en_zeroshot", "small.fictqa_kd_en_oneshot"}
    labels = ("sft", "kd", "distillm", "distillm2", "seqkd")
    trained = {f"half-{label}" for label in labels}
    assert {(key.model, key.seed) for key in found} == {
        ("teacher", None),
        ("half-undistilled", None),
        *((name, seed) for name in trained for seed in (0, 1)),
    }
    for key, record in found.items():
        assert record.provenance.study == "small"
        assert record.provenance.point == {"tasks": [key.task]} and key.run.endswith(key.task)
        assert record.validation.scores["f1"].n == 3
        assert (record.selection is not None) == (key.model in trained)
        assert (record.curve is not None) == (key.model != "half-undistilled")
        if record.selection:
            assert [trial.learning_rate for trial in record.selection.trials] == [1e-3, 3e-3]
            best = max(record.selection.trials, key=lambda trial: (trial.score, -trial.learning_rate))
            assert record.method["learning_rate"] == best.learning_rate


def test_what_runs_have_in_common_is_made_once_and_a_repeated_study_makes_nothing(small):
    folder, path = small
    stages = [stage.name for stage in (folder / "runs" / "small").iterdir() if (stage / "stage.json").is_file()]
    kinds = [name.split("-")[0] for name in stages]
    # A run: one teacher, its answers, states of the data's answers and of its own.
    assert (kinds.count("teacher"), kinds.count("completions"), kinds.count("states")) == (2, 2, 4)
    assert kinds.count("train") == 2 * 5 * (2 + 1)  # two trials, one of them the first seed's, and the second seed
    before = {path.name: path.stat().st_mtime_ns for path in (folder / "runs" / "small").iterdir()}
    text = {file.name: file.read_bytes() for file in (folder / "results").iterdir()}
    study(load_study(path), False, QUIET)
    assert before == {path.name: path.stat().st_mtime_ns for path in (folder / "runs" / "small").iterdir()} | {
        name: before[name] for name in before if name.startswith(".")
    }
    assert text == {file.name: file.read_bytes() for file in (folder / "results").iterdir()}


def test_the_preview_counts_stages_tokens_time_and_disk(small, tmp_path):
    _, path = small
    rows = {row["stage"]: row for row in study(load_study(path), True, QUIET)}
    assert rows["all"]["done"] == rows["all"]["stages"] and rows["all"]["bytes"] == 0 == rows["all"]["tokens"]
    fresh = {row["stage"]: row for row in study(load_study(path, [f"output={tmp_path}"]), True, QUIET)}
    assert fresh["all"]["done"] == 0
    assert fresh["teacher"]["stages"] == 2 and fresh["teacher"]["tokens"] > 0 and fresh["teacher"]["seconds"] > 0
    assert fresh["all"]["stages"] == sum(row["stages"] for name, row in fresh.items() if name != "all")
    assert fresh["all"]["bytes"] > 0


@pytest.fixture
def diverging(tmp_path, monkeypatch):
    """The file of a study whose trainings diverge at learning rates above 0.9."""
    from kd_bench.distill.trainer import DistillTrainer

    original = DistillTrainer._require_finite

    def poisoned(self, value, what):
        original(self, value * float("nan") if self.args.learning_rate > 0.9 else value, what)

    monkeypatch.setattr(DistillTrainer, "_require_finite", poisoned)
    save_tiny(tmp_path / "teacher", "llama", layers=3)
    path = tmp_path / "small.yaml"
    path.write_text(SMALL.format(folder=tmp_path))
    return path


ONE_RUN = ["grid={tasks: [[fictqa_kd_en_zeroshot]]}", "methods=[kd]", "seeds=[0]", "evaluation.limit=2"]


def test_a_learning_rate_that_fails_is_recorded_and_stops_nothing(tmp_path, diverging):
    study(load_study(diverging, [*ONE_RUN, "search.learning_rates=[1e-3, 0.99]"]), False, QUIET)
    record = next(r for key, r in records(tmp_path).items() if key.model == "half-kd")
    good, bad = record.selection.trials
    assert good.score is not None and record.method["learning_rate"] == 1e-3
    assert bad.score is None and re.search("nan at step 1", bad.error)


def test_a_run_whose_rates_all_failed_is_told_at_the_end_and_the_others_are_recorded(tmp_path, diverging):
    rates = {"bad": "[0.98, 0.99]", "good": "[1e-3, 0.99]"}
    runs = [f"{{search.learning_rates: {some}, label: {label}}}" for label, some in rates.items()]
    for _ in range(2):
        with pytest.raises(UserError) as told:
            study(load_study(diverging, [*ONE_RUN, f"runs=[{', '.join(runs)}]"]), False, QUIET)
        assert told.value.where == "small"
        said = [problem.partition("; ")[0] for problem in told.value.problems]
        failed = "small.bad-fictqa_kd_en_zeroshot: search: half-{}: every learning rate failed"
        assert said == [failed.format("sft"), failed.format("kd")]
        assert {key.run for key in records(tmp_path)} == {"small.good-fictqa_kd_en_zeroshot"}


@pytest.mark.parametrize(("name", "architecture"), [("qwen", "qwen2"), ("pythia", "gpt_neox")])
def test_the_papers_studies_run_with_tiny_models_in_place_of_the_real_ones(tmp_path, name, architecture):
    """Qwen2.5's 7B has more vocabulary rows than its students: 520 against 512 here."""
    data = read_yaml(ROOT / "recipes" / "study_qa" / f"{name}.yaml")
    tokenizer = tiny_tokenizer(512)
    save_tiny(tmp_path / "teacher", architecture, layers=3, vocab_size=520, tokenizer=tokenizer)
    data["teacher"]["model"] = str(tmp_path / "teacher")
    data["students"] = data["students"][-2:]
    for number, student in enumerate(data["students"]):
        save_tiny(tmp_path / student["name"], architecture, layers=1 + number, seed=number, tokenizer=tokenizer)
        student["model"] = str(tmp_path / student["name"])
    # What is tiny about it beside the models: a generated data set, few questions, one seed; dtype, since a CPU may
    # have no bfloat16.
    changes = {"grid": {"tasks": [["fictqa_kd_de_oneshot"]]}, "seeds": [0], "training.dtype": "float32"}
    changes |= {"teacher.dtype": "float32", "training.limit": 8, "training.epochs": 1, "evaluation.limit": 2}
    changes |= {"search.limit": 2, "search.learning_rates": [1e-4, 1e-3], "data": {"size": 12}}
    changes |= {"output": str(tmp_path / "runs"), "leaderboard": str(tmp_path / "results")}
    assert not [problem for key, value in changes.items() if (problem := put(data, key.split("."), value))]
    path = tmp_path / "study.yaml"
    path.write_text(json.dumps(data))
    rows = study(load_study(path), False, QUIET)
    students = [student["name"] for student in data["students"]]
    labels = ["undistilled", "sft", "kd", "distillm", "distillm2", "gkd"]
    assert [row["model"] for row in rows] == ["teacher", *(f"{s}-{label}" for s in students for label in labels)]
    assert all(row["train_seconds"] > 0 for row in rows if not row["model"].endswith("undistilled"))


@pytest.mark.parametrize("name", ["qwen", "pythia"])
def test_the_papers_studies_plan_completely_without_a_hub(name, monkeypatch, tmp_path):
    """No model and no data at hand: every stage is planned all the same, and what is not known is said to be so."""
    monkeypatch.delenv("KD_BENCH_DATA", raising=False)
    rows = {row["stage"]: row for row in study(load_study(f"study_qa/{name}", [f"output={tmp_path}"]), True, QUIET)}
    students = {"qwen": 3, "pythia": 5}[name]
    assert rows["teacher"]["stages"] == 10
    assert rows["train"]["stages"] == 10 * students * 5 * (3 + 4)  # five methods; three trials, four more seeds
    assert rows["train"]["seconds"] is None and rows["all"]["done"] == 0
