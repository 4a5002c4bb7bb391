"""What a study costs, students x seeds x epochs: TRL's `GKDTrainer` against ours with stored teacher states, one run.

    KD_BENCH_DATA=... python benchmarks/study_cost.py --students 15,10     # layers of the teacher
    python benchmarks/study_cost.py --config pythia-2.8b --students config:pythia-1b,config:pythia-410m --dtype bfloat16

TRL runs the teacher in every step. Ours runs it once, so that a student, a seed or an epoch more costs that student's
own steps and no forward of the teacher. Both train each student for one epoch on `--steps` batches of questions as they
come (batch making, forward, backward, AdamW; models being loaded are not counted); the table is these seconds a
question, times the questions of the training split, epochs, seeds and students. "teacher" is the time in its body,
without the head.

The prediction is checked in the same run: every student is trained once more for two epochs, with the teacher's
states stored anew, and the whole must take what one epoch foretold, `TOLERANCE` more or less.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # this folder's names are not to hide installed packages

import torch
from datasets import Dataset

from benchmarks.common import SETTINGS, Models, machine, parser, report, run, synchronize
from benchmarks.steps import SHARED_STORED, SHIPPED, as_they_come, prepare, step
from kd_bench.distill.states import TeacherStates, write_states

TRL, OURS = SHIPPED, "kd-bench, teacher states stored"
TOLERANCE = 0.25


def parse() -> argparse.Namespace:
    found = parser(__doc__)
    found.add_argument("--students", metavar="S,S,...", help="layers or sources, instead of the one student twice")
    found.add_argument("--setting", choices=SETTINGS, default="oneshot")
    found.add_argument("--seeds", type=int, default=5)
    found.add_argument("--epochs", type=int, default=3)
    found.add_argument("--steps", type=int, default=2, help="batches that an epoch of the measurement has")
    found.add_argument("--batch-size", type=int, default=8, help="questions an optimizer step")
    return found.parse_args()


class Watch:
    """Counts the tokens that a model's body reads and the seconds that this takes."""

    def __init__(self, model: torch.nn.Module):
        self.tokens, self.seconds = 0, 0.0
        model.base_model.register_forward_pre_hook(self._before, with_kwargs=True)
        model.base_model.register_forward_hook(self._after)

    def _before(self, module, args, kwargs):
        synchronize()
        self.tokens += kwargs["input_ids"].numel()
        self.began = time.perf_counter()

    def _after(self, module, args, output):
        synchronize()
        self.seconds += time.perf_counter() - self.began


def studied(method: str, students: list[Models], tokenizer, rows: list[dict], size: int, epochs: int) -> dict:
    """A study of one seed: {"once": seconds before any student, "students": a list of {"seconds", "teacher_seconds",
    "teacher_tokens"}, "teacher_tokens_once"}."""
    teacher, batches = students[0].load_teacher(), [rows[i : i + size] for i in range(0, len(rows), size)]
    dtype, once, read = students[0].dtype, 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        if method == OURS:
            settings = {"bf16": dtype == "bfloat16", "batch_size": size, "progress": False}
            write_states(teacher, Dataset.from_list(batches[0]), Path(folder), **settings)  # not counted: warms up
            watch = Watch(teacher)
            began = time.perf_counter()
            write_states(teacher, Dataset.from_list(rows), Path(folder), **settings)
            once, read = time.perf_counter() - began, watch.tokens
            # Hooks stay on the teacher, which from here on only a mistake would run.
            source = TeacherStates(Path(folder))
        else:
            watch, source = Watch(teacher), teacher
        found = []
        for models in students:
            _, student = models.load(teacher=False)
            variant = SHARED_STORED if method == OURS else SHIPPED
            trainer, collate = prepare(variant, source, student, tokenizer, rows, dtype)
            optimizer = torch.optim.AdamW(student.parameters(), 1e-4)
            step(trainer, collate, batches[0])  # not counted: warms up
            before = watch.tokens, watch.seconds
            began = time.perf_counter()
            for _ in range(epochs):
                for batch in batches:
                    step(trainer, collate, batch, optimizer)
            seconds = time.perf_counter() - began
            found.append(
                {
                    "seconds": seconds,
                    "teacher_seconds": watch.seconds - before[1],
                    "teacher_tokens": watch.tokens - before[0],
                }
            )
    return {"once": once, "teacher_tokens_once": read, "students": found}


