"""Which checkpoint a killed run goes on from."""

import json
import logging
from pathlib import Path

import torch
from safetensors import safe_open

logger = logging.getLogger(__name__)


def last_good_checkpoint(folder: Path) -> str | None:
    """The newest `checkpoint-N` under `folder` that can be read whole, else None; a damaged one is set aside."""
    found = [path for path in Path(folder).glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    for path in sorted(found, key=lambda p: int(p.name.removeprefix("checkpoint-")), reverse=True):
        try:
            _read(path)
        except Exception as error:  # whatever a torn file raises
            aside = path.with_name(f"damaged-{path.name}")
            path.rename(aside)
            logger.warning("%s: damaged checkpoint (%s), set aside as %s", path, error, aside.name)
        else:
            return str(path)
    return None


def _read(path: Path) -> None:
    json.loads((path / "trainer_state.json").read_text())
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.load(path / name, map_location="cpu", weights_only=False, mmap=name == "optimizer.pt")
    weights = list(path.glob("*.safetensors"))
    if not weights:
        raise FileNotFoundError("no weights")
    for file in weights:
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (no mapping)
                tensors.get_slice(name)
