import inspect
from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from kd_bench.distill.divergences import DIVERGENCES
from kd_bench.errors import UserError
from kd_bench.recipe import Recipe, load_recipe, recipe_hash
from kd_bench.recipe_files import list_recipes
from kd_bench.recipe_method import SETTINGS, Divergence

ROOT = Path(__file__).resolve().parent.parent
GOOD = """\
name: small
teacher: {model: T, finetune: {epochs: 1}}
students:
  - {name: a, init: {keep_layers: 4, by: even}}
  - {name: b, model: S}
tasks: [one]
training: {learning_rate: 3e-4}
"""


@pytest.fixture
def recipe_file(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(GOOD)
    return path


def problems(path: Path, text: str | None = None, overrides=()) -> list[str]:
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_recipe(path, overrides)
    assert str(caught.value).startswith(f"{path}: ")
    return caught.value.problems


def test_defaults_and_values(recipe_file):
    recipe = load_recipe(recipe_file)
    assert recipe.training.learning_rate == 3e-4  # YAML 1.1 would read 3e-4 as text
    assert recipe.evaluation_tasks == ["one"]
    assert recipe.baselines == ["undistilled", "sft"]
    assert recipe.seeds == [0]
    assert recipe.method.beta is None
    assert recipe.method.skew is None
    assert recipe.students[1].init is None


def test_every_setting_says_what_it_does():
    silent, pending = [], [Recipe]
    while pending:
        model = pending.pop()
        for name, field in model.model_fields.items():
            if not (field.description or "").endswith((".", "!")):
                silent.append(f"{model.__name__}.{name}")
            parts = [field.annotation, *getattr(field.annotation, "__args__", ())]
            pending += [part for part in parts if isinstance(part, type) and hasattr(part, "model_fields")]
    assert silent == []


def test_a_misspelt_key_is_named_with_the_likely_one(recipe_file):
    overrides = ["teacher.modle=x", "students.0.init.keep_layer=3", "epochs=2", "zebra=1"]
    found = problems(recipe_file, overrides=overrides)
    assert "teacher.modle: unknown key. Did you mean `teacher.model`?" in found
    assert "students.0.init.keep_layer: unknown key. Did you mean `students.0.init.keep_layers`?" in found
    assert "epochs: unknown key. Did you mean `training.epochs`?" in found
    assert any(p.startswith("zebra: unknown key. Known here: name, teacher") for p in found)


def test_all_problems_come_at_once(recipe_file):
    text = GOOD.replace("finetune: {epochs: 1}", "finetune: {epochs: yes}, dtype: float23") + (
        "method: {divergence: skew_kl, skew: 1.4, temperature: 0}\nseeds: [0, -1]\nstudnets: []\n"
    )
    assert problems(recipe_file, text) == [
        "teacher.finetune.epochs: True is not a number.",
        "teacher.dtype: 'float23' is not one of float32, bfloat16, float16. Did you mean `float32`?",
        "method.temperature: 0 is not in (0, 100].",
        "method.skew: 1.4 is not in [0, 1). DistiLLM uses 0.1.",
        "seeds.1: -1 is less than 0.",
        "studnets: unknown key. Did you mean `students`?",
    ]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("method={divergence: forward_kl, skew: 0.1}", "method.skew: forward_kl does not use it"),
        ("method={divergence: reverse_kl, beta: 0.5}", "method.beta: reverse_kl does not use it, only jsd"),
        ("students.1.name=a", "students: two students are called 'a'"),
        ("students.1.name=teacher", "students: 'teacher' is the teacher's own name"),
        ("students.1={name: c, model: T, revision: main}", "students: T stands there twice, with another revision"),
        ("students.1.name=a/b", "students.1.name: 'a/b' names files"),
        ("students.1.model=null", "students.1.init: give either `model`"),
        ("students.0.model=x", "students.0.init: give either `model`"),
        ("students.0.init={by: even}", "students.0.init.layers: nothing says which layers stay"),
        ("students.0.init={layers: [0, 3, 2]}", "students.0.init.layers: [0, 3, 2] are not two or more layer indices"),
        ("students.0.init.layers=[0, 1, 2]", "students.0.init.layers: names 3 layers but keep_layers is 4"),
        ("students.0.init.keep_layers=1", "students.0.init.keep_layers: 1 is less than 2."),
        ("tasks=[]", "tasks: is empty."),
        ("tasks=[x, x]", "tasks: 'x' stands there twice."),
        ("seeds=[1, 1]", "seeds: 1 stands there twice."),
        ("methods=[{divergence: jsd}, {divergence: jsd}]", "methods: two methods are called 'jsd': give one a `name`."),
        ("methods=[{name: sft}]", "methods: 'sft' is the baseline's own name"),
        ("methods=[{divergence: reverse_kl, alpha: 0.5}]", "methods.0.alpha: reverse_kl does not use it"),
        ("methods=[{divergance: jsd}]", "methods.0.divergance: unknown key. Did you mean `methods.0.divergence`?"),
        ("training.epochs=-1", "training.epochs: -1 is not above 0."),
        ("training.epochs=.nan", "training.epochs: nan"),
        ("training.epochs='3'", "training.epochs: '3' is not a number."),
        ("training.batch_size=2.5", "training.batch_size: 2.5 is not a whole number."),
        ("training=3", "training: 3 is not a mapping"),
        ("teacher=null", "teacher: None is not a mapping"),
        ("baselines=[stf]", "baselines.0: 'stf' is not one of undistilled, sft. Did you mean `sft`?"),
        ("evaluation.split=train", "evaluation.split: 'train' is not one of test, validation, both."),
        ("students.7.name=x", "override 'students.7.name=x': `students` is a list of 2: '7' is not an index"),
        ("name.sub=x", "override 'name.sub=x': `name` is 'small', which has no keys."),
        ("name", "override 'name': is not of the form key.sub=value."),
        ("seeds=[1", "override 'seeds=[1': the value is line 1"),
        ("data={a: 1, a: 2}", "override 'data={a: 1, a: 2}': line 1: `a` is already given"),
    ],
)
def test_bad_settings_are_refused(recipe_file, override, told):
    assert any(problem.startswith(told) for problem in problems(recipe_file, overrides=[override]))


