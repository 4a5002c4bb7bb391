"""What lm-eval's `custom_dataset` calls: a data set's four splits, from files, from the hub or out of the generator.

Each function takes lm-eval's `metadata` and a task's `dataset_kwargs` as keywords and passes over those it does not
know, since lm-eval puts all model arguments among them. Where the data comes from:

1. `data_dir` (`lm_eval --metadata '{"data_dir": "..."}'`, or a recipe's `data.dir`), and then nowhere else;
2. else the folder `$KD_BENCH_DATA`, if the data set is in it;
3. else the Hugging Face hub.

A folder holds the data sets in the layout in which their authors publish them (`squad_v2/train-v2.0.json`,
`MLQA_V1/dev/dev-context-de-question-de.json`, `xquad/xquad.de.json`), or is itself one of those sub-folders.
`demo_seed` chooses the one-shot demonstration, `split_seed` deals the articles into splits (one that the authors made
stays theirs). The result's `files` says what was read, for the fingerprint.
"""

import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kd_bench.data import splits, squad_format
from kd_bench.errors import UserError

log = logging.getLogger(__name__)

MLQA_LANGUAGES = ("en", "ar", "de", "es", "hi", "vi", "zh")

# The hub's XQuAD has lost the articles' titles; these are the official file's, in its order, five passages each.
XQUAD_TITLES = """
    Super_Bowl_50 Warsaw Normans Nikola_Tesla Computational_complexity_theory Teacher Martin_Luther
    Southern_California Sky_(United_Kingdom) Victoria_(Australia) Huguenot Steam_engine Oxygen 1973_oil_crisis
    Apollo_program European_Union_law Amazon_rainforest Ctenophora Fresno,_California Packet_switching Black_Death
    Geology Newcastle_upon_Tyne Victoria_and_Albert_Museum American_Broadcasting_Company Genghis_Khan Pharmacy
    Immune_system Civil_disobedience Construction Private_school Harvard_University Jacksonville,_Florida
    Economic_inequality Doctor_Who University_of_Chicago Yuan_dynasty Kenya
    Intergovernmental_Panel_on_Climate_Change Chloroplast Prime_number Rhine Scottish_Parliament Islamism
    Imperialism United_Methodist_Church French_and_Indian_War Force
""".split()  # noqa: SIM905


def squad_v2(data_dir: str | None = None, demo_seed: int = 0, split_seed: int = 0, **_):
    """SQuAD v2.0: the dev file is the test split, the train file the other three.

    A copy with one of the two files only is split four ways; the fingerprint's `files` says so.
    """
    wanted = {"train": "train-v2.0.json", "dev": "dev-v2.0.json"}
    found = _find("squad_v2", "squad_v2", wanted, _hub_squad_v2, data_dir)
    docs = [doc for some in found.docs.values() for doc in some]
    keys = splits.article_keys(docs, by="title")
    share = {"demo": 1, "validation": 5}
    if len(found.docs) == 1:
        log.warning("squad_v2: only the %s file is there; all four splits are made from it", next(iter(found.docs)))
        sides = splits.by_rank(keys, share | {"test": 10}, rest="train", seed=split_seed)
    else:
        docs, keys, test = _apart("squad_v2", docs, keys, len(found.docs["train"]))
        sides = splits.by_rank(set(keys) - test, share, rest="train", seed=split_seed) | dict.fromkeys(test, "test")
    return _build("squad_v2", docs, keys, sides, demo_seed, found.files)


def mlqa(lang: str, data_dir: str | None = None, demo_seed: int = 0, split_seed: int = 0, **_):
    """MLQA with passage and question in `lang`: the test file is the test split, the dev file the other three.

    With one of the two files only, all four come from that. An article keeps its side whether or not the test file is
    there, but for the dev file's own test share, which then trains.

    Titles are empty in MLQA's files and the passages differ by language; question ids are the same in all. So an
    article is what hangs together by question ids across all languages at hand, and its key is its smallest id.
    """
    _check_language("mlqa", lang, MLQA_LANGUAGES)
    path = "{0}/{0}-context-{1}-question-{1}.json"
    found = _find(
        f"mlqa {lang}",
        "MLQA_V1",
        {part: path.format(part, lang) for part in ("dev", "test")},
        lambda: _hub_mlqa(lang, ("dev", "test")),
        data_dir,
    )
    part, others = next(iter(found.docs)), []  # the part that is split: the dev file where it is there
    for other in MLQA_LANGUAGES:
        if other == lang:
            continue
        if found.root is None:
            others.append(_hub_mlqa(other, (part,))[0][part])
        elif (file := found.root / path.format(part, other)).is_file():
            others.append(squad_format.read(file))
    docs = [doc for some in found.docs.values() for doc in some]
    keys = splits.article_keys(docs, by="id", also=others)
    share = {"demo": 5, "validation": 10, "test": 25, "train": 60}
    if len(found.docs) == 1:
        sides = splits.by_hash(keys, share, split_seed)
    else:
        docs, keys, test = _apart(f"mlqa {lang}", docs, keys, len(found.docs["dev"]))
        sides = splits.by_hash(set(keys) - test, share, split_seed)
        sides = {key: "train" if side == "test" else side for key, side in sides.items()}
        sides |= dict.fromkeys(test, "test")
    return _build(f"mlqa {lang}", docs, keys, sides, demo_seed, found.files)


