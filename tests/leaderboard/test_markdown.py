import random
import re
import subprocess
import sys
from itertools import pairwise

import pytest

from kd_bench.errors import UserError
from kd_bench.leaderboard.build import build
from kd_bench.leaderboard.escape import code, duration, escape, millions, percent, size
from kd_bench.leaderboard.markdown import render
from kd_bench.leaderboard.record import write_record
from tests.leaderboard.made import content, lines, result
from tests.leaderboard.test_ranking import GOOD, POOR, TEACHER, WORSE, squad

RUN = [
    squad(TEACHER, "teacher", "teacher", method={"name": "finetune", "epochs": 2, "learning_rate": 1e-4}),
    squad(GOOD, "kd", seed=0, method={"name": "forward_kl", "temperature": 2.0, "lmbda": 0.0}),
    squad(POOR, "kd", seed=1, method={"name": "forward_kl", "temperature": 2.0, "lmbda": 0.0}),
    squad(POOR, "tuned", "sft"),
    squad(WORSE, "raw", "undistilled"),
    squad(TEACHER, "teacher", "teacher", task__name="toy2", task__num_fewshot=1),
    squad(GOOD, "kd", seed=0, task__name="toy2", task__num_fewshot=1),
]


def cells(text, row):
    line = next(line for line in text.splitlines() if line.startswith(f"| {row}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_by_hand():
    text = render(RUN)
    section = text[text.index("## toy\n") :]
    assert "Zero-shot, 8 questions about 4 passages, split test `0123456789abcdef`, task version 1.0." in section
    assert "The floor always answers “unanswerable”." in section
    assert cells(section, "Model") == [
        "Model",
        "Rank",
        "Parameters",
        "F1",
        "Above floor",
        "Of teacher",
        "F1, answerable",
    ]
    assert cells(section, "*floor*") == ["*floor*", "", "", "50.0", "", "", "–"]
    assert cells(section, "`teacher`")[1] == ""
    assert cells(section, "`teacher`")[3] == "87.5 ± 7.2"  # passages sum to 2, 2, 1.5 and 1.5
    assert cells(section, "`kd`")[0] == "`kd` distilled, 2 seeds"
    assert cells(section, "`kd`")[1:3] == ["1 ◆", "750 (−25.0 %)"]
    assert re.fullmatch(r"65\.6 ± \d\.\d \(sd 13\.3\)", cells(section, "`kd`")[3])
    assert re.fullmatch(
        r"42 % \[−\d+, \d+\]", cells(section, "`kd`")[4]
    )  # two seeds that scatter: next to nothing known
    assert cells(section, "`kd`")[5] == "75 %"
    assert cells(section, "`raw` undistilled")[4].startswith("−33 %")
    assert "- `kd` closes " in section
    assert "- `kd` against `tuned` (fine-tuned): +9.4 points of F1, 95 % interval [" in section


def test_verified_rows_say_so():
    mark = {"date": "2026-01-02", "commit": None, "same_answers": 1.0, "largest_difference": 0.0}
    text = render([squad(TEACHER, "teacher", "teacher", verified=mark), squad(GOOD, "a")])
    assert cells(text, "`teacher`")[0] == "`teacher`, verified" and cells(text, "`a`")[0] == "`a` distilled"


def test_missing_is_shown_as_missing_and_never_averaged():
    text = render(RUN)
    section = text[text.index("## toy2\n") : text.index("## Models and cost")]
    assert cells(section, "`tuned` fine-tuned") == ["`tuned` fine-tuned", "–", "750 (−25.0 %)", "–", "–", "–", "–"]
    assert cells(section, "`raw` undistilled")[3:] == ["–"] * 4


def test_overview_models_and_origins():
    text = render(RUN)
    overview = text[text.index("## The best student") : text.index("## toy\n")]
    assert cells(overview, "`toy2`")[1:5] == ["`kd`", "750 (−25.0 %)", "F1", "50.0"]
    assert "## The best student" not in render(RUN[:5])  # one table needs no overview
    everywhere = text[text.index("## The students over all tasks") : text.index("## The best student")]
    assert cells(everywhere, "1 ◆")[1:3] == ["`kd`", "750 (−25.0 %)"]
    assert cells(everywhere, "–   ")[1:] == ["`raw`", "750 (−25.0 %)", "–", "`toy2`"]
    assert "Run `run`: `kd-bench distill recipes/run.yaml`" in text
    assert "- `kd`: from `hub/model`; `forward_kl`, temperature 2; seeds 0, 1" in text
    assert "- `teacher`: from `hub/model`; `finetune`, epochs 2, learning rate 0.0001" in text
    assert "- `run`: kd-bench at commit `cccccccccccc`; recipe `rrrrrrrrrrrr`." in text
    other = [squad(GOOD, "kd2", provenance__overrides=["method.divergence=jsd", "seeds=[0, 1]"])]
    assert "Run `run`: `kd-bench distill recipes/run.yaml method.divergence=jsd 'seeds=[0, 1]'`" in render(other)
    dirty = render([squad(TEACHER, "teacher", "teacher", provenance__dirty=True)])
    assert "commit `cccccccccccc` with uncommitted changes" in dirty
    outside = squad(GOOD, "m", "other", provenance__run="lm_eval", provenance__recipe_hash=None)
    assert "`lm_eval --model hf --model_args pretrained=hub/model --tasks toy`" in render([outside])
    ours = squad(GOOD, "m", "other", provenance__run="evaluate", provenance__recipe_hash=None)
    assert "`kd-bench evaluate hub/model --tasks toy`" in render([ours])


def test_which_student_to_take_stands_first_by_size_class():
    many = [
        squad(TEACHER, "teacher", "teacher", model__parameters=10**9),
        squad(GOOD, "large", model__parameters=4 * 10**8, method={"name": "jsd"}, model__bytes_on_disk=8 * 10**8),
        squad(POOR, "larger", model__parameters=5 * 10**8, method={"name": "forward_kl"}, model__bytes_on_disk=10**8),
        squad(POOR, "small", "sft", model__parameters=10**8, model__bytes_on_disk=2 * 10**8),
    ]
    text = render(many)
    first = text[text.index("\n## ") : text.index("## How to read it")]
    assert first.startswith("\n## Which student to take") and "On `toy`:" in first
    assert cells(first, "50 M to 125 M")[1:4] == ["`small`", "100.0 M (−90.0 %)", "fine-tuned"]
    assert cells(first, "300 M to 700 M")[1:4] == ["`large`", "400.0 M (−60.0 %)", "`jsd`"]
    assert cells(first, "300 M to 700 M")[5:] == ["75.0", "87.5", "1"]
    assert sum(line.startswith("| ") for line in first.splitlines()) == 3  # only the classes that have students
    by_disk = render(many, axis="bytes_on_disk")
    assert cells(by_disk, "under 250 MB")[1:3] == ["`larger`", "100 MB"]
    assert cells(by_disk, "500 MB to 1 GB")[1:3] == ["`large`", "800 MB"]
    assert "only students that were measured on the same" in render(many, axis="generated_tokens_per_second")
    assert "## Which student to take" not in render(many[:1])


def test_the_ranking_is_over_the_tasks_asked_for(tmp_path):
    for some in RUN:
        write_record(tmp_path / "results", *some)
    page = tmp_path / "LEADERBOARD.md"
    build(tmp_path / "results", page, tasks=["toy"])
    assert "## The students over all tasks" not in page.read_text() and "On `toy`:" in page.read_text()
    assert build(tmp_path / "results", page, tasks=["toy"], check=True) == []
    build(tmp_path / "results", page)
    assert cells(page.read_text(), "–   ")[1:] == ["`raw`", "750 (−25.0 %)", "–", "`toy2`"]
    with pytest.raises(UserError, match="'tyo' is no task with a record here; there are toy"):
        build(tmp_path / "results", page, tasks=["tyo"])
    with pytest.raises(UserError, match="'weight' is no size"):
        build(tmp_path / "results", page, axis="weight")


def test_names_carry_their_run_where_there_are_several():
    text = render([*RUN, squad(TEACHER, "teacher", "teacher", provenance__run="second")])
    assert "| `run/teacher`" in text
    assert "| `second/teacher`" in text and "| `teacher`" not in text


def test_undefined_retention_is_said():
    text = render([squad(WORSE, "teacher", "teacher"), squad(POOR)])
    assert cells(text, "`student`")[4] == "–"
    assert "not clearly above the floor: what is kept of nothing is undefined" in text


def test_no_records_is_a_page_too():
    assert "`kd-bench distill quickstart` makes the first" in render([])


def test_the_same_records_give_the_same_bytes_in_any_order(tmp_path):
    pages = set()
    for seed in range(4):
        order = random.Random(seed).sample(RUN, len(RUN))
        pages.add(render(order))
        folder = tmp_path / str(seed)
        for some in order:
            write_record(folder, *some)
        for i, path in enumerate(random.Random(seed).sample(sorted(folder.glob("*.json")), len(RUN))):
            path.rename(folder / f"{i}.json")  # the order in which a folder is read
        assert build(folder, folder / "LEADERBOARD.md") == []
        pages.add((folder / "LEADERBOARD.md").read_text())
    assert len(pages) == 1


def test_hostile_names_stay_text():
    question_lines = lines(GOOD)
    source = "x|y\n\n# Heading\n<img src=x onerror=alert(1)> http://a.b\u202e"
    made = content(question_lines, "a|b `c` <b>d<b> *e*", "teacher", model__source=source, task__name="t|`x`<i>")
    made["provenance"] |= {"run": "r|`u`; rm -rf ~", "versions": {"<b>": "1|2"}, "hardware": {"cpu": "<u>|"}}
    made["method"] = {"name": "|`<s>"}
    made["floor"] = {"answer": "|<u>\n# no\n`", "scores": {"f1": 0.1}}
    text = render([result(question_lines)._replace(record=type(result(question_lines).record).model_validate(made))])
    outside_code = re.sub(r"`[^`\n]*`", "", text.replace(text[: text.index("\n## ")], ""))
    assert not re.search(r"<(?!/)[a-z]", outside_code.replace("<!--", ""))
    assert "\n# Heading" not in text and "\n# no" not in text and "\u202e" not in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    # Each table is a head, a rule and rows with the same number of cells.
    assert tables
    for before, after in pairwise(tables):
        if not after.startswith(("| Model", "| Task")):
            assert before.count("|") == after.count("|")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("squad_kd", "squad_kd"),
        ("_a_ *b*", r"\_a\_ \*b\*"),
        ("a|b", "a&#124;b"),
        ("<b> & `x`", "&lt;b&gt; &amp; &#96;x&#96;"),
        ("# a", r"\# a"),
        ("- a", r"\- a"),
        ("1. a", r"1\. a"),
        ("1.0", "1.0"),
        ("[a](b)", r"\[a\](b)"),
        ("http://a www.b", "http&#58;//a www&#46;b"),
        ("a\nb\u202ec", "a b c"),
        ("a\\b", r"a\\b"),
    ],
)
def test_escape(text, expected):
    assert escape(text) == expected


