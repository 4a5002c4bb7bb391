"""Worker processes of this machine: each runs whole stages, on GPUs and a share of the cores of its own."""

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from kd_bench.runs.context import Contexts
from kd_bench.runs.executors.work import Outcome, Work, attempt_far

LOGS = ".logs"  # in the run's folder: what workers print, which would be one jumble on a terminal
_SECONDS_TO_STOP = 10


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    slot: int
    work: Work | None = None


class Workers:
    """Up to `jobs` processes, started when there is work for them and kept until `close`.

    processes: how many each stage that trains is parted into, and so how many GPUs a worker sees.
    """

    starts = "starts"

    def __init__(self, jobs: int, root: Path, processes: int = 1):
        self._jobs, self._logs, self._processes = jobs, root / LOGS, processes
        self._workers: list[_Worker] = []  # the one that was free last comes last: it may have the model in memory

    @property
    def running(self) -> list[Work]:
        return [worker.work for worker in self._workers if worker.work]

    def room(self) -> bool:
        return len(self.running) < self._jobs

    def start(self, work: Work) -> None:
        worker = next((w for w in reversed(self._workers) if w.work is None), None) or self._hire()
        worker.work = work
        worker.connection.send_bytes(pickle.dumps(work))

    def wait(self) -> tuple[Work, Outcome]:
        ready = wait([worker.connection for worker in self._workers if worker.work])
        worker = next(worker for worker in self._workers if worker.connection is ready[0])
        self._workers.remove(worker)
        work, worker.work = worker.work, None
        try:
            outcome = worker.connection.recv()
        except (EOFError, ConnectionError):
            worker.process.join()
            return work, Outcome(died=f"{_ended(worker.process.exitcode)}; see {self._log(worker.slot)}")
        self._workers.append(worker)
        return work, outcome

    def close(self) -> None:
        """Stops what is running; working folders stay."""
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(_SECONDS_TO_STOP)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.connection.close()
        self._workers.clear()

    def _hire(self) -> _Worker:
        taken = {worker.slot for worker in self._workers}
        slot = next(slot for slot in range(self._jobs) if slot not in taken)
        self._logs.mkdir(parents=True, exist_ok=True)
        context = multiprocessing.get_context("spawn")  # a forked process cannot use a GPU that its parent has touched
        ours, theirs = context.Pipe()
        arguments = (theirs, _environment(slot, self._jobs, self._processes), self._log(slot))
        process = context.Process(target=_serve, args=arguments, name=f"worker-{slot}")
        process.start()
        theirs.close()  # so that its end of the pipe closes when it dies
        self._workers.append(_Worker(process, ours, slot))
        return self._workers[-1]

    def _log(self, slot: int) -> Path:
        return self._logs / f"worker-{slot}.log"


def _environment(slot: int, jobs: int, processes: int) -> dict[str, str]:
    """Threads and GPUs of the worker in `slot`: as many GPUs as a training has processes, since a trainer takes all
    that it sees."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    made = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(max(1, cores // jobs))}
    if gpus := torch.cuda.device_count():
        named = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = named.split(",")[:gpus] if named else [str(index) for index in range(gpus)]
        own = [names[(slot * processes + index) % gpus] for index in range(processes)]
        made["CUDA_VISIBLE_DEVICES"] = ",".join(dict.fromkeys(own))
    return made


def _ended(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}" + (", as when memory runs out" if name == "SIGKILL" else "")
    return f"ended with exit code {code}"


def _serve(connection: Connection, environment: dict[str, str], log: Path) -> None:
    os.environ.update(environment)  # before torch is imported, which reads them once
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the driver says who stops
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exception, so that a launched training ends too
    threading.Thread(target=_end_with_driver, daemon=True).start()
    with log.open("a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    contexts = None
    while True:
        try:
            sent = connection.recv_bytes()
        except EOFError:
            return
        try:
            work: Work = pickle.loads(sent)
            contexts = contexts or Contexts(work.root)
            outcome = attempt_far(work, contexts)
        except Exception:  # what cannot be imported here
            outcome = Outcome(crash=traceback.format_exc())
        connection.send(outcome)


def _end_with_driver() -> None:
    """A worker that outlived its driver would work on a stage that the next driver gives to another."""
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
