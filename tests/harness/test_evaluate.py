"""`evaluate`: lm-eval's results with either backend, the split asked for, and what bad input gets."""

import importlib.util
import sys
import types

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM

from kd_bench.errors import UserError
from kd_bench.harness.evaluate import check_context, evaluate, load_tasks
from tests.tiny import save_tiny, tiny_model, tiny_tokenizer

METADATA = {"size": 16, "seed": 3}
ZEROSHOT, ONESHOT = "fictqa_kd_en_zeroshot", "fictqa_kd_en_oneshot"


def run(tasks, **kwargs):
    model = tiny_model("llama")
    arguments = {"metadata": METADATA, "limit": 9, "progress": False} | kwargs
    return evaluate(model, tiny_tokenizer(), tasks, **arguments)


def choice_task(**config):
    """A multiple-choice task of lm-eval's own kind, made here: it has no validation split."""
    docs = [{"question": "Who built the lighthouse? " * n, "choices": ["Ada", "nobody"], "gold": 0} for n in (1, 3, 9)]
    return ConfigurableTask(
        config={
            "task": "a_choice",
            "custom_dataset": lambda **_: DatasetDict(test=Dataset.from_list(docs)),
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "{{question}}",
            "doc_to_choice": "choices",
            "doc_to_target": "gold",
            "metadata": {"version": 1.0},
        }
        | config
    )


def test_both_backends_give_the_same_results():
    results = {backend: run([ZEROSHOT, ONESHOT], backend=backend, batch_size=4) for backend in ("kd", "hf")}
    for task in (ZEROSHOT, ONESHOT):
        ours, theirs = (results[backend]["samples"][task] for backend in ("kd", "hf"))
        assert len(ours) == 9
        assert ours == theirs
        assert results["kd"]["results"][task] == results["hf"]["results"][task]
    assert {"doc", "resps", "filtered_resps", "em", "f1", "rougeL", "abstained"} <= set(ours[0])
    assert len({str(sample["resps"]) for sample in ours}) > 1
    for result in results.values():
        assert result["kd_bench"]["evaluate_seconds"] > 0
        assert result["kd_bench"]["generated_tokens"] >= 18
        assert result["kd_bench"]["generated_tokens_per_second"] > 0
        assert result["kd_bench"]["peak_memory_bytes"] > 1e8


def test_the_results_are_what_lm_eval_gives_without_us():
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    from kd_bench.harness.examples import task_manager

    lm = HFLM(pretrained=tiny_model("llama"), tokenizer=tiny_tokenizer(), batch_size=1)
    plain = simple_evaluate(
        lm,
        tasks=[ONESHOT],
        limit=9,
        task_manager=task_manager([ONESHOT], METADATA),
        bootstrap_iters=0,
        log_samples=True,
    )
    ours = run(ONESHOT)
    kept = ("results", "samples", "versions", "n-shot", "higher_is_better")
    assert [ours[key] for key in kept] == [plain[key] for key in kept]


def test_groups_and_splits():
    group = "fictqa_kd"
    results = run(group, limit=2)
    assert {ZEROSHOT, ONESHOT} <= set(results["results"])
    assert set(results["kd_bench"]["splits"].values()) == {"test"}

    validated = run(ZEROSHOT, split="validation", limit=None)
    (task,) = load_tasks(ZEROSHOT, METADATA)
    asked = [sample["doc"]["id"] for sample in validated["samples"][ZEROSHOT]]
    assert asked == task.dataset["validation"]["id"]
    assert set(asked).isdisjoint(task.dataset["test"]["id"])
    assert validated["kd_bench"]["splits"] == {ZEROSHOT: "validation"}


def test_the_caller_keeps_its_model_tokenizer_and_random_state():
    model, tokenizer = tiny_model("gpt2").train(), tiny_tokenizer()
    tokenizer.pad_token = None
    torch.manual_seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    evaluate(model, tokenizer, ZEROSHOT, metadata=METADATA, limit=2, progress=False)
    assert model.training
    assert tokenizer.pad_token is None
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]
    assert all(parameter.grad is None and not parameter.is_inference() for parameter in model.parameters())


def test_no_progress_is_silent_and_progress_is_shown(capfd):
    run(ZEROSHOT, limit=2)
    assert capfd.readouterr() == ("", "")
    run(ZEROSHOT, limit=2, progress=True)
    assert "generate_until" in capfd.readouterr().err


