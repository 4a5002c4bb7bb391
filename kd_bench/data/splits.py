"""Splits by article: the same article is never on two sides, in no language and in no data set of a plan.

Two rules put articles into splits, both by a hash of the article's key, so that neither the order of a file nor a
random generator matters:

- `by_rank`: articles sorted by hash, the first so many per cent here, the next there. Shares are met exactly, down to
  an article a split, but where an article goes depends on which others are there. For data in one language, and for
  generated data, of which every language has the same articles.
- `by_hash`: the hash alone decides, so an article goes to the same split in every language *and in every partial copy*,
  even if one language's copy is partial and the other's is not. For parallel data. The price is that shares are met on
  average only; a split that stays empty in a tiny copy borrows one article, and only that article can be on another
  side elsewhere (`check_no_leak` sees it).
"""

import hashlib
import json
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from itertools import accumulate, combinations

from kd_bench.errors import UserError

SPLITS = ("train", "validation", "test", "demo")
SHORT_CONTEXT = 700  # characters: a demonstration stands in every one-shot prompt and costs its length each time


def _digest(*parts: object) -> str:
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()


def normalise(text: str) -> str:
    """A title or context as leaks are looked for: underscores are spaces, white space and case do not count."""
    return re.sub(r"[\s_]+", " ", text).strip().casefold()


def article_keys(docs: list[dict], *, by: str, also: Iterable[list[dict]] = ()) -> list[str]:
    """For each document the key of its article, equal for all documents that must stay together.

    Documents belong together if they share a title, a context or a question id, directly or through others, within
    `docs` or through the lists in `also` (the same data in other languages: there only question ids agree, and a
    passage may hold two questions in one language that stand apart in another). The key is the smallest normalised
    title (`by="title"`, for data whose titles agree across languages) or the smallest question id (`by="id"`).
    """
    parent: dict[tuple, tuple] = {}
    normalised = cache(normalise)  # a passage is there once a question

    def root(node: tuple) -> tuple:
        while parent.setdefault(node, node) != node:
            parent[node] = node = parent[parent[node]]
        return node

    for number, some in enumerate([docs, *also]):
        for doc in some:
            here = root(("id", doc["id"]))
            parent[root((number, "context", normalised(doc["context"])))] = here
            if doc["title"]:
                parent[root((number, "title", normalised(doc["title"])))] = root(here)
    names: dict[tuple, str] = {}
    for some in [docs, *also]:
        for doc in some:
            name = normalised(doc["title"]) if by == "title" else doc["id"]
            here = root(("id", doc["id"]))
            names[here] = min(names.get(here, name), name)
    return [names[root(("id", doc["id"]))] for doc in docs]


def _place(key: str, seed: int) -> str:
    """Where an article stands among all: by its key's hash, and for seeds above 0 by another one each."""
    return _digest(seed, key) if seed else _digest(key)


