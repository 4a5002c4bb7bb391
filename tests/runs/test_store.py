import errno
import json
import os
import subprocess
import sys

import pytest
from rich.console import Console

from kd_bench.errors import UserError
from kd_bench.runs.execute import Job, duration
from kd_bench.runs.execute import execute as execute_jobs
from kd_bench.runs.plan import Stage
from kd_bench.runs.store import Store
from tests.runs.fake_stages import RECIPE

FIRST = Stage("init", "a b", {"x": 1})
SECOND = Stage("train", "c", {"y": [1, 2]}, {"student": FIRST})


def execute(stages, store, run_stage, console):
    return execute_jobs([Job(stage, RECIPE) for stage in stages], store, console, run_stage=run_stage)


class Recorder:
    """A run_stage that notes what it was given and writes one file."""

    def __init__(self, fail_at: str | None = None, error: BaseException | None = None):
        self.ran, self.fail_at, self.error = [], fail_at, error

    def __call__(self, stage, inputs, out, context):
        self.ran.append(stage.name)
        (out / "checkpoint").write_text(stage.name)
        if stage.name == self.fail_at:
            raise self.error
        (out / "sub").mkdir(exist_ok=True)
        (out / "sub" / "result").write_text(f"{context.recipe.name} {sorted(inputs)}")
        assert all((folder / "stage.json").is_file() for folder in inputs.values())


def console() -> Console:
    return Console(record=True, width=200, force_terminal=False)


def test_runs_in_order_once(tmp_path):
    store, run = Store(tmp_path / "run"), Recorder()
    folders = execute([FIRST, SECOND], store, run, console())
    assert run.ran == ["a b", "c"]
    assert (folders[SECOND.key] / "sub" / "result").read_text() == "fake ['student']"
    passport = store.passport(SECOND)
    assert passport["kind"] == "train"
    assert passport["params"] == {"y": [1, 2]}
    assert passport["needs"] == {"student": FIRST.key}
    assert passport["seconds"] >= 0
    assert not any((tmp_path / "run" / ".partial").iterdir())

    again, said = Recorder(), console()
    assert execute([FIRST, SECOND], store, again, said) == folders
    assert again.ran == []
    assert said.export_text().count("done before") == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt(), UserError("x", "no"), RuntimeError("boom")])
def test_a_stopped_stage_keeps_its_folder_and_goes_on_there(tmp_path, error):
    store = Store(tmp_path)
    with pytest.raises(type(error)):
        execute([FIRST, SECOND], store, Recorder("c", error), console())
    assert store.state(FIRST) == "done"
    assert store.state(SECOND) == "partial"
    assert (store.partial(SECOND) / "checkpoint").read_text() == "c"

    run, said = Recorder(), console()
    execute([FIRST, SECOND], store, run, said)
    assert run.ran == ["c"]
    assert "goes on where it was" in said.export_text()
    assert store.done(SECOND)


def truncate(folder):
    (folder / "sub" / "result").write_text("")


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda folder: (folder / "stage.json").write_text("{"), "stage.json cannot be read"),
        (lambda folder: (folder / "stage.json").write_text("[]"), "stage.json cannot be read"),
        (lambda folder: (folder / "stage.json").unlink(), "stage.json cannot be read"),
        (lambda folder: (folder / "checkpoint").unlink(), "checkpoint is missing"),
        (truncate, "result has 0 bytes instead of"),
    ],
)
def test_a_damaged_stage_is_named_set_aside_and_made_again(tmp_path, harm, told):
    store = Store(tmp_path)
    execute([FIRST, SECOND], store, Recorder(), console())
    for number in (1, 2):
        harm(store.path(FIRST))
        assert store.state(FIRST) == "damaged"
        assert not store.done(FIRST)
        run, said = Recorder(), console()
        execute([FIRST, SECOND], store, run, said)
        assert run.ran == ["a b"]  # what was made out of it before the damage stays
        text = said.export_text()
        assert told in text
        assert f"set aside as {FIRST.key}.damaged-{number}" in text
        assert (tmp_path / f"{FIRST.key}.damaged-{number}").is_dir()
        assert store.done(FIRST)


def test_a_folder_of_another_stage_is_not_taken_for_this_one(tmp_path):
    store = Store(tmp_path)
    execute([FIRST], store, Recorder(), console())
    passport = store.passport(FIRST) | {"digest": "0" * 64}
    (store.path(FIRST) / "stage.json").write_text(json.dumps(passport))
    assert store.damage(FIRST) == "stage.json is another stage's"


def test_an_interrupted_finish_leaves_no_finished_stage(tmp_path, monkeypatch):
    store = Store(tmp_path)
    (store.begin(FIRST) / "weights").write_text("w")

    def killed(self, target):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.rename", killed)
        with pytest.raises(KeyboardInterrupt):
            store.finish(FIRST)
    assert store.state(FIRST) == "partial"
    store.finish(FIRST)
    assert store.done(FIRST)
    assert "stage.json" not in store.passport(FIRST)["files"]


def test_one_process_a_run(tmp_path):
    hold = (
        "import sys; from kd_bench.runs.store import Store\n"
        f"with Store({str(tmp_path)!r}).lock():\n print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        run = Recorder()
        with pytest.raises(UserError, match=f"process {other.pid} on .* is working on this run"):
            execute([FIRST], Store(tmp_path), run, console())
        assert run.ran == []
        other.kill()  # no goodbye: a killed process must not leave the run locked
    execute([FIRST], Store(tmp_path), run, console())
    assert run.ran == ["a b"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_told_and_the_folder_kept(tmp_path, error):
    store = Store(tmp_path)
    with pytest.raises(UserError, match="the disk is full: make room"):
        execute([FIRST], store, Recorder("a b", error), console())
    assert store.state(FIRST) == "partial"


def test_a_failure_is_kept_and_can_be_forgotten(tmp_path):
    store = Store(tmp_path)
    (store.begin(FIRST) / "checkpoint").write_text("NaN")
    store.fail(FIRST, UserError("train x", ["lr 0.1: the loss is NaN", "lower it"]))
    assert store.state(FIRST) == "failed"
    assert store.failed(FIRST) == "train x: 2 problems\n  lr 0.1: the loss is NaN\n  lower it"
    assert not store.partial(FIRST).exists()
    store.forget(FIRST)
    assert (store.state(FIRST), store.failed(FIRST)) == ("to do", None)


def test_a_run_folder_that_cannot_be_made_is_told(tmp_path, monkeypatch):
    def refused(self, *args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.mkdir", refused)
        with pytest.raises(UserError, match=r"cannot be written: Permission denied\. Set `output`"):
            execute([FIRST], Store(tmp_path / "run"), Recorder(), console())


def test_the_key_is_a_folder_name_and_of_the_content():
    assert FIRST.key.startswith("init-a-b-")
    assert Stage("init", "other name", {"x": 1}).digest == FIRST.digest
    assert Stage("init", "a b", {"x": 2}).digest != FIRST.digest
    assert Stage("train", "c", {"y": [1, 2]}, {"student": Stage("init", "a b", {"x": 2})}).digest != SECOND.digest
    assert Stage("train", "c", {"y": [1, 2]}, {"teacher": FIRST}).digest != SECOND.digest


def test_durations_read_well():
    assert [duration(s) for s in (0.04, 9.96, 59.4, 60, 200, 7500)] == [
        "0.0 s", "10.0 s", "59 s", "1 min 00 s", "3 min 20 s", "2 h 05 min"
    ]  # fmt: skip
