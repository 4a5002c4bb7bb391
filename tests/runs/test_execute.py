"""Executors on stages that do next to nothing: order, parallel work, deaths, failures that may be, processes of one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kd_bench.errors import UserError
from kd_bench.runs.execute import Executor, Job, execute
from kd_bench.runs.plan import Stage
from kd_bench.runs.store import Store
from tests.conftest import ROOT
from tests.runs.fake_stages import RECIPE, console, contents, diamond, jobs, run_rank, run_stage, stage

TWO = Executor(jobs=2)
BOTH = pytest.mark.parametrize("executor", [Executor(), TWO], ids=["here", "workers"])


def ran(store: Store, said, stages, may_fail=(), **how):
    return execute(jobs(*stages, may_fail=may_fail), store, said, run_stage=run_stage, **how)


def test_workers_make_what_one_process_makes_and_only_once(tmp_path):
    stages, one, two = diamond(), Store(tmp_path / "one"), Store(tmp_path / "two")
    ran(one, console(), stages)
    folders = ran(two, console(), stages, executor=TWO, made_with=versions)
    assert folders == {some.key: two.path(some) for some in stages}
    assert contents(two, stages) == contents(one, stages)
    assert contents(one, stages)[stages[3].key] == "d(b(a()),c(a()))"
    assert two.passport(stages[0])["made_with"] == {"library": 1}
    said = console()
    assert ran(two, said, stages, executor=TWO) == folders
    assert said.export_text().count("done before") == 5


def versions():
    return {"library": 1}


def test_stages_that_can_run_at_once_do(tmp_path):
    first = stage("first")
    b, c = stage("b", first, meet=["c"]), stage("c", first, meet=["b"])  # each waits for the other to be there
    folders = ran(Store(tmp_path), console(), [first, b, c], executor=TWO)
    assert len(folders) == 3


def test_what_becomes_known_to_do_runs_beside_what_was_known_before(tmp_path):
    trial = stage("trial")
    known, found = stage("known", meet=["found"]), stage("found", trial, meet=["known"])  # each waits for the other
    seen = []

    def then(state):
        seen.append(dict(state))
        return jobs(trial, found) if state[trial.key] == "done" and found.key not in state else []

    said, store = console(), Store(tmp_path)
    folders = ran(store, said, [trial, known], executor=TWO, then=then, expected=3)
    assert folders == {some.key: store.path(some) for some in (trial, known, found)}
    assert seen[0] == {trial.key: "to do", known.key: "to do"} and set(seen[-1].values()) == {"done"}
    assert "3/3 init     found  done" in said.export_text()
    said = console()
    assert ran(store, said, [trial, known], then=then) == folders
    assert said.export_text().count("done before") == 3


def test_what_a_trial_may_fail_at_is_an_error_to_who_needs_it(tmp_path):
    bad = stage("bad", fail="NaN")
    then = iter([[], jobs(bad), []])
    with pytest.raises(UserError, match="NaN"):
        ran(Store(tmp_path), console(), [bad], may_fail=[bad], then=lambda state: next(then))


def test_workers_print_into_their_log_and_not_on_the_terminal(tmp_path, capfd):
    ran(Store(tmp_path), console(), [stage("a", kind="init")], executor=TWO)
    execute(jobs(stage("loud")), Store(tmp_path), console(), run_stage=print_stage, executor=TWO)
    assert capfd.readouterr() == ("", "")
    assert "as loud as it gets" in (tmp_path / ".logs" / "worker-0.log").read_text()


def print_stage(stage, inputs, out, context):
    print("as loud as it gets", flush=True)


def test_equal_stages_of_two_recipes_are_run_once(tmp_path):
    stages, said = diamond(), console()
    other = RECIPE.model_copy(update={"name": "other"})
    execute([*jobs(*stages), *(Job(some, other) for some in stages)], Store(tmp_path), said, run_stage=run_stage)
    assert said.export_text().count("starts") == 5


def test_a_stage_whose_worker_is_killed_goes_on_from_its_checkpoint(tmp_path):
    store, said = Store(tmp_path), console()
    a = stage("a", kill=2)
    ran(store, said, [a, stage("b", a), stage("c")], executor=TWO)
    assert (store.path(a) / "tries").read_text() == "3"
    text = said.export_text()
    assert "its process died (killed by SIGKILL, as when memory runs out" in text
    assert "tried again from its checkpoint, 2 of 2" in text


def test_a_stage_that_dies_every_time_stops_the_run(tmp_path):
    store = Store(tmp_path)
    a = stage("a", kill=9)
    with pytest.raises(UserError, match=r"init a: its process died 3 times, at last: killed by SIGKILL"):
        ran(store, console(), [a, stage("b", a)], executor=TWO)
    assert store.state(a) == "partial"
    assert (store.partial(a) / "tries").read_text() == "3"


@BOTH
def test_a_failure_that_may_be_is_kept_and_skips_what_needs_it(tmp_path, executor):
    store = Store(tmp_path)
    bad = stage("bad", fail="lr 1.0: the loss is NaN")
    scored, other = stage("scored", bad, kind="evaluate"), stage("other")
    mean = stage("mean", scored, other)
    for told, tries in (("failed, which may be", 1), ("failed before", 0)):
        said = console()
        folders = ran(store, said, [bad, scored, other, mean], executor=executor, may_fail=[bad])
        assert folders == {other.key: store.path(other)}
        text = said.export_text()
        assert f"{told}: training: lr 1.0: the loss is NaN" in text
        assert "skipped: it needs bad" in text and "skipped: it needs scored" in text
        assert text.count("starts") == tries * 2
    assert store.failed(bad) == "training: lr 1.0: the loss is NaN"
    with pytest.raises(UserError, match="NaN"):  # to whom it may not fail has it tried again
        ran(store, console(), [bad, scored], executor=executor)
    assert store.state(bad) == "partial"


def test_states_that_only_skipped_stages_need_are_not_made(tmp_path):
    bad = stage("bad", fail="no")
    states = stage("teacher", kind="states")
    trained = stage("trained", states, bad, kind="train")
    store, said = Store(tmp_path), console()
    ran(store, console(), [bad], may_fail=[bad])
    assert ran(store, said, [bad, states, trained], may_fail=[bad]) == {}
    assert "not needed" in said.export_text()


@BOTH
def test_any_other_failure_stops_the_run_with_its_own_message(tmp_path, executor):
    store, said = Store(tmp_path), console()
    bad, after = stage("bad", fail="the disk of the teacher is gone"), stage("after")
    with pytest.raises(UserError, match="training: the disk of the teacher is gone"):
        ran(store, said, [bad, stage("next", bad)], executor=executor)
    assert store.state(bad) == "partial"
    with pytest.raises(RuntimeError, match="boom"):
        ran(store, said, [stage("worse", crash="boom"), after], executor=executor)
    ran(store, said, [after], executor=executor)  # the lock is free again


def test_what_runs_beside_a_failure_is_stopped_and_goes_on_later(tmp_path):
    store, said = Store(tmp_path), console()
    slow, bad = stage("slow"), stage("bad")
    with pytest.raises(UserError, match="training: no"):
        execute(jobs(slow, bad), store, said, run_stage=fail_once_met, executor=TWO)
    assert "slow  stopped: a repeated command goes on where it was" in said.export_text()
    assert store.state(slow) == "partial"


def fail_once_met(stage, inputs, out, context):
    if stage.name == "bad":
        deadline = time.monotonic() + 60
        while not list((context.folder / ".partial").glob("init-slow-*/tries")) and time.monotonic() < deadline:
            time.sleep(0.05)
        raise UserError("training", "no")
    run_stage(Stage("init", "slow", {"sleep": 300}), inputs, out, context)


DRIVER = """
import sys
from pathlib import Path
from kd_bench.runs.execute import Executor, execute
from kd_bench.runs.store import Store
from tests.runs.fake_stages import console, jobs, run_stage, stage

