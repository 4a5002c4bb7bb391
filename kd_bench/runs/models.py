"""The model that a run has in memory: the stages that use one after another load it once."""

from pathlib import Path
from typing import Any


class Models:
    """Holds one (model, tokenizer), and none while a stage works: what a training costs is then its own memory."""

    def __init__(self):
        self._kept: dict[tuple[str, str, str | None], tuple[Any, Any]] = {}

    def take(self, folder: Path, dtype: str, quantize: str | None = None) -> tuple[Any, Any]:
        """The model of the stage whose folder that is, its weights in `dtype`: the one in memory, else from the disk.
        quantize: nf4 or int8, of a model that lies there whole.

        It is the caller's own, who may train it; who leaves it as it is gives it back with `keep`.
        """
        from kd_bench.models.load import load_model
        from kd_bench.runs.records import model_folder

        found = self._kept.pop((str(folder), dtype, quantize), None)
        self._kept.clear()
        return found or load_model(str(model_folder(folder)), dtype=dtype, quantize=quantize)

    def keep(self, folder: Path, model, tokenizer, quantize: str | None = None) -> None:
        """`model` has the weights that lie in `folder`, or will once its stage is finished."""
        self._kept = {(str(folder), str(model.dtype).removeprefix("torch."), quantize): (model, tokenizer)}

    def clear(self) -> None:
        """Nothing is in memory any more: another process needs the room."""
        self._kept = {}
