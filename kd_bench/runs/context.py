"""What every stage of a run may use beside its own inputs."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kd_bench.recipe import Recipe
from kd_bench.runs.models import Models


@dataclass
class Context:
    """recipe: settings that change cost and not results (batch sizes, save_steps) are read from it, the rest from the
    stage's params. folder: the run's. tasks: lm-eval task objects by name. models: those in memory."""

    recipe: Recipe
    folder: Path
    tasks: dict[str, Any] = field(default_factory=dict)
    models: Models = field(default_factory=Models)


class Contexts:
    """The contexts of one process: its recipes share the models in memory, and those with the same data their tasks."""

    def __init__(self, folder: Path):
        self.folder, self.models = folder, Models()
        self._tasks: dict[str, _Tasks] = {}

    def of(self, recipe: Recipe) -> Context:
        """Who has a recipe's task objects already puts them into its `tasks`; the others are loaded when asked for."""
        metadata = recipe.data.as_metadata()
        tasks = self._tasks.setdefault(json.dumps(metadata, sort_keys=True, default=str), _Tasks(metadata))
        return Context(recipe, self.folder, tasks, self.models)


class _Tasks(dict):
    """lm-eval task objects by name; reading a task's data takes seconds, and most stages ask for none."""

    def __init__(self, metadata: dict[str, Any]):
        super().__init__()
        self._metadata = metadata

    def __missing__(self, name: str):
        from kd_bench.harness.examples import load_task

        self[name] = load_task(name, self._metadata)
        return self[name]
