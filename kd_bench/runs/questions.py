"""The questions behind a record, read again from where its task reads them: records keep no text of the data sets."""

import re
from collections.abc import Callable
from typing import Any

from kd_bench.errors import UserError
from kd_bench.leaderboard.schema import Record
from kd_bench.runs.facts import first_line

# By language, since the German "was" is an English verb: the first language that has a hit decides.
WORDS = {
    "en": {
        "how many": r"how (?:many|much|long|old|far|often)",
        "who": r"who|whom|whose",
        "when": r"(?:what|which) year|when",
        "where": r"where",
        "why": r"why",
        "how": r"how",
        "which": r"which",
        "what": r"what",
    },
    "de": {
        "how many": r"wie ?viele?|wie (?:lange|alt|weit|oft)",
        "who": r"wer|wen|wem|wessen",
        "when": r"welche[ms] jahr|wann",
        "where": r"wo|wohin|woher",
        "why": r"warum|wieso|weshalb",
        "how": r"wie",
        "which": r"welche[rsnm]?",
        "what": r"was",
    },
}
OTHER = "other"


def documents(record: Record, metadata: dict[str, Any] | None = None) -> dict[str, dict]:
    """{question id: document} of the split that `record` was measured on, in the task's order.

    Raises UserError if the task can't be loaded here, or its data is not what the record was measured on.
    """
    return split_documents(load(record.task.name, metadata), record)


def load(name: str, metadata: dict[str, Any] | None = None):
    """The lm-eval task `name`. Raises UserError if it can't be loaded here, whatever the reason."""
    from kd_bench.harness.examples import load_task

    try:
        return load_task(name, metadata)
    except UserError:
        raise
    except Exception as error:  # a task of somebody else's can fail in any way, most often for want of a network
        raise UserError(name, f"cannot be loaded: {type(error).__name__}: {first_line(error)}") from error


def measured_role(task, split: str) -> str:
    """test or validation: which of the task's splits a record means by `split`, a role or the data set's own name."""
    config = task.config
    validates = split in ("validation", config.validation_split) and split != config.test_split
    return "validation" if task.has_validation_docs() and (validates or not task.has_test_docs()) else "test"


def split_documents(task, record: Record) -> dict[str, dict]:
    """What `documents` gives, for a task that is loaded."""
    from kd_bench.data.splits import fingerprint

    validates = measured_role(task, record.task.split) == "validation"
    docs = list(task.validation_docs() if validates else task.test_docs())
    # lm-eval's output tells of the questions that were asked, and a recipe of the split before the task worked on it.
    asked = docs[: max(score.n for score in record.scores.values())]
    name = task.config.validation_split if validates else task.config.test_split
    own = fingerprint({"whole": docs, "asked": asked, "stored": task.dataset[name]})
    if record.task.split_hash and record.task.split_hash not in {some["hash"] for some in own.values()}:
        raise UserError(record.task.name, "the data here is not what the record was measured on")
    ids = [str(doc.get("id", index)) for index, doc in enumerate(docs)]
    if len(set(ids)) < len(ids):  # as `samples.lines` names them
        ids = list(map(str, range(len(docs))))
    return dict(zip(ids, docs))


def text_of(doc: dict) -> dict[str, Any] | None:
    """{"question", "gold", "passage"} of a document in SQuAD's form, each gold answer once; None for others."""
    if not isinstance(doc.get("answers"), dict) or "context" not in doc:
        return None
    gold = list(dict.fromkeys(doc["answers"]["text"]))
    return {"question": doc["question"], "gold": gold, "passage": doc["context"]}


def kinds(docs: dict[str, dict]) -> dict[str, dict[str, str]]:
    """{how questions are told apart: {question id: kind}} of documents in SQuAD's form, each in the order of its kinds;
    empty for others."""
    if not all(
        isinstance(doc.get("answers"), dict) and "context" in doc and "question" in doc for doc in docs.values()
    ):
        return {}
    lengths = sorted(len(doc["context"].split()) for doc in {doc["context"]: doc for doc in docs.values()}.values())
    cuts = [lengths[len(lengths) * part // 3] for part in (1, 2)] if lengths else [0, 0]
    names = [f"under {cuts[0]} words", f"{cuts[0]} to {cuts[1] - 1} words", f"{cuts[1]} words and more"]
    answered = {name: doc for name, doc in docs.items() if doc["answers"]["text"]}
    return {
        "answer length": _in_order(
            answered, lambda doc: _answer_length(doc["answers"]["text"]), ["1 word", "2 or 3 words", "4 words and more"]
        ),
        "question word": _in_order(docs, lambda doc: question_word(doc["question"]), [*WORDS["en"], OTHER]),
        "passage length": _in_order(
            docs, lambda doc: names[sum(len(doc["context"].split()) >= cut for cut in cuts)], names
        ),
    }


def question_word(question: str) -> str:
    """What the question asks with, in English words for either language: the first to stand anywhere in it, since many
    open with a clause ("In what year ...")."""
    for words in WORDS.values():
        hits = [
            (match.start(), order, name)
            for order, (name, pattern) in enumerate(words.items())
            if (match := re.search(rf"\b(?:{pattern})\b", question, re.IGNORECASE))
        ]
        if hits:
            return min(hits)[2]
    return OTHER


def _answer_length(golds: list[str]) -> str:
    words = min(len(gold.split()) for gold in golds)
    return "1 word" if words <= 1 else "2 or 3 words" if words <= 3 else "4 words and more"


def _in_order(docs: dict[str, dict], kind: Callable[[dict], str], names: list[str]) -> dict[str, str]:
    found = {name: kind(doc) for name, doc in docs.items()}
    return dict(sorted(found.items(), key=lambda item: names.index(item[1])))
