"""The page in a real browser. Every test that opens it also sees that it asks the network for nothing, and complains of
nothing."""

import copy
import json
import re
import shutil
from urllib.parse import urlencode

import pytest
from playwright import sync_api

from kd_bench.leaderboard.export import as_data
from kd_bench.leaderboard.page import FILES, SCRIPTS, STYLES, render_page
from tests.leaderboard.test_ranking import GOOD, POOR, TEACHER, WORSE, squad

PATIENCE = 120_000  # milliseconds; the machine may be busy
HOSTILE = (
    "<img src=x onerror=window.hacked=1>",
    "</script><script>window.hacked=1</script>",
    "javascript:window.hacked=1",
    '"><svg onload=window.hacked=1>',
    "'+window.hacked+'",
    "<b>bold<br>&lt;a href='javascript:alert(1)'>",
)


def measured():
    made = []
    for task, shots in (("toy_oneshot", 1), ("toy_zeroshot", 0)):
        at = {"task__name": task, "task__num_fewshot": shots}
        made += [
            squad(TEACHER, "teacher", "teacher", model__parameters=10**9, **at),
            squad(GOOD, "good", model__parameters=8 * 10**8, method={"name": "forward_kl", "temperature": 2.0}, **at),
            squad(POOR, "poor", "sft", model__parameters=5 * 10**8, model__family="qwen", **at),
            squad(WORSE, "raw", "undistilled", model__parameters=5 * 10**8, **at),
        ]
    return made


@pytest.fixture(scope="module")
def data():
    return as_data(measured())


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium on the PATH")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"], timeout=PATIENCE)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, tmp_path):
    """opened(data, task="toy", ...): the page of `data` at this state, when it is ready."""
    contexts, complaints, requests = [], [], []

    def open_page(data, scheme="light", width=1280, **state):
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: message.type in ("error", "warning") and complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
        file = tmp_path / "index.html"
        file.write_text(render_page(data), encoding="utf-8")
        page.goto(f"{file.as_uri()}#{urlencode(state)}")
        until(page, "window.ready")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert requests and all(url.startswith(("file:", "data:", "blob:")) for url in requests)


def names(page):
    """The models in the table's rows, top to bottom."""
    cells = page.locator("#table .tabulator-row .tabulator-cell[tabulator-field=name]")
    return cells.all_inner_texts()


def plotted(page, plot="size-plot"):
    page.locator(f"#{plot} .scatterlayer .point").first.wait_for(state="attached")


def until(page, expression):
    """Playwright's own waiting evaluates text within the page, which the page's policy forbids."""
    while not page.evaluate(expression):
        page.wait_for_timeout(50)


def test_the_same_data_give_the_same_bytes(data):
    assert render_page(data) == render_page(json.loads(json.dumps(data)))


def test_data_can_not_end_their_script():
    text = render_page({"tables": [], "overall": [], "evil": "</script><!--\u2028"})
    embedded = text.split('id="data">')[1].split("</script>")[0]
    assert json.loads(embedded)["evil"] == "</script><!--\u2028"
    assert not {"<", "&", "\u2028"} & set(embedded)


def test_page_is_one_file_whose_libraries_say_their_licence():
    said = (FILES / "vendor/VENDOR.md").read_text(encoding="utf-8")
    for name in (*SCRIPTS, *STYLES):
        text = (FILES / name).read_text(encoding="utf-8")
        assert "</script" not in text and "</style" not in text
        assert not name.startswith("vendor/") or name.removeprefix("vendor/") in said
    for licence in ("tabulator.LICENSE", "plotly-basic.LICENSE"):
        assert licence in said and "Permission is hereby granted" in (FILES / "vendor" / licence).read_text("utf-8")


def test_without_records_it_says_so(opened):
    page = opened(as_data([]))
    assert page.locator("#empty").is_visible() and not page.locator("#content").is_visible()
    assert "no records yet" in page.locator("#empty").inner_text()


def test_opens_with_the_mean_over_tasks_and_names_the_best(opened, data):
    page = opened(data)
    assert names(page) == ["teacher", "poor", "raw", "good"]
    best = page.locator("#answer").inner_text()
    # So few questions tell none apart: all share a rank, and within it the smaller is the better buy.
    assert "poor (500.0 M parameters, −50.0 %)" in best and "shares rank 1 with 2 others" in best
    assert page.locator("select[name=shots]").is_disabled()


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


def test_a_click_on_a_point_opens_the_drawer(opened, data):
    page = opened(data, task="toy", shots=0)
    plotted(page)
    # The layer that feels the mouse lies above the points: it is clicked by place.
    box = page.locator("#size-plot .scatterlayer .trace:has(.errorbar) .points path.point").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector("#size-plot .hoverlayer .hovertext")
    assert "good" in page.locator("#size-plot .hoverlayer").text_content()
    page.mouse.down()
    page.mouse.up()
    page.wait_for_selector("#drawer[open]")
    assert page.locator("#drawer h2").inner_text() == "good"


