"""The page's table: rows, sorting, filters, sets of tasks."""

import copy
import re

import pytest

from kd_bench.leaderboard.export import as_data
from tests.leaderboard.page import measured, names, until
from tests.leaderboard.test_ranking import GOOD, POOR, TEACHER, squad


def test_one_task_has_floor_teacher_scores_and_intervals(opened, data):
    page = opened(data, task="toy", shots=0)
    assert names(page) == ["floor: “unanswerable”", "teacher", "poor", "raw", "good"]
    cell = "#table .tabulator-row:nth-child({}) [tabulator-field={}]"
    assert page.locator(cell.format(1, "score")).inner_text() == "50.0"
    assert page.locator(cell.format(1, "parameters")).inner_text() == "–"
    assert page.locator(cell.format(2, "gap")).inner_text() == "–"
    row = next(row for row in data["tables"][1]["rows"] if row["model"] == "good")
    above = page.locator(cell.format(5, "above")).inner_text()
    assert above.startswith("67 %") and f"[{100 * row['above_floor']['low']:.0f}, " in above
    assert "±" in page.locator(cell.format(5, "score")).inner_text()
    assert "8 questions" in page.locator("#about").inner_text()


def test_the_deviation_between_seeds_is_read_in_full(opened):
    seeds = [squad(scores, "good", seed=seed) for seed, scores in enumerate((GOOD, POOR))]
    page = opened(as_data([squad(TEACHER, "teacher", "teacher"), *seeds]))
    for field in ("score", "metric0"):
        cell = page.locator(f"#table .tabulator-row:nth-child(3) [tabulator-field={field}]")
        assert re.fullmatch(r"\d\d\.\d ± \d+\.\d\s*sd \d+\.\d", cell.inner_text())
        assert cell.evaluate("cell => cell.scrollWidth <= cell.clientWidth")


def test_sorts_by_click_and_by_key_with_the_undefined_last(opened, data):
    page = opened(data, task="toy", shots=0)
    header = page.locator(".tabulator-col[tabulator-field=parameters]")
    header.click()
    assert names(page) == ["poor", "raw", "good", "teacher", "floor: “unanswerable”"]
    header.focus()
    page.keyboard.press("Enter")
    assert names(page)[0] == "teacher" and names(page)[-1].startswith("floor")
    assert header.get_attribute("aria-sort") == "descending"
    assert "sort=parameters%3Adesc" in page.url


FILTERS = [
    ("task", "toy", ["floor: “unanswerable”", "teacher", "poor", "raw", "good"] * 2),
    ("kind", "role:sft", ["poor"]),
    ("kind", "method:forward_kl", ["good"]),
    ("family", "qwen", ["poor"]),
    ("min", "600", ["teacher", "good"]),
    ("max", "500", ["poor", "raw"]),
    ("q", "forward goo", ["good"]),
    ("q", "nothing like it", []),
]


def test_filters(opened, data):
    page = opened(data)
    for name, value, expected in FILTERS:
        field = page.locator(f"#filters [name={name}]")
        if name in ("task", "kind", "family"):
            field.select_option(value)
        else:
            field.fill(value)
        assert names(page) == expected
        assert page.locator("#count").inner_text() == f"{len(expected)} row{'' if len(expected) == 1 else 's'}"
        page.locator("#filters [type=reset]").click()
        assert names(page) == ["teacher", "poor", "raw", "good"]


def test_prompt_filter(opened, data):
    page = opened(data, task="toy")
    page.locator("select[name=shots]").select_option("1")
    assert len(names(page)) == 5 and "One-shot" in page.locator("#about").inner_text()


def test_csv_holds_what_is_shown_and_no_formula(opened, data):
    data = copy.deepcopy(data)
    next(row for row in data["tables"][1]["rows"] if row["model"] == "good")["model"] = "=1+1"
    data["overall"] = []
    page = opened(data, task="toy", shots=0, kind="role:distilled")
    with page.expect_download() as download:
        page.locator("#download").click()
    header, *lines = download.value.path().read_text().splitlines()
    (line,) = (dict(zip(header.split(","), line.split(","))) for line in lines)
    assert line["model"] == "'=1+1" and float(line["f1"]) == 0.75 and line["num_fewshot"] == "0"
    assert float(line["above_floor"]) == pytest.approx(2 / 3, abs=1e-5) and line["above_floor_low"]


def test_a_chosen_set_of_tasks(opened):
    more = [
        squad(TEACHER, "teacher", "teacher", task__name="rest_zeroshot"),
        squad(GOOD, "good", task__name="rest_zeroshot"),
    ]
    data = as_data([*measured(), *more])
    assert [some["name"] for some in data["overall"]] == ["all tasks", "all zero-shot tasks", "all toy tasks"]
    page = opened(data)
    page.locator("select[name=task]").select_option("mean over all toy tasks")
    assert names(page) == ["teacher", "poor", "raw", "good"]
    assert "averaged over toy_oneshot, toy_zeroshot" in page.locator("#about").inner_text()
    shown = page.locator("#table .tabulator-col:visible").all_inner_texts()
    assert any("toy_oneshot" in title for title in shown) and not any("rest" in title for title in shown)
    again = page.context.new_page()
    again.goto(page.url)
    until(again, "window.ready")
    assert names(again) == names(page)
    assert again.locator("select[name=task]").input_value() == "mean:all toy tasks"
    page.locator("select[name=task]").select_option("mean over all tasks")
    assert names(page) == ["teacher", "good", "poor", "raw"]  # who lacks a task has no rank
    ranks = page.locator("#table .tabulator-row .tabulator-cell[tabulator-field=rank]").all_inner_texts()
    assert [text.strip() for text in ranks[1:]] == ["1 ◆", "–", "–"]


def test_of_five_thousand_rows_only_those_in_view_are_drawn(opened, data):
    data = copy.deepcopy(data)
    data["overall"], (table, _) = [], data["tables"]
    teacher, good, *_ = table["rows"]
    table["rows"] = [teacher]
    for i in range(4_999):
        row = good | {"model": f"model {i}", "parameters": 10**6 * (100 + i % 300), "rank": 1 + i // 100}
        table["rows"].append(row | {"above_floor": {"value": i * 37 % 1000 / 1000, "stderr": 0.1, "low": 0, "high": 1}})
    data["tables"] = [table]
    page = opened(data)
    assert page.locator("#count").inner_text() == "5,001 rows"
    assert 5 < len(names(page)) < 200  # only what is in view is drawn
    page.locator("input[name=q]").fill("model 4998")
    assert names(page) == ["model 4998"]
