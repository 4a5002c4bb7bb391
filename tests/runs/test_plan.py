import copy
from pathlib import Path

import pytest

from kd_bench.errors import UserError
from kd_bench.recipe import Recipe, load_recipe
from kd_bench.runs.estimate import describe
from kd_bench.runs.plan import make_plan, sources_of
from kd_bench.runs.records import identity
from kd_bench.runs.store import Store

ROOT = Path(__file__).resolve().parents[2]
RECIPE = {
    "name": "small",
    "teacher": {"model": "T", "finetune": {"epochs": 1}},
    "students": [{"name": "a", "init": {"keep_layers": 4}}, {"name": "b", "model": "S"}],
    "tasks": ["one"],
    "seeds": [0, 1],
}


def facts_for(recipe: Recipe) -> dict:
    split = {"train": {"hash": "tr"}, "test": {"hash": "te"}, "validation": {"hash": "va"}, "demo": {"hash": "de"}}
    names = {*recipe.tasks, *recipe.evaluation_tasks}
    return {
        "tasks": {n: {"version": 1.0, "hash": f"h-{n}", "fingerprint": copy.deepcopy(split)} for n in names},
        "models": {source: f"f-{source}" for source in sources_of(recipe)},
        "shapes": {
            s: {
                "parameters": 1000,
                "parameters_without_embeddings": 600,
                "layers": 6,
                "hidden_size": 8,
                "vocab_size": 50,
            }
            for s in sources_of(recipe)
        },
        "completion_tokens": 100,
    }


def changed(**changes) -> Recipe:
    data = copy.deepcopy(RECIPE)
    for key, value in changes.items():
        *path, last = key.split("__")
        place = data
        for part in path:
            place = place[int(part)] if part.isdigit() else place.setdefault(part, {})
        place[last] = value
    return Recipe.model_validate(data)


def keys(recipe: Recipe, facts: dict | None = None) -> dict[str, str]:
    return {f"{s.kind} {s.name}": s.digest for s in make_plan(recipe, facts or facts_for(recipe))}


def redone(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name, digest in after.items() if before.get(name) != digest}


def test_the_stages_and_their_order():
    """Each model is evaluated right after it is made, while it is in memory."""

    def stages_of(student):
        yield from (f"init {student}", f"evaluate {student}-undistilled.one")
        for method in ("sft-s0", "forward_kl-s0", "sft-s1", "forward_kl-s1"):
            yield from (f"train {student}-{method}", f"evaluate {student}-{method}.one")

    plan = make_plan(changed(), facts_for(changed()))
    assert [f"{s.kind} {s.name}" for s in plan] == [
        "teacher finetuned",
        "evaluate teacher.one",
        "states teacher",
        *(line for student in "ab" for line in stages_of(student)),
    ]
    for place, stage in enumerate(plan):
        assert all(need in plan[:place] for need in stage.needs.values())
    assert len({stage.key for stage in plan}) == len(plan)


def test_who_needs_whom():
    stages = {f"{s.kind} {s.name}": s for s in make_plan(changed(), facts_for(changed()))}
    assert {role: s.name for role, s in stages["train a-forward_kl-s0"].needs.items()} == {
        "student": "a",
        "teacher": "finetuned",
        "states": "teacher",
    }
    assert set(stages["train a-sft-s0"].needs) == {"student"}
    assert set(stages["init a"].needs) == {"teacher"}
    assert stages["init b"].needs == {}
    assert stages["evaluate a-undistilled.one"].needs["model"] is stages["init a"]


def test_baselines_states_and_finetuning_can_be_left_out():
    names = keys(changed(baselines=[], teacher__finetune=None, training={"store_teacher_states": False}))
    assert "teacher as-is" in names
    assert not any("sft" in name or "undistilled" in name or name.startswith("states") for name in names)
    # What the student writes itself is new at every step: nothing to store.
    assert not any(name.startswith("states") for name in keys(changed(method__lmbda=1.0)))


def test_several_methods_learn_from_one_teacher():
    methods = [
        {"divergence": "reverse_kl", "learning_rate": 1e-4},
        {"divergence": "forward_kl"},
        {"divergence": "forward_kl", "lmbda": 1.0, "name": "on-policy"},
    ]
    stages = {f"{s.kind} {s.name}": s for s in make_plan(changed(methods=methods), facts_for(changed()))}
    reverse, forward, own = (stages[f"train a-{n}-s0"] for n in ("reverse_kl", "forward_kl", "on-policy"))
    assert reverse.params["training"]["learning_rate"] == 1e-4
    assert forward.params["training"]["learning_rate"] == changed().training.learning_rate
    assert "states" in forward.needs and "states" in reverse.needs and "states" not in own.needs
    assert sum(name.startswith(("teacher", "states")) for name in stages) == 2
    assert identity(own) == {"name": "a-on-policy", "role": "distilled", "student": "a", "seed": 0}
    # The same method alone is the same stage: nothing is trained again when a second one joins it.
    assert keys(changed())["train a-forward_kl-s0"] == forward.digest
    named = keys(changed(method__name="plain"))
    assert named["train a-plain-s0"] == forward.digest


