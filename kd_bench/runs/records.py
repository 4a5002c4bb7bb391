"""From finished stages to records: who the model is, what it scored, what it cost.

An `evaluate` stage leaves `results.json` (`save_results`), a `train` or `teacher` stage that trained leaves
`training.json` (what `distill.train.train` returns), and a stage that makes a model leaves its folder: itself, or the
one folder in it that has a config.json.
"""

import json
from pathlib import Path
from typing import Any

from kd_bench.errors import UserError
from kd_bench.leaderboard import samples as sampled
from kd_bench.leaderboard.record import Record, records_from_results
from kd_bench.leaderboard.schema import CURVE_POINTS
from kd_bench.models.source import on_disk
from kd_bench.recipe import Recipe, recipe_hash
from kd_bench.recipe_method import SFT
from kd_bench.runs.plan import UNDISTILLED, Stage
from kd_bench.runs.store import Store
from kd_bench.study import Run

RESULTS, TRAINING = "results.json", "training.json"
# What of lm-eval's results a record is made of; prompts and requests would be gigabytes.
_KEPT = ("results", "configs", "versions", "n-shot", "higher_is_better", "kd_bench")


def save_results(results: dict[str, Any], folder: Path) -> Path:
    """Writes what `harness.evaluate.evaluate` returned as `results.json` in `folder`."""
    kept = {key: results[key] for key in _KEPT if key in results}
    kept["samples"] = {
        task: [{key: value for key, value in sample.items() if key != "arguments"} for sample in samples]
        for task, samples in results["samples"].items()
    }
    path = folder / RESULTS
    # default=str: a task's configuration may hold functions, which a record has no use for.
    path.write_text(json.dumps(kept, ensure_ascii=False, default=str), encoding="utf-8")
    return path


def model_folder(stage_folder: Path) -> Path:
    """Where the model lies in a stage's folder. Raises UserError if there is none, or more than one."""
    if (stage_folder / "config.json").is_file():
        return stage_folder
    found = sorted(path.parent for path in stage_folder.glob("*/config.json"))
    if len(found) != 1:
        raise UserError(
            str(stage_folder), f"{len(found)} models in it, one was expected: remove the folder and run again."
        )
    return found[0]


def identity(stage: Stage) -> dict[str, Any]:
    """{"name", "role", "student", "seed"} of the model that a `teacher`, `init`, `train` or `quantize` stage leaves."""
    if stage.kind == "teacher":
        return {"name": "teacher", "role": "teacher", "student": None, "seed": None}
    if stage.kind == "init":
        return {"name": f"{stage.name}-{UNDISTILLED}", "role": UNDISTILLED, "student": stage.name, "seed": None}
    if stage.kind == "quantize":
        # A student of its own: it is compared with what was trained as it was and quantized as it is.
        whole = identity(stage.needs["model"])
        student = f"{whole['student']}-{stage.params['bits']}"
        return {**whole, "student": student, "name": student + whole["name"].removeprefix(whole["student"])}
    seed, method = stage.params["seed"], stage.params["method"]
    role = SFT if method["name"] == SFT else "distilled"
    name = stage.name.removesuffix(f"-s{seed}")
    return {"name": name, "role": role, "student": stage.needs["student"].name, "seed": seed}


def record_of(
    stage: Stage,
    run: Run,
    store: Store,
    task,
    fingerprint: dict,
    *,
    validation: Stage | None = None,
    selection: dict[str, Any] | None = None,
) -> tuple[Record, list[dict]]:
    """(record, its samples' lines) of a finished `evaluate` stage.

    task: the lm-eval task, for the floor. fingerprint: that of its data, files included. validation: the finished
    evaluation of the same model and task on the validation split. selection: how its learning rate was chosen.
    """
    model, recipe = stage.needs["model"], run.recipe
    whole = model.needs["model"] if model.kind == "quantize" else model
    results = json.loads((store.path(stage) / RESULTS).read_text(encoding="utf-8"))
    name = stage.params["task"]
    who = identity(model)
    measured = results.get("kd_bench", {})
    trained = training_of(whole, store)
    cost = {
        "train_seconds": trained.get("seconds"),
        "train_peak_memory_bytes": trained.get("peak_memory_bytes"),
        **evaluation_cost(measured),
    }
    record, lines = records_from_results(
        results,
        name,
        model={
            "name": who["name"],
            "role": who["role"],
            "student": who["student"],
            "source": _source(whole, recipe),
            "revision": _revision(whole, recipe),
            "teacher": None if who["role"] == "teacher" else "teacher",
            **measures_of(model_folder(store.path(model))),
        },
        method=_method(whole),
        seed=who["seed"],
        cost=cost,
        floor=floor_of(task, results["samples"][name]),
        split=stage.params["split"],
        fingerprint=fingerprint,
        provenance={
            "run": recipe.name,
            "study": run.study,
            "point": run.point,
            "recipe": run.file,
            "recipe_hash": recipe_hash(recipe),
            "overrides": [
                f"{key}={public_name(value)}" for key, _, value in (o.partition("=") for o in recipe.overrides)
            ],
            **store.passport(stage)["made_with"],
        },
    )
    later = {
        "validation": validation and _validation(validation, store, task, fingerprint),
        "selection": selection,
        "curve": None if model is not whole else thinned(trained.get("loss") or []) or None,
    }
    return Record.model_validate({**record.model_dump(), **later}), lines


