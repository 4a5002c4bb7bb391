import csv
import io
import json

import pytest

from kd_bench.leaderboard.export import as_csv, as_data, as_json
from tests.leaderboard.made import result
from tests.leaderboard.test_markdown import RUN
from tests.leaderboard.test_ranking import GOOD, TEACHER, WORSE, squad


def row(data, name, task="toy"):
    table = next(table for table in data["tables"] if table["task"] == task)
    return next(row for row in table["rows"] if row["model"] == name)


def test_the_data_say_what_the_tables_say():
    data = as_data(RUN)
    kd = row(data, "kd")
    assert kd["seeds"] == [0, 1] and kd["settings"]["temperature"] == 2.0 and kd["method"] == "forward_kl"
    assert kd["above_floor"]["value"] == pytest.approx(0.15625 / 0.375, abs=1e-6)
    assert kd["gap_closed"]["value"] == pytest.approx((0.65625 - 0.375) / (0.875 - 0.375), abs=1e-6)
    assert kd["scores"]["f1"]["std"] == pytest.approx(0.132583, abs=1e-6)
    assert kd["reproduce"] == "kd-bench distill recipes/run.yaml"
    assert row(data, "teacher")["rank"] is None and row(data, "teacher")["differs"] is None
    assert row(data, "raw", "toy2")["scores"] == {}
    (everything,) = data["overall"]
    assert (everything["name"], everything["tasks"]) == ("all tasks", ["toy", "toy2"])
    kd, raw, tuned = everything["students"]
    assert [some["model"] for some in (kd, raw, tuned)] == ["kd", "raw", "tuned"]
    assert raw["missing"] == ["toy2"] and raw["above_floor"]["value"] is None and raw["efficient"] == {}
    assert kd["efficient"]["parameters"] is True and kd["efficient"]["evaluate_peak_memory_bytes"] is None
    assert json.loads(as_json(data)) == data


def test_where_a_student_differs_from_its_teacher():
    (table,) = as_data([squad(TEACHER, "teacher", "teacher"), squad(WORSE)])["tables"]
    differs = next(row for row in table["rows"] if row["model"] == "student")["differs"]
    assert (differs["lost_count"], differs["won_count"], differs["won"]) == (5, 0, [])
    assert [(q["id"], q["student"], q["teacher"]) for q in differs["lost"][:2]] == [("q0", 0.0, 1.0), ("q2", 0.0, 1.0)]
    assert differs["lost"][0]["student_wrote"] == "answer 0"


def test_csv_has_a_line_for_each_measured_row():
    lines = list(csv.DictReader(io.StringIO(as_csv(as_data(RUN)))))
    assert [(line["task"], line["model"]) for line in lines] == [
        *(("toy", "teacher"), ("toy", "kd"), ("toy", "tuned"), ("toy", "raw"), ("toy2", "teacher"), ("toy2", "kd"))
    ]
    assert lines[1]["floor"] == "0.5" and float(lines[1]["f1"]) == 0.65625 and lines[1]["above_floor_low"]
    assert lines[0]["above_floor_high"] == "1.0" and lines[0]["gap_closed"] == ""


def test_nothing_in_a_csv_is_a_formula():
    text = as_csv(as_data([result(GOOD, "=1+1", "other", model__source="@SUM(A1)")]))
    (line,) = csv.DictReader(io.StringIO(text))
    assert line["model"] == "'=1+1" and line["source"] == "'@SUM(A1)"


def test_the_same_data_in_any_order():
    assert as_json(as_data(RUN)) == as_json(as_data(RUN[::-1]))
    assert as_csv(as_data([])) == "\n" and as_data([])["tables"] == []