def xquad(lang: str, data_dir: str | None = None, demo_seed: int = 0, split_seed: int = 0, **_):
    """XQuAD in `lang`: one file, split by the hash of the article's title, which is the same in every language."""
    _check_language("xquad", lang, ("ar", "de", "el", "en", "es", "hi", "ro", "ru", "th", "tr", "vi", "zh"))
    found = _find(f"xquad {lang}", "xquad", {"all": f"xquad.{lang}.json"}, lambda: _hub_xquad(lang), data_dir)
    docs = found.docs["all"]
    keys = splits.article_keys(docs, by="title")
    # XQuAD is a test set first, so the test split is as large as what can be trained on.
    sides = splits.by_hash(keys, {"demo": 5, "validation": 10, "test": 35, "train": 50}, split_seed)
    return _build(f"xquad {lang}", docs, keys, sides, demo_seed, found.files)


def fictqa(lang: str, size: int = 60, seed: int = 0, demo_seed: int = 0, split_seed: int = 0, **_):
    """The embedded fictional encyclopedia: `size` articles out of `seed`, parallel in English and German.

    Every language has the same articles and question ids, so ranks agree and the shares are met at any size. Mind that
    lm-eval adds model arguments to the metadata: a model given `seed=1` (vLLM's has that argument) reads another
    encyclopedia, as the fingerprint then shows.
    """
    _check_language("fictqa", lang, ("en", "de"))
    bad = [f"{key}: {value!r} is not a whole number" for key, value in (("size", size), ("seed", seed)) if _odd(value)]
    if not bad and size < 4:
        bad.append(f"size: {size} articles are too few for four splits by article. Give 4 or more.")
    if bad:
        raise UserError("fictqa", bad)
    from kd_bench.data.fictqa import generate

    docs = squad_format.documents(generate(lang=lang, size=size, seed=seed), f"fictqa {lang}")
    keys = splits.article_keys(docs, by="id")
    sides = splits.by_rank(keys, {"demo": 5, "validation": 10, "test": 25}, rest="train", seed=split_seed)
    files = [{"name": f"generated: fictqa {lang}", "size": size, "seed": seed}]
    return _build(f"fictqa {lang}", docs, keys, sides, demo_seed, files)


def _odd(value: object) -> bool:
    return not isinstance(value, int) or isinstance(value, bool)


def _check_language(name: str, lang: str, known: tuple[str, ...]) -> None:
    if lang not in known:
        raise UserError(name, f"no language {lang!r}; it has {', '.join(known)}")


def _apart(name: str, docs: list[dict], keys: list[str], n: int) -> tuple[list[dict], list[str], set[str]]:
    """(documents, keys, the test file's keys) without those of the first `n` documents whose article is tested on.

    The test file stays whole, so that its score compares; what it shares with the other file is left out there.
    """
    test = set(keys[n:])
    keep = [i for i in range(len(docs)) if i >= n or keys[i] not in test]
    if len(keep) < len(docs):
        log.warning(
            "%s: %d questions left out of training: the test file has their articles", name, len(docs) - len(keep)
        )
    return [docs[i] for i in keep], [keys[i] for i in keep], test


def _build(name: str, docs: list[dict], keys: list[str], sides: dict[str, str], demo_seed: object, files: list):
    made = splits.build(docs, keys, sides, where=name, demo_seed=demo_seed)
    made.files = files
    return made


@dataclass(frozen=True)
class _Found:
    docs: dict[str, list[dict]]  # what of the data set it is -> its documents
    files: list[dict]  # names without this machine's folders, sizes, hashes
    root: Path | None  # the data set's own folder; None: the hub


