"""What a plan has to know about the world: which tasks, questions and models. Gathered without loading weights.

What cannot be found out is noted and not guessed: a run refuses to start without it, `--dry-run` plans around it and
`validate` says that it was not checked.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from kd_bench.errors import UserError
from kd_bench.recipe import Recipe
from kd_bench.runs.plan import sources_of

_SAMPLE = 4  # rendered prompts in a task's hash: the template shows in the first, what varies in the next few


@dataclass
class Facts:
    """plan: what `make_plan` and `describe` take. tasks: lm-eval task objects by name, of those that could be loaded.

    wrong: {subject: problems} that the user has to mend. unknown: {subject: problems} that another machine, with a
    network or the data, may not have. A subject in either is in `plan` under a placeholder.
    """

    plan: dict[str, Any]
    tasks: dict[str, Any] = field(default_factory=dict)
    wrong: dict[str, list[str]] = field(default_factory=dict)
    unknown: dict[str, list[str]] = field(default_factory=dict)

    def problems(self) -> list[str]:
        return [
            f"{subject}: {p}" for part in (self.wrong, self.unknown) for subject, some in part.items() for p in some
        ]


def gather(
    recipe: Recipe, progress: Callable[[str], Any] = lambda text: None, known: dict[tuple, Any] | None = None
) -> Facts:
    """Facts about every task and model of `recipe`. `progress` is told what is being looked at. known: tasks that were
    read for other recipes, which is added to. Raises nothing."""
    facts = Facts(plan={"tasks": {}, "models": {}, "shapes": {}})
    for name in dict.fromkeys([*recipe.tasks, *recipe.evaluation_tasks]):
        progress(f"reading task {name}")
        _add_task(facts, recipe, name, {} if known is None else known)
    for source in sources_of(recipe):
        progress(f"looking at model {source}")
        _add_model(facts, recipe, source)
    if problem := _unlike_answers(recipe, facts):
        facts.wrong["tasks"] = [problem]
    return facts


def _unlike_answers(recipe: Recipe, facts: Facts) -> str | None:
    """Models write answers with one stop string and one length: tasks that are trained on together have to agree."""
    from kd_bench.harness.examples import longest_answer, stop_string

    if not any(method.student_writes or method.completions == "teacher" for method in recipe.every_method):
        return None
    trained = [facts.tasks[name] for name in recipe.tasks if name in facts.tasks]
    ends = {(task.OUTPUT_TYPE == "generate_until", stop_string(task), longest_answer(task)) for task in trained}
    if len(ends) < 2 and all(generates for generates, _, _ in ends):
        return None
    names = ", ".join(task.task_name for task in trained)
    return f"{names}: a method whose answers a model writes takes generating tasks with one stop string and one length."


def _add_task(facts: Facts, recipe: Recipe, name: str, known: dict[tuple, Any]) -> None:
    from kd_bench.harness.examples import check_names, load_task

    subject = f"task {name}"
    facts.plan["tasks"][name] = {"version": None, "hash": "unknown", "fingerprint": {}}
    if problems := check_names([name]):
        facts.wrong[subject] = problems
        return
    key = (name, json.dumps(recipe.data.as_metadata(), sort_keys=True, default=str))
    try:
        task = known[key][0] if key in known else load_task(name, recipe.data.as_metadata())
    except UserError as error:
        # Data in a place that the recipe names is the user's to mend; without one it may be the network that is off.
        absent = error.problems[0].startswith("nothing to read") and recipe.data.dir is None
        (facts.unknown if absent else facts.wrong)[subject] = error.problems
        return
    except Exception as error:  # a task of somebody else's can fail in any way, most often for want of a network
        facts.unknown[subject] = [f"cannot be loaded: {type(error).__name__}: {first_line(error)}"]
        return
    facts.tasks[name] = task
    if problems := _missing_splits(task, name, recipe):
        facts.wrong[subject] = problems
        return
    if key not in known:
        known[key] = (task, task_fact(task))
    facts.plan["tasks"][name] = known[key][1]


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["(no message)"])[0]


def _missing_splits(task, name: str, recipe: Recipe) -> list[str]:
    trains, scored, split = name in recipe.tasks, name in recipe.evaluation_tasks, recipe.evaluation.split
    problems = []
    if trains and not task.has_training_docs():
        problems.append("has no training split, so nothing can be trained on it: leave it to `evaluation.tasks`.")
    if scored and split != "validation" and not task.has_test_docs():
        problems.append("has no test split to score: set `evaluation.split`, or leave the task out.")
    adaptive = any(method.sampling == "adaptive" for method in recipe.every_method)
    wanted = {
        "to score: set `evaluation.split`, or leave the task out.": scored and split != "test",
        "to choose a learning rate on: take `search` out.": scored and recipe.search is not None,
        "for DistiLLM's schedule to look at: name a method without it.": trains and adaptive,
    }
    if not task.has_validation_docs():
        problems += [f"has no validation split {why}" for why, needed in wanted.items() if needed]
    return problems


def split_names(task) -> dict[str, str]:
    """{train, validation, test, demo: the task's own name for it}, of those that it has and that are apart."""
    config = task.config
    names = {"train": config.training_split, "validation": config.validation_split, "test": config.test_split}
    names = {role: name for role, name in names.items() if name}
    if config.fewshot_split and config.fewshot_split not in names.values():
        names["demo"] = config.fewshot_split
    return names


def task_fact(task) -> dict[str, Any]:
    """{"version", "hash", "fingerprint", "training_split"}; hash: 16 hex digits over prompts as they are rendered.

    Rendered, and not the configuration's text: a changed template, demonstration or delimiter shows in a prompt, and a
    renamed key or a comment does not.
    """
    from kd_bench.data.splits import fingerprint
    from kd_bench.harness.examples import prompt, reference

    rendered = []
    for docs in (task.has_training_docs() and task.training_docs(), task.has_test_docs() and task.test_docs()):
        for doc, _ in zip(docs or [], range(_SAMPLE)):
            rendered.append([prompt(task, doc), reference(task, doc)])
    scorer = task.config.process_results
    scorer = f"{scorer.__module__}.{scorer.__qualname__}" if callable(scorer) else scorer
    content = [rendered, task.OUTPUT_TYPE, task.config.generation_kwargs, scorer, task.config.num_fewshot]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]
    names = split_names(task)
    own = {role: task.dataset[name] for role, name in names.items() if name in task.dataset}
    prints = fingerprint(own)
    if files := getattr(task.dataset, "files", None):
        prints["files"] = files
    return {"version": task.VERSION, "hash": digest, "fingerprint": prints, "training_split": "train"}


