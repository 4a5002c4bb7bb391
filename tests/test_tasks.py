"""Every task file loads, renders what it should, and scores through lm-eval's own evaluator."""

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

from kd_bench.data import splits
from tests.data.test_sources import write_copies

FOLDER = Path(__file__).resolve().parent.parent / "tasks"
FILES = {path.stem: path for path in FOLDER.glob("**/*.yaml")}
SETS = ["squad_kd", *(f"{name}_kd_{lang}" for name in ("mlqa", "xquad", "fictqa") for lang in ("en", "de"))]
TASKS = [f"{name}_{shots}shot" for name in SETS for shots in ("zero", "one")]
GROUPS = {
    "squad_kd": [name for name in TASKS if name.startswith("squad")],
    "mlqa_kd": [name for name in TASKS if name.startswith("mlqa")],
    "xquad_kd": [name for name in TASKS if name.startswith("xquad")],
    "fictqa_kd": [name for name in TASKS if name.startswith("fictqa")],
    "kd_zeroshot": [name for name in TASKS if name.endswith("zeroshot")],
    "kd_oneshot": [name for name in TASKS if name.endswith("oneshot")],
}
ENGLISH = "Answer the question with words from the passage."
GERMAN = "Beantworte die Frage mit Worten aus dem Text."
ABSTAINING = {"has_ans_em", "has_ans_f1", "no_ans_em", "abstained"}


def manager(metadata=None):
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=[str(FOLDER)], include_defaults=False, metadata=metadata)


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    return write_copies(tmp_path_factory.mktemp("copies"))


@pytest.fixture(scope="module")
def load(copies):
    """name, metadata -> the task object, on small invented copies of the data."""

    def load(name, **metadata):
        return manager({"data_dir": str(copies), "size": 12, **metadata}).load([name])["tasks"][name]

    return load


def prompt(task, doc):
    return task.fewshot_context(doc, num_fewshot=task.config.num_fewshot)


def turn(task, doc):
    words = ("Text", "Frage", "Antwort") if "_de_" in task.config.task else ("Passage", "Question", "Answer")
    return f"{words[0]}: {doc['context']}\n{words[1]}: {doc['question']}\n{words[2]}:"


# ---- the files


def test_lm_eval_lists_exactly_the_files_that_are_there():
    """It passes over a broken file without a word, so what it lists is compared with what lies there."""
    assert set(manager().all_tasks) == set(FILES) == set(TASKS) | set(GROUPS)


def test_no_name_is_taken_by_a_task_of_lm_evals_own():
    """By its files' text: parsing all of lm-eval's index takes fifteen times as long."""

    named = re.compile(rf"^(?:task|group): *[\"']?({'|'.join(FILES)})[\"']?\s*$", re.MULTILINE)
    for path in (Path(importlib.util.find_spec("lm_eval").origin).parent / "tasks").glob("**/*.yaml"):
        if "kd_bench" not in path.parts:  # where an installed kd-bench has its own
            assert not named.search(path.read_text(errors="replace")), path


def test_only_yaml_lies_in_the_folder():
    assert not list(FOLDER.glob("**/*.py"))
    for path in FOLDER.glob("**/_*"):
        if path.is_file():
            assert path.suffix == ""


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_holds_its_tasks(group):
    assert sorted(yaml.safe_load(FILES[group].read_text())["task"]) == sorted(GROUPS[group])


def test_a_group_loads(load, copies):
    loaded = manager({"data_dir": str(copies), "size": 12}).load(["kd_oneshot"])
    assert sorted(loaded["tasks"]) == sorted(GROUPS["kd_oneshot"])


# ---- what they render


@pytest.mark.parametrize("name", TASKS)
def test_a_task_renders_a_prompt_and_a_target(load, name):
    task = load(name)
    assert task.config.task == name
    shots = int(name.endswith("oneshot"))
    assert task.config.num_fewshot == shots
    description = GERMAN if "_de_" in name else ENGLISH
    if name.startswith(("squad", "fictqa")):
        description += (
            ' Steht die Antwort nicht darin, schreibe "unanswerable".'
            if "_de_" in name
            else ' If the passage does not answer it, write "unanswerable".'
        )
    demo = task.dataset["demo"][0]
    for doc in list(task.eval_docs)[:8]:
        expected = [description, turn(task, doc)]
        if shots:
            expected.insert(1, f"{turn(task, demo)} {demo['answers']['text'][0]}")
        assert prompt(task, doc) == "\n\n".join(expected)
        target = task.doc_to_target(doc)
        assert target == (doc["answers"]["text"][0] if doc["answers"]["text"] else "unanswerable")
        assert target == target.strip() and task.config.target_delimiter == " "


def test_one_document_word_for_word(load):
    task = load("squad_kd_oneshot")
    demo = task.dataset["demo"][0]
    number = demo["title"].removeprefix("Article_")
    part, asked = demo["id"].split("-")[1:]
    assert prompt(task, task.eval_docs[1]) == (
        'Answer the question with words from the passage. If the passage does not answer it, write "unanswerable".\n\n'
        f"Passage: [en] Station {number}.{part} opened in {1500 + int(number)}.\n"
        f"Question: [en] question {asked}?\nAnswer: {1500 + int(number)}\n\n"
        "Passage: [en] Station 100.0 opened in 1600.\nQuestion: [en] question 1?\nAnswer:"
    )
    german = load("xquad_kd_de_zeroshot")
    first = german.eval_docs[0]
    year = first["answers"]["text"][0]
    assert prompt(german, first) == (
        "Beantworte die Frage mit Worten aus dem Text.\n\n"
        f"Text: [de] Station {int(year) - 1500}.0 opened in {year}.\nFrage: [de] question 0?\nAntwort:"
    )


