"""Exact match, F1 and ROUGE-L, as the data sets' own scripts compute them.

- SQuAD v2: the official `evaluate-v2.0` script. A question without answers has the gold answer "", golds that normalise
  to nothing are dropped, and a prediction that normalises to nothing answers "".
- MLQA: the official `mlqa_evaluation_v1` script with its normalisation for en, es, hi, vi, de, ar and zh.
- XQuAD has no script of its own beyond SQuAD v1.1's, which knows English articles only; it is scored with MLQA's, in
  the language of the answers.
- fictqa is SQuAD v2's format and is scored by its rules; the German half with MLQA's German normalisation.

Every score is the best over the gold answers, in [0, 1].

Models abstain on SQuAD v2 and fictqa by writing "unanswerable". A prediction that is, normalised, exactly that word is
scored as the empty prediction; one that merely contains it is an answer like any other. ROUGE-L compares texts, so
there an abstention, in either form, and the gold of a question without answers are both the text "unanswerable". MLQA
and XQuAD have an answer for every question: there the word has no meaning and scores what any wrong text does.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from functools import cache, lru_cache

ABSTENTION = "unanswerable"

ASCII_PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"


class _Translation(dict):
    """A table for `str.translate` that works out a character's entry the first time it is met.

    Listing all of Unicode's punctuation up front would cost every import a pass over 1.1 million code points.
    """

    def __init__(self, entry: Callable[[str], str | None]):
        self.entry = entry

    def __missing__(self, code: int) -> str | None:
        self[code] = self.entry(chr(code))
        return self[code]


def _is_punctuation(char: str) -> bool:
    return char in ASCII_PUNCTUATION or unicodedata.category(char).startswith("P")


_DROP_ASCII_PUNCTUATION = str.maketrans("", "", ASCII_PUNCTUATION)
_DROP_PUNCTUATION = _Translation(lambda char: None if _is_punctuation(char) else char)

# The range of Chinese characters that MLQA's script takes one by one; later additions to Unicode are not in it.
_IDEOGRAPH = re.compile("[\u4e00-\u9fa5]")


def _words(*words: str) -> re.Pattern:
    return re.compile(rf"\b(?:{'|'.join(words)})\b")


_ENGLISH_ARTICLES = _words("a", "an", "the")
_ARTICLES = {
    "en": _ENGLISH_ARTICLES,
    "es": _words("un", "una", "unos", "unas", "el", "la", "los", "las"),
    "hi": None,
    "vi": _words("của", "là", "cái", "chiếc", "những"),
    "de": _words("ein", "eine", "einen", "einem", "eines", "einer", "der", "die", "das", "den", "dem", "des"),
    # The script means to take the article off the front of words; it takes its two letters out wherever they stand.
    "ar": re.compile("ال"),
    "zh": None,
}
LANGUAGES = tuple(_ARTICLES)


@lru_cache(maxsize=1 << 16)
def normalise_squad(text: str) -> str:
    """SQuAD v2's normal form: lower case, ASCII punctuation deleted, English articles out, single spaces."""
    text = text.lower().translate(_DROP_ASCII_PUNCTUATION)
    return " ".join(_ENGLISH_ARTICLES.sub(" ", text).split())


@lru_cache(maxsize=1 << 16)
def normalise_mlqa(text: str, lang: str) -> str:
    """MLQA's normal form: lower case, all Unicode punctuation deleted, the language's articles out, single spaces.

    In Chinese every ideograph is a word. Raises ValueError if `lang` is none of MLQA's seven languages.
    """
    if lang not in _ARTICLES:
        raise ValueError(f"MLQA has no normalisation for {lang!r}: its languages are {', '.join(LANGUAGES)}")
    text = text.lower().translate(_DROP_PUNCTUATION)
    if articles := _ARTICLES[lang]:
        text = articles.sub(" ", text)
    if lang == "zh":
        text = _IDEOGRAPH.sub(r" \g<0> ", text)
    return " ".join(text.split())


def token_f1(prediction: str, gold: str) -> float:
    """F1 of the two normalised texts' words as multisets; 0 if no word is shared, so also if both are empty."""
    predicted, wanted = prediction.split(), gold.split()
    shared = (Counter(predicted) & Counter(wanted)).total()
    if not shared:
        return 0.0
    precision, recall = shared / len(predicted), shared / len(wanted)
    return 2 * precision * recall / (precision + recall)


def _rouge_entry(char: str) -> str:
    if _IDEOGRAPH.match(char):
        return f" {char} "
    return char if unicodedata.category(char)[0] in "LMN" else " "


class UnicodeTokenizer:
    """ROUGE's words, with every script's letters: runs of letters, marks and digits, in lower case.

    `rouge_score`'s own tokenizer splits at every non-ASCII letter and drops it ("Größe" becomes "gr", "e"). On ASCII
    text the two give the same tokens. Composed and decomposed umlauts are the same letter; a Chinese character is a
    word.
    """

    _table = _Translation(_rouge_entry)

    def tokenize(self, text: str) -> list[str]:
        return unicodedata.normalize("NFC", text).lower().translate(self._table).split()


