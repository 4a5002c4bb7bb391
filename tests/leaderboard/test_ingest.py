"""On folders that lm-eval itself has written: its dummy model, its EvaluationTracker."""

import json
import re
import shutil

import pytest

from kd_bench.errors import UserError
from kd_bench.leaderboard.ingest import ingest
from kd_bench.leaderboard.ranking import tables
from kd_bench.leaderboard.record import read_results, records_from_results, write_record

PASSAGES = [f"Passage {i}." for i in range(4)]


def load(**metadata):
    from datasets import Dataset, DatasetDict

    rows = [
        {
            "id": f"q{i}",
            "title": "t",
            "context": PASSAGES[i // 3],
            "question": f"Question {i}?",
            "answers": {"text": ["x"] if i % 2 else [], "answer_start": [0] if i % 2 else []},
        }
        for i in range(12)
    ]
    return DatasetDict({"test": Dataset.from_list(rows)})


def process(doc, answers):
    right = float(doc["answers"]["text"] == [])
    return {"em": right, "f1": right, "length": 40.0, "has_ans_f1" if right == 0 else "no_ans_em": right}


TASKS = [
    {
        "task": "toy_qa",
        "custom_dataset": load,
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{context}} {{question}}",
        "doc_to_target": "x",
        "process_results": process,
        "generation_kwargs": {"until": ["\n"]},
        "metric_list": [{"metric": m, "aggregation": "mean", "higher_is_better": True} for m in ("em", "f1", "length")],
        "metadata": {"version": 1.0},
    },
    {
        "task": "toy_choice",
        "custom_dataset": load,
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": ["a", "b"],
        "doc_to_target": 0,
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 2.0},
    },
]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """(what simple_evaluate returned, the folder that lm-eval wrote it to)."""
    from lm_eval import simple_evaluate
    from lm_eval.loggers import EvaluationTracker

    folder = tmp_path_factory.mktemp("lm_eval")
    tracker = EvaluationTracker(output_path=str(folder))
    arguments = "pretrained=/home/me/runs/x/train-a/model,dtype=float32"
    tracker.general_config_tracker.log_experiment_args("hf", arguments, None, None, False)
    with pytest.MonkeyPatch.context() as patch:
        # It asks the machine about everything for many seconds, and nothing here reads it.
        patch.setattr("torch.utils.collect_env.get_pretty_env_info", lambda: "")
        results = simple_evaluate("dummy", tasks=TASKS, log_samples=True, bootstrap_iters=10)
    results["config"]["model_num_parameters"] = 1234
    samples = results["samples"]
    tracker.save_results_aggregated({k: v for k, v in results.items() if k != "samples"}, samples)
    for task, some in samples.items():
        tracker.save_results_samples(task, json.loads(json.dumps(some, default=str)))
    return results, folder


@pytest.fixture
def folder(evaluated, tmp_path):
    return shutil.copytree(evaluated[1], tmp_path / "copy")


def test_with_samples_it_is_the_record_that_kd_bench_makes_itself(evaluated, folder, tmp_path):
    results, _ = evaluated
    found, problems = ingest(folder)
    by_task = {some.record.task.name: some for some in found}
    assert set(by_task) == {"toy_qa", "toy_choice"}
    (problem,) = problems
    assert problem.endswith("toy_qa: length is not a mean of shares, or lower is better; left out")

    from kd_bench.data.splits import fingerprint

    for task, (record, question_lines) in by_task.items():
        own, own_lines = records_from_results(
            results,
            task,
            model=record.model.model_dump(),
            provenance=record.provenance.model_dump(),
            fingerprint=fingerprint(load()),
            cost=record.cost.model_dump(),
        )
        assert record == own and question_lines == own_lines
    qa = by_task["toy_qa"].record
    assert qa.scores["em"].value == results["results"]["toy_qa"]["em,none"] == 0.5
    assert (qa.scores["em"].n, qa.scores["em"].clusters, qa.scores["no_ans_em"].n) == (12, 4, 6)
    assert qa.model.name == "train-a-model" and qa.model.source == "train-a/model" and qa.model.parameters == 1234
    assert "/home" not in qa.model_dump_json()
    assert qa.model.role == "other" and qa.provenance.versions["lm_eval"]

    for some in found:
        write_record(tmp_path / "records", *some)
    read, damaged = read_results(tmp_path / "records")
    assert damaged == [] and len(tables(read)) == 2


def test_without_samples_the_error_is_lm_evals_and_unclustered(evaluated, folder):
    for path in folder.rglob("samples_*"):
        path.unlink()
    found, problems = ingest(folder)
    assert len([p for p in problems if "--log_samples" in p]) == 2
    qa = next(some for some in found if some.record.task.name == "toy_qa")
    score = qa.record.scores["em"]
    assert (score.value, score.n, score.clusters) == (0.5, 12, None)
    assert score.stderr == evaluated[0]["results"]["toy_qa"]["em_stderr,none"]
    assert qa.samples is None
    # length is no share; how many questions has_ans_f1 is over is not told.
    assert set(qa.record.scores) == {"em", "f1"}
    with_samples, _ = ingest(evaluated[1])
    assert len(tables([*with_samples, qa._replace(record=rename(qa.record))])) == 3  # not verified: a table of its own


def rename(record):
    return record.model_copy(update={"model": record.model.model_copy(update={"name": "other"})})


def test_measured_again_the_last_counts(folder):
    path = next(folder.rglob("results_*.json"))
    later = re.sub(r"_\d{4}-", "_2999-", path.name)
    content = json.loads(path.read_text())
    content["date"] += 60
    content["results"]["toy_choice"]["acc,none"] = 1.0
    path.with_name(later).write_text(json.dumps(content))
    found, problems = ingest(folder)
    assert len(found) == 2 and sum("more than once; the last is taken" in p for p in problems) == 2
    assert next(s for s in found if s.record.task.name == "toy_choice").record.scores["acc"].value == 1.0


def test_what_is_damaged_is_named_and_the_rest_goes_on(folder):
    path = next(folder.rglob("results_*.json"))
    path.with_name("results_2026-01-01T00-00-00.000001.json").write_text("{")
    path.with_name("results_2026-01-01T00-00-00.000002.json").write_text("[]")
    samples = next(folder.rglob("samples_toy_qa_*"))
    text = samples.read_text()
    samples.write_text("".join(text.splitlines(keepends=True)[:-1]))
    found, problems = ingest(folder)
    assert [some.record.task.name for some in found] == ["toy_choice"]
    assert len(problems) == 3 and "12 documents" in problems[-1]
    samples.write_text(text.replace('"f1": 0.0', '"f1": NaN', 1))
    assert "nan, not a finite number" in ingest(folder)[1][-1]
    samples.write_text("nonsense\n")
    assert "toy_qa" in ingest(folder)[1][-1]


def test_a_folder_without_results_is_refused(tmp_path):
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(UserError, match="lm_eval --output_path"):
        ingest(tmp_path)