def test_plots_have_intervals_and_choices_of_axes(opened, data):
    page = opened(data)
    plotted(page, "shots-plot")
    read = "id => document.getElementById(id).data.filter((t) => t.error_y).map((t) => [t.name, t.error_y.array[0]])"
    sizes = dict(page.evaluate(read, "size-plot"))
    assert set(sizes) == {"distilled", "fine-tuned", "undistilled", "teacher"} and sizes["distilled"] > 0
    assert sizes["teacher"] == 0
    assert {name for name, _ in page.evaluate(read, "shots-plot")} == {"distilled", "fine-tuned", "undistilled"}
    page.locator("select[name=x]").select_option("bytes_on_disk")
    until(page, "document.getElementById('size-plot').layout.xaxis.title.text.startsWith('Bytes')")
    assert "x=bytes_on_disk" in page.url
    assert "table holds the same numbers" in page.locator("#size-plot").get_attribute("aria-label")


def test_points_are_named_by_model_and_by_run_where_two_runs_have_it(opened):
    at = {"task__name": "toy_zeroshot", "provenance__run": "other"}
    other = [squad(TEACHER, "teacher", "teacher", **at), squad(GOOD, "good", **at), squad(POOR, "kd", **at)]
    page = opened(as_data([*measured(), *other]), task="toy", shots=0)
    plotted(page)
    labels = page.locator("#size-plot .textpoint").all_text_contents()
    assert {label.strip() for label in labels} == {"run/good", "poor", "raw", "other/good", "kd"}


def test_the_drawer_tells_all_by_key_and_gives_the_focus_back(opened, data):
    page = opened(data, task="toy", shots=0)
    page.locator(".tabulator-tableholder").focus()
    for _ in range(5):
        page.keyboard.press("ArrowDown")
        until(page, "document.activeElement.classList.contains('tabulator-row')")
    page.keyboard.press("Enter")
    page.wait_for_selector("#drawer[open]")
    told = page.locator("#drawer").inner_text()
    for part in (
        *("good", "67 % [", "of teacher", "Gap closed", "F1, answerable", "75.0 ±", "toy_oneshot", "forward_kl"),
        *("temperature", "kd-bench compare good teacher --tasks toy_zeroshot", "kd-bench distill recipes/run.yaml"),
        *("licences", "c" * 40, "r" * 40, "2026-01-02", "Lost: 2 questions", "Won: none"),
    ):
        assert part.lower() in told.lower(), part
    page.get_by_text("Lost: 2 questions").click()
    assert "answer 0" in page.locator("#drawer details").inner_text()
    page.keyboard.press("Escape")
    page.wait_for_selector("#drawer:not([open])", state="attached")
    assert "good" in page.evaluate("document.activeElement.innerText") and "open=" not in page.url


def test_the_drawer_shows_passages_where_the_page_was_given_them(opened, data):
    data = json.loads(json.dumps(data))
    for table in data["tables"]:
        lost = next(row["differs"]["lost"] for row in table["rows"] if row["model"] == "good")
        table["texts"] = {
            lost[0]["id"]: {"question": "Who <b>built</b> it?", "gold": ["Ada", "Ada Merrow"], "passage": HOSTILE[0]},
            lost[1]["id"]: {"question": "Why?", "gold": [], "passage": "It stood."},
        }
    page = opened(data, task="toy", shots=0)
    page.locator(".tabulator-row", has_text="good").first.click()
    page.get_by_text("Lost: 2 questions").click()
    told = page.locator("#drawer .questions").first
    assert "Who <b>built</b> it?" in told.inner_text() and "Ada / Ada Merrow" in told.inner_text()
    assert "(unanswerable)" in told.inner_text()
    told.get_by_text("Passage").first.click()
    assert HOSTILE[0] in told.inner_text()
    assert "licences" not in page.locator("#drawer").inner_text()
    assert page.evaluate("window.hacked") is None


def test_the_address_holds_the_state(opened, data):
    page = opened(data)
    page.locator("select[name=task]").select_option("toy")
    page.locator("select[name=shots]").select_option("0")
    page.locator("input[name=q]").fill("oo")
    page.locator("select[name=x]").select_option("generated_tokens_per_second")
    page.locator(".tabulator-col[tabulator-field=name]").click()
    page.locator(".tabulator-row", has_text="poor").click()
    page.wait_for_selector("#drawer[open]")
    again = page.context.new_page()
    again.goto(page.url)
    until(again, "window.ready")
    assert names(again) == names(page) == ["floor: “unanswerable”", "good", "poor"]
    assert again.locator("#drawer[open] h2").inner_text() == "poor"
    assert again.locator("select[name=x]").input_value() == "generated_tokens_per_second"
    assert again.locator("input[name=q]").input_value() == "oo"