@cache
def _rouge_scorer():
    from rouge_score.rouge_scorer import (
        RougeScorer,
    )  # brings in nltk: half a second that a task's listing can do without

    return RougeScorer(["rougeL"], tokenizer=UnicodeTokenizer())


@lru_cache(maxsize=1 << 16)
def rouge_l(prediction: str, gold: str) -> float:
    """ROUGE-L's F-measure: the longest common subsequence of words over both lengths; 0 if either has no word."""
    return float(_rouge_scorer().score(gold, prediction)["rougeL"].fmeasure)


def score_answer(prediction: str, golds: list[str], normalise: Callable[[str], str]) -> dict[str, float]:
    """em, f1, rougeL where every question has an answer (MLQA's rules). Raises ValueError if `golds` is empty."""
    if not golds:
        raise ValueError("a question without gold answers cannot be scored by MLQA's rules")
    predicted = normalise(prediction)
    wanted = [normalise(gold) for gold in golds]
    return {
        "em": float(predicted in wanted),
        "f1": max(token_f1(predicted, gold) for gold in wanted),
        "rougeL": max(rouge_l(prediction, gold) for gold in golds),
    }


def score_or_abstain(prediction: str, golds: list[str], normalise: Callable[[str], str]) -> dict[str, float]:
    """em, f1, rougeL, abstained, and the parts by kind of question, by SQuAD v2's rules; no golds: unanswerable.

    A question with answers also gets `has_ans_em` and `has_ans_f1`, one without `no_ans_em`, so that a mean over the
    documents that have a metric is the official script's HasAns or NoAns figure. A prediction without a word (nothing,
    or "the") answers an unanswerable question correctly for the official script, so it counts as an abstention too.
    """
    predicted = normalise(prediction)
    abstained = predicted in ("", normalise(ABSTENTION))
    if abstained:
        predicted, prediction = "", ABSTENTION
    wanted = [kept for gold in golds if (kept := normalise(gold))] or [""]
    em = float(predicted in wanted)
    f1 = em if abstained or wanted == [""] else max(token_f1(predicted, gold) for gold in wanted)
    scores = {
        "em": em,
        "f1": f1,
        "rougeL": max(rouge_l(prediction, gold) for gold in golds or [ABSTENTION]),
        "abstained": float(abstained),
    }
    return scores | ({"has_ans_em": em, "has_ans_f1": f1} if golds else {"no_ans_em": em})


def normalise_en(text: str) -> str:
    """MLQA's English normal form: SQuAD's, but for the punctuation that is not ASCII."""
    return normalise_mlqa(text, "en")


def normalise_de(text: str) -> str:
    """MLQA's German normal form."""
    return normalise_mlqa(text, "de")


# What lm-eval's `process_results: !function kd_bench.harness.metrics.NAME` calls, as `NAME(doc, [generated text])`.
# They are plain functions because lm-eval puts a function's source into the task's hash.


def squad(doc: dict, results: list[str]) -> dict[str, float]:
    """SQuAD v2: `score_or_abstain` with SQuAD's normalisation."""
    return score_or_abstain(results[0], doc["answers"]["text"], normalise_squad)


def fictqa_en(doc: dict, results: list[str]) -> dict[str, float]:
    """fictqa in English: as SQuAD v2."""
    return score_or_abstain(results[0], doc["answers"]["text"], normalise_squad)


def fictqa_de(doc: dict, results: list[str]) -> dict[str, float]:
    """fictqa in German: SQuAD v2's rules, MLQA's German normalisation."""
    return score_or_abstain(results[0], doc["answers"]["text"], normalise_de)


def mlqa_en(doc: dict, results: list[str]) -> dict[str, float]:
    """MLQA with English answers."""
    return score_answer(results[0], doc["answers"]["text"], normalise_en)


def mlqa_de(doc: dict, results: list[str]) -> dict[str, float]:
    """MLQA with German answers."""
    return score_answer(results[0], doc["answers"]["text"], normalise_de)


def xquad_en(doc: dict, results: list[str]) -> dict[str, float]:
    """XQuAD in English, by MLQA's rules."""
    return score_answer(results[0], doc["answers"]["text"], normalise_en)


def xquad_de(doc: dict, results: list[str]) -> dict[str, float]:
    """XQuAD in German, by MLQA's rules."""
    return score_answer(results[0], doc["answers"]["text"], normalise_de)


# By which two answers are the same, for each of the functions above: what the floor counts answers by.
NORMALISE: dict[Callable, Callable[[str], str]] = {
    squad: normalise_squad,
    fictqa_en: normalise_squad,
    fictqa_de: normalise_de,
    mlqa_en: normalise_en,
    mlqa_de: normalise_de,
    xquad_en: normalise_en,
    xquad_de: normalise_de,
}
