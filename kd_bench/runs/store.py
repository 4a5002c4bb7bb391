"""Where a run's stages lie: `<root>/<stage key>/`, each complete or not there at all.

A stage works in `<root>/.partial/<key>/`, which survives a kill, so that checkpoints in it are found again; once it is
finished its files are flushed, listed in `stage.json` and the folder is renamed: a finished stage is never half of one.
What was tried and may fail is `<root>/.failed/<key>.json`.
"""

import errno
import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kd_bench.errors import UserError
from kd_bench.runs.plan import Stage

PASSPORT = "stage.json"


class Store:
    """One run's stages. Reading needs no lock; whoever changes them has `store.lock()`, or works for one who has it."""

    def __init__(self, root: str | Path):
        self.root = Path(root)

    def path(self, stage: Stage) -> Path:
        """The finished stage's folder, whether it is there or not."""
        return self.root / stage.key

    def partial(self, stage: Stage) -> Path:
        return self.root / ".partial" / stage.key

    def state(self, stage: Stage) -> str:
        """done, damaged, failed, partial or to do. Changes nothing."""
        if self.path(stage).exists():
            return "damaged" if self.damage(stage) else "done"
        if self._failure(stage).is_file():
            return "failed"
        return "partial" if self.partial(stage).is_dir() else "to do"

    def done(self, stage: Stage) -> bool:
        return self.state(stage) == "done"

    def passport(self, stage: Stage) -> dict[str, Any]:
        """stage.json of a finished stage: {kind, name, params, needs, digest, seconds, made_with, files}."""
        return json.loads((self.path(stage) / PASSPORT).read_text(encoding="utf-8"))

    def damage(self, stage: Stage) -> str | None:
        """Why a finished stage's folder is not what was finished; None if nothing is wrong with it."""
        folder = self.path(stage)
        try:
            passport = self.passport(stage)
            files, digest = dict(passport["files"]), passport["digest"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            return f"{PASSPORT} cannot be read ({type(error).__name__})"
        if digest != stage.digest:
            return f"{PASSPORT} is another stage's"
        for name, size in files.items():
            file = folder / name
            if not file.is_file():
                return f"{name} is missing"
            if file.stat().st_size != size:
                return f"{name} has {file.stat().st_size:,} bytes instead of {size:,}"
        return None

    def size(self, stage: Stage) -> int:
        return sum(file.stat().st_size for file in self.path(stage).rglob("*") if file.is_file())

    def begin(self, stage: Stage) -> Path:
        """The folder to work in, with whatever a killed run left there."""
        folder = self.partial(stage)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def finish(self, stage: Stage, seconds: float | None = None, made_with: dict[str, Any] | None = None) -> Path:
        """Makes the working folder the finished stage, in one step. Returns where it lies now.

        seconds: what the last process spent on it. made_with: the environment, for the provenance of records.
        """
        folder, final = self.partial(stage), self.path(stage)
        files = sorted(file for file in folder.rglob("*") if file.is_file() and file != folder / PASSPORT)
        passport = {
            "kind": stage.kind,
            "name": stage.name,
            "params": stage.params,
            "needs": {role: need.key for role, need in stage.needs.items()},
            "digest": stage.digest,
            "seconds": seconds,
            "made_with": made_with or {},
            "files": {str(file.relative_to(folder)): file.stat().st_size for file in files},
        }
        (folder / PASSPORT).write_text(json.dumps(passport, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        # The rename must not reach the disk before the contents do, or a power cut leaves a "finished" empty file.
        for file in [*files, folder / PASSPORT, *(sub for sub in folder.rglob("*") if sub.is_dir()), folder]:
            _flush(file)
        folder.rename(final)
        _flush(self.root)
        return final

    def set_aside(self, stage: Stage) -> Path:
        """Renames a damaged stage to `<key>.damaged-N`, so that it can be looked at and is out of the way."""
        number = 1
        while (aside := self.root / f"{stage.key}.damaged-{number}").exists():
            number += 1
        self.path(stage).rename(aside)
        return aside

    def fail(self, stage: Stage, error: UserError) -> None:
        """Keeps what a stage's trying has come to, so that it is not tried again; its working folder is removed."""
        file = self._failure(stage)
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial")
        content = {"kind": stage.kind, "name": stage.name, "where": error.where, "problems": error.problems}
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        partial.rename(file)
        shutil.rmtree(self.partial(stage), ignore_errors=True)

    def failed(self, stage: Stage) -> str | None:
        """What a failed stage said; None if it did not fail."""
        if not self._failure(stage).is_file():
            return None
        found = json.loads(self._failure(stage).read_text(encoding="utf-8"))
        return str(UserError(found["where"], found["problems"]))

    def forget(self, stage: Stage) -> None:
        """A failed stage may be tried again."""
        self._failure(stage).unlink(missing_ok=True)

    def _failure(self, stage: Stage) -> Path:
        return self.root / ".failed" / f"{stage.key}.json"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One process a run. Raises UserError naming who has it; the lock of a process that died is free."""
        from filelock import FileLock, Timeout

        with disk_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
        holder = self.root / ".lock.json"
        lock = FileLock(self.root / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise UserError(
                str(self.root), f"{_who(holder)} is working on this run: wait for it, or end it."
            ) from error
        try:
            with disk_errors(self.root):
                holder.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}), encoding="utf-8")
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()


def _who(holder: Path) -> str:
    try:
        found = json.loads(holder.read_text(encoding="utf-8"))
        return f"process {found['pid']} on {found['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"  # it has the lock and has not yet written its name


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def disk_errors(root: Path) -> Iterator[None]:
    """Turns a full or unwritable disk into a UserError; what is finished stays, and a repeated run goes on."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        code = error.errno if isinstance(error, OSError) else None
        # Writers in Rust and C++ (safetensors, torch.save) raise errors of their own that carry only the words.
        if code in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error) or _is_full(root, error):
            raise UserError(
                str(root), "the disk is full: make room and repeat the command; what is finished is kept."
            ) from error
        if code in (errno.EACCES, errno.EPERM, errno.EROFS) and _inside(error, root):
            raise UserError(
                str(root), f"cannot be written: {error.strerror}. Set `output` to a folder you own."
            ) from error
        raise


def _is_full(root: Path, error: Exception) -> bool:
    """torch.save on a full disk says `unexpected pos` and no more."""
    if not isinstance(error, RuntimeError) or "PytorchStreamWriter" not in str(error):
        return False
    return root.exists() and shutil.disk_usage(root).free < 1 << 20


def _inside(error: OSError, root: Path) -> bool:
    return error.filename is not None and Path(os.fsdecode(error.filename)).absolute().is_relative_to(root.absolute())