def cost(measured: dict, students: int, seeds: int, epochs: int, times: float) -> dict:
    """Seconds, teacher's seconds and teacher's tokens of a study of the first `students`; times: data over measured."""
    chosen, runs = measured["students"][:students], seeds * epochs
    return {
        "seconds": times * (measured["once"] + runs * sum(one["seconds"] for one in chosen)),
        "teacher_seconds": times * (measured["once"] + runs * sum(one["teacher_seconds"] for one in chosen)),
        "teacher_tokens": round(
            times * (measured["teacher_tokens_once"] + runs * sum(one["teacher_tokens"] for one in chosen))
        ),
    }


def checked(one: dict, two: dict) -> dict:
    """Whether two epochs took what one foretold."""
    predicted = cost(one, len(one["students"]), 1, 2, 1)["seconds"]
    actual = cost(two, len(two["students"]), 1, 1, 1)["seconds"]
    return {
        "predicted_seconds": predicted,
        "seconds": actual,
        "within_tolerance": abs(actual / predicted - 1) <= TOLERANCE,
        "teacher_tokens_by_student": [student["teacher_tokens"] for student in two["students"]],
        "teacher_tokens_once": two["teacher_tokens_once"],
    }


def table(results: dict) -> str:
    from tabulate import tabulate

    lines = []
    for row in results["studies"]:
        trl, ours = row[TRL], row[OURS]
        lines.append(
            [row["students"], row["seeds"], row["epochs"],
             *(f"{one[key] / 3600:.2f} h" for one in (trl, ours) for key in ("seconds", "teacher_seconds")),
             f"{trl['teacher_tokens'] / 1e6:.1f} M", f"{ours['teacher_tokens'] / 1e6:.1f} M", f"{row['speedup']:.1f}x"]
        )  # fmt: skip
    header = ["students", "seeds", "epochs", "TRL", "its teacher", "ours", "its teacher", "TRL's teacher reads"]
    header += ["ours reads", "speed"]
    checks = [
        f"{name}: two epochs each took {check['seconds']:.1f} s, predicted {check['predicted_seconds']:.1f} s "
        f"({'within' if check['within_tolerance'] else 'NOT within'} {results['tolerance']:.0%}); the teacher read "
        f"{check['teacher_tokens_once']} tokens once and {check['teacher_tokens_by_student']} for each student"
        for name, check in results["check"].items()
    ]
    return "\n".join([tabulate(lines, header, tablefmt="github", disable_numparse=True), "", *checks])


def main() -> None:
    arguments = parse()
    models = Models.of(arguments)
    names = arguments.students.split(",") if arguments.students else [models.student] * 2
    students = [replace(models, student=int(n) if str(n).isdigit() else n) for n in names]
    tokenizer, task = models.tokenizer(), getattr(arguments, arguments.setting)
    rows, facts = as_they_come(task, tokenizer, arguments.metadata, arguments.steps, arguments.batch_size)
    one, two = (
        {name: studied(name, students, tokenizer, rows, arguments.batch_size, epochs) for name in (TRL, OURS)}
        for epochs in (1, 2)
    )
    times = facts["training_questions"] / len(rows)
    studies = []
    for size in sorted({(1, 1, 1), (1, 1, arguments.epochs), (1, arguments.seeds, arguments.epochs),
                        (len(students), arguments.seeds, arguments.epochs)}):  # fmt: skip
        costs = {name: cost(one[name], *size, times) for name in (TRL, OURS)}
        speedup = costs[TRL]["seconds"] / costs[OURS]["seconds"]
        studies.append({**dict(zip(("students", "seeds", "epochs"), size)), "speedup": speedup, **costs})
    results = {
        **machine(),
        "models": {"teacher": models.teacher, "students": ", ".join(map(str, names)), "dtype": models.dtype},
        "task": task,
        **facts,
        "steps": arguments.steps,
        "batch_size": arguments.batch_size,
        "studies": studies,
        "tolerance": TOLERANCE,
        "check": {name: checked(one[name], two[name]) for name in (TRL, OURS)},
    }
    report(results, table(results), arguments)


if __name__ == "__main__":
    run(main)
