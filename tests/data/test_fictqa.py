"""fictqa: valid SQuAD v2 JSON, the same facts in both languages, and questions that are what they claim to be."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from functools import cache

import pytest

from kd_bench.data import fictqa_de, fictqa_en_grammar, fictqa_world
from kd_bench.data.fictqa import LANGUAGES, generate
from kd_bench.data.fictqa_de_words import GOODS, NOUNS, PROFESSIONS, REGIONS, TITLE_ADJECTIVES, TITLE_NOUNS, WEEKDAYS
from kd_bench.data.fictqa_plan import articles
from kd_bench.data.fictqa_text import _allows, _attributes, write_paragraph
from kd_bench.data.fictqa_world import ATTRIBUTES, Dice
from kd_bench.harness import metrics
from kd_bench.harness.floor import floor

SIZE, SEED = 60, 1


@cache
def made(lang):
    return generate(lang, SIZE, SEED)


@cache
def planned():
    return [paragraph for article in articles(SIZE, SEED) for paragraph in article.paragraphs]


def paragraphs(lang):
    return [paragraph for article in made(lang)["data"] for paragraph in article["paragraphs"]]


def questions(lang):
    return [qa for paragraph in paragraphs(lang) for qa in paragraph["qas"]]


both = pytest.mark.parametrize("lang", ["en", "de"])


def digest(lang, size=3, seed=0):
    return hashlib.sha256(json.dumps(generate(lang, size, seed), sort_keys=True).encode()).hexdigest()[:16]


# --- the format ---


@both
def test_squad_v2_json(lang):
    data = made(lang)
    assert json.loads(json.dumps(data)) == data
    assert set(data) == {"version", "data"}
    for article in data["data"]:
        assert set(article) == {"title", "paragraphs"}
        assert 2 <= len(article["paragraphs"]) <= 3
        for paragraph in article["paragraphs"]:
            assert set(paragraph) == {"context", "qas"}
            assert 5 <= len(paragraph["qas"]) <= 6
            for qa in paragraph["qas"]:
                impossible = qa["is_impossible"]
                wanted = {"id", "question", "answers", "is_impossible"} | (
                    {"plausible_answers"} if impossible else set()
                )
                assert set(qa) == wanted
                assert bool(qa["answers"]) is not impossible
                for answer in qa["answers"] or qa["plausible_answers"]:
                    start, text = answer["answer_start"], answer["text"]
                    assert text
                    assert paragraph["context"][start : start + len(text)] == text
                    # ... and it stands there as a whole word, not inside another.
                    around = paragraph["context"][max(start - 1, 0)] + paragraph["context"][start + len(text)]
                    assert start == 0 or not around[0].isalnum()
                    assert not around[1].isalnum()


@both
def test_nothing_is_said_twice(lang):
    assert len({qa["id"] for qa in questions(lang)}) == len(questions(lang))
    titles = [article["title"] for article in made(lang)["data"]]
    assert len(set(titles)) == len(titles) == SIZE
    assert len({paragraph["context"] for paragraph in paragraphs(lang)}) == len(paragraphs(lang))
    for paragraph in paragraphs(lang):
        asked = [qa["question"] for qa in paragraph["qas"]]
        assert len(set(asked)) == len(asked), asked


def test_languages_are_parallel():
    english, german = made("en"), made("de")
    assert english["version"] == german["version"]
    for left, right in zip(english["data"], german["data"], strict=True):
        assert left["title"] == right["title"]
        for one, other in zip(left["paragraphs"], right["paragraphs"], strict=True):
            assert one["context"] != other["context"]
            # The same facts are told: the same years, though in another order.
            years = re.compile(r"\b1[1-9]\d\d\b")
            assert sorted(years.findall(one["context"])) == sorted(years.findall(other["context"]))
            for qa, anders in zip(one["qas"], other["qas"], strict=True):
                assert qa["id"] == anders["id"]
                assert qa["is_impossible"] == anders["is_impossible"]
                assert qa["question"] != anders["question"]
                assert len(qa["answers"]) == len(anders["answers"])
                if qa["answers"] and re.fullmatch(r"\d{4}", qa["answers"][0]["text"]):
                    assert qa["answers"][0]["text"] == anders["answers"][0]["text"]


@both
@pytest.mark.parametrize("size", [1, 7, SIZE])
def test_a_third_is_unanswerable(lang, size):
    kinds = [qa["is_impossible"] for a in made(lang)["data"][:size] for p in a["paragraphs"] for qa in p["qas"]]
    assert abs(sum(kinds) - len(kinds) / 3) <= 1


# --- the same everywhere ---


@both
def test_a_larger_size_only_adds_articles(lang):
    assert generate(lang, 5, SEED)["data"] == made(lang)["data"][:5]


@both
def test_seeds_differ(lang):
    assert digest(lang, seed=0) != digest(lang, seed=1)


def test_the_bytes_are_the_same_in_every_process_and_for_ever():
    """If the wording or the facts are changed on purpose, `generate`'s version goes up and the digests here follow."""
    code = (
        "import hashlib, json; from kd_bench.data.fictqa import generate\n"
        "for lang in ('en', 'de'):\n"
        "    print(hashlib.sha256(json.dumps(generate(lang, 3, 0), sort_keys=True).encode()).hexdigest()[:16])"
    )
    for hash_seed in ("1", "2"):
        run = [sys.executable, "-c", code]
        env = os.environ | {"PYTHONHASHSEED": hash_seed}
        found = subprocess.run(run, env=env, capture_output=True, text=True, check=True).stdout.split()
        assert found == [digest("en"), digest("de")]
    assert generate("en", 1, 0)["version"] == "fictqa-1.0"
    assert (digest("en"), digest("de")) == ("4f451e12126a62d4", "ceb1cc4e186ff98b")


