"""Records made up for the tests, with per-question scores that can be worked out by hand."""

from kd_bench.leaderboard import samples as sampled
from kd_bench.leaderboard.schema import Record, Result

HASH = "0123456789abcdef"


def lines(scores: list[float], *, metric: str = "f1", passage: int = 2, answerable=None) -> list[dict]:
    """A line a question, `passage` questions to a passage. answerable: adds has_ans_f1 or no_ans_em to each."""
    made = []
    for i, value in enumerate(scores):
        own = {metric: value}
        if answerable is not None:
            own["has_ans_f1" if answerable[i] else "no_ans_em"] = value
        made.append({"id": f"q{i}", "cluster": f"p{i // passage}", "prediction": f"answer {i}", "scores": own})
    return made


def content(question_lines: list[dict], name: str = "student", role: str = "distilled", **changes) -> dict:
    """A record's content; `changes` by path, as task__name="x"."""
    made = {
        "schema_version": 1,
        "model": {
            "name": name,
            "role": role,
            "family": "llama",
            "source": "hub/model",
            "teacher": None if role in ("teacher", "other") else "teacher",
            "student": None if role in ("teacher", "other") else "small",
            "layers": 4,
            "parameters": 1000 if role == "teacher" else 750,
            "parameters_without_embeddings": 500,
            "bytes_on_disk": 4000,
        },
        "task": {
            "name": "toy",
            "version": 1.0,
            "hash": "h",
            "num_fewshot": 0,
            "split": "test",
            "fingerprint": {"test": {"questions": len(question_lines), "articles": 1, "hash": HASH}},
        },
        "method": None,
        "seed": None,
        "scores": sampled.scores(question_lines),
        "floor": None,
        "cost": {"train_seconds": 60.0, "generated_tokens_per_second": 10.0},
        "provenance": {
            "run": "run",
            "recipe_hash": "r" * 40,
            "commit": "c" * 40,
            "dirty": False,
            "created": "2026-01-02",
        },
    }
    for path, value in changes.items():
        *folders, key = path.split("__")
        place = made
        for folder in folders:
            place = place[folder]
        place[key] = value
    return made


def result(scores: list[float] | list[dict], name: str = "student", role: str = "distilled", **changes) -> Result:
    question_lines = scores if isinstance(scores[0], dict) else lines(scores)
    return Result(Record.model_validate(content(question_lines, name, role, **changes)), question_lines)


def committed_data_set(task: str) -> str:
    """The hub's name of the data behind a task of the committed records."""
    return {"squad": "rajpurkar/squad_v2", "xquad": "google/xquad"}[task.partition("_")[0]]