def test_an_address_with_nonsense_is_no_error(opened, data):
    page = opened(data, task="gone", x="__proto__", sort="nothing:up", open="nobody", kind="<b>")
    assert names(page) == ["teacher", "poor", "raw", "good"]


def test_dark_by_the_system_and_by_the_button(opened, data):
    def background(page):
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    light, dark = opened(data), opened(data, scheme="dark")
    assert background(light) != background(dark)
    light.locator("#theme").click()
    assert background(light) == background(dark)
    light.reload()
    until(light, "window.ready")
    assert background(light) == background(dark)
    light.locator("#theme").click()
    assert background(light) != background(dark)


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(opened, data, width):
    page = opened(data, width=width, task="toy", open="toy_zeroshot/run/good")
    plotted(page)
    page.get_by_text("Lost: 2 questions").click()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert (
        page.evaluate("(({ scrollWidth, clientWidth }) => scrollWidth - clientWidth)(document.querySelector('dialog'))")
        == 0
    )


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


def test_the_size_axis_orders_within_a_rank_and_marks_the_efficient(opened):
    machines = {"good": "A", "poor": "A", "raw": "B", "teacher": "A"}
    speeds = {"good": 50.0, "poor": 20.0, "raw": 30.0, "teacher": 5.0}
    changed = []
    for some in measured():
        record, name = some.record, some.record.model.name
        cost = record.cost.model_copy(update={"generated_tokens_per_second": speeds[name]})
        provenance = record.provenance.model_copy(update={"hardware": {"cpu": machines[name]}})
        changed.append(some._replace(record=record.model_copy(update={"cost": cost, "provenance": provenance})))
    page = opened(as_data(changed), task="toy", shots=0)

    def ranks():
        cells = page.locator("#table .tabulator-row .tabulator-cell[tabulator-field=rank]").all_inner_texts()
        return dict(zip(names(page), (text.strip() for text in cells)))

    assert ranks() == {"floor: “unanswerable”": "", "teacher": "", "poor": "1 ◆", "raw": "1", "good": "1 ◆"}
    page.locator("select[name=x]").select_option("generated_tokens_per_second")
    page.wait_for_selector(".tabulator-col[tabulator-field=generated_tokens_per_second]")
    assert list(ranks().items())[2:] == [("good", "1 ◆"), ("raw", "1"), ("poor", "1")]
    until(page, "document.getElementById('size-note').textContent.includes('same one')")
    page.locator("select[name=x]").select_option("evaluate_peak_memory_bytes")
    until(page, "document.getElementById('size-note').textContent.includes('not shown: 3')")
    assert list(ranks().items())[2:] == [("good", "1"), ("poor", "1"), ("raw", "1")]


def test_hostile_text_is_only_text(opened, data):
    data = json.loads(json.dumps(data).replace("toy_", "<i>toy_"))
    for table in data["tables"]:
        teacher, good, *_ = table["rows"]
        table["notes"] = [*HOSTILE]
        table["floor"]["answer"] = HOSTILE[0]
        table["metrics"] = [*table["metrics"], HOSTILE[0]]
        table["rows"] = [teacher, good]
        for i, text in enumerate(HOSTILE):
            row = copy.deepcopy(good) | dict.fromkeys(("model", "source", "family", "method", "reproduce"), text)
            row["parameters"] += i
            row["settings"] = {text: text}
            row["scores"] = row["scores"] | {text: row["scores"]["f1"]}
            row["provenance"][0] |= {"run": text, "commit": text, "versions": {text: text}, "hardware": {text: text}}
            for q in row["differs"]["lost"]:
                q |= {"id": text, "student_wrote": text, "teacher_wrote": text}
            table["rows"].append(row)
    data["overall"] = []
    page = opened(data, task="<i>toy", shots=0)
    plotted(page)
    assert names(page)[2:] == ["good", *HOSTILE]
    for text in HOSTILE:
        page.locator(".tabulator-row", has_text=text).last.click()
        page.wait_for_selector("#drawer[open]")
        assert page.locator("#drawer h2").inner_text() == text
        page.locator("#drawer summary").first.click()
        page.keyboard.press("Escape")
    for i, text in enumerate(["good", *HOSTILE]):
        page.evaluate(f"""() => {{
            const plot = document.getElementById("size-plot");
            const curveNumber = plot.data.findIndex((trace) => trace.name === "distilled");
            Plotly.Fx.unhover(plot);
            Plotly.Fx.hover(plot, [{{ curveNumber, pointNumber: {i} }}]);
        }}""")
        page.locator("#size-plot .hovertext", has_text=text).wait_for(state="attached")
        page.wait_for_timeout(100)  # Plotly passes over what comes too soon
    assert page.evaluate("window.hacked") is None
    assert page.locator("body :is(img, i:not(.interval i):not(.tabulator i), a[href], iframe)").count() == 0
    assert page.locator("svg [onload], .hovertext a, .textpoint a").count() == 0


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
