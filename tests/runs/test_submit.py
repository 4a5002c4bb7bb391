"""Records made up of answers written here, scored by the task itself; lm-eval's folder is written by lm-eval."""

import copy
import json
import sys
from datetime import UTC, datetime

import pytest

from kd_bench import cli
from kd_bench.errors import UserError
from kd_bench.harness.examples import load_task, task_manager
from kd_bench.leaderboard import samples as sampled
from kd_bench.leaderboard.audit import audit
from kd_bench.leaderboard.ranking import tables
from kd_bench.leaderboard.record import read_record, read_results, records_from_results, write_record
from kd_bench.leaderboard.schema import Record, Result
from kd_bench.runs import submit as submitting
from kd_bench.runs.evaluate import evaluate_model
from kd_bench.runs.facts import task_fact
from kd_bench.runs.records import floor_of
from kd_bench.runs.submit import submit
from tests.harness.test_evaluate import choice_task
from tests.tiny import save_tiny

TASK = "fictqa_kd_en_zeroshot"
METADATA = {"size": 12}
HASHES = {"doc_hash": "a", "prompt_hash": "b", "target_hash": "c"}


@pytest.fixture(scope="module")
def task():
    return load_task(TASK, METADATA)


@pytest.fixture(scope="module")
def honest(task) -> Result:
    """A student that answers a third of the questions rightly, abstains on a third and talks on the rest."""
    return answered(task, lambda i, doc: [(doc["answers"]["text"] or [""])[0], "unanswerable", "a ship"][i % 3])


def answered(task, write, limit=None, name="student", role="distilled", **fields) -> Result:
    samples = []
    for i, doc in enumerate(list(task.test_docs())[:limit]):
        text = write(i, doc)
        scores = task.process_results(doc, [text])
        shape = {"doc_id": i, "doc": doc, "filter": "none", "filtered_resps": [text], "metrics": list(scores)}
        samples.append(shape | HASHES | scores)
    results = {"results": {TASK: {}}, "samples": {TASK: samples}, "versions": {TASK: task.VERSION}}
    teacher = None if role == "teacher" else "teacher"
    fields = {
        "model": {"name": name, "role": role, "source": "hub/model", "teacher": teacher, "student": "small"},
        "provenance": {"run": "mine", "recipe_hash": "r" * 16, "created": "2026-01-02"},
        "fingerprint": task_fact(task)["fingerprint"],
        "floor": floor_of(task, samples),
        "split": "test",
        **fields,
    }
    return Result(*records_from_results(results, TASK, **fields))


def changed(result: Result, **changes) -> Result:
    """The result with fields of its record replaced, by path."""
    content = copy.deepcopy(result.record.model_dump())
    for path, value in changes.items():
        *folders, key = path.split("__")
        place = content
        for folder in folders:
            place = place[folder]
        place[key] = value
    return Result(Record.model_validate(content), result.samples)


def tampered(result: Result, edit) -> Result:
    """Its lines passed through `edit`, and the record's scores made to agree with them."""
    lines = edit(copy.deepcopy(result.samples))
    return Result(changed(result, scores=sampled.scores(lines)).record, lines)


@pytest.fixture
def put(tmp_path):
    """put(result, ...) -> what `submit` makes of a folder that holds them; `put.results` is where they go."""
    run, results = tmp_path / "run", tmp_path / "results"

    def put(*made: Result, **options):
        for some in made:
            write_record(run, *some)
        return submit(run, results, **{"metadata": METADATA, **options})

    put.run, put.results = run, results
    return put


def test_what_holds_is_added_with_its_declaration(put, honest, task):
    outcome = put(honest)
    assert (outcome.refused, outcome.notes) == ([], [])
    (path,) = outcome.added
    assert path == put.results / f"mine.student.{TASK}.json"
    record = read_record(path)
    train = task_fact(task)["fingerprint"]["train"]["hash"]
    assert record.trained_on.model_dump() == {"declared": ["train"], "hashes": {"train": train}}
    assert record.model_copy(update={"trained_on": None, "samples": None}) == honest.record
    lines = f"mine.student.{TASK}.samples.jsonl"
    assert (put.results / lines).read_bytes() == (put.run / lines).read_bytes()
    assert audit(put.results) == []


def test_one_file_does_and_a_dry_run_writes_nothing(put, honest):
    path = write_record(put.run, *honest)
    assert submit(path, put.results, metadata=METADATA, dry_run=True).added == [put.results / path.name]
    assert not put.results.exists()
    assert submit(path, put.results, metadata=METADATA).added == [put.results / path.name]


def right(lines):
    for line in lines:
        line["scores"] = {metric: 1.0 for metric in line["scores"]}
    return lines


