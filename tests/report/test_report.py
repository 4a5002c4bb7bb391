"""A report's files: the same records, the same bytes, and what happens where something is missing."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kd_bench.errors import UserError
from kd_bench.leaderboard.record import write_record
from kd_bench.leaderboard.schema import Result
from kd_bench.report.build import build, files
from tests.report import made
from tests.report.made import by_model, study_of, table_after


@pytest.fixture(scope="module")
def toy():
    return study_of(made.study())


@pytest.fixture(scope="module")
def report(toy):
    return files(toy)


def test_the_same_records_give_the_same_bytes_in_any_order_and_process(report, tmp_path):
    first = report
    assert files(study_of(list(reversed(made.study())))) == first
    folder = made.write(tmp_path / "records", made.study())
    program = f"from kd_bench.report.build import build; build(['toy'], {str(folder)!r}, {str(tmp_path / 'out')!r})"
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", program], check=True, cwd=root, env={**os.environ, "PYTHONHASHSEED": "7"})
    written = {p.relative_to(tmp_path / "out/toy").as_posix(): p for p in (tmp_path / "out/toy").rglob("*.*")}
    assert {name: path.read_text(encoding="utf-8") for name, path in written.items() if path.is_file()} == first


def test_plots_have_no_date_no_foreign_ids_and_dark_colours(report):
    plots = {name: text for name, text in report.items() if name.startswith("plots/")}
    assert {Path(name).stem for name in plots} == {
        "learning_rates",
        "retention",
        "oneshot_gain",
        "curves_1",
        "curves_2",
    }
    for text in plots.values():
        assert "<dc:date>" not in text and "prefers-color-scheme:dark" in text
        assert "<title>" in text and 'role="img"' in text and 'id="axes_' not in text


def test_the_page_is_one_file_and_shows_hostile_names_as_text():
    evil = "<script>window.hacked=1</script>$x^2$"
    results = [
        Result(
            r.record.model_copy(update={"provenance": r.record.provenance.model_copy(update={"point": {"a.b": evil}})})
            if r.record.task.num_fewshot
            else r.record,
            r.samples,
        )
        for r in made.study(seeds=(0,))
    ]
    page = files(study_of(results))["report.html"]
    assert "<script" not in page and "&lt;script&gt;" in page
    assert page.count("<svg") == page.count('role="img"') > 3
    assert not re.search(r'(?:src|href)="(?!#)', re.sub(r'xlink:href="#[^"]*"', "", page))


def test_what_records_lack_is_said_in_one_line_and_has_no_section():
    bare = []
    for record, samples in made.study(seeds=(0,)):
        if not record.task.num_fewshot and record.model.role in ("teacher", "distilled"):
            lacking = {"validation": None, "selection": None, "curve": None, "floor": None}
            bare.append(Result(record.model_copy(update=lacking), samples))
    made_files = files(study_of(bare))
    titles = re.findall(r"^#+ (.*)", made_files["report.md"], re.MULTILINE)
    assert titles == ["toy", "What ran", "Scores", "squad (en), test, 48 questions", "Not in this report"]
    missing = made_files["report.md"].split("## Not in this report")[1].strip().splitlines()
    for part in ("`sft`", "search:", "split: both", "demo_seed", "floor", "both zero-shot", "setting", "curves"):
        assert sum(part in line for line in missing) == 1, part
    assert not [name for name in made_files if name.startswith("plots/")]


def test_without_questions_there_are_values_and_no_intervals():
    text = files(study_of([Result(r.record, None) for r in made.study(seeds=(0,))]))["report.md"]
    assert "no interval" in text and "8 without an interval" in text


def test_a_damaged_record_is_named_and_left_out(tmp_path):
    folder = made.write(tmp_path / "records", made.study(seeds=(0,)))
    made.write(folder, made.draws())
    for broken in (
        "toy.zeroshot.12l-kd.seed0.squad_kd_zeroshot.json",
        "draws.demo0-split0.teacher.squad_kd_oneshot.json",
    ):
        (folder / broken).write_text("{")
    (problem,) = build(["toy"], folder, tmp_path / "out")
    assert problem.startswith("toy.zeroshot.12l-kd.seed0.squad_kd_zeroshot.json") and "left out" in problem
    text = (tmp_path / "out/toy/report.md").read_text(encoding="utf-8")
    assert "Left out, and in no number below" in text and "draws.demo0" not in text
    assert by_model(table_after(text, "### squad (en), test, 48 questions"))["12l-kd"]["zero-shot F1"] == "–"


def test_an_unknown_study_names_the_known_ones(tmp_path):
    folder = made.write(tmp_path, [*made.study(seeds=(0,)), *made.draws((0,), (0,))])
    with pytest.raises(UserError, match=r"toyy.*there are draws, toy\. Did you mean toy\?"):
        build(["toyy"], folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_of_its_own_and_a_run_of_a_study_have_reports_too():
    results = made.study(seeds=(0,))
    assert {r.record.task.num_fewshot for r in study_of(results, "toy.oneshot").results} == {1}
    alone = made.record("x", "teacher", 0, None, 0.9, provenance__study=None, provenance__run="alone")
    assert [r.record.key.run for r in study_of([*results, alone], "alone").results] == ["alone"]


def test_check_names_what_is_not_what_the_records_give(tmp_path):
    few = [made.record("run", name, 0, seed, 0.8) for name, seed in (("teacher", None), ("12l-kd", 0))]
    folder, out = made.write(tmp_path / "records", few), tmp_path / "out"
    assert build(["toy"], folder, out) == [] and build(["toy"], folder, out, check=True) == []
    (out / "toy/plots/old.svg").write_text("<svg/>")
    (out / "toy/report.html").unlink()
    problems = build(["toy"], folder, out, check=True)
    assert [Path(problem.split(":")[0]).name for problem in problems] == ["report.html", "old.svg"]
    assert build(["toy"], folder, out) == [] and build(["toy"], folder, out, check=True) == []
    assert not (out / "toy/plots/old.svg").exists()
    another = made.record("run", "12l-kd", 0, 7, 0.2)
    write_record(folder, another.record, another.samples)
    assert len(build(["toy"], folder, out, check=True)) >= 3


@pytest.mark.parametrize(("arguments", "code"), [(["nothing"], 2), (["toy"], 0), (["toy", "--check"], 1)])
def test_exit_codes(arguments, code, tmp_path, monkeypatch, capsys):
    from kd_bench import cli
    from kd_bench.cli import report  # noqa: F401

    folder = made.write(tmp_path / "records", made.study(seeds=(0,)))
    words = ["kd-bench", "report", *arguments, "--results", str(folder), "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as stop:
        cli.main()
        raise SystemExit(0)
    assert (stop.value.code or 0) == code
    captured = capsys.readouterr()
    assert {0: "report.md" in captured.out, 1: "kd-bench report toy" in captured.err, 2: "toy" in captured.err}[code]


def test_no_torch_is_needed():
    program = "import sys, kd_bench.report.build; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])


def test_opens_in_a_browser_at_any_width_without_the_network(report, tmp_path):
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium on the PATH")
    sync_api = pytest.importorskip("playwright.sync_api")
    page_file = tmp_path / "report.html"
    page_file.write_text(report["report.html"], encoding="utf-8")
    asked, complaints = [], []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"], timeout=120_000)
        for width in (1280, 390):
            page = browser.new_context(viewport={"width": width, "height": 900}).new_page()
            page.on("request", lambda request: asked.append(request.url))
            page.on("console", lambda message: complaints.append(message.text))
            page.goto(page_file.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") == width
        browser.close()
    assert {*asked} == {page_file.as_uri()} and complaints == []
