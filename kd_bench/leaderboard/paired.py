"""Two models on the same questions: what the one keeps of the other, and by how much they differ, question by
question."""

from collections.abc import Collection, Iterable, Mapping
from statistics import fmean

from kd_bench.leaderboard.schema import Floor, Result
from kd_bench.leaderboard.statistics import UNDEFINED, Estimate, difference, retention, with_seeds

ABSTENTION = "unanswerable"


def mean_score(results: Iterable[Result], metric: str) -> float:
    return fmean(result.record.scores[metric].value for result in results)


def question_scores(results: list[Result], metric: str) -> dict[str, tuple[str, float]] | None:
    """{question id: (cluster, score averaged over seeds)}; None if a seed's questions are not kept or not the same."""
    seeds = []
    for result in results:
        if result.samples is None:
            return None
        seeds.append({line["id"]: line for line in result.samples if metric in line["scores"]})
    if any(seed.keys() != seeds[0].keys() for seed in seeds):
        return None
    return {
        name: (line["cluster"], fmean(seed[name]["scores"][metric] for seed in seeds))
        for name, line in seeds[0].items()
    }


def aligned(
    a: list[Result], b: list[Result], metric: str
) -> tuple[list[str], list[str], list[float], list[float]] | None:
    """(question ids, clusters, scores of a, scores of b), each [n], if both answered the same questions and these are
    kept."""
    left, right = question_scores(a, metric), question_scores(b, metric)
    if not left or not right or left.keys() != right.keys():
        return None
    names = sorted(left)
    return names, [left[n][0] for n in names], [left[n][1] for n in names], [right[n][1] for n in names]


def floor_scores(floor: Floor | None, results: list[Result], metric: str) -> Mapping[str, float] | float | None:
    """The floor's score on each question where it can be told, else its mean; None if there is no floor.

    Always abstaining is right exactly on the questions without an answer, which are those that have no_ans_em. Knowing
    it question by question matters for the interval: how many of the drawn questions have no answer moves student,
    teacher and floor together.
    """
    if floor is None or metric not in floor.scores:
        return None
    lines = results[0].samples
    if lines and floor.answer == ABSTENTION:
        right = {line["id"]: float("no_ans_em" in line["scores"]) for line in lines if metric in line["scores"]}
        if right and abs(fmean(right.values()) - floor.scores[metric]) < 1e-9:
            return right
    return floor.scores[metric]


def retained(
    student: list[Result], teacher: list[Result], metric: str, floor: Mapping[str, float] | float = 0.0
) -> Estimate:
    """(student - floor) / (teacher - floor), each averaged over seeds; without an interval where the questions can't be
    paired. The student's seeds count in the error; the teacher is taken as it is."""
    pairs = aligned(student, teacher, metric)
    if pairs is None:
        base = fmean(floor.values()) if isinstance(floor, Mapping) else floor
        lead = mean_score(teacher, metric) - base
        return Estimate((mean_score(student, metric) - base) / lead) if lead > 1e-12 else UNDEFINED
    names, clusters, mine, best = pairs
    base = [floor[name] for name in names] if isinstance(floor, Mapping) else floor
    found = retention(mine, best, clusters, base)
    if found.value is None:
        return found
    bottom = fmean(base) if isinstance(base, list) else base
    lead = fmean(best) - bottom
    seeds = [(result.record.scores[metric].value - bottom) / lead for result in student]
    return with_seeds(found, seeds, len(set(clusters)))


def change(a: list[Result], b: list[Result], metric: str, only: Collection[str] | None = None) -> Estimate:
    """mean(a) - mean(b), each averaged over seeds, which count in the error (those of a and b taken as independent);
    without an interval where the questions can't be paired. only: of the questions with these ids, where they can be.
    """
    pairs = aligned(a, b, metric)
    if pairs is None:
        return Estimate(mean_score(a, metric) - mean_score(b, metric))
    rows = [row for row in zip(*pairs) if only is None or row[0] in only]
    names, clusters, left, right = map(list, zip(*rows))
    found = difference(left, right, clusters)
    for side in (a, b):
        scores = [{line["id"]: line["scores"].get(metric) for line in result.samples} for result in side]
        found = with_seeds(found, [fmean(own[name] for name in names) for own in scores], len(set(clusters)))
    return found
