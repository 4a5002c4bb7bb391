"""What a run keeps beside its results: listed, removed, never mistaken for another's, never a result."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from kd_bench.distill import body
from kd_bench.errors import UserError
from kd_bench.recipe import load_recipe
from kd_bench.runs import stages, tokens
from kd_bench.runs.cache import entries, remove
from kd_bench.runs.distill import distill
from kd_bench.runs.store import Store
from tests.tiny import save_tiny

RECIPE = """\
name: small
teacher: {{model: "{folder}/teacher"}}
students: [{{name: half, init: {{keep_layers: 2, by: even}}}}, {{name: third, init: {{layers: [0, 2]}}}}]
tasks: [fictqa_kd_en_oneshot]
training: {{epochs: 1, batch_size: 4, limit: 8}}
evaluation: {{limit: 2}}
data: {{size: 12}}
output: "{folder}/runs"
leaderboard: "{folder}/results"
"""


@pytest.fixture
def run(tmp_path):
    save_tiny(tmp_path / "teacher", "llama", layers=3)
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(folder=tmp_path))
    return lambda *overrides: distill(load_recipe(path, overrides), False, Console(stderr=True, quiet=True))


def test_questions_are_tokenised_once(tmp_path, run, monkeypatch):
    calls = []
    monkeypatch.setattr(tokens, "features", lambda *args, own=tokens.features: (calls.append(1), own(*args))[1])
    run()
    run("seeds=[0,1]", "training.epochs=2")
    assert len(calls) == 1
    run("training.limit=7")
    assert len(calls) == 2


def test_a_second_student_needs_no_teacher(tmp_path, run, monkeypatch):
    """Its states are there, so its body runs no more: not for another student, method or seed."""
    run("students=[{name: half, init: {keep_layers: 2, by: even}}]")
    widths = []

    def noted(model, *args, own=body.predicting_states):
        widths.append(model.config.num_hidden_layers)
        return own(model, *args)

    monkeypatch.setattr("kd_bench.distill.states.predicting_states", noted)
    monkeypatch.setattr("kd_bench.distill.trainer.predicting_states", noted)
    rows = run("method.divergence=reverse_kl", "seeds=[3]")
    assert {row["model"] for row in rows} >= {"third-reverse_kl", "half-reverse_kl"}
    assert set(widths) == {2}  # the students' layers: the teacher has three


def test_a_model_is_loaded_once_to_train_and_to_evaluate_it(tmp_path, run, monkeypatch):
    loads, own = [], stages.load_model

    def noted(source, **kw):
        loads.append(Path(source).parent.name)
        return own(source, **kw)

    monkeypatch.setattr("kd_bench.runs.stages.load_model", noted)
    monkeypatch.setattr("kd_bench.models.load.load_model", noted)
    tasks = "evaluation.tasks=[fictqa_kd_en_oneshot,fictqa_kd_en_zeroshot]"
    run(tasks, "students=[{name: half, init: {layers: [0, 2]}}]")
    # The teacher as it comes, in memory for its scores, its states and the student's making; the student, evaluated
    # untrained and then trained, and once more to be trained the other way.
    assert len(loads) == 2, loads
    assert loads[1].startswith("init-half")


def test_models_in_memory_score_as_those_on_the_disk(tmp_path, run):
    in_memory = {row["model"]: row["scores"] for row in run()}
    for folder in (tmp_path / "runs" / "small").glob("evaluate-*"):
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    assert {row["model"]: row["scores"] for row in run()} == in_memory


def test_what_is_kept_is_listed_and_removed(tmp_path, run):
    run()
    root = tmp_path / "runs"
    rows = {row["what"]: row for row in entries(root)}
    assert set(rows) == {"teacher states", "tokens"}
    states = root / rows["teacher states"]["key"]
    assert rows["teacher states"]["bytes"] == sum(file.stat().st_size for file in states.iterdir())
    assert rows["teacher states"]["made"].startswith("20")
    with pytest.raises(UserError, match="elsewhere: nothing is kept"):
        remove(root, ["small", "elsewhere"])
    with Store(root / "small").lock(), pytest.raises(UserError, match="is working on this run"):
        remove(root, ["small"])
    before = json.dumps(run(), sort_keys=True)
    assert {row["key"] for row in remove(root, ["small"])} == {row["key"] for row in rows.values()}
    assert entries(root) == []
    assert json.dumps(run(), sort_keys=True) == before  # nothing is trained or scored again
    assert entries(root) == []  # nor is the teacher asked: all that was to learn from it is done
    run("method.divergence=reverse_kl")
    assert {row["what"] for row in entries(root)} == {"teacher states", "tokens"}


@pytest.mark.parametrize(("dtype", "share"), [("bfloat16", 0.5), ("float16", 0.5)])
def test_states_in_half_the_bits_take_half_the_room(tmp_path, run, dtype, share):
    run()
    run(f"training.teacher_states_dtype={dtype}")
    whole, half = sorted(file.stat().st_size for file in (tmp_path / "runs/small").glob("states-*/states.npy"))[::-1]
    header = 128
    assert half - header == share * (whole - header)