def swapped_text(lines):
    lines[0]["prediction"] = "something else"
    return lines


def one_passage_each(lines):
    return [line | {"cluster": f"p{i}"} for i, line in enumerate(lines)]


def without_the_hard_ones(lines):
    for line in lines:
        if line["scores"].get("has_ans_f1") == 0:
            del line["scores"]["has_ans_f1"]
    return lines


@pytest.mark.parametrize(
    "edit, why",
    [
        (right, "the text of 34 of 44 answers does not give their scores"),
        (swapped_text, "the text of 1 of 44 answers does not give their scores"),
        (without_the_hard_ones, "gives has_ans_f1 0 and not nothing"),
        (one_passage_each, "44 questions stand in other passages than the task's"),
        (lambda lines: lines[1:], "1 of the split are missing"),
        (lambda lines: [lines[0] | {"id": "\x1b[2J"}, *lines[1:]], r"1 are not in it, such as '\x1b[2J'"),
        (lambda lines: [line | {"prediction": None} for line in lines], "there is no text to score"),
    ],
)
def test_samples_that_agree_with_the_record_and_not_with_the_text_are_refused(put, honest, edit, why):
    outcome = put(tampered(honest, edit), changed(honest, provenance__run="honest"))
    (reason,) = outcome.refused
    assert reason.startswith(f"mine.student.{TASK}.json: refused: ") and why in reason
    assert [path.name for path in outcome.added] == [f"honest.student.{TASK}.json"]


@pytest.mark.parametrize(
    "change, why",
    [
        ({"floor__scores__f1": 0.0}, "its floor is not that of these questions"),
        ({"floor__answer": "buy"}, "its floor is not that of these questions"),
        ({"task__version": 0.9}, "was measured with version 0.9 of the task; here it has 1.0"),
        ({"task__fingerprint__test__hash": "0" * 16}, "the data here is not what the record was measured on"),
        ({"task__fingerprint": {}}, "no split fingerprint"),
        ({"task__fingerprint__train__hash": "0" * 16}, "training split is not that of the task's data here"),
        ({"task__name": "fictqa_kd_en_zeroshoot"}, "Nearest: fictqa_kd_en_zeroshot"),
        ({"provenance__recipe_hash": None}, "does not say what it was trained on: add --trained-on"),
    ],
)
def test_what_contradicts_the_task_is_refused(put, honest, change, why):
    outcome = put(changed(honest, **change))
    assert outcome.added == [] and not put.results.exists()
    assert why in "\n".join(outcome.refused)


def test_files_that_do_not_read_are_named_and_the_rest_goes_on(put, honest):
    names = ("good", "html", "nan", "high", "moved", "torn", "gone", "bare")
    paths = {name: write_record(put.run, *changed(honest, provenance__run=name)) for name in names}
    f1 = f'"value": {honest.record.scores["f1"].value}'
    for name, old, new in (
        ("html", '"name": "student"', '"name": "<b>/../x"'),
        ("nan", f1, '"value": NaN'),
        ("high", f1, '"value": 1.5'),
        ("moved", f1, '"value": 0.999'),
        ("torn", '"cost"', '"coast"'),
        ("bare", f'"bare.student.{TASK}.samples.jsonl"', "null"),
    ):
        text = paths[name].read_text()
        assert old in text
        paths[name].write_text(text.replace(old, new))
    (put.run / f"gone.student.{TASK}.samples.jsonl").unlink()
    (put.run / "deep.json").write_text("[" * 100_000)
    (put.run / "huge.json").write_text(" " * (1 << 21))
    outcome = put()
    assert [path.name for path in outcome.added] == [f"good.student.{TASK}.json"]
    reasons = {reason.split(".")[0]: reason for reason in outcome.refused}
    assert set(reasons) == {*names, "deep", "huge"} - {"good"}
    assert "must not have path separators" in reasons["html"] and "NaN" in reasons["nan"]
    assert "less than or equal to 1" in reasons["high"] and "is not that of the record" in reasons["moved"]
    assert f"no gone.student.{TASK}.samples.jsonl beside it" in reasons["gone"]
    assert "has no samples" in reasons["bare"] and "nested too deeply" in reasons["deep"]
    assert "more than the 1,048,576 that are read" in reasons["huge"]


def test_one_result_is_added_once(put, honest):
    outcome = put(honest, changed(honest, provenance__run="twin"))
    assert len(outcome.added) == 1
    assert "claims the same student, task, recipe and seed as mine.student" in outcome.refused[0]
    (reason,) = submit(put.run / f"twin.student.{TASK}.json", put.results, metadata=METADATA).refused
    assert f"as mine.student.{TASK}.json in {put.results}" in reason
    write_record(put.run, *changed(honest, model__revision="other"))
    (reason,) = submit(put.run / f"mine.student.{TASK}.json", put.results, metadata=METADATA).refused
    assert "is another record: give one of the two models or runs another name" in reason


