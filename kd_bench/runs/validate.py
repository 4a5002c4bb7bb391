"""Everything that can be checked of a recipe without loading weights. A check that was not made is said to be so."""

import importlib.util
import json
from collections.abc import Callable
from functools import cache
from typing import Any

from kd_bench.errors import UserError
from kd_bench.recipe import Recipe
from kd_bench.runs.facts import Facts, first_line, gather, options_of, split_names, tokenizer_of
from kd_bench.runs.params import least
from kd_bench.runs.plan import make_plan, sources_of
from kd_bench.runs.tokens import VALIDATED

Row = dict[str, str]  # {"check", "result": "ok" | "problem" | "not checked", "detail"}


def validate(recipe: Recipe, progress: Callable[[str], Any] = lambda text: None) -> list[Row]:
    """A row a check, in the order in which a run would meet them."""
    facts = gather(recipe, progress)
    rows = [_row("keys and values", "ok", f"students: {len(recipe.students)}; seeds: {len(recipe.seeds)}")]
    rows += _tasks(recipe, facts)
    progress("comparing splits")
    rows += check_leaks(recipe, facts)
    rows += _models(recipe, facts)
    rows += check_layers(recipe, facts)
    rows += check_lora(recipe, facts)
    rows += check_backend(recipe, facts)
    progress("comparing vocabularies")
    rows += check_vocabularies(recipe, facts)
    progress("counting tokens")
    rows += check_lengths(recipe, facts)
    if not any(row["result"] == "problem" for row in rows):
        rows.append(_row("plan", "ok", f"{len(make_plan(recipe, facts.plan))} stages"))
    return rows


def _row(check: str, result: str, detail: str) -> Row:
    return {"check": check, "result": result, "detail": detail}


def _found(subject: str, facts: Facts) -> list[Row]:
    rows = [_row(subject, "problem", problem) for problem in facts.wrong.get(subject, [])]
    return rows + [_row(subject, "not checked", problem) for problem in facts.unknown.get(subject, [])]


def _tasks(recipe: Recipe, facts: Facts) -> list[Row]:
    rows = []
    for name in facts.plan["tasks"]:
        subject = f"task {name}"
        if found := _found(subject, facts):
            rows += found
            continue
        prints = facts.plan["tasks"][name]["fingerprint"]
        counts = [f"{prints[split]['questions']:,} {split}" for split in prints if split != "files"]
        rows.append(_row(subject, "ok", f"read: {', '.join(counts)} questions"))
    return rows


def _models(recipe: Recipe, facts: Facts) -> list[Row]:
    rows = []
    for source in sources_of(recipe):
        if found := _found(f"model {source}", facts):
            rows += found
            continue
        shape = facts.plan["shapes"][source]
        detail = (
            f"{shape['parameters'] / 1e6:,.1f} M parameters, {shape['layers']} layers by its config; weights not read"
        )
        rows.append(_row(f"model {source}", "ok", detail))
    return rows


def check_leaks(recipe: Recipe, facts: Facts) -> list[Row]:
    """No article, passage or question on two sides, over all tasks of the recipe that could be read."""
    from kd_bench.data.splits import check_no_leak

    check = "no leak between splits"
    sets = {}
    for name, task in facts.tasks.items():
        own = split_names(task)
        sets[name] = {role: task.dataset[split] for role, split in own.items() if split in task.dataset}
    missing = [name for name in facts.plan["tasks"] if name not in sets]
    rows = [
        _row(check, "problem", problem) for problem in check_no_leak(sets, trained_on=set(recipe.tasks) & set(sets))
    ]
    if missing:
        rows.append(_row(check, "not checked", f"for {', '.join(missing)}: not read"))
    elif not rows:
        rows.append(_row(check, "ok", f"{len(sets)} tasks: articles, passages and questions compared"))
    return rows


def check_layers(recipe: Recipe, facts: Facts) -> list[Row]:
    """The layers that students keep are layers that the teacher has."""
    shape = facts.plan["shapes"].get(recipe.teacher.model)
    rows = []
    for student in recipe.students:
        if student.init is None:
            continue
        check = f"layers of {student.name}"
        if shape is None:
            rows.append(_row(check, "not checked", f"the config of {recipe.teacher.model} is not at hand"))
            continue
        layers, init = shape["layers"], student.init
        if init.layers and init.layers[-1] >= layers:
            rows.append(_row(check, "problem", f"layer {init.layers[-1]} of a teacher with {layers}, counted from 0"))
        elif init.keep_layers and init.keep_layers > layers:
            rows.append(_row(check, "problem", f"{init.keep_layers} of a teacher with {layers}: keep fewer"))
        else:
            rows.append(_row(check, "ok", f"{len(init.layers or []) or init.keep_layers} of {layers}"))
    return rows


