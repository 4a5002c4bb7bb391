"""What changed between two states of leaderboard.json."""

import json
import subprocess
from pathlib import Path
from typing import Any

from kd_bench.errors import UserError
from kd_bench.leaderboard.escape import MISSING, percent

DRIFT = 1e-6


def data_at(revision: str, path: Path) -> dict[str, Any]:
    """leaderboard.json as it was at a git revision. Raises UserError if there is no such revision, or no file then."""
    text = text_at(revision, path)
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError("--since", f"{path.name} at {revision} is not JSON: {error}") from error


def text_at(revision: str, path: Path) -> str:
    """A file as it was at a git revision; bytes that are not UTF-8 are replaced. Raises UserError as `data_at` does."""
    folder = path.parent if path.parent.is_dir() else Path()
    return git(folder, revision, "show", "--end-of-options", f"{revision}:./{path.name}")


def git(folder: Path, revision: str, *words: str) -> str:
    """What git says in `folder`. Raises UserError, of `revision`, if it says no."""
    command = ["git", "-C", str(folder), *words]
    said = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace")
    if said.returncode:
        raise UserError("--since", f"{revision}: {(said.stderr.strip().splitlines() or ['git failed'])[0]}")
    return said.stdout


def moved(before: dict[str, Any], now: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a (task, model) that is new, gone, or has another rank or score; in the order of the tables.

    A task whose questions changed is another one: its rows are gone, and new.
    """
    old, new = _rows(before), _rows(now)
    found = []
    for key in [*new, *(key for key in old if key not in new)]:
        was, has = old.get(key), new.get(key)
        scores = [None if row is None else row["scores"][row["headline"]]["value"] for row in (was, has)]
        ranks = [None if row is None else row["rank"] for row in (was, has)]
        same = was and has and ranks[0] == ranks[1] and abs(scores[0] - scores[1]) <= DRIFT
        if not same:
            what = "new" if was is None else "gone" if has is None else "moved"
            found.append(
                {
                    "task": key[0],
                    "model": f"{key[-2]}/{key[-1]}",
                    "what": what,
                    "rank": ranks,
                    "score": scores,
                    "metric": (has or was)["headline"],
                }
            )
    return found


def _rows(data: dict[str, Any]) -> dict[tuple, dict[str, Any]]:
    return {
        (table["task"], table["task_version"], table["split_hash"], table["questions"], row["run"], row["model"]): {
            **row,
            "headline": table["headline"],
        }
        for table in data["tables"]
        for row in table["rows"]
        if table["headline"] in row["scores"]
    }


def moved_view(rows: list[dict[str, Any]]):
    """The rows for a terminal."""
    from rich.markup import escape
    from rich.table import Table

    if not rows:
        return "nothing moved"
    shown = Table()
    for name in ("task", "model", "", "rank", "score"):
        shown.add_column(name, overflow="fold")
    for row in rows:
        score = _change([None if value is None else percent(value) for value in row["score"]])
        rank = _change([None if value is None else str(value) for value in row["rank"]])
        shown.add_row(escape(row["task"]), escape(row["model"]), row["what"], rank, f"{row['metric']} {score}")
    return shown


def _change(pair: list[str | None]) -> str:
    before, now = (MISSING if value is None else value for value in pair)
    return now if before == now else f"{before} → {now}"
