"""The leaderboard's last sections: what each model weighs and costs, how it was made, with what."""

import shlex
from collections.abc import Iterable
from statistics import fmean

from kd_bench.leaderboard.escape import (
    MISSING,
    code,
    command,
    duration,
    escape,
    grid,
    hardware,
    millions,
    one_line,
    size,
)
from kd_bench.leaderboard.rows import Models
from kd_bench.leaderboard.schema import Record, Result

# What tells two methods apart; the whole of it is in the record.
SETTINGS = (
    "sampling",
    "completions",
    "teacher_quantize",
    "temperature",
    "beta",
    "alpha",
    "skew",
    "lmbda",
    "cross_entropy",
)
SETTINGS += ("teacher_noise", "epochs", "learning_rate", "batch_size", "limit")
# The hub's names of the data sets behind our tasks.
DATASETS = {"squad_kd": "rajpurkar/squad_v2", "mlqa_kd": "facebook/mlqa", "xquad_kd": "google/xquad"}


def dataset(task: str) -> str | None:
    """The hub's data set that a task's questions are from; None where that is not known."""
    return next((name for prefix, name in DATASETS.items() if task.startswith(prefix)), None)


def average(records: list[Record], name: str) -> float | None:
    """Over a model's seeds and tasks, of a cost that is the same for all its tasks; None unless all have it."""
    values = [getattr(record.cost, name) for record in records]
    return None if None in values else fmean(values)


def costs(models: Models, names: dict) -> str:
    """What each model weighs and what it took to make; tokens a second as a range, since tasks differ in what they
    ask. Memory is the peak."""
    rows = []
    for key, results in sorted(models.items()):
        records = [result.record for result in results]
        model = records[0].model
        speeds = [r.cost.generated_tokens_per_second for r in records if r.cost.generated_tokens_per_second is not None]
        low, high = (f"{min(speeds):,.0f}", f"{max(speeds):,.0f}") if speeds else ("", "")
        rows.append(
            [
                code(names[key]),
                MISSING if model.layers is None else str(model.layers),
                millions(model.parameters),
                millions(model.parameters_without_embeddings),
                size(model.bytes_on_disk),
                duration(average(records, "train_seconds")),
                size(average(records, "train_peak_memory_bytes")),
                size(average(records, "evaluate_peak_memory_bytes")),
                MISSING if not speeds else low if low == high else f"{low}–{high}",
            ]
        )
    weight = ["Layers", "Parameters", "Without embeddings", "On disk"]
    headers = ["Model", *weight, "Training", "Training memory", "Evaluation memory", "Tokens/s"]
    return grid(rows, headers)


def origins(models: Models, names: dict) -> list[str]:
    """How each model is made again: the command of its run, then what it came from and how it was trained."""
    lines = {}
    for key, results in sorted(models.items()):
        record = results[0].record
        told = sorted({result.record.seed for result in results} - {None})
        made = f"{code(names[key])}: from {code(record.model.source)}"
        if record.model.revision:
            made += f" at {code(record.model.revision)}"
        if record.method:
            made += f"; {method(record.method)}"
        if told:
            made += f"; seed{'s' if len(told) > 1 else ''} {', '.join(map(str, told))}"
        lines.setdefault(reproduce(record, results), []).append(made)
    text = ["## How each was made"]
    for said, models_made in lines.items():
        text.append("\n".join([said, "", *(f"- {made}" for made in models_made)]))
    return text


def reproduce(record: Record, results: list[Result]) -> str:
    """The command that makes a record again, as markdown."""
    words = command(*_reproduce(record, results))
    distilled = record.provenance.recipe or record.provenance.recipe_hash
    return f"Run {code(record.provenance.run)}: {words}" if distilled else f"Measured by {words}"


def reproduce_command(record: Record, results: list[Result]) -> str:
    """The same to paste into a shell."""
    return shlex.join(one_line(word) for word in _reproduce(record, results))


def _reproduce(record: Record, results: list[Result]) -> list[str]:
    tasks = ",".join(sorted({result.record.task.name for result in results}))
    run = record.provenance.run
    if record.provenance.recipe or record.provenance.recipe_hash:
        recipe = record.provenance.recipe or f"recipes/{run}.yaml"
        verb = "study" if record.provenance.study and record.provenance.recipe else "distill"
        return ["kd-bench", verb, recipe, *record.provenance.overrides]
    if run == "lm_eval":
        return ["lm_eval", "--model", "hf", "--model_args", f"pretrained={record.model.source}", "--tasks", tasks]
    return ["kd-bench", "evaluate", record.model.source, "--tasks", tasks]


def method(settings: dict) -> str:
    """The method's name and the settings that tell it from others, in a fixed order; zeros and blanks are left out."""
    known = [(key, settings[key]) for key in SETTINGS if settings.get(key) not in (None, 0)]
    shown = [f"{key.replace('_', ' ')} {value:g}" for key, value in known if isinstance(value, int | float)]
    shown += [f"{key.replace('_', ' ')} {escape(value)}" for key, value in known if isinstance(value, str)]
    return ", ".join([code(str(settings.get("name", "trained"))), *shown])


def provenance(results: list[Result]) -> list[str]:
    """What each run's numbers were made with. Several values stand where records of one run differ."""
    runs: dict[str, list[Record]] = {}
    for result in results:
        runs.setdefault(result.record.provenance.run, []).append(result.record)
    lines = []
    for run, records in sorted(runs.items()):
        origin = [record.provenance for record in records]
        changed = any(some.dirty for some in origin)
        commits = distinct(code(some.commit[:12]) for some in origin if some.commit)
        recipes = distinct(code(some.recipe_hash[:12]) for some in origin if some.recipe_hash)
        machines = distinct(escape(hardware(some.hardware)) for some in origin)
        pairs = sorted({(name, v) for some in origin for name, v in some.versions.items() if v})
        told = [
            f"kd-bench at commit {commits}{' with uncommitted changes' if changed else ''}" if commits else "",
            f"recipe {recipes}" if recipes else "",
            f"on {machines}" if machines else "",
            ", ".join(f"{escape(name)} {escape(version)}" for name, version in pairs),
        ]
        lines.append(f"- {code(run)}: {'; '.join(part for part in told if part)}.")
    return ["## Provenance", "\n".join(lines)]


def distinct(texts: Iterable[str]) -> str:
    return ", ".join(sorted(set(texts) - {""}))