def check_lora(recipe: Recipe, facts: Facts) -> list[Row]:
    """The modules that get adapters are modules that the model has; what quantizes is installed."""
    from kd_bench.models.load import model_config
    from kd_bench.models.lora import lora_targets
    from kd_bench.models.quantize import MISSING

    adapted = []  # (who, source, targets)
    finetune = recipe.teacher.finetune
    if finetune and finetune.lora:
        adapted.append(("teacher", recipe.teacher.model, finetune.lora.targets))
    if recipe.training.lora:
        adapted += [(s.name, s.model or recipe.teacher.model, recipe.training.lora.targets) for s in recipe.students]
    rows = []
    for who, source, targets in adapted:
        check = f"adapters of {who}"
        if source not in facts.plan["shapes"]:
            rows.append(_row(check, "not checked", f"the config of {source} is not at hand"))
            continue
        options = options_of(recipe, source)
        known = lora_targets(model_config(source, **options), trust_remote_code=options["trust_remote_code"])
        if absent := [target for target in targets or [] if target not in known]:
            detail = f"{', '.join(absent)}: {source} has no such linear module; it has {', '.join(known)}"
            rows.append(_row(check, "problem", detail))
        else:
            rows.append(_row(check, "ok", ", ".join(targets or known)))
    used = {finetune and finetune.quantize, recipe.teacher.quantize, *(b for s in recipe.students for b in s.quantize)}
    if (bits := sorted(used - {None})) and not importlib.util.find_spec("bitsandbytes"):
        rows.append(_row(f"quantization to {', '.join(bits)}", "problem", MISSING))
    return rows


def check_vocabularies(recipe: Recipe, facts: Facts) -> list[Row]:
    """Teacher and students with a model of their own share their tokens, id by id."""
    from kd_bench.models.vocabulary import shared_vocabulary

    rows = []
    shapes, teacher = facts.plan["shapes"], recipe.teacher.model
    for student in recipe.students:
        if student.model is None:
            continue
        check = f"vocabulary of {student.name}"
        absent = [source for source in (teacher, student.model) if source not in shapes]
        if absent:
            rows.append(_row(check, "not checked", f"{' and '.join(absent)} not at hand"))
            continue
        try:
            tokenizers = [tokenizer_of(source, **options_of(recipe, source)) for source in (teacher, student.model)]
            sizes = [shapes[source]["vocab_size"] for source in (teacher, student.model)]
            shared = shared_vocabulary(*tokenizers, *sizes)
        except UserError as error:
            rows += [_row(check, "problem", problem) for problem in error.problems]
        except Exception as error:  # transformers raises whatever a tokenizer's own files provoke
            rows.append(_row(check, "not checked", f"tokenizer: {first_line(error)}"))
        else:
            rows.append(_row(check, "ok", f"{shared:,} ids shared of the teacher's {sizes[0]:,} and its {sizes[1]:,}"))
    return rows


def check_backend(recipe: Recipe, facts: Facts) -> list[Row]:
    """What evaluates is installed, where it does not come along."""
    from kd_bench.harness.evaluate import backend_problem

    backend = recipe.evaluation.backend
    problem = backend_problem(backend, recipe.output)
    return [_row(f"evaluation by {backend}", "problem", problem)] if problem else []


def check_lengths(recipe: Recipe, facts: Facts) -> list[Row]:
    """Every training example and every evaluation prompt fits into every model's context; counted, not estimated."""
    rows = []
    for source in sources_of(recipe):
        check = f"prompts fit {source}"
        if source not in facts.plan["shapes"] or not facts.tasks:
            rows.append(_row(check, "not checked", "the tokenizer or the tasks are not at hand"))
            continue
        try:
            rows += _lengths(recipe, facts, source, check)
        except UserError as error:
            rows += [_row(check, "problem", problem) for problem in error.problems]
        except Exception as error:
            rows.append(_row(check, "not checked", f"tokenizer: {first_line(error)}"))
    return rows


def _lengths(recipe: Recipe, facts: Facts, source: str, check: str) -> list[Row]:
    from kd_bench.distill.features import encode
    from kd_bench.harness.evaluate import context_problems
    from kd_bench.harness.examples import examples
    from kd_bench.models.load import model_config

    options = options_of(recipe, source)
    context = getattr(model_config(source, **options), "max_position_embeddings", None)
    if context is None:
        return [_row(check, "not checked", "its config does not say how long its context is")]
    tokenizer = tokenizer_of(source, **options)
    rows, longest = [], 0
    for name, task in facts.tasks.items():
        if name in recipe.tasks:
            some = examples(task, "train", recipe.training.limit)
            if any(method.sampling == "adaptive" for method in recipe.every_method):
                some += examples(task, "validation", VALIDATED)
            lengths = [sum(map(len, encode(example, tokenizer))) for example in some]
            longest = max(longest, *lengths)
            long = sum(length > context for length in lengths)
            if long:
                detail = f"{long} of {len(lengths)} training examples are longer than {context}; longest {max(lengths)}"
                rows.append(_row(check, "problem", f"{name}: {detail}. Nothing is truncated: take a longer context."))
        if name in recipe.evaluation_tasks:
            for asked, limit in _asked(recipe, task, name):
                rows += [_row(check, "problem", p) for p in context_problems(asked, tokenizer, context, limit)]
    return rows or [_row(check, "ok", f"context of {context:,} tokens; longest training example {longest:,}")]


def _asked(recipe: Recipe, task, name: str) -> list[tuple[Any, int | None]]:
    """(task, limit) of each split that is evaluated."""
    split, limit = recipe.evaluation.split, recipe.evaluation.limit
    found = [(task, limit)] if split != "validation" else []
    if split != "test" or recipe.search:
        fewer = recipe.search.limit if split == "test" else None
        metadata = json.dumps(recipe.data.as_metadata(), sort_keys=True, default=str)
        found.append((_validating(name, metadata), least(limit, fewer)))
    return found


@cache
def _validating(name: str, metadata: str):
    """The task set to evaluate its validation split; kept, since every model's tokenizer is tried on it."""
    from kd_bench.harness.evaluate import load_tasks

    return load_tasks([name], json.loads(metadata), "validation")[0]
