"""What must hold of a folder of records before a change to it is taken in. `kd-bench leaderboard --check` asks, and so
does CI on every pull request."""

from pathlib import Path
from typing import NamedTuple

from kd_bench.leaderboard.moved import git, text_at
from kd_bench.leaderboard.record import parse_record, read_record, read_results
from kd_bench.leaderboard.schema import Record, stem

DRIFT = 1e-3
RECORD, SAMPLES = ".json", ".samples.jsonl"


class SubmissionKey(NamedTuple):
    """What was measured how: two records with the same key claim one result, whatever their runs are called."""

    student: str
    source: str
    revision: str | None
    recipe_hash: str | None
    task: str
    version: str
    shots: int
    seed: int | None

    @classmethod
    def of(cls, record: Record) -> "SubmissionKey":
        model, task, recipe_hash = record.model, record.task, record.provenance.recipe_hash
        measured = (task.name, str(task.version), task.num_fewshot, record.seed)
        return cls(model.name, model.source, model.revision, recipe_hash, *measured)


def audit(folder: Path) -> list[str]:
    """One problem for each record that does not read, is not called what it holds, has no samples that give its scores,
    or claims what another claims, and each samples file without a record. Raises UserError if there is no such
    folder."""
    _, problems = read_results(folder)
    claimed: dict[SubmissionKey, str] = {}
    expected = set()
    for path in sorted(folder.glob(f"*{RECORD}")):
        try:
            record = read_record(path)
        except (ValueError, OSError):
            expected.add(path.name.removesuffix(RECORD) + SAMPLES)  # `read_results` has named it
            continue
        name = stem(record)
        expected.add(name + SAMPLES)
        if path.name != name + RECORD:
            problems.append(f"{path.name}: holds what belongs into {name}{RECORD}; rename it")
        if record.samples != name + SAMPLES:
            told = f"names {record.samples} as its samples" if record.samples else "has no samples"
            problems.append(f"{path.name}: {told}; its questions belong into {name}{SAMPLES}")
        key = SubmissionKey.of(record)
        if other := claimed.get(key):
            problems.append(f"{path.name}: claims the same student, task, recipe and seed as {other}; keep one of them")
        claimed.setdefault(key, path.name)
    orphans = sorted(path.name for path in folder.glob(f"*{SAMPLES}") if path.name not in expected)
    return problems + [f"{name}: no record has these samples; add it or remove them" for name in orphans]


def audit_since(folder: Path, revision: str) -> list[str]:
    """One problem for each record of a git revision that is gone, whose scores are not what they were although its
    task's version is the same, or that no longer says what its model was trained on.

    A record that does not read now is `audit`'s; one that did not read then may go. Raises UserError if git knows no
    such revision.
    """
    # Without the files that are new: they have nothing to be held to.
    words = ("diff", "--name-only", "-z", "--no-renames", "--diff-filter=a", "--relative", "--end-of-options", revision)
    problems = []
    for name in git(folder, revision, *words, "--", f":(glob)*{RECORD}").split("\0"):
        path = folder / name
        if not name:
            continue
        try:
            before = parse_record(text_at(revision, path))
        except ValueError:
            continue
        if not path.exists():
            problems.append(f"{name}: is gone since {revision}; what was once measured stays, put it back")
            continue
        try:
            problems += [f"{name}: {problem}" for problem in _drift(before, read_record(path), revision)]
        except (ValueError, OSError):
            continue
    return problems


def _drift(before: Record, now: Record, revision: str) -> list[str]:
    problems = []
    if before.trained_on and before.trained_on != now.trained_on:
        problems.append(f"what the model was trained on is not what it was at {revision}; a declaration stands")
    if before.task.version != now.task.version:
        return problems
    moved = []
    for metric, was in before.scores.items():
        score = now.scores.get(metric)
        if score is None or abs(score.value - was.value) > DRIFT:
            moved.append(f"{metric} from {was.value:.4f} to {'nothing' if score is None else f'{score.value:.4f}'}")
    if moved:
        problems.append(
            f"moved since {revision} at the same version of the task ({now.task.version}): {', '.join(moved)};"
            " a changed task needs a new version, another model another name"
        )
    return problems