# --- the questions are what they claim to be ---


def stands_in(text, passage):
    return re.search(rf"(?<!\w){re.escape(text)}(?!\w)", passage) is not None


@both
def test_every_planned_fact_is_told_and_no_other(lang):
    language = LANGUAGES[lang]
    for number, paragraph in enumerate(planned()):
        written = write_paragraph(language, paragraph, Dice("a test", number))
        stated = paragraph.stated()
        assert len(set(stated)) == len(stated)
        entities = {entity for entity, _ in stated}
        assert set(written.facts) - {(entity.name, "type") for entity in entities} == {
            (entity.name, attribute) for entity, attribute in stated
        }
        for entity in entities:
            told = [attribute for other, attribute in stated if other == entity]
            for attribute in told:
                text = language.value_texts(entity.value(attribute))[0]
                start = written.facts[entity.name, attribute]
                assert written.text[start : start + len(text)] == text
            for attribute, of in ATTRIBUTES[entity.kind].items():
                if attribute not in told and of in ("place", "person", "river", "title", "institution"):
                    assert not stands_in(language.value_texts(entity.value(attribute))[0], written.text)


@both
def test_questions_and_answers(lang):
    language = LANGUAGES[lang]
    answerable = unanswerable = inverse = 0
    for paragraph, written in zip(planned(), paragraphs(lang), strict=True):
        stated = paragraph.stated()
        entities = {entity for entity, _ in stated}
        told = stated + [(entity, "type") for entity in entities]
        for question, qa in zip(paragraph.questions, written["qas"], strict=True):
            assert question.answerable is not qa["is_impossible"]
            entity, attribute = question.entity, question.attribute
            texts = [answer["text"] for answer in qa["answers"]]
            if question.inverse:
                inverse += 1
                assert stands_in(language.value_texts(question.value)[0], qa["question"])
                right = [other for other, of in told if of == attribute and other.value(of) == question.value]
                assert right == ([entity] if question.answerable else [])
                assert not stands_in(entity.name, qa["question"])
                assert texts[:1] == ([language.full_name(entity)] if question.answerable else [])
            else:
                assert stands_in(entity.name, qa["question"])
                assert ((entity, attribute) in told) is question.answerable
                assert texts == (language.value_texts(entity.value(attribute)) if question.answerable else [])
            answerable += question.answerable
            unanswerable += not question.answerable
    assert min(answerable, unanswerable, inverse) > 50