def by_rank(keys: Iterable[str], percent: Mapping[str, int], rest: str, seed: int = 0) -> dict[str, str]:
    """{article key: split}: each split of `percent` gets ceil(its share) of the articles, `rest` what is left. Another
    `seed` deals the articles anew."""
    ranked = sorted(set(keys), key=lambda key: (_place(key, seed), key))
    sides = [split for split, share in percent.items() for _ in range(-(-len(ranked) * share // 100))]
    return {key: sides[i] if i < len(sides) else rest for i, key in enumerate(ranked)}


def by_hash(keys: Iterable[str], percent: Mapping[str, int], seed: int = 0) -> dict[str, str]:
    """{article key: split} by the hash alone, which `seed` changes; the shares must sum to 100."""
    if sum(percent.values()) != 100:
        raise ValueError(f"shares sum to {sum(percent.values())}, not 100: {dict(percent)}")
    place = {key: int(_place(key, seed)[:12], 16) / 16**12 * 100 for key in keys}
    ends = list(accumulate(percent.values()))
    sides = {key: list(percent)[bisect_right(ends, value)] for key, value in place.items()}
    for split in percent:
        members = {s: sorted((k for k in sides if sides[k] == s), key=place.get) for s in percent}
        largest = max(members.values(), key=len, default=[])
        if not members[split] and len(largest) > 1:
            sides[largest[0]] = split
    return sides


def build(docs: list[dict], keys: list[str], sides: Mapping[str, str], *, where: str, demo_seed: object = 0):
    """A `datasets.DatasetDict` of the four splits, each passage by passage in the order of `docs`.

    `demo` is the pool of demonstrations: answerable questions with a passage of at most SHORT_CONTEXT characters (any
    length, then any question, where there are none), in an order that `demo_seed` chooses; its first document is the
    one-shot demonstration. UserError naming the empty splits.
    """
    from datasets import Dataset, DatasetDict

    split_docs: dict[str, list[dict]] = {split: [] for split in SPLITS}
    for doc, key in zip(docs, keys, strict=True):
        split_docs[sides[key]].append(doc)
    split_docs = {split: _by_passage(some) for split, some in split_docs.items()}
    split_docs["demo"] = _demo_pool(split_docs["demo"], demo_seed)
    if empty := [split for split in SPLITS if not split_docs[split]]:
        counts = f"{len(docs)} questions of {len(sides)} articles"
        raise UserError(
            where,
            [f"split `{s}` is empty: {counts} are too few for four splits by article. Add articles." for s in empty],
        )
    features = _features()
    return DatasetDict({split: Dataset.from_list(some, features=features) for split, some in split_docs.items()})


def _features():
    from datasets import Features, List, Value

    text = Value("string")
    answers = {"text": List(text), "answer_start": List(Value("int32"))}
    return Features({"id": text, "title": text, "context": text, "question": text, "answers": answers})


def _by_passage(docs: list[dict]) -> list[dict]:
    passages = defaultdict(list)
    for doc in docs:
        passages[doc["context"]].append(doc)
    return [doc for some in passages.values() for doc in some]


def _demo_pool(docs: list[dict], demo_seed: object) -> list[dict]:
    answerable = [doc for doc in docs if doc["answers"]["text"]] or docs
    short = [doc for doc in answerable if len(doc["context"]) <= SHORT_CONTEXT] or answerable
    return sorted(short, key=lambda doc: _digest(demo_seed, doc["id"]))


def fingerprint(splits) -> dict:
    """{split: {"questions", "articles", "hash"}}, and "files" where `splits` knows them: what a score was measured on.

    `hash` is the first 16 hex digits of the SHA-256 over all documents in order. Where titles are empty (MLQA), a
    passage counts as an article.
    """
    prints = {}
    for split, docs in splits.items():
        whole = hashlib.sha256()
        articles = set()
        for doc in docs.to_list() if hasattr(docs, "to_list") else docs:
            whole.update(json.dumps(doc, sort_keys=True, ensure_ascii=False).encode() + b"\n")
            articles.add(normalise(doc.get("title") or doc.get("context") or ""))
        prints[split] = {"questions": len(docs), "articles": len(articles), "hash": whole.hexdigest()[:16]}
    if files := getattr(splits, "files", None):
        prints["files"] = files
    return prints


def check_no_leak(datasets: Mapping[str, Mapping], trained_on: Collection[str] | None = None) -> list[str]:
    """One problem for each pair of splits that share what they must not; an empty list if there is none.

    datasets: {task or data set: {split: documents}}, all of a plan's, those trained on and those evaluated on.
    trained_on: the names among them whose `train` and `demo` splits reach a model's weights; all of them if None. Of
    the others only what is evaluated counts: their own `train` split is never shown to a model.

    Sharing is by question id, by passage and by article title, normalised: XQuAD's articles, for one, are articles of
    SQuAD's dev file under other titles' spelling, and its passages in German are translations with the same ids.
    """
    trained = set(datasets) if trained_on is None else set(trained_on)
    marks = {(name, split): _marks(docs) for name, splits in datasets.items() for split, docs in splits.items()}
    pairs = []
    for name in datasets:
        # A task's own four splits are kept apart even if nothing trains on it: choosing a checkpoint by the questions
        # that it is then scored on is a leak too.
        pairs += [((name, a), (name, b)) for a, b in combinations(("train", "demo", "validation", "test"), 2)]
        for other in datasets if name in trained else ():
            if other != name:
                pairs += [((name, "train"), (other, split)) for split in ("demo", "validation", "test")]
                pairs += [((name, "demo"), (other, split)) for split in ("validation", "test")]
    problems = []
    for one, two in pairs:
        if one not in marks or two not in marks:
            continue
        (name, split), (other, against) = one, two
        shared = {kind: marks[one][kind] & marks[two][kind] for kind in ("title", "context", "id")}
        if any(shared.values()):
            examples = ", ".join(sorted(shared["title"] or shared["id"])[:3])
            problems.append(
                f"{name} `{split}` and {other} `{against}` share {len(shared['title'])} articles, "
                f"{len(shared['context'])} passages and {len(shared['id'])} questions"
                + (f" (such as {examples})" if examples else "")
                + ": leave one of the two tasks out, or use copies of the data without these articles."
            )
    return problems


def _marks(docs) -> dict[str, set[str]]:
    """What would give a document away. A data set of another shape has fewer of these columns, or none."""
    marks = {}
    for kind in ("title", "context", "id"):
        if hasattr(docs, "column_names"):
            values = docs.unique(kind) if kind in docs.column_names else []
        else:
            values = {doc[kind] for doc in docs if kind in doc}
        values = {value for value in values if isinstance(value, str)}
        marks[kind] = (values if kind == "id" else {normalise(value) for value in values}) - {""}
    return marks
