"""Stages that do next to nothing, for executors: functions of a module, so that other processes can run them."""

import io
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console

from kd_bench.errors import UserError
from kd_bench.recipe import Recipe
from kd_bench.runs.execute import Job
from kd_bench.runs.plan import Stage
from kd_bench.runs.store import Store

RECIPE = Recipe(name="fake", teacher={"model": "t"}, students=[{"name": "s", "model": "m"}], tasks=["any"])


def stage(name: str, *needs: Stage, kind: str = "init", **params) -> Stage:
    return Stage(kind, name, {"name": name, **params}, {f"r{i}": need for i, need in enumerate(needs)})


def jobs(*stages: Stage, may_fail: Iterable[Stage] = ()) -> list[Job]:
    return [Job(some, RECIPE, some in may_fail) for some in stages]


def diamond() -> list[Stage]:
    """a -> b, c -> d, and e by itself."""
    a = stage("a")
    b, c = stage("b", a), stage("c", a)
    return [a, b, c, stage("d", b, c), stage("e")]


def run_stage(stage: Stage, inputs: dict[str, Path], out: Path, context) -> None:
    """Writes what it read; or does what its params say: kill (so many times), fail, crash, meet, sleep."""
    params = stage.params
    tries = out / "tries"
    tries.write_text(str(int(tries.read_text()) + 1 if tries.exists() else 1))
    if int(tries.read_text()) <= params.get("kill", 0):
        os.kill(os.getpid(), signal.SIGKILL)
    if "fail" in params:
        raise UserError("training", params["fail"])
    if "crash" in params:
        raise RuntimeError(params["crash"])
    for name in params.get("meet", []):  # stages that are there only if they run at the same time
        _meet(context.folder, stage.name, name)
    time.sleep(params.get("sleep", 0))
    (out / "sub").mkdir(exist_ok=True)
    (out / "sub" / "result").write_text(
        f"{stage.name}({','.join((inputs[r] / 'sub/result').read_text() for r in inputs)})"
    )


def _meet(folder: Path, own: str, other: str) -> None:
    (folder / f"met-{own}").touch()
    deadline = time.monotonic() + 60
    while not (folder / f"met-{other}").exists():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{other} never came")
        time.sleep(0.05)


def run_rank(stage: Stage, inputs: dict[str, Path], out: Path, context) -> None:
    """One process of a training: leaves its rank; does to itself what the params say of it."""
    rank = os.environ.get("RANK", "none")
    tries = out / f"tries-{rank}"
    tries.write_text(str(int(tries.read_text()) + 1 if tries.exists() else 1))
    if stage.params.get("kill") == rank and tries.read_text() == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    if stage.params.get("fail") == rank:
        raise UserError("training", "the loss is NaN")
    if stage.params.get("crash") == rank:
        raise RuntimeError("boom")
    if "fail" in stage.params or "crash" in stage.params:
        time.sleep(300)  # as a process that waits for the one that has failed
    (out / f"rank-{rank}").write_text(os.environ.get("WORLD_SIZE", "none"))


def contents(store: Store, stages: list[Stage]) -> dict[str, str]:
    return {some.key: (store.path(some) / "sub" / "result").read_text() for some in stages}


def console() -> Console:
    return Console(record=True, width=300, force_terminal=False, file=io.StringIO())
