"""What `kd-bench ls` lists and `kd-bench cp` copies, all found on disk: no list is kept by hand."""

import json
import re
from pathlib import Path
from typing import Any

from kd_bench.errors import UserError
from kd_bench.recipe_files import find_recipe, list_recipes, read_yaml
from kd_bench.runs.store import PASSPORT


def recipes() -> list[dict[str, Any]]:
    """{"name", "teacher", "students", "tasks", "file"} of each recipe; a broken one is shown as broken."""
    rows = []
    for name, path in list_recipes().items():
        try:
            data = read_yaml(path)
            students = [str(student.get("name")) for student in data["students"]]
            tasks = data.get("tasks") or _tasks_of_a_study(data)
            row = {"teacher": data["teacher"]["model"], "students": students, "tasks": tasks}
        except (UserError, KeyError, TypeError, AttributeError):
            row = {"teacher": f"broken: kd-bench validate {path} says how", "students": [], "tasks": []}
        rows.append({"name": name, **row, "file": str(path)})
    return rows


def _tasks_of_a_study(data: dict[str, Any]) -> list[str]:
    varied = [*data.get("grid", {}).get("tasks", []), *(run["tasks"] for run in data.get("runs", []) if "tasks" in run)]
    return list(dict.fromkeys(task for tasks in varied for task in tasks))


def tasks() -> list[dict[str, Any]]:
    """{"name", "kind": "task" | "group", "file"} of kd-bench's own tasks; `lm_eval ls tasks` lists all."""
    rows = []
    for folder in _task_folders():
        for path in sorted(folder.rglob("*.yaml")):
            text = path.read_text(encoding="utf-8")
            for kind in ("task", "group"):
                for name in re.findall(rf"^{kind}:\s*([\w.-]+)\s*$", text, flags=re.MULTILINE):
                    rows.append({"name": name, "kind": kind, "file": str(path)})
    unique = {row["name"]: row for row in reversed(rows)}  # a checkout's before the installed copy's
    return sorted(unique.values(), key=lambda row: (row["kind"] != "task", row["name"]))


def _task_folders() -> list[Path]:
    import importlib.util

    folders = [Path(__file__).resolve().parents[2] / "tasks"]
    # find_spec imports nothing: lm_eval takes seconds.
    if spec := importlib.util.find_spec("lm_eval"):
        folders += [Path(place) / "tasks" / "kd_bench" for place in spec.submodule_search_locations or []]
    return [folder for folder in folders if folder.is_dir()]


def divergences() -> list[dict[str, Any]]:
    """{"name", "settings": {name: default}, "what": formula and paper} of each that `method.divergence` takes."""
    from kd_bench.distill.divergences import DIVERGENCES
    from kd_bench.recipe_method import SETTINGS

    return [
        {
            "name": name,
            "settings": {setting: users[name] for setting, users in SETTINGS.items() if name in users},
            "what": (function.__doc__ or "").strip().splitlines()[0],
        }
        for name, function in DIVERGENCES.items()
    ]


def methods() -> list[dict[str, Any]]:
    """{"name", "settings": {key: value}, "takes": [keys], "what": idea and paper} of each preset of `method`."""
    from kd_bench.recipe_method import PRESETS, Method

    rows = []
    for name, preset in PRESETS.items():
        shown = Method(preset=name).model_dump(exclude_none=True, exclude={"preset"})
        plain = Method().model_dump(exclude_none=True)
        settings = {key: value for key, value in shown.items() if key in preset.settings or value != plain.get(key)}
        rows.append({"name": name, "settings": settings, "takes": list(preset.takes), "what": preset.what})
    return rows


def runs(root: Path) -> list[dict[str, Any]]:
    """{"run", "done", "partial", "damaged", "last"} of each run in `root`: stages by state, and when the last ended."""
    if not root.is_dir():
        return []
    rows = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        done = [path for path in folder.glob(f"*/{PASSPORT}") if ".damaged-" not in path.parent.name]
        rows.append(
            {
                "run": folder.name,
                "done": len(done),
                "partial": sum(1 for path in folder.glob(".partial/*") if path.is_dir()),
                "damaged": sum(1 for path in folder.glob("*.damaged-*") if path.is_dir()),
                "last": max((ended(path) for path in done), default=""),
            }
        )
    return rows


def ended(passport: Path) -> str:
    """When a stage's last process ended, as its passport says; '' where it does not."""
    try:
        return json.loads(passport.read_text(encoding="utf-8"))["made_with"].get("created", "")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""


# What a terminal is wide enough for; --json has it all.
COLUMNS = {
    "recipes": ("name", "teacher", "students", "file"),
    "tasks": ("name", "kind"),
    "runs": ("run", "done", "partial", "damaged", "last"),
    "divergences": ("name", "settings", "what"),
    "methods": ("name", "settings", "takes", "what"),
    "cache": ("key", "what", "bytes", "made"),
}


def table(what: str, rows: list[dict[str, Any]]):
    """The rows as a rich table, or a word that there are none."""
    from rich.markup import escape
    from rich.table import Table

    if not rows:
        return f"no {what}"
    shown = Table()
    for name in COLUMNS[what]:
        shown.add_column(name, overflow="fold")
    for row in rows:
        shown.add_row(*(escape(_written(row[name])) for name in COLUMNS[what]))
    return shown


def _written(cell: Any) -> str:
    if isinstance(cell, dict):
        cell = [f"{key} {value}" for key, value in cell.items()]
    return ", ".join(cell) if isinstance(cell, list) else f"{cell:,}" if isinstance(cell, int) else str(cell)


def copy_recipe(name: str, destination: Path) -> str:
    """Copies a recipe with its comments; its `name:` becomes the new file's stem. Returns a line that says so.

    Raises UserError if the destination exists, or its folder does not.
    """
    source = find_recipe(name)
    if destination.is_dir():
        destination = destination / source.name
    if not destination.suffix:
        destination = destination.with_suffix(".yaml")
    if not destination.parent.is_dir():
        raise UserError(str(destination), f"there is no folder {destination.parent}: make it first.")
    text = re.sub(r"^name:.*$", f"name: {destination.stem}", source.read_text(encoding="utf-8"), count=1, flags=re.M)
    try:
        with destination.open("x", encoding="utf-8") as file:  # x: two at once cannot overwrite each other either
            file.write(text)
    except FileExistsError:
        raise UserError(str(destination), "is already there and is not overwritten: give another name.") from None
    except OSError as error:
        raise UserError(str(destination), f"cannot be written: {error.strerror}.") from error
    return f"{source} -> {destination}; next: kd-bench validate {destination}"
