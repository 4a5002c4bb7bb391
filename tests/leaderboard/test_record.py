import json
import os

import pytest

from kd_bench.errors import UserError
from kd_bench.leaderboard.record import read_records, read_results, records_from_results, write_record
from kd_bench.leaderboard.schema import Record
from tests.leaderboard.made import content, lines, result

PROVENANCE = {"run": "run", "created": "2026-01-02T03:04:05+00:00"}
MODEL = {"name": "m", "role": "other", "source": "hub/m"}


def sample(doc_id, doc, filter_name="none", resps=("text",), **metrics):
    hashes = {"doc_hash": "a", "prompt_hash": "b", "target_hash": "c"}
    shape = {"doc_id": doc_id, "doc": doc, "filter": filter_name, "filtered_resps": list(resps)}
    return {**shape, **hashes, "metrics": list(metrics), **metrics}


def results(samples, told=None, higher=None):
    return {
        "results": {"toy": told or {}},
        "configs": {"toy": {"test_split": "test"}},
        "versions": {"toy": 1.0},
        "n-shot": {"toy": 1},
        "higher_is_better": {"toy": higher or {}},
        "samples": {"toy": samples},
    }


def make(samples, told=None, higher=None, **fields):
    fields = {"model": MODEL, "provenance": PROVENANCE, "fingerprint": {}, **fields}
    return records_from_results(results(samples, told, higher), "toy", **fields)


def test_scores_come_from_the_samples_and_hold_no_text_of_the_data():
    samples = [
        sample(0, {"id": "x", "context": "secret passage", "question": "secret question"}, em=1.0, has_ans_em=1.0),
        sample(1, {"id": "y", "context": "secret passage", "question": "secret question"}, em=1.0, no_ans_em=1.0),
        sample(2, {"id": "z", "context": "other secret", "question": "secret question"}, em=0.0, has_ans_em=0.0),
        sample(3, {"id": "w", "context": "other secret", "question": "secret question"}, em=0.0, has_ans_em=0.0),
    ]
    record, question_lines = make(samples, told={"em,none": 0.5})
    em = record.scores["em"]
    assert (em.value, em.n, em.clusters) == (0.5, 4, 2) and em.stderr == pytest.approx(0.5)
    assert record.scores["has_ans_em"].n == 3
    assert record.scores["no_ans_em"].stderr is None  # one question tells nothing about its error
    assert record.task.num_fewshot == 1 and record.task.split == "test" and len(record.task.hash) == 64
    assert [line["id"] for line in question_lines] == ["x", "y", "z", "w"]
    assert question_lines[0]["cluster"] == question_lines[1]["cluster"] != question_lines[2]["cluster"]
    assert "secret" not in json.dumps(question_lines) + record.model_dump_json()


def test_documents_without_a_passage_and_with_repeated_ids_are_clusters_of_their_own():
    samples = [
        sample(i, {"id": "same", "question": "q"}, resps=[(-1.0, False), (-0.5 - i, True)], acc=1.0) for i in (1, 0)
    ]
    record, question_lines = make(samples)
    assert record.scores["acc"].clusters == 2
    assert [line["id"] for line in question_lines] == ["0", "1"]
    assert [line["prediction"] for line in question_lines] == ["1", "0"]  # the likelier choice


def test_filters_name_their_metrics():
    samples = [sample(0, {}, name, exact_match=value) for name, value in (("strict", 0.0), ("loose", 1.0))]
    record, question_lines = make(samples, told={"exact_match,strict": 0.0, "exact_match,loose": 1.0})
    assert {name: score.value for name, score in record.scores.items()} == {
        "exact_match,strict": 0.0,
        "exact_match,loose": 1.0,
    }
    assert len(question_lines) == 1


def test_only_means_of_shares_where_higher_is_better_are_taken():
    samples = [sample(i, {}, f1=0.5, perplexity=12.0, pair=(1, 2), mcc=1.0, wer=0.1) for i in range(2)]
    record, question_lines = make(samples, told={"f1,none": 0.5, "mcc,none": 0.3}, higher={"wer": False})
    assert set(record.scores) == {"f1"}
    assert question_lines[0]["scores"] == {"f1": 0.5}
    with pytest.raises(UserError, match=r"wer is better when lower"):
        make([sample(0, {}, wer=0.1)], higher={"wer": False})


def test_what_is_wrong_with_an_evaluation_is_said():
    with pytest.raises(UserError, match="f1 of document 3 is nan"):
        make([sample(3, {}, f1=float("nan"))])
    with pytest.raises(UserError, match="log_samples=True"):
        make([])
    with pytest.raises(UserError) as caught:
        make([sample(0, {}, f1=1.0)], model={**MODEL, "name": "a/b", "colour": "red"}, cost={"train_seconds": -1.0})
    assert len(caught.value.problems) == 3
    assert {problem.split(":")[0] for problem in caught.value.problems} == {
        "model.name",
        "model.colour",
        "cost.train_seconds",
    }


