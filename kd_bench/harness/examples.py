"""Training examples out of an lm-eval task: the prompts and targets of the very object that evaluates.

No second prompt template exists: `Task.fewshot_context` and `Task.construct_requests` render the prompt, as they do
in `lm_eval`, and what the model must write is the reference answer in the task's own words and delimiters.
"""

import difflib
import importlib.util
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path

from kd_bench.errors import UserError

FEWSHOT_SEED = 1234  # what `lm_eval` sets by default
_LOUD = ("lm_eval", "datasets", "transformers")


@dataclass(frozen=True)
class Example:
    """What the model reads, what it must write after it, and which document it comes from.

    `completion` begins with the task's target delimiter. A `generated` one ends with the task's first stop string
    (`stop`, empty where the task has none), so that a student learns to stop where the evaluation stops it; the others
    (multiple choice) are the gold choice and nothing else, as they are scored.
    """

    prompt: str
    completion: str
    doc_id: str
    generated: bool = True
    stop: str = ""
    task: str = ""


@contextmanager
def quiet() -> Iterator[None]:
    """Without the log lines that lm-eval prints for every task that it loads."""
    levels = {name: logging.getLogger(name).level for name in _LOUD}
    for name in _LOUD:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@cache
def _manager(folders: tuple[str, ...], defaults: bool, metadata: str):
    from lm_eval.tasks import TaskManager

    with quiet():
        return TaskManager(include_path=list(folders), include_defaults=defaults, metadata=json.loads(metadata))


def _folders() -> tuple[str, ...]:
    """Where our YAMLs lie (the working copy's `tasks/`, so that an edit counts without a reinstall, else lm-eval's),
    and the folders of `$KD_BENCH_TASKS`, for tasks of the user's own."""
    installed = Path(importlib.util.find_spec("lm_eval").origin).parent / "tasks" / "kd_bench"
    source = Path(__file__).resolve().parents[2] / "tasks"
    own = next(folder for folder in (source, installed) if folder.is_dir())
    return (str(own), *filter(None, os.environ.get("KD_BENCH_TASKS", "").split(os.pathsep)))


def task_manager(names: list[str], metadata: dict | None = None):
    """lm-eval's index of tasks. Where `names` are all ours, of ours alone: reading the other 14,000 takes seconds."""
    folders, text = _folders(), json.dumps(metadata or {}, sort_keys=True)
    own = _manager(folders, False, text)
    return own if names and set(names) <= set(own.all_tasks) else _manager(folders, True, text)


def check_names(names: list[str]) -> list[str]:
    """One problem a name that lm-eval does not know, with the nearest that it does."""
    known = task_manager(names).all_tasks
    problems = []
    for name in names:
        if name not in known:
            near = ", ".join(difflib.get_close_matches(name, known, n=3, cutoff=0.5))
            problems.append(f"no task `{name}`." + (f" Nearest: {near}." if near else " See `kd-bench ls tasks`."))
    return problems


def load_task(name: str, metadata: dict | None = None):
    """The lm-eval task object `name`; `metadata` reaches its data (`data_dir`, `demo_seed`, ...).

    Raises UserError for a name that is not a single task.
    """
    if problems := check_names([name]):
        raise UserError("tasks", problems)
    with quiet():
        loaded = task_manager([name], metadata).load([name])["tasks"]
    if list(loaded) != [name]:
        raise UserError("tasks", f"`{name}` is a group; name its tasks: {', '.join(loaded)}")
    task = loaded[name]
    task.set_fewshot_seed(FEWSHOT_SEED)
    return task


def prompt(task, doc: dict) -> str:
    """The prompt of `doc` as `task` renders it for evaluation (no chat template, the task's own number of shots)."""
    return task.fewshot_context(doc, task.config.num_fewshot or 0)


def reference(task, doc: dict) -> str:
    """What `task` wants written after the prompt of `doc`: delimiter, gold answer (or gold choice), stop string.

    Raises UserError for an output type that has no text to write.
    """
    if task.multiple_input:
        raise UserError(task.task_name, "its choices are in the prompt (multiple inputs): nothing to write after it")
    target = task.doc_to_target(doc)
    if task.OUTPUT_TYPE == "multiple_choice":
        choices = task.doc_to_choice(doc)
        index = target[0] if isinstance(target, list) else target
        target = choices[index] if isinstance(index, int) else index
    elif task.OUTPUT_TYPE not in ("generate_until", "loglikelihood"):
        raise UserError(task.task_name, f"output type {task.OUTPUT_TYPE} has no completion to train on")
    if isinstance(target, list):
        target = target[0]
    return f"{task.config.target_delimiter}{target}{stop_string(task)}"


def stop_string(task) -> str:
    """The first stop string of a generating task, else ''."""
    if task.OUTPUT_TYPE != "generate_until":
        return ""
    until = (task.config.generation_kwargs or {}).get("until") or []
    return until if isinstance(until, str) else next(iter(until), "")


def longest_answer(task) -> int:
    """How many tokens a model may write to a question of `task`, as lm-eval cuts them (256 where the task says
    nothing)."""
    return int((task.config.generation_kwargs or {}).get("max_gen_toks", 256))


def _example(task, doc: dict, index: int) -> Example:
    before, after = prompt(task, doc), reference(task, doc)
    generated = task.OUTPUT_TYPE == "generate_until"
    if not generated:  # lm-eval scores a context's trailing spaces as part of the continuation
        stripped = before.rstrip()
        before, after = stripped, before[len(stripped) :] + after
    return Example(before, after, str(doc.get("id", index)), generated, stop_string(task), task.task_name)


def examples(task, split: str = "train", limit: int | None = None) -> list[Example]:
    """The documents of the task's `train`, `validation` or `test` split as Examples, in the task's order: all, or the
    first `limit`.

    Raises UserError where the task has no such split, or it is empty.
    """
    reader = {"train": "training_docs", "validation": "validation_docs", "test": "test_docs"}[split]
    if not getattr(task, f"has_{reader}")():
        raise UserError(task.task_name, f"has no {split} split")
    found = [_example(task, doc, index) for index, doc in enumerate(islice(getattr(task, reader)(), limit))]
    if not found:
        raise UserError(task.task_name, f"its {split} split is empty")
    return found