def test_the_first_questions_are_a_table_of_their_own(put, task):
    outcome = put(answered(task, lambda i, doc: "unanswerable", limit=10))
    assert outcome.refused == [] and len(outcome.added) == 1
    assert outcome.notes[0].endswith("covers the first 10 of 44 questions: it gets a table of its own")


def test_a_metric_that_the_text_does_not_give_is_left_out_and_named(put, honest):
    lines = [line | {"scores": line["scores"] | {"judged": 0.5}} for line in honest.samples]
    outcome = put(Result(changed(honest, scores=sampled.scores(lines)).record, lines))
    assert outcome.notes[0].endswith("judged is left out: it can't be computed from the text of the answers")
    (added,), problems = read_results(put.results)
    assert problems == [] and set(added.record.scores) == set(honest.record.scores)
    assert not any("judged" in line["scores"] for line in added.samples)
    lines = [line | {"scores": {"judged": 1.0}} for line in honest.samples]
    only = changed(honest, scores=sampled.scores(lines), provenance__run="only")
    assert "none of its scores (judged) can be computed" in put(Result(only.record, lines)).refused[-1]


def test_of_a_choice_only_accuracy_can_be_computed(put, monkeypatch):
    task = choice_task(metric_list=[{"metric": m} for m in ("acc", "acc_norm")])
    monkeypatch.setattr(submitting, "load", lambda *_: task)
    docs = list(task.test_docs())
    lines = [
        {"id": str(i), "cluster": sampled.cluster({"doc": doc, "doc_id": i}), "prediction": str(i % 2),
         "scores": {"acc": float(i % 2 == 0), "acc_norm": 1.0}}
        for i, doc in enumerate(docs)
    ]  # fmt: skip
    content = {
        "model": {"name": "m", "role": "other", "source": "hub/m"},
        "task": {"name": "a_choice", "version": 1.0, "num_fewshot": 0, "split": "test",
                 "fingerprint": task_fact(task)["fingerprint"]},
        "scores": sampled.scores(lines),
        "provenance": {"run": "mine", "created": "2026-01-02"},
    }  # fmt: skip
    result = Result(Record.model_validate(content), lines)
    for prediction in ("2", "-1", "Ada"):
        bad = Result(result.record, [*lines[:2], lines[2] | {"prediction": prediction}])
        assert "is not the number of one of its 2 choices" in put(bad, trained_on=["none"]).refused[0]
    outcome = put(result, trained_on=["none"])
    assert outcome.refused == [] and "acc_norm is left out" in outcome.notes[0]
    assert {m: s.value for m, s in read_record(outcome.added[0]).scores.items()} == {"acc": pytest.approx(2 / 3)}


def test_without_the_data_it_says_how_to_give_it(put, honest, monkeypatch, tmp_path):
    monkeypatch.delenv("KD_BENCH_DATA", raising=False)
    squad = changed(honest, task__name="squad_kd_zeroshot")
    (reason,) = put(squad, metadata={"data_dir": str(tmp_path)}).refused
    assert "nothing to read" in reason and "data_dir" in reason
    (reason,) = put(honest, metadata={"size": 13}).refused[:1]
    assert "give the metadata that it was measured with: --metadata" in reason


def test_trained_on_the_test_is_refused_unless_declared_and_then_not_ranked(put, honest, task):
    own = honest.record.task.split_hash
    leaked = changed(honest, task__fingerprint__train__hash=own, model__name="leaked", model__student="leaked")
    (reason,) = put(leaked, trained_on=["none"]).refused
    assert "was trained on the questions that it is measured on: declare it, --trained-on test" in reason
    teacher = answered(task, lambda i, doc: (doc["answers"]["text"] or ["unanswerable"])[0], None, "teacher", "teacher")
    for path in put.run.iterdir():
        path.unlink()
    assert put(honest, teacher).refused == []
    outcome = submit_only(put, leaked, trained_on=["test"])
    assert outcome.refused == [] and "it is shown, and not ranked" in outcome.notes[0]
    results, problems = read_results(put.results)
    assert problems == []
    (table,) = tables(results)
    assert {row.name: row.rank for row in table.rows} == {"teacher": None, "student": 1, "leaked": None}
    assert "mine/leaked is not ranked: it was trained on the questions it is measured on." in table.notes
    # Said once, it stands: the record submitted elsewhere again says it still.
    assert read_record(outcome.added[0]).saw_its_questions
    again = submit(outcome.added[0], put.results.parent / "elsewhere", metadata=METADATA)
    assert "not ranked" in again.notes[0]


