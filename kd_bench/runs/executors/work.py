"""What every executor does with a stage, in whatever process: runs it in its folder, finishes it, says how it went."""

import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from kd_bench.errors import UserError
from kd_bench.recipe import Recipe
from kd_bench.runs.context import Context, Contexts
from kd_bench.runs.plan import Stage
from kd_bench.runs.store import Store, disk_errors

RunStage = Callable[[Stage, dict[str, Path], Path, Context], None]


class Job(NamedTuple):
    """A stage, and a recipe that it belongs to: recipes of one study share the stages whose keys are equal. may_fail: a
    training that diverges is no error, being one trial of many."""

    stage: Stage
    recipe: Recipe
    may_fail: bool = False


Needs = Callable[[Job, bool], dict[str, Any]]


class Work(NamedTuple):
    """All that a process needs to do a job; goes from process to process. root: the store's."""

    job: Job
    root: Path
    run_stage: RunStage
    made_with: Callable[[], dict[str, Any]] | None


class Outcome(NamedTuple):
    """How it went, one of the four. seconds: it is finished. problem: where and problems of a UserError. crash: any
    other error's traceback. died: how its process ended, which was not asked to."""

    seconds: float | None = None
    problem: tuple[str, list[str]] | None = None
    crash: str | None = None
    died: str | None = None


class Died(Exception):
    """A process that did the stage's work was killed: what it wrote stays, and the stage can go on from there."""


def attempt(work: Work, contexts: Contexts) -> Outcome:
    """Does the stage and finishes it in the store. Errors that are nobody's mistake are raised."""
    store, stage = Store(work.root), work.job.stage
    try:
        with disk_errors(store.root):
            folder = store.begin(stage)
            began = time.monotonic()
            inputs = {role: store.path(need) for role, need in stage.needs.items()}
            work.run_stage(stage, inputs, folder, contexts.of(work.job.recipe))
            seconds = time.monotonic() - began
            # By whoever wrote: only its machine can flush what it wrote, and is the one that the numbers are of.
            store.finish(stage, seconds, work.made_with() if work.made_with else None)
    except UserError as error:
        return Outcome(problem=(error.where, error.problems))
    except Died as error:
        return Outcome(died=str(error))
    return Outcome(seconds=seconds)


def attempt_far(work: Work, contexts: Contexts) -> Outcome:
    """The same for a process of its own: no error leaves it but as an outcome, since not all can be pickled."""
    try:
        return attempt(work, contexts)
    except Exception:
        return Outcome(crash=traceback.format_exc())
