"""The page's plots, and what a click on a student opens."""

import json

from kd_bench.leaderboard.export import as_data
from tests.leaderboard.page import HOSTILE, measured, names, plotted, until
from tests.leaderboard.test_ranking import GOOD, POOR, TEACHER, squad


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
