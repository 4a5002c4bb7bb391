"""Stages on tiny models beyond the main job: students of their own, other vocabularies, tasks that are not ours."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from kd_bench.recipe import load_recipe
from kd_bench.runs.distill import distill
from tests.test_parity import stranger  # noqa: F401 (a fixture)
from tests.tiny import save_tiny, tiny_tokenizer

HEAD = """\
name: other
teacher: {{model: {folder}/teacher}}
output: {folder}/runs
leaderboard: {folder}/results
evaluation: {{limit: 3}}
"""


def run(folder: Path, recipe: str) -> dict[str, dict]:
    path = folder / "recipe.yaml"
    path.write_text(HEAD.format(folder=folder) + recipe.format(folder=folder))
    rows = distill(load_recipe(path), False, Console(stderr=True, quiet=True))
    return {row["model"]: row for row in rows}


def test_a_student_of_its_own_with_fewer_vocabulary_rows_writes_its_own_completions(tmp_path):
    """As Qwen2.5-7B and its students are; `lmbda` needs the teacher itself beside its states for the fixed answers."""
    tokenizer = tiny_tokenizer(512)
    save_tiny(tmp_path / "teacher", "qwen2", layers=3, vocab_size=520, tokenizer=tokenizer)
    save_tiny(tmp_path / "small", "qwen2", layers=2, vocab_size=512, seed=1, tokenizer=tokenizer)
    rows = run(
        tmp_path,
        """\
students: [{{name: small, model: "{folder}/small"}}]
tasks: [fictqa_kd_en_oneshot]
method: {{divergence: jsd, beta: 0.5, lmbda: 0.5}}
baselines: [undistilled]
training: {{epochs: 1, batch_size: 4, limit: 8}}
data: {{size: 12}}
""",
    )
    assert set(rows) == {"teacher", "small-undistilled", "small-jsd"}
    assert len(list((tmp_path / "runs" / "other").glob("states-*"))) == 1
    assert rows["small-jsd"]["train_seconds"] > 0


def test_a_strangers_multiple_choice_task_is_distilled(tmp_path, stranger):  # noqa: F811
    """From the layers missed least to the record, in lm-eval's own YAML; without gold answers there is no floor."""
    save_tiny(tmp_path / "teacher", "gpt_neox", layers=4)
    rows = run(
        tmp_path,
        f"""\
students: [{{{{name: half, init: {{{{keep_layers: 2, by: loss}}}}}}}}]
tasks: [{stranger}]
methods: [{{{{divergence: adaptive_kl}}}}, {{{{divergence: alpha_beta, learning_rate: 1e-4}}}}]
training: {{{{epochs: 2, batch_size: 4}}}}
""",
    )
    assert set(rows) == {"teacher", "half-undistilled", "half-sft", "half-adaptive_kl", "half-alpha_beta"}
    method = json.loads(next((tmp_path / "results").glob("*.half-alpha_beta.*.json")).read_text())["method"]
    assert (method["name"], method["alpha"], method["beta"], method["learning_rate"]) == ("alpha_beta", 0.2, 0.7, 1e-4)
    assert rows["half-adaptive_kl"]["layers"] == 2
    assert all(0 <= row["scores"]["acc"] <= 1 and row["floor"] == {} for row in rows.values())
    (chosen,) = (tmp_path / "runs" / "other").glob("init-*/layers.json")
    measured = json.loads(chosen.read_text())
    assert len(measured["removed"]) == 2 and measured["layers"][0] == 0 and measured["layers"][-1] == 3


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_states_are_those_of_the_teacher_that_stands_there(tmp_path, architecture):
    """Another teacher is another key: its states are made anew, and the first one's are left alone."""
    recipe = """\
students: [{{name: half, init: {{keep_layers: 2, by: even}}}}]
tasks: [fictqa_kd_de_zeroshot]
baselines: []
training: {{epochs: 1, batch_size: 4, limit: 4}}
data: {{size: 12}}
"""
    save_tiny(tmp_path / "teacher", architecture, layers=3)
    run(tmp_path, recipe)
    save_tiny(tmp_path / "teacher", architecture, layers=3, seed=1)
    run(tmp_path, recipe)
    assert len(list((tmp_path / "runs" / "other").glob("states-*"))) == 2