def test_a_setting_of_the_divergence_has_its_default_where_it_is_used(recipe_file):
    assert load_recipe(recipe_file, ["method.divergence=skew_kl"]).method.skew == 0.1
    assert load_recipe(recipe_file, ["method.divergence=jsd"]).method.beta == 0.5
    assert load_recipe(recipe_file, ["method={divergence: jsd, beta: 0.9}"]).method.beta == 0.9


def test_settings_and_their_defaults_are_those_of_the_divergences():
    for name, function in DIVERGENCES.items():
        own = {key: p.default for key, p in inspect.signature(function).parameters.items() if p.kind == p.KEYWORD_ONLY}
        told = {setting: users[name] for setting, users in SETTINGS.items() if name in users}
        assert told == {key: value for key, value in own.items() if key in SETTINGS}
    assert set(get_args(Divergence)) == set(DIVERGENCES)


def test_one_method_or_several(recipe_file):
    assert [method.label for method in load_recipe(recipe_file).every_method] == ["forward_kl"]
    several = "methods=[{divergence: jsd, cross_entropy: 0.5}, {name: mine}]"
    assert [method.label for method in load_recipe(recipe_file, [several]).every_method] == ["jsd-ce0.5", "mine"]
    assert problems(recipe_file, overrides=[several, "method.temperature=2"]) == [
        "methods: give either `method` or `methods`."
    ]


def test_overrides(recipe_file):
    recipe = load_recipe(
        recipe_file,
        [
            "students.0.init.keep_layers=20",
            "seeds=[1, 2]",
            "evaluation.tasks=[x]",
            "data.dir=d=e",
            "teacher.finetune=null",
        ],
    )
    assert recipe.students[0].init.keep_layers == 20
    assert recipe.seeds == [1, 2]
    assert recipe.evaluation_tasks == ["x"]
    assert recipe.data.dir == "d=e"
    assert recipe.teacher.finetune is None
    # A section that the file leaves out or sets to null can be filled.
    assert load_recipe(recipe_file, ["teacher.finetune=null", "teacher.finetune.epochs=5"]).teacher.finetune.epochs == 5


def test_overrides_are_kept_but_for_places(recipe_file):
    given = ["output=x", "training.epochs=2", "data.dir=z", "leaderboard=y"]
    assert load_recipe(recipe_file, given).overrides == ["training.epochs=2"]
    assert load_recipe(recipe_file).overrides == []


def test_an_override_changes_no_alias(recipe_file):
    recipe_file.write_text(GOOD.replace("tasks: [one]", "tasks: &t [one]\nevaluation: {tasks: *t}"))
    recipe = load_recipe(recipe_file, ["evaluation.tasks.0=two"])
    assert recipe.tasks == ["one"]
    assert recipe.evaluation_tasks == ["two"]


def test_broken_files_name_the_place(recipe_file, tmp_path):
    assert problems(recipe_file, "name: x\ntasks: [a\nseeds: 1\n")[0].startswith("line 3, column 6: not YAML")
    assert problems(recipe_file, "name: x\nname: y\nteacher: {model: a, model: b}\n") == [
        "line 2: `name` is already given in line 1: keep one of the two.",
        "line 3: `model` is already given in line 3: keep one of the two.",
    ]
    assert "must be a YAML mapping" in problems(recipe_file, "- a\n")[0]
    assert "must be a YAML mapping" in problems(recipe_file, "")[0]
    recipe_file.write_bytes(b"name: \xff")
    assert "is not UTF-8" in problems(recipe_file)[0]
    with pytest.raises(UserError, match="is a folder"):
        load_recipe(tmp_path)


def test_a_bare_name_finds_the_recipe_here_first(recipe_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = load_recipe("quickstart")
    assert shipped.name == "quickstart"
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "quickstart.yaml").write_text(GOOD)
    assert load_recipe("quickstart").name == "small"
    with pytest.raises(UserError, match=r"Did you mean `quickstart`\?"):
        load_recipe("quikstart")
    with pytest.raises(UserError, match=r"Recipes that exist: .*qwen"):
        load_recipe("zzzzzz")


def test_the_hash_is_of_the_experiment_and_not_of_where_it_lies(recipe_file):
    first = recipe_hash(load_recipe(recipe_file))
    assert len(first) == 16
    assert recipe_hash(load_recipe(recipe_file, ["output=x", "leaderboard=y", "data.dir=z"])) == first
    for override in ("seeds=[1]", "method.temperature=2.0", "data.demo_seed=1", "students.0.init.by=influence"):
        assert recipe_hash(load_recipe(recipe_file, [override])) != first


def test_a_recipe_cannot_be_changed(recipe_file):
    with pytest.raises(ValidationError, match="frozen"):
        load_recipe(recipe_file).name = "other"


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_load_and_say_what_they_need(path):
    assert load_recipe(path).name == path.stem
    header = path.read_text().split("\nname:")[0]
    for word in ("Needs:", "Run:", "Cost:"):
        assert word in header


def test_the_recipes_of_the_readme_are_there():
    assert {"quickstart", "smollm2_squad", "qwen", "pythia"} <= set(list_recipes())