@pytest.mark.parametrize("name", TASKS)
def test_a_task_writes_one_greedy_line_and_is_scored_by_its_own_function(load, name):
    task = load(name)
    assert task.OUTPUT_TYPE == "generate_until"
    kwargs = task.config.generation_kwargs
    assert kwargs == {"until": ["\n"], "do_sample": False, "temperature": 0.0, "max_gen_toks": 48}
    assert task.VERSION == 1.0
    metrics = {"em", "f1", "rougeL"} | (ABSTAINING if name.startswith(("squad", "fictqa")) else set())
    assert set(task.aggregation()) == metrics
    assert task.config.process_results.__module__ == "kd_bench.harness.metrics"
    parts = name.split("_")
    assert task.config.process_results.__name__ == (parts[0] if parts[0] == "squad" else f"{parts[0]}_{parts[2]}")
    reported = set()
    for doc in task.eval_docs:
        scores = task.process_results(doc, [task.doc_to_target(doc)])
        assert scores["em"] == scores["f1"] == scores["rougeL"] == 1.0
        reported |= set(scores)
    assert reported == metrics


# ---- what they stand on


@pytest.mark.parametrize("name", TASKS)
def test_no_split_of_a_task_shares_an_article_with_another(load, name):
    task = load(name)
    assert set(task.dataset) == set(splits.SPLITS)
    assert splits.check_no_leak({name: task.dataset}) == []
    config = task.config
    assert (config.training_split, config.validation_split, config.test_split) == ("train", "validation", "test")
    assert config.fewshot_split == "demo"


def test_both_languages_and_both_prompts_can_be_trained_and_tested_together(load):
    for data_set in ("mlqa", "xquad", "fictqa"):
        loaded = {name: load(name).dataset for name in GROUPS[f"{data_set}_kd"]}
        assert splits.check_no_leak(loaded) == []


@pytest.mark.parametrize("name", [name for name in TASKS if name.endswith("oneshot")])
def test_the_demo_seed_chooses_the_demonstration(load, name):
    prompts = set()
    for seed in range(6):
        task = load(name, demo_seed=seed)
        prompts.add(prompt(task, task.eval_docs[0]).rsplit("\n\n", 1)[0])
    assert len(prompts) > 1


def test_metadata_sets_the_size_and_the_seed_of_the_generated_data():
    prints = [
        splits.fingerprint(manager(metadata).load(["fictqa_kd_en_zeroshot"])["tasks"]["fictqa_kd_en_zeroshot"].dataset)
        for metadata in (None, {"size": 20}, {"size": 20, "seed": 1})
    ]
    assert [sum(prints[i][split]["articles"] for split in splits.SPLITS) for i in range(3)] == [60, 20, 20]
    assert prints[1]["test"]["hash"] != prints[2]["test"]["hash"]
    assert prints[0]["train"]["questions"] >= 300 and prints[0]["test"]["questions"] >= 150


# ---- the evaluator


def test_lm_eval_averages_each_score_over_the_questions_that_have_it(copies):
    """`has_ans_*` and `no_ans_em` are missing from half of the documents; nothing may be filled in for them."""
    import lm_eval
    from lm_eval.api.model import LM

    class Parrot(LM):
        """Knows one year, and otherwise abstains."""

        def generate_until(self, requests, disable_tqdm=False):
            return ["1600" if "100.0" in request.args[0] else "unanswerable" for request in requests]

        def loglikelihood(self, requests, disable_tqdm=False):
            raise NotImplementedError

        loglikelihood_rolling = loglikelihood

    found = lm_eval.simple_evaluate(
        Parrot(), tasks=["squad_kd_zeroshot"], task_manager=manager({"data_dir": str(copies)}), log_samples=True
    )
    scores = found["results"]["squad_kd_zeroshot"]
    # Three articles of two passages with an answerable and an unanswerable question each.
    expected = {"em": 6 / 12, "has_ans_em": 1 / 6, "has_ans_f1": 1 / 6, "no_ans_em": 5 / 6, "abstained": 10 / 12}
    for metric, value in expected.items():
        assert scores[f"{metric},none"] == pytest.approx(value), metric
        assert scores[f"{metric}_stderr,none"] > 0
    assert found["n-samples"]["squad_kd_zeroshot"] == {"original": 12, "effective": 12}
    assert len(found["samples"]["squad_kd_zeroshot"]) == 12
    assert sum("has_ans_em" in sample for sample in found["samples"]["squad_kd_zeroshot"]) == 6


def test_plain_lm_eval_finds_every_task():
    """The wheel, editable or not, puts the YAMLs where `lm_eval` looks, from whatever folder it is called."""
    installed = Path(importlib.util.find_spec("lm_eval").origin).parent / "tasks" / "kd_bench"
    assert installed.is_dir(), "kd-bench is not installed: pip install -e ."
    ours = {path.relative_to(FOLDER): path.read_bytes() for path in FOLDER.rglob("*") if path.is_file()}
    theirs = {path.relative_to(installed): path.read_bytes() for path in installed.rglob("*") if path.is_file()}
    assert theirs == ours, "the installed tasks are copies of older ones: pip install -e . again"
