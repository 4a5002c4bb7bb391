"""Runs the stages that are not done, each as soon as what it needs is there: here, in worker processes, or on Ray."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd_bench.errors import UserError
from kd_bench.runs.context import Contexts
from kd_bench.runs.executors.schedule import Schedule, duration
from kd_bench.runs.executors.work import Job, Needs, RunStage, Work
from kd_bench.runs.store import Store

__all__ = ["Executor", "Job", "duration", "execute"]


@dataclass(frozen=True)
class Executor:
    """Where stages are run. kind: local or ray. jobs: stages at a time (local; 1 runs them in this process). address:
    of the Ray cluster. processes, accelerate_config: how stages that train are launched; 1 and None: not at all."""

    kind: str = "local"
    jobs: int = 1
    address: str | None = None
    processes: int = 1
    accelerate_config: Path | None = None

    def __post_init__(self):
        problems = []
        if self.kind not in ("local", "ray"):
            problems.append(f"--executor {self.kind}: is neither local nor ray.")
        if self.kind == "ray" and self.jobs != 1:
            problems.append(f"--jobs {self.jobs}: goes with local; Ray runs as many stages as its nodes have room for.")
        if self.kind == "local" and self.address is not None:
            problems.append(f"--address {self.address}: goes with --executor ray.")
        if self.jobs < 1:
            problems.append(f"--jobs {self.jobs}: has to be 1 or more.")
        if self.processes < 1:
            problems.append(f"--processes {self.processes}: has to be 1 or more.")
        if self.accelerate_config is not None and not Path(self.accelerate_config).is_file():
            problems.append(f"--accelerate-config {self.accelerate_config}: no such file. See `accelerate config`.")
        if problems:
            raise UserError("executor", problems)


def execute(
    jobs: Iterable[Job],
    store: Store,
    console,
    *,
    executor: Executor | None = None,
    run_stage: RunStage | None = None,
    then: Callable[[Mapping[str, str]], Iterable[Job]] = lambda state: (),
    expected: int = 0,
    needs: Needs = lambda job, on_gpu: {},
    made_with: Callable[[], dict[str, Any]] | None = None,
    contexts: Contexts | None = None,
) -> dict[str, Path]:
    """Makes every stage that is not done; returns {stage key: folder} of those that are there.

    jobs: in an order in which each comes after what it needs; of equal stages the first is run. run_stage(stage, {role:
    folder of what it needs}, folder to write into, context), by default `stages.run_stage`; the folder is the one a
    killed run of the same stage left, so that its checkpoints are there. It and made_with, which is kept with each
    stage, have to be functions of a module where other processes are to run them. needs: options of Ray's tasks for a
    job, given whether it will have a GPU. contexts: this process's, from a caller who has task objects already. then:
    asked at the start and after each stage that was run, with {stage key: `Schedule.state`}, for jobs that are known
    only now; asked until it has none. expected: how many stages there will be in all, to number them by.

    A stage whose process is killed is tried again from its checkpoint, up to `schedule.RETRIES` times. Where its job
    says that it may fail, a training that diverged is kept in the store as failed, it is not tried again, and what
    depends on it is skipped. Any other failure stops what is running and is raised; working folders stay, as on Ctrl-C.
    Damaged stages are named, set aside and made again. Raises UserError also where another process has the run, the
    disk is full, or the executor is not to be had.
    """
    executor = executor or Executor()
    if run_stage is None:
        from kd_bench.runs.stages import run_stage
    if executor.processes > 1 or executor.accelerate_config is not None:
        from kd_bench.runs.executors.launch import Launched

        run_stage = Launched(run_stage, executor.processes, executor.accelerate_config)
    with store.lock():
        schedule = Schedule(store, console, expected)
        schedule.add(jobs)

        def more() -> bool:
            given = [*iter(lambda: schedule.add(then(schedule.state)), 0)]  # until it has none
            return bool(given)

        more()
        if not schedule.open():
            executor = Executor()  # to say so asks for no cluster
        root = store.root.absolute() if executor.kind == "ray" else store.root
        with closing(_pool(executor, root, needs, contexts or Contexts(store.root))) as pool:
            schedule.run(pool, lambda job: Work(job, root, run_stage, made_with), more)
        return schedule.there()


def _pool(executor: Executor, root: Path, needs: Needs, contexts: Contexts):
    if executor.kind == "ray":
        from kd_bench.runs.executors.on_ray import OnRay

        return OnRay(root, executor.address, needs, executor.processes)
    if executor.jobs > 1:
        from kd_bench.runs.executors.local import Workers

        return Workers(executor.jobs, root, executor.processes)
    from kd_bench.runs.executors.here import Here

    return Here(contexts)