def _add_model(facts: Facts, recipe: Recipe, source: str) -> None:
    from kd_bench.models.load import check_model, model_config, model_fingerprint
    from kd_bench.models.size import sizes_from_config

    subject = f"model {source}"
    facts.plan["models"][source] = f"unknown:{source}"
    options = options_of(recipe, source)
    if problems := check_model(source, trust_remote_code=options["trust_remote_code"]):
        facts.wrong[subject] = problems
        return
    facts.plan["models"][source] = model_fingerprint(source, revision=options["revision"])
    try:
        config = model_config(source, **options)
    except UserError as error:
        facts.wrong[subject] = error.problems
        return
    if config is None:
        facts.unknown[subject] = [
            "it is not in the hub's cache, and the hub cannot be reached: fetch it, or name a folder."
        ]
        return
    facts.plan["shapes"][source] = {
        **sizes_from_config(config, trust_remote_code=options["trust_remote_code"]),
        "hidden_size": config.hidden_size,
        "vocab_size": config.vocab_size,
    }


def options_of(recipe: Recipe, source: str) -> dict[str, Any]:
    """How a source is to be loaded: what the first part of the recipe that names it says."""
    part = next(part for part in [recipe.teacher, *recipe.students] if part.model == source)
    return {"revision": part.revision, "trust_remote_code": part.trust_remote_code}


@cache
def tokenizer_of(source: str, *, revision: str | None = None, trust_remote_code: bool = False):
    """The tokenizer without the weights; kept, since one out of a GGUF takes seconds. Raises what transformers does."""
    from transformers import AutoTokenizer

    from kd_bench.models.load import locate

    found = locate(source)
    if found.kind == "hub":
        return AutoTokenizer.from_pretrained(found.name, revision=revision, trust_remote_code=trust_remote_code)
    files = {"gguf_file": found.gguf_file} if found.gguf_file else {}
    return AutoTokenizer.from_pretrained(str(found.folder), trust_remote_code=trust_remote_code, **files)
