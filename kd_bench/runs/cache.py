"""What runs keep to save time and could make again: stored teacher states, and questions as token ids."""

import shutil
from pathlib import Path
from typing import Any

from kd_bench.errors import UserError
from kd_bench.runs.listing import ended
from kd_bench.runs.store import PASSPORT, Store
from kd_bench.runs.tokens import FOLDER


def entries(root: Path) -> list[dict[str, Any]]:
    """{"key", "what", "bytes", "made"} of each in the runs under `root`; the key is its folder, from there."""
    rows = []
    for run in sorted(path for path in root.glob("*") if path.is_dir()):
        found = [("teacher states", path) for path in run.glob("states-*")] + [
            ("tokens", path) for path in run.glob(f"{FOLDER}/*")
        ]
        for what, folder in sorted(found, key=lambda pair: pair[1]):
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            made = ended(folder / PASSPORT)
            rows.append({"key": str(folder.relative_to(root)), "what": what, "bytes": size, "made": made})
    return rows


def remove(root: Path, keys: list[str]) -> list[dict[str, Any]]:
    """Removes the entries of these keys, or of runs so called, and returns them. No result is lost: what a repeated
    command needs of it, it makes again. Raises UserError for a key that is none, and where a process has the run."""
    known = entries(root)
    chosen = [row for row in known if row["key"] in keys or row["key"].split("/")[0] in keys]
    unknown = [k for k in keys if not any(row["key"] == k or row["key"].startswith(f"{k}/") for row in known)]
    if unknown:
        raise UserError(
            "cache rm", [f"{key}: nothing is kept under this key; see `kd-bench cache ls`" for key in unknown]
        )
    for run in dict.fromkeys(row["key"].split("/")[0] for row in chosen):
        with Store(root / run).lock():
            for row in chosen:
                if row["key"].startswith(f"{run}/"):
                    shutil.rmtree(root / row["key"])
    return chosen
