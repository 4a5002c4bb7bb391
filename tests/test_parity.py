"""Parity: what a student trains on is, byte for byte, what the evaluation reads and hopes to be written."""

import json

import pytest
from lm_eval.models.huggingface import HFLM

from kd_bench.distill.features import encode
from kd_bench.harness.examples import examples, load_task
from tests.conftest import ROOT
from tests.tiny import tiny_model, tiny_tokenizer

TASKS = sorted(
    path.stem for path in (ROOT / "tasks").rglob("*.yaml") if path.stem.endswith(("_zeroshot", "_oneshot"))
    and not path.stem.startswith("kd_")
)  # fmt: skip
MISSING = {"mlqa_kd_en": "the real data has MLQA in German only"}


@pytest.fixture(scope="module")
def evaluator() -> HFLM:
    return HFLM(pretrained=tiny_model("llama"), tokenizer=tiny_tokenizer(), batch_size=1)


def requests(task) -> dict[str, list]:
    """The requests of lm-eval's own loop for the documents of its evaluated split, by document id."""
    task.build_all_requests(limit=20, rank=0, world_size=1)
    found: dict[str, list] = {}
    for instance in task.instances:
        found.setdefault(str(instance.doc.get("id", instance.doc_id)), []).append(instance)
    return found


@pytest.mark.parametrize("name", TASKS)
def test_training_text_is_evaluation_text(name, evaluator, request):
    for prefix, reason in MISSING.items():
        if name.startswith(prefix):
            pytest.skip(reason)
    metadata = {} if name.startswith("fictqa") else {"data_dir": str(request.getfixturevalue("data_dir"))}
    task = load_task(name, metadata)
    evaluated = requests(task)
    by_id = {example.doc_id: example for example in examples(task, "test")}
    assert evaluated
    for doc_id, instances in evaluated.items():
        context, settings = instances[0].arguments
        example = by_id[doc_id]
        assert example.prompt == context
        doc = instances[0].doc
        gold = doc["answers"]["text"][0].strip() if doc["answers"]["text"] else "unanswerable"
        assert example.completion == f" {gold}{settings['until'][0]}"
        prompt, completion = encode(example, evaluator.tokenizer)
        assert prompt == evaluator.tok_encode(context)
        assert completion == evaluator.tok_encode(f" {gold}{settings['until'][0]}", add_special_tokens=False)
    training = examples(task, "train")[0]
    start = next(iter(by_id.values())).prompt.split("Passage:")[0].split("Text:")[0]
    assert training.prompt.startswith(start) and training.completion.startswith(" ")


CHOICE = """
task: stranger_choice
dataset_path: json
dataset_kwargs: {{data_files: {{train: {file}, test: {file}}}}}
output_type: multiple_choice
training_split: train
test_split: test
doc_to_text: "{{{{question}}}}\\nAnswer: "
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list: [{{metric: acc}}]
"""


@pytest.fixture
def stranger(tmp_path, monkeypatch) -> str:
    """A multiple-choice task that is not ours, in lm-eval's own YAML."""
    docs = [
        {"question": f"What follows {i}?", "choices": [str(i + 1), str(i - 1), "nothing at all"], "answer": i % 3}
        for i in range(12)
    ]
    file = tmp_path / "docs.jsonl"
    file.write_text("\n".join(map(json.dumps, docs)))
    (tmp_path / "stranger.yaml").write_text(CHOICE.format(file=file))
    monkeypatch.setenv("KD_BENCH_TASKS", str(tmp_path))
    return "stranger_choice"


def test_a_strangers_multiple_choice_trains_on_the_gold_choice(stranger, evaluator):
    task = load_task(stranger)
    for (_, instances), example in zip(requests(task).items(), examples(task, "train")):
        gold = instances[0].doc["answer"]
        pair = instances[gold].arguments
        assert encode(example, evaluator.tokenizer) == tuple(evaluator._encode_pair(*pair))
        assert example.prompt + example.completion == "".join(pair)
