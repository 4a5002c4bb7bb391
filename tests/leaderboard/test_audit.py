import json
import subprocess
from pathlib import Path

import pytest

from kd_bench.errors import UserError
from kd_bench.leaderboard.audit import audit, audit_since
from kd_bench.leaderboard.record import write_record
from tests.conftest import ROOT
from tests.leaderboard.made import lines, result

SCORES = [1.0, 0.0, 1.0, 0.0]


def write(folder: Path, name: str = "student", scores=SCORES, **changes) -> Path:
    return write_record(folder, *result(scores, name, "distilled", **changes))


def edit(path: Path, old: str, new: str) -> None:
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_the_records_here_hold():
    assert audit(ROOT / "leaderboard" / "results") == []


def test_what_holds_has_no_problems(tmp_path):
    write(tmp_path)
    write(tmp_path, "other", seed=3)
    assert audit(tmp_path) == []
    with pytest.raises(UserError, match="no such folder"):
        audit(tmp_path / "none")


def test_a_record_is_called_what_it_holds(tmp_path):
    path = write(tmp_path)
    path.rename(tmp_path / "better.json")
    (problem,) = audit(tmp_path)
    assert problem == "better.json: holds what belongs into run.student.toy.json; rename it"


def test_samples_are_there_and_give_the_scores(tmp_path):
    for name in ("gone", "none", "changed", "error", "foreign"):
        write(tmp_path, name)
    (tmp_path / "run.gone.toy.samples.jsonl").unlink()
    edit(tmp_path / "run.none.toy.json", '"samples": "run.none.toy.samples.jsonl"', '"samples": null')
    edit(tmp_path / "run.changed.toy.json", '"value": 0.5', '"value": 0.75')
    stderr = json.loads((tmp_path / "run.error.toy.json").read_text())["scores"]["f1"]["stderr"]
    edit(tmp_path / "run.error.toy.json", f'"stderr": {stderr}', '"stderr": 0.01')
    edit(tmp_path / "run.foreign.toy.json", "run.foreign.toy.samples", "run.error.toy.samples")
    (tmp_path / "run.nobody.toy.samples.jsonl").write_text("")
    said = "\n".join(audit(tmp_path))
    assert "run.gone.toy.json: its samples file run.gone.toy.samples.jsonl is missing" in said
    assert "run.none.toy.json: has no samples" in said
    assert "run.changed.toy.samples.jsonl: its f1 is not that of the record" in said
    assert "run.error.toy.samples.jsonl: its f1's standard error is not that of the record" in said
    assert "run.foreign.toy.json: names run.error.toy.samples.jsonl as its samples" in said
    assert "run.nobody.toy.samples.jsonl: no record has these samples" in said
    assert len(said.splitlines()) == 6


def test_one_result_is_claimed_once_whatever_the_runs_are_called(tmp_path):
    write(tmp_path)
    write(tmp_path, provenance__run="another")
    # Each of these is another result.
    for run, changes in enumerate(
        (
            {"provenance__recipe_hash": "x"},
            {"model__revision": "x"},
            {"model__source": "hub/other"},
            {"task__version": 2.0},
            {"task__num_fewshot": 1},
            {"seed": 1},
        )
    ):
        write(tmp_path, provenance__run=f"run{run}", **changes)
    (problem,) = audit(tmp_path)
    assert problem.startswith("run.student.toy.json: claims the same student, task, recipe and seed as another.student")


