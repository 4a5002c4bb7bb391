"""A record's scores once more: from the text of its answers, by the task's own rules, on the task's own documents."""

import math
from collections.abc import Collection
from numbers import Real
from typing import Any

from kd_bench.errors import UserError
from kd_bench.leaderboard import samples as sampled
from kd_bench.leaderboard.schema import Record, Result
from kd_bench.runs.records import floor_of

TOLERANCE = 1e-6


def rescore(result: Result, task, docs: dict[str, dict]) -> tuple[Result, list[str]]:
    """(the record with those of its scores that its texts give, what to know about it).

    docs: {question id: document} of the measured split, in order. A metric that can't be computed from the text alone
    is left out and named. Raises UserError naming all that contradicts the texts, the documents or the task: other
    questions or passages, a score that the text does not give, another floor, another version.
    """
    record, lines = result
    asked = _asked(lines, docs)
    problems = []
    if str(record.task.version) != str(task.VERSION):
        problems.append(f"was measured with version {record.task.version} of the task; here it has {task.VERSION}")
    passages = {name: sampled.cluster({"doc": doc, "doc_id": i}) for i, (name, doc) in enumerate(asked.items())}
    if moved := [line["id"] for line in lines if line["cluster"] != passages[line["id"]]]:
        problems.append(f"{len(moved)} questions stand in other passages than the task's, such as {moved[0]}")
    again = {}
    for line in lines:
        try:
            again[line["id"]] = scores_of_text(task, asked[line["id"]], line["prediction"])
        except Exception as error:  # the scorer may be anybody's, and so may the text
            why = f"question {line['id']}: its answer can't be scored here: {type(error).__name__}: {error}"
            raise UserError(record.task.name, why) from error
    recomputed = set().union(*again.values())
    kept = {metric: score for metric, score in record.scores.items() if metric in recomputed}
    if not kept:
        problems.append(f"none of its scores ({', '.join(record.scores)}) can be computed from the text of its answers")
    problems += _differing(kept, lines, again)
    problems += _floor_problems(record, task, asked)
    if problems:
        raise UserError(record.task.name, problems)
    untold = [name for name in record.scores if name not in kept]
    notes = [f"{name} is left out: it can't be computed from the text of the answers" for name in untold]
    if len(asked) < len(docs):
        notes.append(f"covers the first {len(asked):,} of {len(docs):,} questions: it gets a table of its own")
    lines = [line | {"scores": {m: v for m, v in line["scores"].items() if m in kept}} for line in lines]
    return Result(record.model_copy(update={"scores": kept}), lines), notes


def scores_of_text(task, doc: dict, text: str | None) -> dict[str, float]:
    """{metric: value} of one answer: a written text, or the number of a choice, which gives accuracy and no more.

    Raises ValueError for what is no answer to this task, and whatever the task's scorer does.
    """
    if task.OUTPUT_TYPE == "multiple_choice":
        count = len(task.doc_to_choice(doc))
        if text not in map(str, range(count)):
            raise ValueError(f"{text!r} is not the number of one of its {count} choices")
        found = task.process_results(doc, [(-float(str(number) != text), False) for number in range(count)])
        found = {"acc": found["acc"]} if "acc" in found else {}
    elif task.OUTPUT_TYPE == "generate_until" and text is not None:
        found = task.process_results(doc, [text])
    else:
        raise ValueError("there is no text to score")
    filters = [some["name"] for some in task.config.filter_list or []]
    name = f",{filters[0]}" if len(filters) > 1 else ""  # a line holds what the first filter let through
    return {f"{m}{name}": float(v) for m, v in found.items() if isinstance(v, Real) and math.isfinite(v)}


def _asked(lines: list[dict], docs: dict[str, dict]) -> dict[str, dict]:
    """The documents that the lines answer: all, or the first so many, which is what a limit asks."""
    ids = {line["id"] for line in lines}
    asked = dict(list(docs.items())[: len(lines)])
    if ids != set(asked):
        missing, extra = [name for name in docs if name not in ids], sorted(ids - set(docs))
        told = [f"{len(missing):,} of the split are missing, such as {missing[0]}"] if missing else []
        told += [f"{len(extra):,} are not in it, such as {extra[0]!r}"] if extra else []
        raise UserError("samples", f"answers other questions than the split's: {'; '.join(told)}")
    return asked


def _differing(metrics: Collection[str], lines: list[dict], again: dict[str, dict[str, float]]) -> list[str]:
    """One problem if the samples hold scores that their texts don't give."""
    wrong = []
    for line in lines:
        pairs = {metric: (line["scores"].get(metric), again[line["id"]].get(metric)) for metric in metrics}
        if apart := {metric: pair for metric, pair in pairs.items() if not _same(*pair)}:
            wrong.append((line, apart))
    if not wrong:
        return []
    line, apart = wrong[0]
    said = ", ".join(f"{metric} {_shown(own)} and not {_shown(told)}" for metric, (told, own) in apart.items())
    return [
        f"the text of {len(wrong):,} of {len(lines):,} answers does not give their scores, such as {line['id']}:"
        f" {line['prediction']!r:.80} gives {said}"
    ]


def _same(told: float | None, own: float | None) -> bool:
    return told == own if told is None or own is None else abs(told - own) <= TOLERANCE


def _shown(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.6g}"


def _floor_problems(record: Record, task, asked: dict[str, dict]) -> list[str]:
    """What students keep is counted from the floor, so it is not taken on trust either."""
    if record.floor is None:
        return []
    own: dict[str, Any] | None = floor_of(task, [{"doc_id": name, "doc": doc} for name, doc in asked.items()])
    told = record.floor
    if own is None:
        return ["has a floor, and its task has none"]
    same = own["answer"] == told.answer and own["scores"].keys() == told.scores.keys()
    if same and all(abs(value - told.scores[metric]) <= TOLERANCE for metric, value in own["scores"].items()):
        return []
    return [f"its floor is not that of these questions: the best constant answer is {own['answer']!r}"]
