"""What every stage of a run may use beside its own inputs."""

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