def test_unknown_tasks_are_all_named_with_the_nearest():
    with pytest.raises(UserError) as caught:
        run(["squad_kd_oneshoot", ZEROSHOT, "no such thing at all 123"])
    assert len(caught.value.problems) == 2
    assert "squad_kd_oneshoot" in caught.value.problems[0] and "squad_kd_oneshot" in caught.value.problems[0]
    assert "no such thing" in caught.value.problems[1]


def test_vllm_reads_the_folder_with_its_own_prefix_caching(tmp_path, monkeypatch):
    """vLLM itself needs a GPU: lm-eval's own model stands in for its class, and shows what reaches it."""
    folder, given = save_tiny(tmp_path / "model", "llama"), {}

    class VLLM(HFLM):
        def __init__(self, pretrained, **kw):
            given.update(kw, pretrained=pretrained)
            super().__init__(pretrained=pretrained, device="cpu")

    monkeypatch.setitem(sys.modules, "lm_eval.models.vllm_causallms", types.SimpleNamespace(VLLM=VLLM))
    monkeypatch.setattr("kd_bench.harness.evaluate.backend_problem", lambda backend, folder: None)
    result = run(ZEROSHOT, backend="vllm", folder=str(folder))
    assert given == {"pretrained": str(folder), "dtype": "float32", "enable_prefix_caching": True}
    assert result["results"][ZEROSHOT] == run(ZEROSHOT)["results"][ZEROSHOT]
    assert result["kd_bench"]["generated_tokens"] is None


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vllm is installed here")
def test_vllm_is_asked_for_by_name_where_it_is_not_installed():
    with pytest.raises(UserError, match="pip install vllm"):
        run(ZEROSHOT, backend="vllm", folder="a/model")


@pytest.mark.parametrize("wrong", [{"split": "dev"}, {"backend": "vlm"}])
def test_unknown_splits_and_backends_are_refused(wrong):
    (value,) = wrong.values()
    with pytest.raises(UserError, match=value):
        run(ZEROSHOT, **wrong)


def test_no_task_is_refused():
    with pytest.raises(UserError, match="no task"):
        run([])


def test_a_prompt_that_does_not_fit_is_refused_before_anything_runs():
    tokenizer = tiny_tokenizer()
    (task,) = load_tasks(ONESHOT, METADATA)
    prompts = [task.fewshot_context(doc, 1) for doc in task.test_docs()]
    lengths = sorted(len(tokenizer(prompt)["input_ids"]) + 48 for prompt in prompts)
    check_context(task, tokenizer, lengths[-1])
    limit = lengths[len(lengths) // 2]
    too_long = sum(length > limit for length in lengths)
    with pytest.raises(UserError, match=f"{too_long} of {len(lengths)} prompts .* {limit} tokens.* {lengths[-1]}"):
        check_context(task, tokenizer, limit)

    model = tiny_model("llama", positions=200)
    model.forward = lambda *_, **__: pytest.fail("the model ran")
    with pytest.raises(UserError) as caught:
        evaluate(model, tokenizer, [ZEROSHOT, ONESHOT], metadata=METADATA, progress=False)
    assert [problem.split(":")[0] for problem in caught.value.problems] == [ZEROSHOT, ONESHOT]


def test_the_context_of_choices_is_checked_as_well():
    task, tokenizer = choice_task(), tiny_tokenizer()
    longest = max(len(tokenizer(f"{doc['question']} {choice}")["input_ids"]) - 1
                  for doc in task.test_docs() for choice in doc["choices"])  # fmt: skip
    check_context(task, tokenizer, longest)
    with pytest.raises(UserError, match=f"a_choice: [12] of 6 .* {longest}"):
        check_context(task, tokenizer, longest - 1)


def test_a_task_without_a_validation_split_is_named(monkeypatch):
    class Manager:
        def load(self, names):
            return {"tasks": {"a_choice": choice_task()}}

    monkeypatch.setattr("kd_bench.harness.evaluate.check_names", lambda names: [])
    monkeypatch.setattr("kd_bench.harness.evaluate.task_manager", lambda names, metadata: Manager())
    with pytest.raises(UserError, match=r"a_choice.* no validation split"):
        run("a_choice", split="validation")
    results = run("a_choice", limit=None)
    assert results["results"]["a_choice"]["acc,none"] in (0, 1 / 3, 2 / 3, 1)
    assert results["kd_bench"]["generated_tokens"] == 0
    assert results["kd_bench"]["generated_tokens_per_second"] is None
