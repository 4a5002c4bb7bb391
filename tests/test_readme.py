"""The README's and the documents' commands: every one parses, every file and task that they name is there."""

import re
import shlex
import subprocess

import pytest
import typer

from kd_bench import cli
from kd_bench.harness.examples import check_names
from kd_bench.recipe import load_recipe
from kd_bench.study import load_study
from tests.conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(page) -> list[list[str]]:
    """The words of every indented or fenced command line, continuations joined, comments and variables dropped."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    found = []
    for line in re.findall(r"^ {4,}(\S.*)$", text, flags=re.MULTILINE):
        words = (
            shlex.split(line, comments=True) if re.match(r"(\w+=\S+ )*(\S*/)?(kd-bench|lm_eval|make) ", line) else []
        )
        while words and re.match(r"\w+=", words[0]):
            words.pop(0)
        if words:
            found.append([words[0].rsplit("/", 1)[-1], *words[1:]])
    return found


COMMANDS = [pytest.param(words, id=" ".join(words)[:70]) for page in PAGES for words in commands(page)]


def test_the_readme_shows_the_verbs():
    shown = {words[1] for words in commands(ROOT / "README.md") if words[0] == "kd-bench"}
    assert {"distill", "study", "report", "evaluate", "leaderboard", "compare", "validate", "cp"} <= shown


@pytest.mark.parametrize("words", COMMANDS)
def test_command(words):
    program, *arguments = words
    if program == "make":
        assert subprocess.run(["make", "-n", *arguments], cwd=ROOT, capture_output=True).returncode == 0
    elif program == "lm_eval":
        tasks = arguments[arguments.index("--tasks") + 1].split(",")
        assert check_names(tasks) == []
    else:
        group = typer.main.get_command(cli.app)
        verb = group.commands[arguments[0]]
        context = verb.make_context(arguments[0], arguments[1:])  # refuses unknown options and wrong types
        if recipe := context.params.get("recipe"):
            load = load_study if arguments[0] == "study" else load_recipe
            load(recipe, context.params.get("overrides") or [])
        if tasks := context.params.get("tasks"):
            assert check_names(tasks.split(",")) == []


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
