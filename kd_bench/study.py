"""A study: one recipe over a grid of settings. Its YAML is a recipe's, with `grid`, `runs`, or both beside it.

    grid: {data.demo_seed: [0, 1], data.split_seed: [0, 1]}     # every combination is a run
    runs:                                                       # and each of these, with every combination
      - {tasks: [squad_kd_zeroshot]}
      - {tasks: [squad_kd_oneshot], seeds: [0], label: oneshot}

Keys are the recipe's own, dotted. Equal stages of different runs are one stage, since all lie in one store.
"""

import copy
import difflib
import hashlib
import re
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from kd_bench.errors import UserError
from kd_bench.recipe import Recipe
from kd_bench.recipe_files import apply_overrides, find_recipe, put, read_yaml
from kd_bench.recipe_problems import problems_of

MOST_RUNS = 1000  # a grid of more is a slip of the hand
LONGEST_LABEL = 36  # with the study's name it has to fit a recipe's


@dataclass(frozen=True)
class Run:
    """A recipe, and where in a study's grid it lies: {key: value}; a recipe alone has no study. file: the study's."""

    recipe: Recipe
    study: str | None = None
    point: dict[str, Any] = field(default_factory=dict)
    file: str | None = None


@dataclass(frozen=True)
class Study:
    """name: of the store that all runs share, and of their records' `study`. output: its folder's parent."""

    name: str
    runs: list[Run] = field(default_factory=list)

    @property
    def root(self) -> Path:
        return Path(self.runs[0].recipe.output) / self.name


def load_study(path_or_name, overrides=()) -> Study:
    """Every run of a study file, checked; overrides change what all runs have in common.

    Raises UserError with every problem at once, naming the run that has it.
    """
    path = find_recipe(path_or_name)
    data = read_yaml(path)
    problems = apply_overrides(data, overrides)
    grid, listed = data.pop("grid", {}), data.pop("runs", [{}])
    problems += _shape(grid, listed)
    if not isinstance(data.get("name"), str):
        problems.append("name: missing. Names the store that all runs share.")
    if problems:
        raise UserError(str(path), problems)
    study = data.get("name")
    file = path.name if path.is_absolute() else path.as_posix()
    runs = []
    points = [(own, dict(zip(grid, values))) for own in listed for values in product(*grid.values())]
    if len(points) > MOST_RUNS:
        raise UserError(str(path), f"its grid has {len(points):,} runs, more than {MOST_RUNS:,}: vary fewer settings.")
    for own, varied in points:
        point = {**{key: value for key, value in own.items() if key != "label"}, **varied}
        label = "-".join(filter(None, [str(own["label"]), _label(varied)])) if "label" in own else _label(point)
        made = copy.deepcopy(data)
        problems += [f"{label}: {p}" for key, v in point.items() if (p := put(made, key.split("."), copy.deepcopy(v)))]
        made["name"] = f"{study}.{label}" if label else study
        recipe, found = _checked(made)
        problems += [f"{label}: {problem}" if label else problem for problem in found]
        if recipe:
            recipe._overrides = tuple(overrides)
            runs.append(Run(recipe, study, point, file))
    names = [run.recipe.name for run in runs]
    twice = sorted({name for name in names if names.count(name) > 1})
    problems += [f"two runs are called {name!r}: give one a `label`." for name in twice]
    if problems:
        raise UserError(str(path), list(dict.fromkeys(problems)))
    return Study(study, runs)


def only(study: Study, labels: list[str]) -> Study:
    """The runs of `study` that are called so, in its own order. Raises UserError with the names there are."""
    named = {run.recipe.name.removeprefix(study.name).removeprefix("."): run for run in study.runs}
    problems = []
    for label in labels:
        if label not in named:
            near = difflib.get_close_matches(label, named, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            problems.append(
                f"no run is called {label!r}; there are {', '.join(filter(None, named)) or 'none with a label'}.{hint}"
            )
    if problems:
        raise UserError(study.name, problems)
    return Study(study.name, [run for label, run in named.items() if label in labels])


def _shape(grid: Any, listed: Any) -> list[str]:
    problems = []
    if not isinstance(grid, dict) or not all(isinstance(values, list) and values for values in grid.values()):
        problems.append("grid: is not a mapping of recipe keys to lists of values.")
    if not isinstance(listed, list) or not listed or not all(isinstance(run, dict) for run in listed):
        problems.append("runs: is not a list of mappings of recipe keys to values.")
    if problems:
        return problems
    keys = [*grid, *(key for run in listed for key in run)]
    problems += [f"{key!r}: is not a recipe key." for key in keys if not isinstance(key, str)]
    problems += [
        f"{key}: all runs of a study share one; a run is called by its `label`."
        for key in ("name", "output")
        if key in keys
    ]
    return problems


def _checked(data: dict[str, Any]) -> tuple[Recipe | None, list[str]]:
    from pydantic import ValidationError

    try:
        return Recipe.model_validate(data), []
    except ValidationError as error:
        return None, problems_of(error, Recipe)


def _label(point: dict[str, Any]) -> str:
    """`squad_kd_oneshot`, `demo_seed1-split_seed0`: what the run is called, out of what it sets."""
    parts = []
    for key, value in point.items():
        if key == "method.preset":
            parts.append(str(value))
        elif key == "tasks" and isinstance(value, list):
            parts.append("_and_".join(map(str, value)) if len(value) < 3 else f"{len(value)}tasks")
        else:
            parts.append(f"{key.rpartition('.')[2]}{_short(value)}")
    label = re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(parts))
    if len(label) <= LONGEST_LABEL:
        return label
    return f"{label[: LONGEST_LABEL - 7]}-{hashlib.sha256(label.encode()).hexdigest()[:6]}"


def _short(value: Any) -> str:
    if isinstance(value, list):
        return "_".join(_short(item) for item in value)
    if isinstance(value, dict):
        return str(value.get("name") or value.get("preset") or "_".join(map(_short, value.values())))
    return f"{value:g}" if isinstance(value, float) else str(value)