def test_what_misleads_is_of_the_kind_that_is_asked_for():
    traps = Counter()
    for paragraph in planned():
        entities = [entity for entity, _ in paragraph.blocks]
        for question in paragraph.questions:
            if question.answerable:
                continue
            entity, attribute = question.answer
            if question.inverse:
                traps["swapped"] += 1
                assert attribute is None
            else:
                of = ATTRIBUTES[entity.kind]
                assert of[attribute] == of[question.attribute]
                kind = "other entity" if entity != question.entity else "near attribute"
                traps[kind if question.entity in entities else "stranger"] += 1
    assert min(traps.values()) > 5
    assert len(traps) == 4


def test_passages_have_others_of_the_same_kind_to_be_told_apart():
    for paragraph in planned():
        entities = dict.fromkeys(entity for entity, _ in paragraph.blocks)
        assert 2 <= len(entities) <= 3
        assert len({entity.kind for entity in entities}) == 1
        assert len({entity.type for entity in entities}) == len(entities)
        told = [(entity.facts[attribute]) for entity, attribute in paragraph.stated()]
        assert len(set(told)) == len(told)  # no value could answer for two
        shared = Counter(attribute for _, attribute in paragraph.stated())
        assert shared.most_common(1)[0][1] > 1  # so one attribute at least has more than one value in the passage


def test_always_abstaining_is_the_floor():
    docs = [{"answers": {"text": [answer["text"] for answer in qa["answers"]]}} for qa in questions("en")]
    found = floor(metrics.fictqa_en, docs)
    assert found["answer"] == "unanswerable"
    assert found["scores"]["em"] == pytest.approx(1 / 3, abs=0.01)


# --- the languages ---


@both
def test_texts_are_well_formed(lang):
    for paragraph in paragraphs(lang):
        for text in (paragraph["context"], *(qa["question"] for qa in paragraph["qas"])):
            assert not re.search(r"[{}]|  |\s[.,?]|\.\.", text), text
            assert text[0].isupper()
            assert text[-1] in ".?"
            assert all(sentence[0].isupper() for sentence in re.split(r"(?<=[.?]) ", text)), text
        assert 25 <= len(paragraph["context"].split()) <= 160


@both
def test_templates_cover_every_attribute_in_every_way_of_speaking(lang):
    language = LANGUAGES[lang]
    for kind, attributes in ATTRIBUTES.items():
        asked = set(attributes) | ({"type"} if kind != "institution" else set())
        assert set(language.QUESTIONS[kind]) == set(language.INVERSE[kind]) == asked
        assert len([t for t in language.OPENINGS[kind] if not _attributes(t, kind)]) >= 2
        assert len([t for t in language.OTHERS[kind] if not _attributes(t, kind)]) >= 3
        for attribute in attributes:
            alone = [t for t in language.SENTENCES[kind] if _attributes(t, kind) == {attribute}]
            assert len(alone) >= 2 or attribute in ("altitude", "destination")
            for mode in ("name", "description", "pronoun"):
                assert any(_allows(template, mode) for template in alone), (attribute, mode)


def test_every_word_has_its_german():
    types = fictqa_world.TYPES
    assert set(PROFESSIONS) == set(types["person"])
    assert set(NOUNS) == {*types["place"], *types["ship"], *types["institution"]}
    assert set(GOODS) == set(fictqa_world.GOODS)
    assert set(WEEKDAYS) == set(fictqa_world.WEEKDAYS)
    assert set(REGIONS) == set(fictqa_world.REGIONS)
    assert set(TITLE_ADJECTIVES) == set(fictqa_world.TITLE_ADJECTIVES)
    assert set(TITLE_NOUNS) == set(fictqa_world.TITLE_NOUNS)


