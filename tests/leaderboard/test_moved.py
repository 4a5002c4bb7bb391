import subprocess

import pytest

from kd_bench.errors import UserError
from kd_bench.leaderboard.export import as_data, as_json
from kd_bench.leaderboard.moved import data_at, moved
from tests.leaderboard.test_ranking import GOOD, POOR, TEACHER, WORSE, squad

BEFORE = [squad(TEACHER, "teacher", "teacher"), squad(GOOD, "a"), squad(WORSE, "b")]


def test_what_is_new_gone_or_scores_otherwise():
    now = [BEFORE[0], squad(POOR, "a"), squad(GOOD, "c")]
    rows = {row["model"]: row for row in moved(as_data(BEFORE), as_data(now))}
    assert {name: row["what"] for name, row in rows.items()} == {"run/a": "moved", "run/b": "gone", "run/c": "new"}
    assert rows["run/a"]["score"] == [0.75, 0.5625] and rows["run/a"]["metric"] == "f1"
    assert rows["run/c"]["rank"][0] is None
    assert moved(as_data(BEFORE), as_data(BEFORE[::-1])) == []


def test_other_questions_are_another_task():
    changed = [squad(GOOD, "a", task__version=2.0), squad(TEACHER, "teacher", "teacher", task__version=2.0)]
    assert {row["what"] for row in moved(as_data(BEFORE[:2]), as_data(changed))} == {"new", "gone"}


def test_the_file_at_a_revision(tmp_path):
    def git(*words):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=tmp_path, check=True)

    path = tmp_path / "sub" / "leaderboard.json"
    path.parent.mkdir()
    path.write_text(as_json(as_data(BEFORE)))
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    path.write_text("later")
    assert data_at("HEAD", path) == as_data(BEFORE)
    for revision in ("nowhere", "--help"):
        with pytest.raises(UserError, match="--since"):
            data_at(revision, path)