def test_a_mixed_loss_has_a_name_of_its_own():
    assert "train a-forward_kl-ce0.5-s0" in keys(changed(method__cross_entropy=0.5))


@pytest.mark.parametrize(
    "changes",
    [
        {"output": "elsewhere"},
        {"leaderboard": "elsewhere"},
        {"data__dir": "elsewhere"},
        {"training__save_steps": 7},
        {"training__gradient_checkpointing": True},
        {"evaluation__batch_size": 3},
        {"name": "other"},
    ],
)
def test_what_changes_no_result_redoes_nothing(changes):
    assert keys(changed(**changes)) == keys(changed())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"evaluation__limit": 5}, lambda name: name.startswith("evaluate")),
        ({"evaluation__backend": "hf"}, lambda name: name.startswith("evaluate")),
        ({"students__0__init__keep_layers": 3}, lambda n: n == "init a" or " a-" in n),
        ({"students__0__init__by": "even"}, lambda n: n == "init a" or " a-" in n),
        ({"students__1__revision": "abc"}, lambda n: n == "init b" or " b-" in n),
        ({"training__epochs": 5}, lambda n: "-s" in n),
        ({"method__temperature": 2.0}, lambda n: "forward_kl" in n),
        ({"training__scheduler": "linear"}, lambda n: n not in ("init b", "evaluate b-undistilled.one")),
        ({"data__demo_seed": 1}, lambda n: n != "init b"),
        ({"seeds": [0, 2]}, lambda n: "-s2" in n),
        ({"training__dtype": "bfloat16"}, lambda n: n not in ("init b", "evaluate b-undistilled.one")),
        ({"teacher__dtype": "bfloat16"}, lambda n: n != "init b" and " b-undistilled" not in n and " b-sft" not in n),
        ({"training__limit": 9}, lambda n: n not in ("init b", "evaluate b-undistilled.one")),
    ],
)
def test_a_change_redoes_what_depends_on_it_and_no_more(changes, expected):
    after = keys(changed(**changes))
    assert redone(keys(changed()), after) == {name for name in after if expected(name)}


def test_facts_count_where_they_are_used():
    facts = facts_for(changed())
    before = keys(changed(), facts)
    facts["tasks"]["one"]["fingerprint"]["test"]["hash"] = "other questions"
    assert {name.split()[0] for name in redone(before, keys(changed(), facts))} == {"evaluate"}
    facts = facts_for(changed())
    facts["tasks"]["one"]["fingerprint"]["train"]["hash"] = "other questions"
    assert "teacher finetuned" in redone(before, keys(changed(), facts))
    facts = facts_for(changed())
    facts["models"]["S"] = "other weights"
    assert redone(before, keys(changed(), facts)) == {n for n in before if n == "init b" or " b-" in n}
    facts = facts_for(changed())
    facts["tasks"]["one"]["hash"] = "other prompt"
    assert redone(before, keys(changed(), facts)) == {n for n in before if n not in ("init b",)}


def test_missing_facts_are_all_named():
    with pytest.raises(UserError, match="task 'one'") as caught:
        make_plan(changed(), {"tasks": {}, "models": {"T": "x"}})
    assert len(caught.value.problems) == 2


def test_the_dry_run_tells_states_and_sizes(tmp_path):
    recipe = changed()
    facts = facts_for(recipe)
    plan, store = make_plan(recipe, facts), Store(tmp_path)
    folder = store.begin(plan[0])
    (folder / "weights").write_bytes(b"x" * 77)
    store.finish(plan[0])
    store.begin(next(stage for stage in plan if stage.kind == "init"))
    rows = {f"{row['stage']} {row['name']}": row for row in describe(plan, store, facts)}
    assert rows["teacher finetuned"]["state"] == "done"
    assert rows["teacher finetuned"]["bytes"] > 77
    assert rows["init a"]["state"] == "partial"
    assert rows["init a"]["bytes"] == 4 * (1000 - 2 * 100)  # two of six layers out, of 600 parameters in layers
    assert rows["train a-sft-s0"]["bytes"] == rows["init a"]["bytes"]
    assert rows["init b"]["bytes"] == 4000
    assert rows["states teacher"]["bytes"] == (100 + 50) * 8 * 4  # with the head
    assert rows["evaluate teacher.one"] | {"key": ""} == {
        "stage": "evaluate", "name": "teacher.one", "key": "", "state": "to do", "bytes": None
    }  # fmt: skip
    assert {row["bytes"] for row in describe(plan[2:], store)} == {None}


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_plan(path):
    recipe = load_recipe(path)
    plan = make_plan(recipe, facts_for(recipe))
    assert len({stage.key for stage in plan}) == len(plan)
    evaluated = {stage.name.rpartition(".")[2] for stage in plan if stage.kind == "evaluate"}
    assert evaluated == set(recipe.evaluation_tasks)