if __name__ == "__main__":
    two = Executor(jobs=2)
    execute(jobs(stage("slow", sleep=300)), Store(sys.argv[1]), console(), run_stage=run_stage, executor=two)
"""


def test_workers_end_with_a_driver_that_is_killed(tmp_path):
    """Else the next driver's worker and this one's would work on the same stage."""
    (tmp_path / "driver.py").write_text(DRIVER)
    driver = subprocess.Popen([sys.executable, tmp_path / "driver.py", tmp_path / "run"], env=environment())
    tries = wait_for(lambda: next((tmp_path / "run" / ".partial").glob("init-slow-*/tries"), None))
    log = tmp_path / "run" / ".logs" / "worker-0.log"
    assert tries.read_text() == "1" and holders(log)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert wait_for(lambda: not holders(log))


def environment():
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


def holders(file) -> list[str]:
    """Processes that have `file` open (Linux)."""
    found = []
    for link in Path("/proc").glob("[0-9]*/fd/1"):
        try:
            if link.readlink() == file:
                found.append(link.parts[2])
        except OSError:
            continue
    return found


def wait_for(condition, seconds: float = 60):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.1)
    return found


def test_only_stages_that_train_are_launched_as_several_processes(tmp_path):
    store = Store(tmp_path)
    plain = Stage("evaluate", "plain", {})
    trained = Stage("train", "trained", {}, {"student": plain})
    teacher = Stage("teacher", "finetuned", {"finetune": {"epochs": 1}})
    execute(jobs(plain, trained, teacher), store, console(), run_stage=run_rank, executor=Executor(processes=2))
    ranks = {some.name: sorted(p.name for p in store.path(some).glob("rank-*")) for some in (plain, trained, teacher)}
    assert ranks == {"plain": ["rank-none"], "trained": ["rank-0", "rank-1"], "finetuned": ["rank-0", "rank-1"]}
    assert (store.path(trained) / "rank-1").read_text() == "2"


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_process_of_a_training_that_is_killed_has_it_tried_again(tmp_path, rank):
    store, said = Store(tmp_path), console()
    trained = Stage("train", "trained", {"kill": rank})
    execute(jobs(trained), store, said, run_stage=run_rank, executor=Executor(processes=2))
    assert "a process of the training was killed" in said.export_text()
    assert (store.path(trained) / f"tries-{rank}").read_text() == "2"


def test_a_user_error_in_a_process_of_a_training_comes_back_as_that(tmp_path, capfd):
    with pytest.raises(UserError, match=r"^training: the loss is NaN$"):
        execute(jobs(Stage("train", "t", {"fail": "1"})), Store(tmp_path), console(), run_stage=run_rank,
                executor=Executor(processes=2))  # fmt: skip
    assert "Traceback" not in capfd.readouterr().err
    with pytest.raises(RuntimeError, match=r"run_rank[\s\S]*boom"):
        execute(jobs(Stage("train", "t", {"crash": "0"})), Store(tmp_path), console(), run_stage=run_rank,
                executor=Executor(processes=2))  # fmt: skip


def test_settings_that_do_not_go_together_are_told_all_at_once():
    with pytest.raises(UserError) as told:
        Executor(kind="slurm", jobs=0, processes=0, accelerate_config="none.yaml")
    assert [problem.split()[0] for problem in told.value.problems] == [
        "--executor", "--jobs", "--processes", "--accelerate-config",
    ]  # fmt: skip
    with pytest.raises(UserError, match="--address h:1: goes with --executor ray"):
        Executor(address="h:1")
    with pytest.raises(UserError, match="--jobs 2: goes with local"):
        Executor(kind="ray", jobs=2)