@pytest.mark.parametrize(
    "name", ["a/b", "a\\b", "..", ".hidden", "a\nb", "a\x00b", " a", "a\u202eb", "a\u2028b", "", "x" * 300]
)
def test_names_that_are_no_file_names_are_refused(name):
    with pytest.raises(ValueError):
        Record.model_validate(content(lines([1.0]), name))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("scores__f1__value", float("nan")),
        ("scores__f1__value", 1.5),
        ("scores__f1__stderr", float("inf")),
        ("scores__f1__n", 0),
        ("floor", {"answer": "x", "scores": {"f1": -0.1}}),
        ("method", {"temperature": float("nan")}),
        ("provenance__created", "yesterday"),
        ("samples", "../../etc/passwd"),
        ("extra", 1),
        ("task__colour", "red"),
        ("schema_version", 2),
        ("model__parameters", "many"),
        ("scores", {}),
    ],
)
def test_a_record_is_strict(path, value):
    Record.model_validate(content(lines([1.0, 0.0, 1.0, 0.0])))
    with pytest.raises(ValueError):
        Record.model_validate(content(lines([1.0, 0.0, 1.0, 0.0]), **{path: value}))


def test_written_and_read_again_with_the_same_bytes(tmp_path):
    made = result([1.0, 0.0, 1.0, 0.0], seed=3, method={"b": 1, "a": [1.5]})
    made.samples[0]["prediction"] = "Straße\u2028zwei\r\nZeilen"
    path = write_record(tmp_path / "new", *made)
    assert path.name == "run.student.seed3.toy.json"
    first = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    assert set(first) == {"run.student.seed3.toy.json", "run.student.seed3.toy.samples.jsonl"}
    write_record(path.parent, *made)
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == first
    (read,), problems = read_results(path.parent)
    assert problems == []
    assert read.samples == made.samples
    assert read.record == made.record.model_copy(update={"samples": "run.student.seed3.toy.samples.jsonl"})


def test_fields_that_came_later_change_no_record_from_before(tmp_path):
    path = write_record(tmp_path, *result([1.0, 0.0]))
    assert set(json.loads(path.read_text())) == {
        *("cost", "floor", "method", "model", "provenance", "samples", "schema_version", "scores", "seed", "task")
    }
    mark = {"date": "2026-01-02", "commit": None, "same_answers": 1.0, "largest_difference": 0.0}
    path = write_record(tmp_path, *result([1.0, 0.0], trained_on={"declared": ["train"]}, verified=mark))
    assert json.loads(path.read_text())["verified"] == mark
    assert read_results(tmp_path)[0][0].record.trained_on.declared == ["train"]


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    path = write_record(tmp_path, *result([1.0, 0.0, 1.0, 0.0]))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_record(tmp_path, *result([0.0, 0.0, 0.0, 0.0]))
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert path.is_file()


def test_damaged_records_are_named_and_the_rest_goes_on(tmp_path):
    good = result([1.0, 0.0, 1.0, 0.0], name="good")
    write_record(tmp_path, *good)
    text = (tmp_path / "run.good.toy.json").read_text()
    (tmp_path / "cut.json").write_text(text[: len(text) // 2])
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe")
    (tmp_path / "nan.json").write_text(text.replace('"value": 0.5', '"value": NaN'))
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "future.json").write_text(text.replace('"schema_version": 1', '"schema_version": 2'))
    (tmp_path / "key.json").write_text(text.replace('"role"', '"rôle"'))
    (tmp_path / "zcopy.json").write_text(text)
    (tmp_path / ".writing-x.json").write_text("half")
    records, problems = read_records(tmp_path)
    assert [record.model.name for record in records] == ["good"]
    named = {problem.split(":")[0] for problem in problems}
    damaged = {"cut.json", "deep.json", "list.json", "bytes.json", "nan.json", "folder.json", "future.json", "key.json"}
    assert named == damaged | {"zcopy.json"}
    assert all(problem.endswith("left out") for problem in problems)
    said = "\n".join(problems)
    assert "future.json: schema_version 2 is not 1" in said and "nan.json: NaN" in said
    assert "zcopy.json: same run, model, task and seed as run.good.toy.json" in said


def test_files_too_large_to_be_records_are_not_read(tmp_path, monkeypatch):
    for name in ("a", "b"):
        write_record(tmp_path, *result([1.0, 0.0], name))
    path = tmp_path / "run.a.toy.json"
    path.write_text(path.read_text() + " " * (1 << 20))
    results, problems = read_results(tmp_path)
    assert [some.record.model.name for some in results] == ["b"]
    assert problems[0].startswith("run.a.toy.json: 1,0") and "more than the 1,048,576 that are read" in problems[0]
    monkeypatch.setattr("kd_bench.leaderboard.record.SAMPLES_BYTES", 10)
    assert any("run.b.toy.samples.jsonl" in problem for problem in read_results(tmp_path)[1])


def test_samples_that_contradict_the_record_are_found(tmp_path):
    for name in ("cut", "changed", "gone", "torn", "whole"):
        write_record(tmp_path, *result([1.0, 0.0, 1.0, 0.0], name=name))
    file = {name: tmp_path / f"run.{name}.toy.samples.jsonl" for name in ("cut", "changed", "gone", "torn")}
    text = file["cut"].read_text()
    file["cut"].write_text("".join(text.splitlines(keepends=True)[:2]))
    file["changed"].write_text(text.replace('"f1": 0.0', '"f1": 0.5'))
    file["torn"].write_text(text[:-20])
    file["gone"].unlink()
    found, problems = read_results(tmp_path)
    assert {r.record.model.name: r.samples is not None for r in found} == {"gone": False, "whole": True}
    assert len(problems) == 4
    said = "\n".join(problems)
    assert "run.gone.toy.samples.jsonl is missing; shown without intervals" in said
    assert "run.torn.toy.samples.jsonl: line 4 is not" in said


def test_no_folder_says_what_makes_it(tmp_path):
    with pytest.raises(UserError, match="kd-bench distill"):
        read_records(tmp_path / "none")