def test_code_falls_back_where_code_cannot_hold_it():
    assert code("a_b <c>") == "`a_b <c>`"
    assert code("a|b") == "a&#124;b" and code("a`b") == "a&#96;b"


def test_numbers():
    assert [percent(x) for x in (0.1234, -0.0001, -0.5)] == ["12.3", "0.0", "−50.0"]
    assert [duration(x) for x in (None, 59, 300, 7200)] == ["–", "59 s", "5 min", "2.0 h"]
    assert [size(x) for x in (None, 4000, 5_000_000, 2_500_000_000)] == ["–", "4 kB", "5 MB", "2.5 GB"]
    assert [millions(x) for x in (None, 750, 134_515_008, 7_615_616_512)] == ["–", "750", "134.5 M", "7.62 B"]


def test_check_says_whether_the_file_is_what_the_records_give(tmp_path):
    folder, page = tmp_path / "results", tmp_path / "new" / "LEADERBOARD.md"
    for some in RUN:
        write_record(folder, *some)
    assert "run `kd-bench leaderboard`" in build(folder, page, check=True)[0]
    assert not page.exists()
    assert build(folder, page) == [] and build(folder, page, check=True) == []
    (page.parent / "leaderboard.csv").unlink()
    assert build(folder, page, check=True)[0].startswith(f"{page.parent / 'leaderboard.csv'}: is not what the records")
    assert build(folder, page) == []
    page.write_text(page.read_text().replace("87.5", "97.5"))
    before = page.read_bytes()
    assert len(build(folder, page, check=True)) == 1 and page.read_bytes() == before
    (folder / "damaged.json").write_text("{")
    assert [problem.split(":")[0] for problem in build(folder, page)] == ["damaged.json"]
    assert "97.5" not in page.read_text()


def test_a_page_that_cannot_be_written_is_the_users_problem(tmp_path):
    write_record(tmp_path / "results", *RUN[0])
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="can't be written"):
        build(tmp_path / "results", tmp_path / "file" / "LEADERBOARD.md")


def test_the_page_needs_no_torch():
    program = "import kd_bench.leaderboard.build, kd_bench.leaderboard.ingest, sys; print(HEAVY & set(sys.modules))"
    program = program.replace("HEAVY", "{'torch', 'scipy', 'statsmodels', 'lm_eval', 'datasets'}")
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()"
