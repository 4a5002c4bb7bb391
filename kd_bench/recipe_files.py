"""Reading a recipe's YAML: where recipes lie, duplicate keys, `key.sub=value` overrides. No check of meaning here."""

import difflib
import re
from pathlib import Path
from typing import Any

import yaml

from kd_bench.errors import UserError


class _Loader(yaml.SafeLoader):
    """YAML as people write it: 3e-4 is a number (YAML 1.1 wants 3.0e-4), and a key given twice is a mistake."""

    def construct_mapping(self, node, deep=False):
        seen: dict[Any, int] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if key in seen:
                self.repeated.append(f"line {line}: `{key}` is already given in line {seen[key]}: keep one of the two.")
            seen.setdefault(key, line)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _parse(text: str) -> tuple[Any, list[str]]:
    loader = _Loader(text)
    loader.repeated = []
    try:
        return _unshared(loader.get_single_data()), loader.repeated
    finally:
        loader.dispose()


def _unshared(value: Any) -> Any:
    """A YAML alias is the same object twice: an override of the one must not change the other."""
    if isinstance(value, dict):
        return {key: _unshared(item) for key, item in value.items()}
    return [_unshared(item) for item in value] if isinstance(value, list) else value


def read_yaml(path: Path) -> dict[str, Any]:
    """The file's mapping. Raises UserError: unreadable, not YAML (with the line), keys given twice, not a mapping."""
    try:
        data, problems = _parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(str(path), f"cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise UserError(str(path), f"is not UTF-8 text (byte {error.start}).") from error
    except yaml.YAMLError as error:
        raise UserError(str(path), _yaml_problem(error)) from error
    if problems:
        raise UserError(str(path), problems)
    if not isinstance(data, dict):
        raise UserError(str(path), "is not a recipe: it must be a YAML mapping that begins with `name:`.")
    return data


def _yaml_problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    reason = getattr(error, "problem", None) or str(error).split("\n")[0]
    return f"line {mark.line + 1}, column {mark.column + 1}: not YAML: {reason}." if mark else f"not YAML: {reason}."


def recipe_folders() -> list[Path]:
    """Where a bare name is looked up: `recipes/` here, the installed ones, those beside the package in a checkout."""
    package = Path(__file__).resolve().parent
    import kd_bench

    # An editable install has its copies in site-packages; the package itself runs from the checkout.
    folders = [Path("recipes"), *(Path(p) / "_recipes" for p in kd_bench.__path__), package.parent / "recipes"]
    return [folder for folder in folders if folder.is_dir()]


def list_recipes() -> dict[str, Path]:
    """Name -> file, `folder/name` in a sub-folder; what lies in `recipes/` here goes before what is installed."""
    found: dict[str, Path] = {}
    for folder in recipe_folders():
        for path in sorted(folder.rglob("*.yaml")):
            found.setdefault(path.relative_to(folder).with_suffix("").as_posix(), path)
    return found


def find_recipe(path_or_name: str | Path) -> Path:
    """A file as it is given, else the recipe of that name. Raises UserError with the nearest names."""
    path = Path(path_or_name)
    if path.is_file():
        return path
    recipes = list_recipes()
    name = str(path_or_name)
    if name in recipes:
        return recipes[name]
    near = difflib.get_close_matches(name.removesuffix(".yaml").removeprefix("recipes/"), recipes, n=1)
    suggestion = (
        f" Did you mean `{near[0]}`?" if near else f" Recipes that exist: {', '.join(sorted(recipes)) or 'none'}."
    )
    what = "is a folder, not a recipe" if path.is_dir() else "no such file, and no recipe of that name"
    raise UserError(name, f"{what}.{suggestion}")


def apply_overrides(data: dict[str, Any], overrides) -> list[str]:
    """Puts each `key.sub=value` into `data` and returns the problems; values are YAML, numbers in keys index lists."""
    problems = []
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not all(key.split(".")):
            problems.append(f"override {override!r}: is not of the form key.sub=value.")
            continue
        try:
            value, repeated = _parse(text)
        except yaml.YAMLError as error:
            problems.append(f"override {override!r}: the value is {_yaml_problem(error)}")
            continue
        problems += [f"override {override!r}: {problem}" for problem in repeated]
        problem = put(data, key.split("."), value)
        if problem:
            problems.append(f"override {override!r}: {problem}")
    return problems


def put(data: dict[str, Any], keys: list[str], value: Any) -> str | None:
    """Puts `value` into nested mappings and lists; returns the problem, if there is one."""
    place: Any = data
    for depth, key in enumerate(keys):
        here = ".".join(keys[:depth])
        if isinstance(place, list):
            if not key.isdigit() or int(key) >= len(place):
                return f"`{here}` is a list of {len(place)}: {key!r} is not an index from 0 to {len(place) - 1}."
            key = int(key)
        elif not isinstance(place, dict):
            return f"`{here}` is {place!r}, which has no keys."
        if depth == len(keys) - 1:
            place[key] = value
        else:
            if isinstance(place, dict) and place.get(key) is None:
                place[key] = {}
            place = place[key]
    return None
