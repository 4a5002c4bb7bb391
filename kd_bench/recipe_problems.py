"""Turns pydantic's errors into sentences: the key, the value, the reason, the next step."""

import difflib
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

_KINDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text (put quotes around it)",
    "list_type": "a list",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
}  # fmt: skip


def problems_of(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One sentence an error, in the order of the recipe's fields."""
    return [f"{_dotted(item['loc'])}: {_sentence(item, model)}" for item in error.errors(include_url=False)]


def _dotted(loc: tuple) -> str:
    return ".".join(str(part) for part in loc) or "recipe"


def _sentence(item: dict[str, Any], model: type[BaseModel]) -> str:
    kind, value, loc = item["type"], item["input"], item["loc"]
    if kind == "extra_forbidden":
        return _unknown_key(loc, model)
    field = _field(loc, model)
    if kind == "missing":
        return f"missing. {field.description if field else ''}".strip()
    if kind == "value_error":
        return str(item["ctx"]["error"])
    if kind == "literal_error":
        allowed = [name for name in _literals(field.annotation)] if field else []
        near = difflib.get_close_matches(str(value), allowed, n=1)
        return f"{value!r} is not one of {', '.join(allowed)}.{f' Did you mean `{near[0]}`?' if near else ''}"
    if kind in _KINDS:
        return f"{value!r} is not {_KINDS[kind]}."
    if kind in ("greater_than", "greater_than_equal", "less_than", "less_than_equal"):
        return _out_of_range(value, field, item)
    if kind == "finite_number":
        return f"{value!r} is not a finite number."
    if kind in ("too_short", "string_too_short"):
        return "is empty. " + (field.description if field else "")
    if kind == "string_pattern_mismatch":
        return f"{value!r} names files: letters, digits, `.`, `_` and `-` only, a letter or digit first."
    return item["msg"] + "."


def _unknown_key(loc: tuple, model: type[BaseModel]) -> str:
    level = _model_at(loc[:-1], model)
    names = list(level.model_fields) if level else []
    near = difflib.get_close_matches(str(loc[-1]), names, n=1)
    if near:
        return f"unknown key. Did you mean `{_dotted((*loc[:-1], near[0]))}`?"
    elsewhere = [section for section, field in model.model_fields.items() if loc[-1] in _field_names(field.annotation)]
    if elsewhere and len(loc) == 1:
        return f"unknown key. Did you mean {' or '.join(f'`{section}.{loc[-1]}`' for section in elsewhere)}?"
    return f"unknown key. Known here: {', '.join(names)}."


def _out_of_range(value: Any, field: Any, item: dict[str, Any]) -> str:
    bounds = {}
    for mark in [*(field.metadata if field else []), *_inner_metadata(field)]:
        for name in ("gt", "ge", "lt", "le"):
            if getattr(mark, name, None) is not None:
                bounds[name] = getattr(mark, name)
    hint = (field.json_schema_extra or {}).get("hint", "") if field else ""
    if ("gt" in bounds or "ge" in bounds) and ("lt" in bounds or "le" in bounds):
        low = f"({bounds['gt']:g}" if "gt" in bounds else f"[{bounds['ge']:g}"
        high = f"{bounds['lt']:g})" if "lt" in bounds else f"{bounds['le']:g}]"
        reason = f"is not in {low}, {high}."
    elif "gt" in bounds:
        reason = f"is not above {bounds['gt']:g}."
    elif "ge" in bounds:
        reason = f"is less than {bounds['ge']:g}."
    else:
        reason = item["msg"] + "."
    return f"{value!r} {reason} {hint}".strip()


def _parts(annotation: Any) -> list[Any]:
    """The alternatives of `X | None`, the members of `list[X]`, the type under `Annotated`."""
    if get_origin(annotation) in (Union, UnionType, list):
        return [part for argument in get_args(annotation) for part in _parts(argument)]
    if hasattr(annotation, "__metadata__"):
        return _parts(get_args(annotation)[0])
    return [annotation]


def _inner_metadata(field: Any) -> list[Any]:
    """Bounds of a list's members: list[Annotated[int, Field(ge=0)]]."""
    marks = []
    for argument in get_args(field.annotation) if field else ():
        for mark in getattr(argument, "__metadata__", ()):
            marks += getattr(mark, "metadata", [mark])
    return marks


def _models(annotation: Any) -> list[type[BaseModel]]:
    return [part for part in _parts(annotation) if isinstance(part, type) and issubclass(part, BaseModel)]


def _field_names(annotation: Any) -> list[str]:
    return [name for model in _models(annotation) for name in model.model_fields]


def _literals(annotation: Any) -> list[str]:
    return [str(value) for part in _parts(annotation) for value in get_args(part) if value is not None]


def _model_at(loc: tuple, model: type[BaseModel]) -> type[BaseModel] | None:
    for part in loc:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part)
        models = _models(field.annotation) if field else []
        if not models:
            return None
        model = models[0]
    return model


def _field(loc: tuple, model: type[BaseModel]) -> Any:
    names = [part for part in loc if isinstance(part, str)]
    level = _model_at(tuple(names[:-1]), model) if names else None
    return level.model_fields.get(names[-1]) if level else None
