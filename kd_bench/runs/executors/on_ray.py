"""Each stage a Ray task, on whichever machine of a cluster has room; the store on a path that all of them see."""

import os
import secrets
import socket
import subprocess
import sys
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from kd_bench import __version__
from kd_bench.errors import UserError
from kd_bench.runs.context import Contexts
from kd_bench.runs.executors.work import Job, Needs, Outcome, Work, attempt_far
from kd_bench.runs.store import PASSPORT, disk_errors

PROBES = ".probes"  # in the store, while a run begins
_ANSWER, _CONNECT = 5, 30  # seconds for a port to open, and for Ray to let us in
_PROBE = 60  # seconds for a node to start a Python and look at the store
_SEEN = 60  # seconds after which every network file system shows what another node has renamed
_STOP = 15
# What decides where data and tasks are found, and whether there is a network. No tokens: Ray shows these to everybody.
_PASSED_ON = ("KD_BENCH_DATA", "KD_BENCH_TASKS", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY")


class OnRay:
    """Gives Ray every stage that can start, with what it needs; Ray queues them.

    root: the store's, absolute. address: as `ray.init` takes it; None is $RAY_ADDRESS, else a cluster that runs on this
    machine, else one started for the run. needs: options of Ray's tasks for a job that has a GPU or none (memory in
    bytes, num_cpus, num_gpus), over the defaults: a core, and GPUs where the cluster has some and the stage has a model
    look at data. Memory is an estimate and so no ground to refuse: more than any node has is all of a node's.
    processes: how many a training is parted into, each with a GPU. Raises UserError: Ray is not installed, nobody
    answers, a node does not see the store or has another kd-bench.
    """

    starts = "given to Ray"

    def __init__(self, root: Path, address: str | None, needs: Needs, processes: int = 1):
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        try:
            import ray
        except ImportError as error:
            raise UserError("--executor ray", "Ray is not installed: pip install 'kd-bench[ray]'") from error
        self._ray, self._root, self._needs, self._processes = ray, root, needs, processes
        self._running: dict[Any, Work] = {}
        self._own = not ray.is_initialized()
        if self._own:
            _connect(ray, address or os.environ.get("RAY_ADDRESS"))
        try:
            _check_nodes(ray, _nodes(ray), root)
            self._nodes = _nodes(ray)
        except BaseException:
            self.close()
            raise

    @property
    def running(self) -> list[Work]:
        return list(self._running.values())

    def room(self) -> bool:
        return True

    def start(self, work: Work) -> None:
        options = self._defaults(work.job)
        options |= self._needs(work.job, options["num_gpus"] > 0)
        asked = {"CPU": options.get("num_cpus"), "GPU": options.get("num_gpus")}
        asked = {name: number for name, number in asked.items() if number}
        able = [node["Resources"] for node in self._nodes]
        able = [has for has in able if all(has.get(name, 0) >= asked[name] for name in asked)]
        if not able:
            asked = ", ".join(f"{name} {number:,}" for name, number in asked.items())
            raise UserError(work.job.stage.name, f"no node of the Ray cluster has what it needs: {asked}.")
        if "memory" in options:
            options["memory"] = min(options["memory"], int(max(has.get("memory", 0) for has in able)))
        # The driver counts what is tried again, and says so; Ray by itself would try for ever where memory runs out.
        task = self._ray.remote(_attempt).options(name=work.job.stage.key, max_retries=0, **options)
        self._running[task.remote(work, str(Path.cwd()))] = work

    def wait(self) -> tuple[Work, Outcome]:
        (ready, *_), _ = self._ray.wait(list(self._running), num_returns=1)
        work = self._running.pop(ready)
        errors = self._ray.exceptions
        try:
            outcome = self._ray.get(ready)
        except errors.RayTaskError as error:  # what cannot be unpickled there
            return work, Outcome(crash=str(error))
        except (
            errors.WorkerCrashedError,
            errors.NodeDiedError,
            errors.OutOfMemoryError,
            errors.ObjectLostError,
            errors.LocalRayletDiedError,
        ) as error:
            return work, Outcome(died=f"{type(error).__name__}: {str(error).strip().splitlines()[0]}")
        if outcome.seconds is not None:
            _await([self._root / work.job.stage.key])
        return work, outcome

    def close(self) -> None:
        """Stops what is running; working folders stay."""
        for task in self._running:
            self._ray.cancel(task, force=True)
        if self._running:
            self._ray.wait(list(self._running), num_returns=len(self._running), timeout=_STOP)
        self._running.clear()
        if self._own:
            self._ray.shutdown()

    def _defaults(self, job: Job) -> dict[str, Any]:
        stage = job.stage
        trains = stage.kind == "train" or stage.params.get("finetune")
        looks = "data" in stage.params and any(node["Resources"].get("GPU") for node in self._nodes)
        return {"num_cpus": 1, "num_gpus": (self._processes if trains else 1) if looks else 0}


def _connect(ray, address: str | None) -> None:
    """Raises UserError within seconds where `ray.init` would try for two minutes and then end the process."""
    if address and ":" in address:
        host, _, port = address.removeprefix("ray://").rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER).close()
        except (OSError, ValueError) as error:
            raise UserError(
                "--address", f"{address}: nobody answers there ({error}). Start a cluster with `ray start --head`."
            ) from error
        _try_elsewhere(address)
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    options = {"runtime_env": {"env_vars": environment}} if environment else {}
    try:
        ray.init(address, include_dashboard=False, log_to_driver=False, logging_level="ERROR", **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError("--address", f"{address or 'a cluster of its own'}: Ray says: {_first_line(error)}") from error


def _try_elsewhere(address: str) -> None:
    """Something may listen there that is not Ray: another process finds out, which can be ended."""
    code = "import sys, ray; ray.init(sys.argv[1], log_to_driver=False, logging_level='ERROR')"
    try:
        subprocess.run(
            [sys.executable, "-c", code, address], check=True, capture_output=True, text=True, timeout=_CONNECT
        )
    except subprocess.TimeoutExpired as error:
        raise UserError("--address", f"{address}: something is there, and no Ray cluster answers.") from error
    except subprocess.CalledProcessError as error:
        said = (error.stderr.strip().splitlines() or ["nothing"])[-1]
        raise UserError("--address", f"{address}: Ray says: {said}") from error


def _nodes(ray) -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _check_nodes(ray, nodes: list[dict[str, Any]], root: Path) -> None:
    """Every node reads what this process wrote into the store, and this process reads what the node wrote."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    folder, token = root / PROBES / secrets.token_hex(4), secrets.token_hex(16)
    with disk_errors(root):
        folder.mkdir(parents=True)
        (folder / "driver").write_text(token, encoding="utf-8")
    try:
        tasks = {}
        for node in nodes:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            task = ray.remote(_probe).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
            tasks[task.remote(folder, node["NodeID"], token, __version__)] = node
        ray.wait(list(tasks), num_returns=len(tasks), timeout=_PROBE)
        problems = []
        for task, node in tasks.items():
            if problem := _answer(ray, task, folder / node["NodeID"], token):
                name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}, {node['NodeID'][:8]})"
                problems.append(f"node {name}: {problem}")
        if problems:
            raise UserError(str(root), problems)
    finally:
        with suppress(OSError):
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
            folder.parent.rmdir()  # unless another run is looking


def _answer(ray, task, file: Path, token: str) -> str | None:
    """What is wrong with a node; None if nothing is."""
    try:
        said = ray.get(task, timeout=0)
    except ray.exceptions.GetTimeoutError:
        return f"has not answered within {_PROBE} s."
    except (ray.exceptions.TaskUnschedulableError, ray.exceptions.NodeDiedError):
        return None  # it has left the cluster, and gets nothing to do
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        return f"cannot run kd-bench: {_first_line(cause)}. Install it there as it is here."
    if said is not None:
        return said
    deadline = time.monotonic() + _ANSWER
    while not (file.is_file() and file.read_text(encoding="utf-8") == token):
        if time.monotonic() > deadline:
            return "what it writes into the run's folder does not arrive here: set `output` to a path all nodes share."
        time.sleep(0.1)
    return None


def _probe(folder: Path, node: str, token: str, version: str) -> str | None:
    """On a node: what is wrong with it; None if nothing is."""
    if version != __version__:
        return f"has kd-bench {__version__}, and this is {version}: install the same."
    try:
        if (folder / "driver").read_text(encoding="utf-8") != token:
            return "sees another file where the run's folder is: set `output` to a path that all nodes share."
        (folder / node).write_text(token, encoding="utf-8")
    except OSError as error:
        return f"does not see the run's folder ({error.strerror}): set `output` to a path that all nodes share."
    return None


@cache
def _contexts(root: Path) -> Contexts:
    """One a process, which Ray gives task after task."""
    return Contexts(root)


def _attempt(work: Work, folder: str) -> Outcome:
    """On a node. folder: where the driver runs, which relative paths of a recipe are meant from."""
    if Path(folder).is_dir():
        os.chdir(folder)
    store = work.root
    _await([store / need.key for need in work.job.stage.needs.values()])
    contexts = _contexts(store)
    outcome = attempt_far(work, contexts)
    contexts.models.clear()  # the next stage may be another's, and its memory is counted without this
    return outcome


def _await(stages: list[Path]) -> None:
    """Until finished stages of other nodes are seen here: network file systems keep what they knew for some seconds."""
    deadline = time.monotonic() + _SEEN
    while time.monotonic() < deadline and not all((stage / PASSPORT).is_file() for stage in stages):
        time.sleep(0.2)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
