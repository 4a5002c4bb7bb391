"""The model that a run has in memory: the stages that use one after another load it once."""

from pathlib import Path
from typing import Any


class Models:
    """Holds one (model, tokenizer), and none while a stage works: what a training costs is then its own memory."""

    def __init__(self):
        self._kept: dict[tuple[str, str], tuple[Any, Any]] = {}

    def take(self, folder: Path, dtype: str) -> tuple[Any, Any]:
        """The model of the stage whose folder that is, its weights in `dtype`: the one in memory, else from the disk.

        It is the caller's own, who may train it; who leaves it as it is gives it back with `keep`.
        """
        from kd_bench.models.load import load_model
        from kd_bench.runs.records import model_folder

        found = self._kept.pop((str(folder), dtype), None)
        self._kept.clear()
        return found or load_model(str(model_folder(folder)), dtype=dtype)

    def keep(self, folder: Path, model, tokenizer) -> None:
        """`model` has the weights that lie in `folder`, or will once its stage is finished."""
        self._kept = {(str(folder), str(model.dtype).removeprefix("torch.")): (model, tokenizer)}