def _find(
    name: str, folder: str, wanted: dict[str, str], hub: Callable[[], tuple[dict, str]], data_dir: str | None
) -> _Found:
    """Those of `wanted` ({what: path}) that the first place with any has. `hub()` gives ({what: documents}, name)."""
    env = os.environ.get("KD_BENCH_DATA")
    what, place = ("data_dir", data_dir) if data_dir else ("$KD_BENCH_DATA", env)
    tried = []
    if not data_dir:
        tried.append("data_dir: not given")
    if place:
        base = Path(place).expanduser()
        for root in (base / folder, base):
            if found := {key: root / path for key, path in wanted.items() if (root / path).is_file()}:
                return _Found(_read_all(root, found), [_file(folder, root, path) for path in found.values()], root)
        paths = " or ".join(f"{folder}/{path}" for path in wanted.values())
        tried.append(f"{what} {place}: " + (f"has no {paths}" if base.is_dir() else "no such folder"))
    if not data_dir and not env:
        tried.append("$KD_BENCH_DATA: not set")
    if data_dir:
        # Whoever names a folder means that folder: the whole data set off the hub would be a silent stand-in.
        tried.append("the hub: not tried, since data_dir is given")
    else:
        try:
            docs, repository = hub()
            return _Found(docs, [{"name": repository}], None)
        except Exception as error:  # the hub fails in dozens of ways, and here each means the same: not there
            tried.append(f"the hub: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
    raise UserError(
        name,
        f"nothing to read. Three ways: a folder that has {folder}/{next(iter(wanted.values()))}, named as data_dir "
        '(data.dir in a recipe, lm_eval --metadata \'{"data_dir": "..."}\'); the same folder as $KD_BENCH_DATA; or '
        "the hub, where no data_dir is given and the hub can be reached (HF_HUB_OFFLINE unset). Tried: "
        + "; ".join(tried),
    )


def _read_all(root: Path, found: dict[str, Path]) -> dict[str, list[dict]]:
    """Every file's documents; the problems of all files in one error."""
    docs, problems = {}, []
    for key, path in found.items():
        try:
            docs[key] = squad_format.read(path)
        except UserError as error:
            problems += [f"{path.relative_to(root)}: {problem}" for problem in error.problems]
    if problems:
        raise UserError(str(root), problems)
    return docs


def _file(folder: str, root: Path, path: Path) -> dict:
    data = path.read_bytes()
    name = f"{folder}/{path.relative_to(root).as_posix()}"
    return {"name": name, "bytes": len(data), "hash": hashlib.sha256(data).hexdigest()[:16]}


# The hub's copies. The tests never use a network: what follows is written to the data sets' published columns and has
# not been run against the hub itself.


def _rows(repository: str, config: str | None, split: str, revision: str | None = None) -> list[dict]:
    from datasets import load_dataset

    rows = load_dataset(repository, config, split=split, revision=revision).to_list()
    return [{key: row.get(key, "") for key in ("id", "title", "context", "question", "answers")} for row in rows]


def _hub_squad_v2() -> tuple[dict[str, list[dict]], str]:
    parts = {"train": "train", "dev": "validation"}
    return {part: _rows("rajpurkar/squad_v2", None, split) for part, split in parts.items()}, "hub: rajpurkar/squad_v2"


def _hub_mlqa(lang: str, parts: tuple[str, ...]) -> tuple[dict[str, list[dict]], str]:
    """The repository itself is a loading script, which `datasets` no longer runs; the hub's own conversion has none."""
    config, names = f"mlqa.{lang}.{lang}", {"dev": "validation", "test": "test"}
    docs = {part: _rows("facebook/mlqa", config, names[part], "refs/convert/parquet") for part in parts}
    return docs, f"hub: facebook/mlqa {config}"


def _hub_xquad(lang: str) -> tuple[dict[str, list[dict]], str]:
    docs = _rows("google/xquad", f"xquad.{lang}", "validation")
    passages = list(dict.fromkeys(doc["context"] for doc in docs))
    if len(passages) != 5 * len(XQUAD_TITLES):
        raise ValueError(f"google/xquad has {len(passages)} passages, not 5 of each of {len(XQUAD_TITLES)} articles")
    titles = {context: XQUAD_TITLES[i // 5] for i, context in enumerate(passages)}
    return {"all": [doc | {"title": titles[doc["context"]]} for doc in docs]}, f"hub: google/xquad xquad.{lang}"
