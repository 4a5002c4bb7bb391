"""A study file: its grid, its runs, what is wrong with it; and what every shipped study says."""

from pathlib import Path

import pytest

from kd_bench.errors import UserError
from kd_bench.recipe import load_recipe
from kd_bench.recipe_files import list_recipes, read_yaml
from kd_bench.study import load_study, only

ROOT = Path(__file__).resolve().parents[1]
BASE = """\
name: s
teacher: {model: T}
students: [{name: a, model: S}]
tasks: [one]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "study.yaml"
    path.write_text(BASE + text)
    return path


def test_a_grid_is_every_combination_and_runs_are_each_combined_with_it(tmp_path):
    text = "grid: {data.demo_seed: [0, 1], data.split_seed: [0, 2]}\nruns: [{tasks: [one]}, {tasks: [two], label: t}]\n"
    study = load_study(write(tmp_path, text))
    assert len(study.runs) == 8
    assert [run.recipe.name for run in study.runs][:2] == [
        "s.one-demo_seed0-split_seed0",
        "s.one-demo_seed0-split_seed2",
    ]
    seen = {(run.recipe.tasks[0], run.recipe.data.demo_seed, run.recipe.data.split_seed) for run in study.runs}
    assert len(seen) == 8
    assert study.runs[1].point == {"tasks": ["one"], "data.demo_seed": 0, "data.split_seed": 2}
    assert study.runs[0].study == "s" and study.root == Path("runs/s")


def test_a_label_is_what_a_run_is_called_and_no_setting(tmp_path):
    study = load_study(write(tmp_path, "runs: [{seeds: [1], label: mine}]\n"))
    assert study.runs[0].recipe.name == "s.mine"
    assert study.runs[0].point == {"seeds": [1]}


def test_overrides_change_what_all_runs_have_in_common(tmp_path):
    study = load_study(write(tmp_path, "grid: {seeds: [[0], [1]]}\n"), ["training.epochs=7", "grid.seeds=[[5]]"])
    assert [(run.recipe.seeds, run.recipe.training.epochs) for run in study.runs] == [([5], 7)]
    assert study.runs[0].recipe.overrides == ["training.epochs=7", "grid.seeds=[[5]]"]


def test_a_plain_recipe_is_a_study_of_one_run(tmp_path):
    study = load_study(write(tmp_path, ""))
    assert [run.recipe.name for run in study.runs] == ["s"]


def test_runs_can_be_chosen_by_their_labels(tmp_path):
    text = "runs: [{tasks: [one]}, {tasks: [two], label: second}, {tasks: [three]}]\n"
    study = load_study(write(tmp_path, text))
    chosen = only(study, ["second", "one", "one"])
    assert (chosen.name, chosen.runs) == ("s", study.runs[:2]) and chosen.root == study.root
    with pytest.raises(UserError) as error:
        only(study, ["one", "secnd", "0"])
    assert error.value.problems == [
        "no run is called 'secnd'; there are one, second, three. Did you mean second?",
        "no run is called '0'; there are one, second, three.",
    ]
    with pytest.raises(UserError, match="there are none with a label"):
        only(load_study(write(tmp_path, "")), ["one"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("grid: [1]\n", "grid: is not a mapping"),
        ("grid: {1: [2]}\n", "1: is not a recipe key"),
        ("grid: {output: [a, b]}\n", "output: all runs of a study share one"),
        ("runs: [{name: x}]\n", "name: all runs of a study share one"),
        ("grid: {tasks: [a_task, b_task]}\n", "tasks: 'a_task' is not a list"),
        ("grid: {seeds: 3}\n", "grid: is not a mapping"),
        ("runs: []\n", "runs: is not a list"),
        ("runs: [{seeds: [0], label: x}, {seeds: [1], label: x}]\n", "two runs are called 's.x'"),
        ("grid: {trainig.epochs: [1, 2]}\n", "Did you mean `training`?"),
        ("grid: {tasks.9.x: [1]}\n", "is not an index"),
        ("runs: [{training.epochs: -1, label: bad}]\n", "bad: training.epochs: -1 is not above 0"),
        (f"grid: {{seeds: {[[i] for i in range(40)]}, data.demo_seed: {list(range(40))}}}\n", "1,600 runs"),
    ],
)
def test_what_is_wrong_is_told_with_the_run_that_has_it(tmp_path, text, told):
    with pytest.raises(UserError) as caught:
        load_study(write(tmp_path, text))
    assert told in str(caught.value)


def test_a_study_has_a_name(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(BASE.replace("name: s\n", "") + "grid: {seeds: [[0], [1]]}\n")
    with pytest.raises(UserError, match="name: missing"):
        load_study(path)


def test_labels_are_file_names_however_long_and_odd_the_values(tmp_path):
    grid = (
        "grid: {teacher.model: [org/large-model, org/other], tasks: [[a_very_long_task_name, and_another_one], [b]]}\n"
    )
    names = [run.recipe.name for run in load_study(write(tmp_path, grid)).runs]
    assert len(set(names)) == 4 and all(len(name) <= 60 and "/" not in name for name in names)
    assert names[1] == "s.modelorg-large-model-b"


def test_distill_names_the_verb_for_a_study(tmp_path):
    with pytest.raises(UserError, match="kd-bench study"):
        load_recipe(write(tmp_path, "grid: {seeds: [[0]]}\n"))


STUDIES = sorted((ROOT / "recipes" / "study_qa").glob("*.yaml"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_shipped_studies_are_whole(path):
    study = load_study(path)
    assert f"study_qa/{path.stem}" in list_recipes()
    assert len(study.runs) > 1
    assert all("sft" in run.recipe.baselines for run in study.runs)
    assert all(run.recipe.evaluation.split == "both" for run in study.runs)
    data = read_yaml(path)
    assert study.name == f"qa_{path.stem}" == data["name"]


def test_the_papers_studies_have_its_models_tasks_and_seeds():
    sizes = {"qwen": ["3b", "1.5b", "0.5b"], "pythia": ["1.4b", "1b", "410m", "160m", "70m"]}
    sizes["smollm2"] = ["24l", "20l", "15l", "10l"]
    wanted = {
        f"{data}_kd_{rest}shot"
        for data, languages in {"squad": [""], "mlqa": ["en_", "de_"], "xquad": ["en_", "de_"]}.items()
        for language in languages
        for rest in (f"{language}zero", f"{language}one")
    }
    for name, students in sizes.items():
        study = load_study(ROOT / "recipes" / "study_qa" / f"{name}.yaml")
        assert {task for run in study.runs for task in run.recipe.tasks} == wanted
        for run in study.runs:
            assert [student.name for student in run.recipe.students] == students
            assert run.recipe.seeds == [0, 1, 2, 3, 4]
            assert {"kd", "distillm"} < {method.label for method in run.recipe.every_method}