def submit_only(put, result: Result, **options):
    path = write_record(put.run / "one", *result)
    return submit(path, put.results, metadata=METADATA, **options)


def test_what_can_be_declared(put, honest):
    foreign = changed(honest, provenance__recipe_hash=None)
    assert read_record(put(foreign, trained_on=["unknown"]).added[0]).trained_on.declared == ["unknown"]
    for wrong, why in ((["tset"], "'tset' is not one of"), (["none", "train"], "'none' says that there is no other")):
        with pytest.raises(UserError, match=why):
            put(trained_on=wrong)


def test_the_mark_of_others_is_taken_off(put, honest):
    mark = {"date": "2026-01-02", "commit": None, "same_answers": 1.0, "largest_difference": 0.0}
    outcome = put(changed(honest, verified=mark))
    assert "was marked as verified elsewhere; the mark is taken off" in outcome.notes[0]
    assert read_record(outcome.added[0]).verified is None
    assert '"verified"' not in outcome.added[0].read_text()


def test_verify_evaluates_again(put, tmp_path):
    model = save_tiny(tmp_path / "model", "llama")
    evaluate_model(str(model), [TASK], limit=4, metadata=METADATA, output=put.run)
    outcome = put(trained_on=["none"], verify=str(model))
    assert outcome.refused == []
    verified = read_record(outcome.added[0]).verified
    assert (verified.same_answers, verified.largest_difference) == (1.0, 0.0)
    assert abs(datetime.fromisoformat(verified.date) - datetime.now(UTC)).total_seconds() < 600


def test_verify_refuses_what_the_model_does_not_score(put, task, honest, tmp_path):
    model = save_tiny(tmp_path / "model", "llama")
    better = answered(task, lambda i, doc: (doc["answers"]["text"] or ["unanswerable"])[0], limit=4)
    outcome = put(better, verify=str(model))
    assert outcome.added == [] and "f1 is 0.0 here and 1.0 in the record" in "\n".join(outcome.refused)
    with pytest.raises(UserError, match="submit them one by one"):
        put(changed(honest, model__name="another"), verify=str(model))


@pytest.fixture(scope="module")
def lm_eval_folder(tmp_path_factory):
    from lm_eval import simple_evaluate
    from lm_eval.loggers import EvaluationTracker

    folder = tmp_path_factory.mktemp("lm_eval")
    tracker = EvaluationTracker(output_path=str(folder))
    tracker.general_config_tracker.log_experiment_args("hf", "pretrained=me/model", None, None, False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.utils.collect_env.get_pretty_env_info", lambda: "")
        results = simple_evaluate(
            "dummy", tasks=[TASK], task_manager=task_manager([TASK], METADATA), log_samples=True, bootstrap_iters=0
        )
    samples = results.pop("samples")
    tracker.save_results_aggregated(results, samples)
    for task, some in samples.items():
        tracker.save_results_samples(task, json.loads(json.dumps(some, default=str)))
    return folder


def test_what_plain_lm_eval_wrote_is_taken(lm_eval_folder, tmp_path):
    outcome = submit(lm_eval_folder, tmp_path / "results", metadata=METADATA, trained_on=["unknown"])
    assert outcome.refused == []
    record = read_record(outcome.added[0])
    assert (record.model.name, record.provenance.run, record.scores["f1"].n) == ("me-model", "lm_eval", 44)
    assert audit(tmp_path / "results") == []
    (reason,) = submit(lm_eval_folder, tmp_path / "other", metadata=METADATA).refused
    assert reason.startswith(f"me-model on {TASK}: refused: does not say what it was trained on")


def test_nothing_to_submit(tmp_path):
    with pytest.raises(UserError, match="no such file or folder"):
        submit(tmp_path / "none", tmp_path)
    with pytest.raises(UserError, match="lm_eval --output_path"):
        submit(tmp_path, tmp_path)


def test_the_command_says_what_it_added_and_what_not(put, honest, monkeypatch, capsys):
    write_record(put.run, *honest)
    (put.run / "bad.json").write_text('{"\x1b[31m": ')
    arguments = [put.run, "--results", put.results, "--metadata", json.dumps(METADATA)]
    monkeypatch.setattr(sys, "argv", ["kd-bench", "submit", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    out, err = capsys.readouterr()
    assert stop.value.code == 1
    assert out == f"{put.results}/mine.student.{TASK}.json\n"
    assert "bad.json: refused: " in err and "next: kd-bench leaderboard" in err and "\x1b[31m" not in err
