"""One process of a training that `accelerate launch` started: `python -m kd_bench.runs.worker FOLDER`.

FOLDER has the job (`executors/launch.py`), and gets `result-RANK.json`: how it ended, if it was not killed.
"""

import json
import os
import pickle
import sys
import threading
import traceback
from pathlib import Path

from kd_bench.errors import UserError
from kd_bench.runs.context import Contexts
from kd_bench.runs.executors.launch import JOB


def main(folder: Path) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    rank = os.environ.get("RANK", "0")
    try:
        _own_device()
        run_stage, stage, inputs, out, recipe, root = pickle.loads((folder / JOB).read_bytes())
        run_stage(stage, inputs, out, Contexts(root).of(recipe))
    except UserError as error:
        _leave(folder, rank, {"where": error.where, "problems": error.problems})
    except Exception as error:
        _leave(folder, rank, None if _lost_another(error) else {"crash": traceback.format_exc()})
    _write(folder, rank, {})
    import torch.distributed

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _own_device() -> None:
    """Before accelerate does so: quantized weights go to the current device as they are loaded."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))


def _write(folder: Path, rank: str, result: dict) -> None:
    partial = folder / f"{rank}.partial"
    partial.write_text(json.dumps(result), encoding="utf-8")
    partial.rename(folder / f"result-{rank}.json")


def _leave(folder: Path, rank: str, result: dict | None) -> None:
    """At once: an orderly end would wait for the other processes, which wait for this one."""
    if result is not None:
        _write(folder, rank, result)
    sys.stderr.flush()
    os._exit(1)


def _lost_another(error: Exception) -> bool:
    """Whether it is only that another process of the training is gone."""
    from torch.distributed import DistError

    gone = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")
    return isinstance(error, DistError) or any(text in str(error) for text in gone)


def _end_with_parent() -> None:
    """Standard input closes when the process that launched the training is gone: nobody would finish the stage."""
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
