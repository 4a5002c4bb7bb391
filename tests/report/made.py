"""A study's records made up for the tests: two students, four rows of each, two prompt settings, several seeds."""

import random
import re

from kd_bench.leaderboard import samples as sampled
from kd_bench.leaderboard.record import write_record
from kd_bench.leaderboard.schema import Result
from kd_bench.report.study import Study, find_study
from tests.leaderboard.made import result

PASSAGES, EACH = 12, 4
STUDENTS = {"12l": (60_000_000, 0.0), "6l": (35_000_000, -0.15)}  # parameters, how much worse
METHODS = {"undistilled": -0.3, "sft": -0.1, "kd": 0.0, "distillm": 0.05}
TEACHER = 100_000_000
FLOOR = {"answer": "unanswerable", "scores": {"f1": 0.25, "em": 0.25, "rougeL": 0.25}}
TRIALS = [
    {"learning_rate": 1e-4, "score": 0.5},
    {"learning_rate": 3e-4, "score": 0.625},
    {"learning_rate": 1e-2, "score": None, "error": "the loss became nan at step 12"},
]


def answers(level: float, draw: str, questions: int = PASSAGES * EACH) -> list[dict]:
    """Lines of a model that is right with about this probability, harder passages less often; `draw` seeds it."""
    chance = random.Random(draw)
    made = []
    for i in range(questions):
        hard = 0.2 * ((i // EACH) % 3 - 1)
        right = float(chance.random() < level - hard)
        scores = {"em": right, "f1": max(right, 0.25 * chance.randint(0, 2)), "rougeL": right}
        made.append({"id": f"q{i}", "cluster": f"p{i // EACH}", "prediction": f"{draw} {i}", "scores": scores})
    return made


def record(run: str, name: str, shots: int, seed: int | None, level: float, study: str = "toy", **changes) -> Result:
    """changes: as `tests.leaderboard.made.content` takes them."""
    student = None if name == "teacher" else name.split("-")[0]
    role = name if name == "teacher" else name.split("-")[1]
    role = role if role in ("teacher", "undistilled", "sft") else "distilled"
    task = f"squad_kd_{'one' if shots else 'zero'}shot"
    trained = role in ("sft", "distilled")
    fields = {
        "model__parameters": STUDENTS[student][0] if student else TEACHER,
        "model__student": student,
        "task__name": task,
        "task__num_fewshot": shots,
        "seed": seed,
        "floor": FLOOR,
        "method": {"name": name.split("-")[-1], "learning_rate": 3e-4} if trained else None,
        "cost": {"train_seconds": 60.0 + (seed or 0) if trained else None, "evaluate_seconds": 30.0},
        "provenance__run": f"{study}.{run}",
        "provenance__study": study,
        "provenance__point": {"tasks": [task]},
        "provenance__recipe": "recipes/toy.yaml",
        "provenance__hardware": {"cpu": "X", "cores": 2, "gpus": []},
        "validation": {
            "scores": sampled.scores(answers(level + 0.05, f"v {run} {name} {seed}", 40)),
            "floor": {"answer": "unanswerable", "scores": {"f1": 0.3, "em": 0.3, "rougeL": 0.3}},
        },
    }
    if trained:
        fields["selection"] = {"metric": "f1", "split": "validation", "questions": 40, "seed": 0, "trials": TRIALS}
        fields["curve"] = [[step, 3.0 / step + 0.01 * (seed or 0)] for step in range(1, 40, 2)]
    fields["model__role"] = role
    return result(answers(level, f"{run} {name} {shots} {seed}"), name, role, **(fields | changes))


def study(seeds=(0, 1, 2), **changes) -> list[Result]:
    """A run a prompt setting, each with a teacher and all students."""
    made = []
    for shots, run in ((0, "zeroshot"), (1, "oneshot")):
        made.append(record(run, "teacher", shots, None, 0.9, **changes))
        for student, (_, worse) in STUDENTS.items():
            for method, gain in METHODS.items():
                level = 0.75 + worse + gain + 0.1 * shots * (1 if student == "12l" else -1)
                for seed in (None,) if method == "undistilled" else seeds:
                    made.append(record(run, f"{student}-{method}", shots, seed, level, **changes))
    return made


def draws(demos=(0, 1, 2), splits=(0, 1)) -> list[Result]:
    """One student under every pair of a demonstration and a split."""
    made = []
    for demo in demos:
        for split in splits:
            at = {"provenance__point": {"data.demo_seed": demo, "data.split_seed": split}, "study": "draws"}
            for name, seed, level in (("teacher", None, 0.9), ("12l-sft", 0, 0.6), ("12l-kd", 0, 0.65 + 0.05 * demo)):
                made.append(record(f"demo{demo}-split{split}", name, 1, seed, level, **at))
    return made


def settings() -> list[Result]:
    """One student under three skews and, trained by another method, two rates."""
    made = []
    points = [{"method.preset": "distillm", "method.skew": skew} for skew in (0.01, 0.1, 0.5)]
    points += [{"method.preset": "kd", "training.learning_rate": rate} for rate in (1e-4, 1e-3)]
    for i, point in enumerate(points):
        at = {"provenance__point": point, "study": "settings"}
        made.append(record(f"run{i}", "teacher", 0, None, 0.9, **at))
        for seed in (0, 1, 2):
            made.append(record(f"run{i}", f"12l-{point['method.preset']}", 0, seed, 0.5 + 0.08 * (i % 3), **at))
    return made


def write(folder, results: list[Result]):
    for record, lines in results:
        write_record(folder, record, lines)
    return folder


def study_of(results: list[Result], name: str = "toy") -> Study:
    return find_study(name, results, [], "results")


def table_after(markdown: str, heading: str) -> list[dict[str, str]]:
    """The first table below a heading, a dict a row."""
    found = markdown.split(f"\n{heading}\n", 1)[1]
    lines = re.search(r"(?:^\|.*\n?)+", found, re.MULTILINE)[0].strip().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(cells[0], row)) for row in cells[2:]]


def by_model(rows):
    return {row["Model"].strip("`"): row for row in rows}
