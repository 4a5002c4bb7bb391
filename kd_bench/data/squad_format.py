"""Read files in SQuAD's JSON format strictly: what is wrong is named by article and question id, all of it at once.

A file is `{"data": [{"title", "paragraphs": [{"context", "qas": [{"id", "question", "answers": [{"text",
"answer_start"}], "is_impossible"}]}]}]}`. SQuAD v2, MLQA and XQuAD are all published so; other keys
(`plausible_answers`, `version`) are allowed and not read. A document, one a question, is

    {"id", "title", "context", "question", "answers": {"text": [str], "answer_start": [int]}}

as in the hub's SQuAD; a question without an answer has empty lists. `answer_start` counts characters of `context`.
"""

import json
from pathlib import Path
from typing import Any

from kd_bench.errors import UserError

ABSTENTION = "unanswerable"

# How far an answer may stand from where the file says. SQuAD is known for offsets that are wrong by a character or two.
MAX_SHIFT = 2
MAX_SHOWN = 20
_KINDS = {str: "text", int: "a whole number", list: "a list", dict: "an object", bool: "true or false"}


def target(doc: dict) -> str:
    """What a model should write: the first gold answer, without the white space around it, or the abstention."""
    texts = doc["answers"]["text"]
    return texts[0].strip() if texts else ABSTENTION


def read(path: str | Path) -> list[dict]:
    """The documents of one file, in its order. UserError naming the file, with every problem, if it is not SQuAD's."""
    path = Path(path)
    try:
        raw = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(str(path), f"cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(str(path), f"not UTF-8: {error.reason} at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise UserError(
            str(path),
            f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}. Was the download cut short?",
        ) from error
    except RecursionError as error:
        raise UserError(str(path), "not SQuAD-format: nested too deeply") from error
    return documents(raw, str(path))


def documents(raw: Any, where: str) -> list[dict]:
    """The documents of a parsed file; `where` is what an error calls it."""
    reader = _Reader()
    docs = list(reader.file(raw))
    if not docs and not reader.problems:
        reader.problems.append("no questions in it")
    if reader.problems:
        shown = reader.problems[:MAX_SHOWN]
        if hidden := len(reader.problems) - len(shown):
            shown.append(f"... and {hidden} more ({len(reader.problems)} problems in all)")
        raise UserError(where, shown)
    return docs


class _Reader:
    """Collects the problems while it yields the documents that are well-formed."""

    def __init__(self):
        self.problems: list[str] = []
        self.first_seen: dict[str, str] = {}

    def get(self, thing: Any, key: str, kind: type, at: str, *, blank: bool = False) -> Any:
        """`thing[key]` if it is of `kind` (and, for text, says something), else None and a problem."""
        where = f"{at}: " if at else ""
        if not isinstance(thing, dict):
            self.problems.append(f"{where}is {_name(thing)}, not an object with `{key}`")
        elif key not in thing:
            self.problems.append(f"{where}`{key}` is missing")
        elif not isinstance(thing[key], kind) or (kind is int and isinstance(thing[key], bool)):
            self.problems.append(f"{where}`{key}` is {_name(thing[key])}, not {_KINDS[kind]}")
        elif kind is str and not blank and not thing[key].strip():
            self.problems.append(f"{where}`{key}` is empty")
        else:
            return thing[key]
        return None

    def file(self, raw: Any):
        for number, article in enumerate(self.get(raw, "data", list, "") or []):
            # MLQA's titles are all empty; without one an article is known by its number alone.
            title = self.get(article, "title", str, f"article {number}", blank=True)
            at = f"article {number}" + (f" ({title})" if title else "")
            # Without an object there is nothing more to say than the line that `title` got.
            for index, paragraph in enumerate(
                (self.get(article, "paragraphs", list, at) or []) if isinstance(article, dict) else []
            ):
                yield from self.paragraph(paragraph, title or "", f"{at}, paragraph {index}")

    def paragraph(self, paragraph: Any, title: str, at: str):
        context = self.get(paragraph, "context", str, at)
        if not isinstance(paragraph, dict):
            return
        for index, qa in enumerate(self.get(paragraph, "qas", list, at) or []):
            known = qa.get("id") if isinstance(qa, dict) else None
            doc = self.question(qa, title, context, f"{at}, question {known if isinstance(known, str) else index}")
            if doc:
                yield doc

    def question(self, qa: Any, title: str, context: str | None, at: str) -> dict | None:
        before = len(self.problems)
        name = self.get(qa, "id", str, at)
        if not isinstance(qa, dict):
            return None
        if name is not None and (other := self.first_seen.setdefault(name, at)) is not at:
            self.problems.append(f"{at}: its id is taken already, at {other}")
        question = self.get(qa, "question", str, at)
        impossible = self.get(qa, "is_impossible", bool, at) if "is_impossible" in qa else False
        answers = self.get(qa, "answers", list, at)
        if answers and impossible:
            self.problems.append(f"{at}: `is_impossible` is true, yet it has {len(answers)} answers")
        elif answers == [] and impossible is False:
            self.problems.append(f"{at}: `answers` is empty, yet `is_impossible` is not true")
        found = [self.answer(answer, context, f"{at}, answer {index}") for index, answer in enumerate(answers or [])]
        if len(self.problems) > before or context is None:
            return None
        return {
            "id": name,
            "title": title,
            "context": context,
            "question": question,
            "answers": {"text": [text for text, _ in found], "answer_start": [start for _, start in found]},
        }

    def answer(self, answer: Any, context: str | None, at: str) -> tuple[str, int] | None:
        text = self.get(answer, "text", str, at)
        start = self.get(answer, "answer_start", int, at) if isinstance(answer, dict) else None
        if text is None or start is None or context is None:
            return None
        shift = next((s for s in _SHIFTS if start + s >= 0 and context.startswith(text, start + s)), None)
        if shift is None:
            there = context[max(start, 0) : max(start, 0) + len(text)]
            self.problems.append(f"{at}: {text!r} does not stand at `answer_start` {start}; {there!r} does")
            return None
        return text, start + shift


_SHIFTS = sorted(range(-MAX_SHIFT, MAX_SHIFT + 1), key=abs)


def _name(value: Any) -> str:
    if value is None:
        return "null"
    return next((words for kind, words in _KINDS.items() if type(value) is kind), type(value).__name__)
