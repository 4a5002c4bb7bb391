"""Learning-rate trials, both splits, teacher-written answers and quantized rows, as a plan has them; and the choice."""

import json
from itertools import product

import pytest

from kd_bench.errors import UserError
from kd_bench.recipe import Recipe
from kd_bench.runs.plan import make_plan, make_trials, with_needs
from kd_bench.runs.records import RESULTS, identity, thinned
from kd_bench.runs.search import choose
from kd_bench.runs.store import Store
from tests.runs.test_plan import changed, facts_for

RATES = [1e-4, 3e-4]


def searching(**changes) -> Recipe:
    return changed(search={"learning_rates": RATES}, methods=["kd", "distillm"], **changes)


def names(plan) -> list[str]:
    return [f"{stage.kind} {stage.name}" for stage in plan]


def test_every_method_and_sft_try_the_same_rates_with_the_first_seed():
    trials = make_trials(searching(), facts_for(searching()))
    assert [(t.student, t.label, t.learning_rate) for t in trials] == list(
        product("ab", ["sft", "kd", "distillm"], RATES)
    )
    for trial in trials:
        assert trial.train.params["training"]["learning_rate"] == trial.learning_rate
        assert trial.train.params["seed"] == 0
        assert [stage.params["split"] for stage in trial.scored] == ["validation"]
    assert make_trials(changed(), facts_for(changed())) == []


def test_the_chosen_trial_is_the_first_seeds_training():
    recipe = searching()
    facts = facts_for(recipe)
    trials = make_trials(recipe, facts)
    rates = {(t.student, t.label): RATES[1] for t in trials}
    stages = {f"{s.kind} {s.name}": s for s in make_plan(recipe, facts, rates)}
    for trial in trials:
        same = stages[f"train {trial.student}-{trial.label}-s0"].digest == trial.train.digest
        assert same == (trial.learning_rate == RATES[1])
        other = stages[f"train {trial.student}-{trial.label}-s1"]
        assert other.params["training"]["learning_rate"] == RATES[1]


def test_needs_come_first_and_once():
    trials = make_trials(searching(), facts_for(searching()))
    plan = with_needs(stage for trial in trials for stage in (trial.train, *trial.scored))
    keys = [stage.key for stage in plan]
    assert len(set(keys)) == len(keys)
    for place, stage in enumerate(plan):
        assert all(need.key in keys[:place] for need in stage.needs.values())
    assert names(plan).count("teacher finetuned") == 1


def evaluated(store: Store, stage, score: float) -> None:
    metrics = {"em": score, "f1": score}
    samples = [
        {"doc_id": i, "doc": {"id": str(i), "context": f"c{i}"}, "filter": "none", "filtered_resps": ["x"],
         "metrics": list(metrics), **metrics}
        for i in range(4)
    ]  # fmt: skip
    folder = store.begin(stage)
    (folder / RESULTS).write_text(json.dumps({"samples": {stage.params["task"]: samples}}))
    store.finish(stage)


def test_the_best_validation_score_chooses_and_a_failed_rate_is_told(tmp_path):
    recipe = changed(search={"learning_rates": RATES}, method="kd", students=[{"name": "b", "model": "S"}])
    trials = make_trials(recipe, facts_for(recipe))
    store = Store(tmp_path)
    scores = {("sft", RATES[0]): 0.4, ("sft", RATES[1]): 0.4, ("kd", RATES[0]): 0.2}
    for trial in trials:
        score = scores.get((trial.label, trial.learning_rate))
        if score is None:
            store.fail(trial.train, UserError("training", "the loss is nan at step 3 of 9"))
        else:
            evaluated(store, trial.scored[0], score)
    rates, selections = choose(recipe, trials, store)
    assert rates == {("b", "sft"): RATES[0], ("b", "kd"): RATES[0]}  # equal scores: the lower rate
    assert selections["b", "kd"] == {
        "metric": "f1",
        "split": "validation",
        "questions": 4,
        "seed": 0,
        "trials": [
            {"learning_rate": RATES[0], "score": 0.2, "error": None},
            {"learning_rate": RATES[1], "score": None, "error": "training: the loss is nan at step 3 of 9"},
        ],
    }


def test_a_method_whose_rates_all_failed_stops_the_run(tmp_path):
    recipe = changed(search={"learning_rates": RATES}, method="kd", students=[{"name": "b", "model": "S"}])
    trials = make_trials(recipe, facts_for(recipe))
    store = Store(tmp_path)
    for trial in trials:
        store.fail(trial.train, UserError("training", "nan"))
    with pytest.raises(UserError, match="b-kd: every learning rate failed"):
        choose(recipe, trials, store)


def test_both_splits_are_evaluations_of_their_own():
    recipe = changed(evaluation={"split": "both"})
    plan = make_plan(recipe, facts_for(recipe))
    assert {"evaluate teacher.one", "evaluate teacher.one.validation"} <= set(names(plan))
    own = {s.name: s.params for s in plan if s.kind == "evaluate"}
    assert own["teacher.one"]["split"] == "test" and own["teacher.one.validation"]["split"] == "validation"
    alone = {s.name: s.digest for s in make_plan(changed(), facts_for(changed())) if s.kind == "evaluate"}
    assert alone["teacher.one"] == next(s.digest for s in plan if s.name == "teacher.one")


def test_a_teacher_writes_once_for_all_that_learn_from_its_answers():
    recipe = changed(methods=["kd", "seqkd", "distillm2"])
    stages = {f"{s.kind} {s.name}": s for s in make_plan(recipe, facts_for(recipe))}
    assert names(stages.values()).count("completions teacher") == 1
    assert set(stages["train a-seqkd-s0"].needs) == {"student", "completions"}
    assert set(stages["train a-distillm2-s0"].needs) == {"student", "teacher", "states", "completions"}
    assert stages["train a-distillm2-s0"].needs["states"] is stages["states teacher-written"]
    assert stages["train a-kd-s0"].needs["states"] is stages["states teacher"]
    assert "validation" not in stages["train a-distillm2-s0"].params
    adaptive = changed(method="distillm")
    adaptive_stages = {s.name: s for s in make_plan(adaptive, facts_for(adaptive))}
    assert adaptive_stages["a-distillm-s0"].params["validation"][0][0] == "one"


def test_a_quantized_student_is_a_row_of_its_own():
    recipe = changed(students=[{"name": "b", "model": "S", "quantize": ["nf4", "int8"]}])
    plan = make_plan(recipe, facts_for(recipe))
    rows = [identity(s.needs["model"])["name"] for s in plan if s.kind == "evaluate"]
    assert {"b-sft", "b-nf4-sft", "b-int8-sft", "b-forward_kl", "b-nf4-forward_kl"} <= set(rows)
    small = next(s for s in plan if s.name == "b-nf4-forward_kl-s1")
    # A student of its own: in the tables it stands against sft in as few bits.
    assert identity(small) == {"name": "b-nf4-forward_kl", "role": "distilled", "student": "b-nf4", "seed": 1}


def test_a_curve_keeps_its_mean_in_at_most_a_hundred_points():
    curve = [{"step": step, "loss": float(step)} for step in range(1, 251)]
    points = thinned(curve)
    assert len(points) == 84 and points[0] == [3, 2.0] and points[-1] == [250, 250.0]
    assert thinned(curve[:50]) == [[step, float(step)] for step in range(1, 51)]
    assert thinned([]) == []
