"""Each preset's loss on a fixed batch, from the recipe's word to the number: pinned, so that no default moves."""

import pytest
from rich.console import Console

from kd_bench.leaderboard.record import read_results
from kd_bench.recipe import load_recipe
from kd_bench.recipe_method import PRESETS
from kd_bench.runs.distill import distill
from tests.tiny import save_tiny

RECIPE = """\
name: presets
teacher: {{model: {folder}/teacher}}
students: [{{name: small, model: {folder}/student}}]
tasks: [fictqa_kd_en_zeroshot]
methods: [{methods}]
training: {{epochs: 2, batch_size: 4, limit: 4, learning_rate: 1e-3, scheduler: constant, warmup_ratio: 0.0}}
evaluation: {{limit: 1}}
data: {{size: 12}}
output: {folder}/runs
leaderboard: {folder}/results
"""
# Step 1, then step 2 after an update of that loss's own. Nats a completion token.
PINNED = {
    "sft": [6.4911, 6.106493],
    "kd": [0.313226, 0.289368],
    "seqkd": [6.421252, 6.101036],
    "gkd": [0.071968, 0.068527],
    "minillm_rkl": [0.310807, 0.294765],
    "distillm": [0.241549, 0.223234],
    "distillm2": [0.236873, 0.224036],
}


@pytest.fixture(scope="module")
def curves(tmp_path_factory):
    folder = tmp_path_factory.mktemp("presets")
    save_tiny(folder / "teacher", "llama", layers=3, seed=1)
    save_tiny(folder / "student", "llama", layers=2, seed=2)
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(folder=folder, methods=", ".join(PRESETS)))
    distill(load_recipe(path), False, Console(stderr=True, quiet=True))
    results, problems = read_results(folder / "results")
    assert not problems
    return {r.record.model.name.removeprefix("small-"): r.record.curve for r in results if r.record.curve}


@pytest.mark.parametrize("preset", PRESETS)
def test_the_loss_is_what_it_was(curves, preset):
    assert [loss for _, loss in curves[preset]] == pytest.approx(PINNED[preset], rel=1e-3)


def test_presets_are_losses_of_their_own(curves):
    first = {preset: curves[preset][0][1] for preset in PRESETS}
    assert len({round(loss, 5) for loss in first.values()}) == len(PRESETS)