@pytest.mark.parametrize(
    "old, new, why",
    [
        ('"name": "student"', '"name": "x/../student"', "model.name: must not have path separators"),
        ('"name": "student"', '"name": "stu\\u0007dent"', "model.name: must not have path separators, control"),
        ('"value": 0.5', '"value": 1.5', "scores.f1.value: Input should be less than or equal to 1"),
        ('"value": 0.5', '"value": NaN', "NaN is not a number that JSON allows"),
        ('"value": 0.5', '"value": 1e999', "scores.f1.value: Input should be a finite number"),
        ('"value": 0.5', '"value": "0.5"', "scores.f1.value: Input should be a valid number"),
        ('"schema_version": 1', '"schema_version": 7', "schema_version 7 is not 1"),
        ('"method": null', '"method": ' + '{"a":' * 400 + "1" + "}" * 400, "nested more than 20 deep"),
        ('"method": null', '"method": ' + "[" * 50_000 + "]" * 50_000, "nested too deeply"),
        ('"method": null', '"method": {"epochs": 1' + "0" * 400 + "}", "an integer of more than 64 bits"),
        ('"parameters": 750', '"parameters": 1' + "0" * 400, "an integer of more than 64 bits"),
        ('"source": "hub/model"', '"source": "\\ud800"', "half a surrogate pair"),
        ('"split": "test"', '"split": "test", "extra": 1', "task.extra: Extra inputs are not permitted"),
    ],
)
def test_hostile_records_are_named_and_the_rest_goes_on(tmp_path, old, new, why):
    write(tmp_path, "good")
    edit(write(tmp_path), old, new)
    (problem,) = audit(tmp_path)
    assert problem.startswith("run.student.toy.json: ") and why in problem


def test_files_that_are_no_files_are_not_read(tmp_path):
    write(tmp_path, "good")
    (tmp_path / "endless.json").symlink_to("/dev/zero")
    (tmp_path / "long.json").write_text(" " * (1 << 20) + "{}")
    assert [problem.split(": ")[:2] for problem in audit(tmp_path)] == [
        ["endless.json", "is not a regular file; left out"],
        ["long.json", "1,048,578 bytes, more than the 1,048,576 that are read; left out"],
    ]


@pytest.mark.parametrize("prediction", ["7", '["a"]', '"\\ud800"'])
def test_a_prediction_is_text(tmp_path, prediction):
    write(tmp_path)
    edit(tmp_path / "run.student.toy.samples.jsonl", '"answer 2"', prediction)
    (problem,) = audit(tmp_path)
    assert "line 3 is not a question's scores" in problem


@pytest.fixture
def history(tmp_path):
    """A repository whose folder `results` has two records, committed."""

    def git(*words):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=tmp_path, check=True)

    results = tmp_path / "board" / "results"
    write(results, "a")
    write(results, "b", trained_on={"declared": ["test"]})
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    return results


def test_nothing_is_removed(history):
    assert audit_since(history, "HEAD") == []
    write(history, "c")
    assert audit_since(history, "HEAD") == []
    for path in history.glob("run.a.*"):
        path.unlink()
    (problem,) = audit_since(history, "HEAD")
    assert problem.startswith("run.a.toy.json: is gone since HEAD")


def test_scores_stay_unless_the_tasks_version_moves(history):
    quarter = [*SCORES[:3], 1.0]
    write(history, "a", lines([1.0, 0.0, 0.9985, 0.0]))  # a mean of 0.0004 less: within what another machine gives
    assert audit_since(history, "HEAD") == []
    write(history, "a", quarter)
    (problem,) = audit_since(history, "HEAD")
    assert "run.a.toy.json: moved since HEAD" in problem and "f1 from 0.5000 to 0.7500" in problem
    write(history, "a", quarter, task__hash="another")  # the hash is in the submitter's hands, and no version
    assert len(audit_since(history, "HEAD")) == 1
    write(history, "a", quarter, task__version=2.0)
    assert audit_since(history, "HEAD") == []
    write(history, "a", lines(SCORES, metric="em"))
    (problem,) = audit_since(history, "HEAD")
    assert "f1 from 0.5000 to nothing" in problem


def test_what_a_model_was_trained_on_is_not_taken_back(history):
    write(history, "b")
    (problem,) = audit_since(history, "HEAD")
    assert problem.startswith("run.b.toy.json: what the model was trained on")


def test_an_unknown_revision_is_refused(history):
    for revision in ("nowhere", "--output=x"):
        with pytest.raises(UserError, match="--since"):
            audit_since(history, revision)