def test_german_articles_agree():
    nouns = {noun: gender for noun, gender, _ in NOUNS.values()}
    nouns |= {noun: "mf"[number] for pair in PROFESSIONS.values() for number, noun in enumerate(pair)}
    right = {"m": {"der", "den", "dem", "ein"}, "f": {"die", "der", "eine"}, "n": {"das", "dem", "ein"}}
    seen = Counter()
    articles_before = re.compile(rf"\b(der|die|das|den|dem|ein|eine) ({'|'.join(nouns)})\b", re.IGNORECASE)
    for text in [p["context"] for p in paragraphs("de")] + [qa["question"] for qa in questions("de")]:
        for article, noun in articles_before.findall(text):
            assert article.lower() in right[nouns[noun]], text
            seen[nouns[noun]] += 1
        for article, noun in re.findall(rf"(?<=[.] )(Der|Die|Das) ({'|'.join(nouns)})\b", text):
            assert article == {"m": "Der", "f": "Die", "n": "Das"}[nouns[noun]], text
        assert not re.search(r"\b(von|bei|in|an|zu) dem\b", text, re.IGNORECASE), text
    assert min(seen[gender] for gender in "mfn") > 20


@pytest.mark.parametrize(
    ("text", "piece", "joined"),
    [
        ("Das Gebäude von ", "dem Verlag", "Das Gebäude vom Verlag"),
        ("Sie war bei ", "dem", "Sie war beim"),
        ("In ", "dem Kurort", "Im Kurort"),
        ("Sie liegt. In ", "dem Kurort", "Sie liegt. Im Kurort"),
        ("In ", "der Hafenstadt", "In der Hafenstadt"),
        ("auf ", "dem Schoner", "auf dem Schoner"),
        ("von ", "Demar", "von Demar"),
    ],
)
def test_german_contractions(text, piece, joined):
    assert fictqa_de.join(text, piece) == joined


@both
def test_pronouns_are_never_taken_up_from_another_of_the_same_gender(lang):
    """A person's pronoun after a sentence that names another person of the same gender could be either of them."""
    own = {"f": {"en": "She|Her", "de": "Sie|Ihr|Ihre"}, "m": {"en": "He|His", "de": "Er|Sein|Seine"}}
    checked = 0
    for paragraph, written in zip(planned(), paragraphs(lang), strict=True):
        for entity, attribute in paragraph.stated():
            value = entity.facts[attribute]
            if entity.kind == "person" and value.kind == "person" and value.data[1] == entity.gender:
                checked += 1
                assert not re.search(rf"{value.data[0]}[^.]*\. ({own[entity.gender][lang]})\b", written["context"])
    assert checked > 10


@both
def test_vocabulary_is_varied(lang):
    words = Counter(word for p in paragraphs(lang) for word in re.findall(r"\w+", p["context"]))
    assert len(words) > 1500
    asked = Counter(re.sub(r"[A-ZÄÖÜ]\w+|\d+", "_", qa["question"]) for qa in questions(lang))
    assert len(asked) > 80
    assert asked.most_common(1)[0][1] < len(questions(lang)) / 10
    kinds = Counter(paragraph.blocks[0][0].kind for paragraph in planned())
    assert min(kinds[kind] for kind in ATTRIBUTES) > 10


@pytest.mark.parametrize(
    ("word", "article"), [("astronomer", "an"), ("university town", "a"), ("island town", "an"), ("brig", "a")]
)
def test_english_indefinite_article(word, article):
    assert fictqa_en_grammar._article(word) == article


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"'fr'.*en, de"):
        generate("fr", 1, 0)
    with pytest.raises(ValueError, match="at least one article"):
        generate("en", 0, 0)