def _validation(stage: Stage, store: Store, task, fingerprint: dict) -> dict[str, Any]:
    samples = json.loads((store.path(stage) / RESULTS).read_text(encoding="utf-8"))["samples"][stage.params["task"]]
    return {
        "scores": sampled.scores(sampled.lines(samples)[0]),
        "floor": floor_of(task, samples),
        "hash": fingerprint.get("validation", {}).get("hash"),
    }


def thinned(curve: list[dict[str, float]]) -> list[list[float]]:
    """[step, loss] of a training, in at most CURVE_POINTS points, each the mean of as many steps, at its last one."""
    every = -(-len(curve) // CURVE_POINTS)
    parts = [curve[start : start + every] for start in range(0, len(curve), every)] if curve else []
    return [[part[-1]["step"], sum(row["loss"] for row in part) / len(part)] for part in parts]


def evaluation_cost(measured: dict[str, Any]) -> dict[str, Any]:
    """The fields of a record's cost that `harness.evaluate.evaluate` measured."""
    return {
        "evaluate_seconds": measured.get("evaluate_seconds"),
        "evaluate_peak_memory_bytes": measured.get("peak_memory_bytes"),
        "generated_tokens_per_second": measured.get("generated_tokens_per_second"),
    }


def training_of(stage: Stage, store: Store) -> dict[str, Any]:
    path = store.path(stage) / TRAINING
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def measures_of(folder: Path) -> dict[str, Any]:
    """{"family", "layers", "parameters", "parameters_without_embeddings", "bytes_on_disk"} without loading weights."""
    from kd_bench.models.load import model_config
    from kd_bench.models.size import bytes_on_disk, sizes_from_config

    config = model_config(str(folder))
    return {"family": config.model_type, **sizes_from_config(config), "bytes_on_disk": bytes_on_disk(folder)}


def floor_of(task, samples: list[dict]) -> dict[str, Any] | None:
    """The best constant answer on the documents that were evaluated; None for a task whose answers are not SQuAD's."""
    from kd_bench.harness.floor import floor

    docs = list({sample["doc_id"]: sample["doc"] for sample in samples}.values())
    scorer = task.config.process_results
    if not callable(scorer) or not all(isinstance(doc.get("answers"), dict) for doc in docs):
        return None
    return floor(scorer, docs)


def _source(model: Stage, recipe: Recipe) -> str:
    if model.kind == "teacher":
        return public_name(recipe.teacher.model)
    start = model if model.kind == "init" else model.needs["student"]
    student = next(student for student in recipe.students if student.name == start.name)
    if student.model:
        return public_name(student.model)
    init = student.init
    kept = f"layers {init.layers}" if init.layers else f"{init.keep_layers} layers kept by {init.by}"
    return f"{public_name(recipe.teacher.model)}, {kept}"


def public_name(source: str) -> str:
    """A folder's last two parts, else the source: records are published, and a home folder is nobody's business."""
    path = None if source.startswith("pip:") else on_disk(source)
    return "/".join(path.resolve().parts[-2:]) if path else source


def _revision(model: Stage, recipe: Recipe) -> str | None:
    if model.kind == "teacher":
        return recipe.teacher.revision
    start = model if model.kind == "init" else model.needs["student"]
    return start.params.get("revision")


def _method(model: Stage) -> dict[str, Any] | None:
    """How the model was trained, flat: {"name", the divergence's settings, the schedule's}; None if it was not."""
    if model.kind == "teacher":
        return {"name": "finetune", **model.params["finetune"]} if model.params["finetune"] else None
    if model.kind == "init":
        return None
    method = dict(model.params["method"])
    name = method.pop("name")
    if name != SFT:
        name = "cross_entropy" if method["cross_entropy"] == 1 else method["divergence"]
    taught = {"teacher_quantize": model.params["quantize"]} if "quantize" in model.params else {}
    return {"name": name, **method, **taught, **model.params["training"]}
