"""A whole recipe on tiny models: whatever runs its stages, its records are the same."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from kd_bench.recipe import load_recipe
from kd_bench.runs.distill import distill
from kd_bench.runs.execute import Executor
from tests.runs.test_ray import cluster, on_ray, ray  # noqa: F401 (fixtures)
from tests.tiny import save_tiny

RECIPE = """\
name: small
teacher: {{model: "{folder}/teacher", finetune: {{epochs: 1, batch_size: 4}}}}
students: [{{name: half, init: {{keep_layers: 2, by: influence}}}}]
tasks: [fictqa_kd_en_oneshot]
training: {{epochs: 1, batch_size: 4, limit: 8}}
evaluation: {{limit: 2}}
data: {{size: 12}}
output: "{output}/runs"
leaderboard: "{output}/results"
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """executor -> {record's file: its content without what differs from run to run}, one teacher for all."""
    folder = tmp_path_factory.mktemp("models")
    save_tiny(folder / "teacher", "llama", layers=3)

    def run(output: Path, executor: Executor) -> dict[str, dict]:
        output.mkdir(exist_ok=True)
        (output / "recipe.yaml").write_text(RECIPE.format(folder=folder, output=output))
        distill(load_recipe(output / "recipe.yaml"), False, Console(stderr=True, quiet=True), executor)
        return {path.name: _lasting(json.loads(path.read_text())) for path in (output / "results").glob("*.json")}

    return run


def _lasting(record: dict) -> dict:
    del record["cost"], record["provenance"]["created"]
    return record


@pytest.fixture(scope="module")
def expected(made, tmp_path_factory):
    records = made(tmp_path_factory.mktemp("here"), Executor())
    assert len(records) == 4  # teacher, undistilled, sft, forward KL
    return records


def test_two_workers_give_the_records_of_one_process(tmp_path, made, expected):
    assert made(tmp_path / "two", Executor(jobs=2)) == expected


def test_a_ray_cluster_gives_the_records_of_one_process(tmp_path, made, expected, on_ray):  # noqa: F811
    assert made(tmp_path / "ray", on_ray) == expected
