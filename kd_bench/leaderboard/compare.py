"""Two models question by question: by how much they differ and how sure that is, on which kinds of question, and where
most."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from statistics import fmean
from typing import NamedTuple

from kd_bench.errors import UserError
from kd_bench.leaderboard.names import data_set, language, prompt_setting
from kd_bench.leaderboard.paired import aligned, change
from kd_bench.leaderboard.ranking import headline_of, table_key
from kd_bench.leaderboard.schema import Result
from kd_bench.leaderboard.statistics import Estimate

EXACT = ("em", "exact_match", "acc")  # right or wrong, as McNemar's test needs it


class McNemar(NamedTuple):
    """How many questions both, only a, only b and neither got right, and the exact two-sided p-value of as uneven a
    split of those that one alone got right (McNemar 1947). It takes questions for independent; the intervals do not."""

    metric: str
    both: int
    only_a: int
    only_b: int
    neither: int
    p_value: float


class Kind(NamedTuple):
    """One kind of question: `by` is how questions were told apart, a and b the mean scores, change = a - b."""

    by: str
    kind: str
    questions: int
    a: float
    b: float
    change: Estimate


class Question(NamedTuple):
    """What both wrote on one question; one prediction a seed, None where the record keeps none."""

    id: str
    a: float
    b: float
    a_wrote: list[str | None]
    b_wrote: list[str | None]


@dataclass(frozen=True)
class Comparison:
    """a and b on the same questions of one task; a, b: mean scores over questions and seeds.

    same_answer: the share of questions on which both wrote the same text, white space at the ends apart. mcnemar and
    same_answer are None where a side has several seeds, mcnemar also where no metric is right-or-wrong. questions: all
    that differ in `metric`, the largest difference first.
    """

    task: str
    metric: str
    count: int
    passages: int
    a: float
    b: float
    change: Estimate
    same_answer: float | None
    mcnemar: McNemar | None
    kinds: list[Kind]
    questions: list[Question]


def find(results: Iterable[Result], name: str) -> list[Result]:
    """The results of the model `name`, or of `run/name` where two runs have one.

    Raises UserError with the names there are if none, or models of several runs, are called so.
    """
    models = defaultdict(list)
    for result in results:
        models[f"{result.record.provenance.run}/{result.record.model.name}"].append(result)
    chosen = [full for full in sorted(models) if name in (full, full.split("/", 1)[1])]
    if len(chosen) == 1:
        return models[chosen[0]]
    if chosen:
        raise UserError(name, f"names several models: say which of {', '.join(chosen)}")
    raise UserError(name, f"no record of such a model; there are {', '.join(sorted(models)) or 'none'}")


def pairs(a: list[Result], b: list[Result]) -> tuple[list[tuple[list[Result], list[Result]]], list[str]]:
    """([(results of a, results of b) on the same questions of one task], why other tasks are left out)."""
    sides = []
    for side in (a, b):
        grouped = defaultdict(list)
        for result in side:
            grouped[table_key(result.record)].append(result)
        sides.append(grouped)
    left, right = sides
    notes = [
        f"{key[0]}: left out, there is no record of both on the same questions" for key in sorted({*left} ^ {*right})
    ]
    return [(left[key], right[key]) for key in sorted({*left} & {*right})], list(dict.fromkeys(notes))


def compare(
    a: list[Result],
    b: list[Result],
    metric: str | None = None,
    kinds: Mapping[str, Mapping[str, str]] | None = None,
) -> Comparison:
    """`a` (one result a seed) against `b` on one task.

    metric: by default the one that the leaderboard ranks by. kinds: {how questions are told apart: {question id:
    kind}}; questions that a mapping leaves out are in none of its kinds. Raises UserError if the metric is not there,
    or the questions' scores are not kept or not the same.
    """
    task = a[0].record.task.name
    shared = set.intersection(*(set(result.record.scores) for result in [*a, *b]))
    if not shared or (metric and metric not in shared):
        raise UserError(task, f"no score {metric or ''} of both; there are {', '.join(sorted(shared)) or 'none'}")
    metric = metric or headline_of(shared)
    paired = aligned(a, b, metric)
    if paired is None:
        raise UserError(task, "the two can't be paired: their questions are not kept, or not the same")
    names, clusters, left, right = paired
    scores = {name: pair for name, *pair in zip(names, left, right)}
    parts = {line["id"]: line["scores"].keys() for line in a[0].samples}
    answerable = {name: "answerable" for name, own in parts.items() if {"has_ans_em", "has_ans_f1"} & own}
    answerable |= {name: "unanswerable" for name, own in parts.items() if "no_ans_em" in own}
    found = []
    for by, kind_of in {**({"answer": answerable} if answerable else {}), **(kinds or {})}.items():
        for kind in dict.fromkeys(kind_of.values()):  # in the order that the caller gave
            mine = {name for name in names if kind_of.get(name) == kind}
            if mine:
                means = [fmean(column) for column in zip(*(scores[name] for name in sorted(mine)))]
                found.append(Kind(by, kind, len(mine), *means, change(a, b, metric, mine)))
    questions = differing(a, b, metric, every=True)
    return Comparison(
        task=task,
        metric=metric,
        count=len(names),
        passages=len(set(clusters)),
        a=fmean(left),
        b=fmean(right),
        change=change(a, b, metric),
        same_answer=_same_answer(questions),
        mcnemar=_mcnemar(a, b, shared),
        kinds=found,
        questions=[question for question in questions if question.a != question.b],
    )


def together(found: list[tuple[list[Result], list[Result]]], metric: str | None = None) -> Comparison | None:
    """The `pairs` of several tasks as one comparison over all their questions, with the kinds of task: language, data
    set, prompt setting; those that tell none apart are left out.

    Passages that several tasks share count once. None with one task, or where the tasks have no such score in common, a
    task's questions can't be paired, or a side's seeds differ between tasks.
    """
    records = [result.record for pair in found for side in pair for result in side]
    shared = set.intersection(*(set(record.scores) for record in records))
    seeds = [{tuple(sorted(str(r.record.seed) for r in pair[side])) for pair in found} for side in (0, 1)]
    if len(found) < 2 or not shared or (metric and metric not in shared) or any(len(some) > 1 for some in seeds):
        return None
    metric = metric or headline_of(shared)
    if any(aligned(*pair, metric) is None for pair in found):
        return None
    sides = [_joined([sorted(pair[side], key=lambda r: str(r.record.seed)) for pair in found]) for side in (0, 1)]
    kinds: dict[str, dict[str, str]] = {"language": {}, "data set": {}, "prompt": {}}
    for left, _ in found:
        task = left[0].record.task
        told = language(task.name), data_set(task.name), prompt_setting(task.num_fewshot)
        for by, kind in zip(kinds, told):
            kinds[by] |= {_joint_id(left[0], line): kind for line in left[0].samples if kind}
    kinds = {by: kind_of for by, kind_of in kinds.items() if len({*kind_of.values()}) > 1}
    made = compare(*sides, metric, kinds)
    # Its questions stand under their own tasks, and McNemar's test would take one question in two prompts for two.
    return replace(made, task=f"all {len(found)} tasks together", mcnemar=None, questions=[])


def _joint_id(result: Result, line: dict) -> str:
    return f"{result.record.task.name} {line['id']}"


def _joined(by_task: list[list[Result]]) -> list[Result]:
    """One result a seed, with the questions of all tasks."""
    return [
        Result(own[0].record, [line | {"id": _joint_id(some, line)} for some in own for line in some.samples])
        for own in zip(*by_task)
    ]


def differing(a: list[Result], b: list[Result], metric: str, every: bool = False) -> list[Question]:
    """The questions on which the scores differ (or every one), the largest difference first; none where they can't be
    paired."""
    paired = aligned(a, b, metric)
    if paired is None:
        return []
    names, _, left, right = paired
    wrote = [[{line["id"]: line["prediction"] for line in result.samples} for result in side] for side in (a, b)]
    order = sorted(range(len(names)), key=lambda i: -abs(left[i] - right[i]))
    return [
        Question(names[i], left[i], right[i], *([own[names[i]] for own in side] for side in wrote))
        for i in order
        if every or left[i] != right[i]
    ]


def _same_answer(questions: list[Question]) -> float | None:
    if any(len(side) > 1 or side[0] is None for q in questions for side in (q.a_wrote, q.b_wrote)):
        return None
    return fmean(q.a_wrote[0].strip() == q.b_wrote[0].strip() for q in questions)


def _mcnemar(a: list[Result], b: list[Result], shared: set[str]) -> McNemar | None:
    metric = next((name for name in EXACT if name in shared), None)
    if metric is None or len(a) > 1 or len(b) > 1:
        return None
    _, _, left, right = aligned(a, b, metric)
    if not {*left, *right} <= {0.0, 1.0}:
        return None
    from statsmodels.stats.contingency_tables import mcnemar

    count = [[sum(pair == (x, y) for pair in zip(left, right)) for y in (1, 0)] for x in (1, 0)]
    return McNemar(metric, *count[0], *count[1], float(mcnemar(count, exact=True).pvalue))
