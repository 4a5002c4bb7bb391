"""The learning rate of each student's method, chosen on the validation split out of one grid for all."""

import json
from typing import Any

from kd_bench.errors import UserError
from kd_bench.leaderboard import samples as sampled
from kd_bench.leaderboard.ranking import headline_of
from kd_bench.recipe import Recipe
from kd_bench.runs.plan import Stage, Trial
from kd_bench.runs.records import RESULTS
from kd_bench.runs.store import Store

Chosen = dict[tuple[str, str], float]


def measured(store: Store, stage: Stage) -> dict[str, dict[str, Any]]:
    """{metric: {"value", "stderr", "n", "clusters"}} of a finished evaluation."""
    results = json.loads((store.path(stage) / RESULTS).read_text(encoding="utf-8"))
    lines, _ = sampled.lines(results["samples"][stage.params["task"]])
    return sampled.scores(lines)


def choose(recipe: Recipe, trials: list[Trial], store: Store) -> tuple[Chosen, dict[tuple[str, str], dict[str, Any]]]:
    """({(student, method): rate}, {(student, method): the record's `selection`}): the rate of the best mean over tasks
    of the headline metric, the lower one where two are equal.

    A failed training stands there as failed. Raises UserError naming every method all of whose rates failed.
    """
    groups: dict[tuple[str, str], list[Trial]] = {}
    for trial in trials:
        groups.setdefault((trial.student, trial.label), []).append(trial)
    rates, selections, problems = {}, {}, []
    for who, own in groups.items():
        told, metrics, asked = [], set(), 1
        for trial in own:
            score, error = None, next(filter(None, map(store.failed, (trial.train, *trial.scored))), None)
            if error is None:
                found = [measured(store, stage) for stage in trial.scored]
                heads = [headline_of(scores) for scores in found]
                metrics |= set(heads)
                asked = sum(scores[head]["n"] for scores, head in zip(found, heads))
                score = sum(scores[head]["value"] for scores, head in zip(found, heads)) / len(found)
            told.append({"learning_rate": trial.learning_rate, "score": score, "error": error})
        scored = [trial for trial in told if trial["score"] is not None]
        if not scored:
            problems.append(f"{'-'.join(who)}: every learning rate failed; the first: {told[0]['error']}")
            continue
        rates[who] = max(scored, key=lambda trial: (trial["score"], -trial["learning_rate"]))["learning_rate"]
        selections[who] = {
            "metric": ", ".join(sorted(metrics)),
            "split": "validation",
            "questions": asked,
            "seed": recipe.seeds[0],
            "trials": told,
        }
    if problems:
        raise UserError(f"{recipe.name}: search", problems)
    return rates, selections
