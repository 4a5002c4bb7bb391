"""Which checkpoint a killed run goes on from."""

import json
import logging
from pathlib import Path

import torch
from safetensors import safe_open

from kd_bench.distill.sampling import STATE

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
    """Reads all that a run goes on from, in the layout of one process, of DDP or of FSDP; sizes of tensors alone for
    what is large."""
    json.loads((path / "trainer_state.json").read_text())
    if (path / STATE).exists():
        json.loads((path / STATE).read_text())
    weights = [*path.glob("*.safetensors"), *path.glob("pytorch_model_fsdp*")]
    for what, found in (
        ("weights", weights),
        ("optimizer", list(path.glob("optimizer*"))),
        ("scheduler.pt", list(path.glob("scheduler.pt"))),
        ("random state", list(path.glob("rng_state*.pth"))),
    ):
        if not found:
            raise FileNotFoundError(f"no {what}")
        for file in found:
            if file.is_dir():  # FSDP's shards, whose index is written last
                (file / ".metadata").stat()
            elif file.suffix == ".safetensors":
                with safe_open(file, "pt") as tensors:
                    for name in tensors.keys():  # noqa: SIM118 (no mapping)
                        tensors.get_slice(name)
            else:
                torch.load(file, map_location="cpu", weights_only=False, mmap=what in ("weights", "optimizer"))
