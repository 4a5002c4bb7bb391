"""What every stage of a run may use beside its own inputs."""

from dataclasses import dataclass, field
from typing import Any

from kd_bench.recipe import Recipe


@dataclass
class Context:
    """recipe: settings that change cost and not results (batch sizes, save_steps) are read from it, the rest from the
    stage's params. tasks: lm-eval task objects by name."""

    recipe: Recipe
    tasks: dict[str, Any] = field(default_factory=dict)
