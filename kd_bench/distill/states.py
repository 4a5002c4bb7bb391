"""A teacher's hidden states at completion positions, stored: its body runs once per data set, not once per epoch.

Exact, not top-k: the state before `lm_head` is as wide as the model, not as the vocabulary, and the head is stored with
it. Files in the folder: `states.npy` [tokens, width] (bfloat16, which numpy has not, as its 16 bits), `offsets.npy`
[examples + 1] (the rows of example i lie in offsets[i]:offsets[i + 1]), `head.safetensors`.
"""

import shutil
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from numpy.lib.format import open_memmap
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm import tqdm

from kd_bench.distill.body import check_model, predicting_states
from kd_bench.distill.collate import pack_for
from kd_bench.errors import UserError

_NUMPY = {"float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}


def write_states(
    teacher: nn.Module,
    features: Dataset,
    folder: Path,
    *,
    dtype: str = "float32",
    batch_size: int = 32,
    bf16: bool = False,
    progress: bool = True,
) -> None:
    """Runs `teacher` over `features` (passage by passage, `batch_size` examples a forward) and stores its states.

    dtype: what they are stored in; float32 loses nothing, bfloat16 and float16 take half the room and round. bf16:
    computed in bfloat16 (autocast), as a live teacher is beside a student trained so. The head keeps its own type.
    Raises UserError where the disk has no room for them.
    """
    check_model(teacher)
    lengths = [len(completion) for completion in features["completion"]]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    head = teacher.get_output_embeddings()
    width = head.weight.shape[1]
    need = np.dtype(_NUMPY[dtype]).itemsize * int(offsets[-1]) * width
    need += sum(value.numel() * value.element_size() for value in head.parameters())
    if (free := shutil.disk_usage(folder).free) < need:
        raise UserError(str(folder), f"teacher states need {need / 1e9:.1f} GB, {free / 1e9:.1f} GB are free")
    store = open_memmap(folder / "states.npy", mode="w+", dtype=_NUMPY[dtype], shape=(int(offsets[-1]), width))
    device = head.weight.device
    collate = pack_for(teacher)
    teacher.eval()
    for start in tqdm(range(0, len(features), batch_size), "teacher states", disable=not progress):
        rows = [features[i] for i in range(start, min(start + batch_size, len(features)))]
        batch = collate(rows)
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            states = predicting_states(teacher, batch["trees"], batch["positions"])
        stored = states.to(getattr(torch, dtype)).cpu()
        if dtype == "bfloat16":
            stored = stored.view(torch.uint16)
        store[offsets[start] : offsets[start + len(rows)]] = stored.numpy()
    store.flush()
    np.save(folder / "offsets.npy", offsets)
    parameters = {name: value.detach().cpu().contiguous() for name, value in head.named_parameters()}
    save_file(parameters, folder / "head.safetensors")


class TeacherStates:
    """Reads what `write_states` wrote, memory-mapped."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.states = np.load(self.folder / "states.npy", mmap_mode="r")
        self.offsets = np.load(self.folder / "offsets.npy")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def rows(self, index: int) -> torch.Tensor:
        """[completion tokens, width], float32: the states that predict the completion of example `index`."""
        rows = torch.from_numpy(self.states[self.offsets[index] : self.offsets[index + 1]].copy())
        return (rows.view(torch.bfloat16) if rows.dtype == torch.uint16 else rows).float()

    def head(self) -> nn.Linear:
        """The teacher's `lm_head`, frozen."""
        parameters = load_file(self.folder / "head.safetensors")
        rows, width = parameters["weight"].shape
        with torch.device("meta"):
            head = nn.Linear(width, rows, bias="bias" in parameters)
        head.load_state_dict(parameters, assign=True)
        return head.requires_grad_(False)
