"""Stages that train, as several processes of one training: `accelerate launch` around `kd_bench.runs.worker`."""

import codecs
import json
import pickle
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from kd_bench.errors import UserError
from kd_bench.runs.context import Context
from kd_bench.runs.executors.work import Died, RunStage
from kd_bench.runs.plan import Stage

JOB = "job.pickle"  # in a folder of its own: (run_stage, stage, inputs, out, recipe, the run's folder)
_SECONDS_TO_STOP = 30


@dataclass(frozen=True)
class Launched:
    """A `run_stage` that has stages that train done by `processes` processes, and the others by this one.

    config: what `accelerate config` wrote; without it each process has a whole model, on a GPU of its own or the CPU.
    """

    run_stage: RunStage
    processes: int
    config: Path | None = None

    def __call__(self, stage: Stage, inputs: dict[str, Path], out: Path, context: Context) -> None:
        """Raises the UserError that a process raised; Died if one was killed; RuntimeError with its traceback else."""
        if stage.kind != "train" and not stage.params.get("finetune"):
            return self.run_stage(stage, inputs, out, context)
        context.models.clear()
        with tempfile.TemporaryDirectory(prefix="kd-bench-") as name:
            folder = Path(name)
            job = (self.run_stage, stage, inputs, out, context.recipe, context.folder)
            (folder / JOB).write_bytes(pickle.dumps(job))
            code = _run([*self._launcher(), "-m", "kd_bench.runs.worker", name], folder)
            _judge(code, results(folder))

    def _launcher(self) -> list[str]:
        command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(self.processes)]
        if self.config is not None:
            return [*command, "--config_file", str(self.config)]
        # --multi_gpu is what starts more than one process, on a CPU too; port 0: several stages may train at once.
        own = ["--multi_gpu", "--num_machines", "1", "--main_process_port", "0"]
        return [*command, *own, "--mixed_precision", "no", "--dynamo_backend", "no"]


def results(folder: Path) -> list[dict]:
    """What processes left: {}, {"where", "problems"} of a UserError, {"crash"} of another error; if killed nothing."""
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("result-*.json"))]


def _run(command: list[str], folder: Path) -> int:
    """The launcher's exit code. What it prints goes to stderr, up to a process's error: then it prints tracebacks."""
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    # Its standard input stays open as long as this process lives: the workers end when it closes.
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        while chunk := process.stdout.read1(1 << 16):
            if not any(results(folder)):
                sys.stderr.write(decode(chunk))
                sys.stderr.flush()
        return process.wait()
    finally:
        process.terminate()  # Ctrl-C, or a driver that stops: the launcher ends its workers
        try:
            process.wait(_SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdin.close()
        process.stdout.close()


def _judge(code: int, found: list[dict]) -> None:
    for result in found:
        if "problems" in result:
            raise UserError(result["where"], result["problems"])
    for result in found:
        if "crash" in result:
            raise RuntimeError(result["crash"])
    if code != 0:
        raise Died(f"a process of the training was killed (accelerate's exit code {code})")
