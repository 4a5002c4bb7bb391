"""EM and F1 against hand-worked values, numbers the official scripts print, and lm-eval's copy of MLQA's script."""

import json
import random
import string
import unicodedata

import pytest
from rouge_score.rouge_scorer import RougeScorer

from kd_bench.harness import metrics
from kd_bench.harness.metrics import normalise_mlqa, normalise_squad, rouge_l


def doc(*golds):
    return {"answers": {"text": list(golds), "answer_start": [0] * len(golds)}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Eiffel Tower!", "eiffel tower"),
        ("  an  apple,\ta pear ", "apple pear"),
        ("theatre and Andean", "theatre and andean"),  # articles only as whole words
        ("a-the", "athe"),  # punctuation goes first, so that this is one word
        ("«the» “quoted” – dash", "« » “quoted” – dash"),  # only ASCII punctuation is deleted
        ("$12.5+", "125"),
        ("The a an", ""),
    ],
)
def test_squad_normal_form(text, expected):
    assert normalise_squad(text) == expected


@pytest.mark.parametrize(
    ("lang", "text", "expected"),
    [
        ("en", "The «Eiffel» Tower – “an” icon…", "eiffel tower icon"),
        ("es", "¿Los ríos y una Laguna?", "ríos y laguna"),
        ("hi", "भारत का राज्य।", "भारत का राज्य"),  # no articles; the danda is punctuation
        ("vi", "Những con mèo của Lan là", "con mèo lan"),
        ("de", "Die Straße „des“ 17. Juni, dem Ort", "straße 17 juni ort"),
        ("ar", "الكتاب", "كتاب"),
        ("ar", "في البيت", "في بيت"),
        ("ar", "مثال", "مث"),  # the script removes the two letters inside a word as well
        ("zh", "我在NBA打球，20年。", "我 在 nba 打 球 20 年"),
        ("zh", "New York 市", "new york 市"),
    ],
)
def test_mlqa_normal_form(lang, text, expected):
    assert normalise_mlqa(text, lang) == expected


def test_mlqa_languages():
    assert set(metrics.LANGUAGES) == {"en", "es", "hi", "vi", "de", "ar", "zh"}
    with pytest.raises(ValueError, match=r"'fr'.*en, es, hi, vi, de, ar, zh"):
        normalise_mlqa("le", "fr")


def test_answerable_squad():
    scores = metrics.squad(doc("the Norman kings", "kings"), [" Norman kings of France"])
    # against "norman kings": precision 2/4, recall 1; against "kings": 1/4 and 1
    assert scores["f1"] == scores["has_ans_f1"] == pytest.approx(2 / 3)
    assert scores["em"] == scores["has_ans_em"] == 0
    assert scores["abstained"] == 0
    assert "no_ans_em" not in scores
    assert metrics.squad(doc("in 1066", "1066"), ["The 1066."])["em"] == 1


def test_repeated_words_count_as_often_as_they_stand():
    # golds: b b c; prediction: b b b -> two shared of three and three
    assert metrics.squad(doc("b b c"), ["b b b"])["f1"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("said", ["unanswerable", " Unanswerable.", "The unanswerable", "", "  ", "the"])
@pytest.mark.parametrize("score", [metrics.squad, metrics.fictqa_en])
def test_abstaining(score, said):
    assert score(doc(), [said]) == {"em": 1, "f1": 1, "rougeL": 1, "abstained": 1, "no_ans_em": 1}
    wrong = score(doc("Rollo"), [said])
    assert wrong == {"em": 0, "f1": 0, "rougeL": 0, "abstained": 1, "has_ans_em": 0, "has_ans_f1": 0}


def test_only_the_whole_prediction_abstains():
    scores = metrics.squad(doc(), ["it is unanswerable"])
    assert scores["abstained"] == scores["em"] == scores["f1"] == 0
    assert scores["rougeL"] == pytest.approx(0.5)  # one shared word: precision 1/3, recall 1


def test_golds_without_a_word_are_dropped():
    assert metrics.squad(doc("the", "Rollo"), [""])["em"] == 0
    assert metrics.squad(doc("the", "Rollo"), ["Rollo"])["em"] == 1
    assert metrics.squad(doc("the"), [""])["em"] == 1  # nothing is left, so the script expects no answer
    assert metrics.squad(doc("the"), [""])["has_ans_f1"] == 1


def test_german_fictqa_knows_german_articles():
    assert metrics.fictqa_de(doc("die Werft"), ["„Werft“"])["em"] == 1
    assert metrics.fictqa_en(doc("die Werft"), ["Werft"])["em"] == 0
    assert metrics.fictqa_de(doc(), ["unanswerable"])["no_ans_em"] == 1


@pytest.mark.parametrize("score", [metrics.mlqa_de, metrics.xquad_de, metrics.mlqa_en, metrics.xquad_en])
def test_no_abstention_where_every_question_has_an_answer(score):
    assert score(doc("42"), ["unanswerable"]) == {"em": 0, "f1": 0, "rougeL": 0}
    assert score(doc("Unanswerable"), ["unanswerable"]) == {"em": 1, "f1": 1, "rougeL": 1}
    with pytest.raises(ValueError, match="gold"):
        score(doc(), ["unanswerable"])


def test_mlqa_texts_without_a_word_match_but_share_nothing():
    assert metrics.mlqa_de(doc("die"), ["der"]) == {"em": 1, "f1": 0, "rougeL": 0}  # as the script: EM 100, F1 0


def test_mlqa_takes_the_language_of_the_answers():
    assert metrics.mlqa_de(doc("der Rhein"), ["Rhein"])["em"] == 1
    assert metrics.mlqa_en(doc("der Rhein"), ["Rhein"])["em"] == 0
    assert metrics.xquad_en(doc("the Rhine"), ["Rhine"])["em"] == 1
    assert metrics.xquad_de(doc("308 Punkte"), ["von 308 Punkten"])["f1"] == pytest.approx(0.4)


# --- the official scripts ---


def constructed_prediction(number, qa, context):
    """What the official scripts were given for the question: right, partly right, wrong, nothing, or an article."""
    golds = [answer["text"] for answer in qa["answers"]] or ["unanswerable"]
    return [
        golds[-1].upper() + ".",
        f"the {golds[0]} of {context.split()[0]}",
        " ".join(context.split()[:3]),
        "",
        "The",
    ][number % 5]


def percentages(path, score, questions):
    """Each metric's mean in per cent over a file's questions; skips unless it is the file the script was run on."""
    if not path.is_file():
        pytest.skip(f"no {path}")
    values, number = {}, 0
    for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            for qa in paragraph["qas"]:
                prediction = constructed_prediction(number, qa, paragraph["context"])
                number += 1
                for metric, value in score(doc(*(a["text"] for a in qa["answers"])), [prediction]).items():
                    values.setdefault(metric, []).append(value)
    if number != questions:
        pytest.skip(f"the script's numbers are for {questions} questions; {path} has {number}")
    return {metric: 100 * sum(column) / len(column) for metric, column in values.items()}


def test_the_numbers_of_the_official_squad_script(data_dir):
    """evaluate-v2.0 on the same predictions, with those that are the word "unanswerable" emptied as its input needs."""
    got = percentages(data_dir / "squad_v2" / "dev-v2.0.json", metrics.squad, 1105)
    assert got["em"] == pytest.approx(39.366515837104075)
    assert got["f1"] == pytest.approx(46.622043868650245)
    assert got["has_ans_em"] == pytest.approx(19.895287958115183)
    assert got["has_ans_f1"] == pytest.approx(33.887187565198026)
    assert got["no_ans_em"] == pytest.approx(60.338345864661655)


@pytest.mark.parametrize(
    ("file", "score", "questions", "em", "f1"),
    [
        ("MLQA_V1/dev/dev-context-de-question-de.json", metrics.mlqa_de, 512, 19.3359375, 32.33192410599505),
        ("xquad/xquad.de.json", metrics.xquad_de, 1190, 19.66386554621849, 32.37209432459242),
        ("xquad/xquad.en.json", metrics.xquad_en, 1190, 20.168067226890756, 34.682284969056944),
    ],
)
def test_the_numbers_of_the_official_mlqa_script(data_dir, file, score, questions, em, f1):
    got = percentages(data_dir / file, score, questions)
    assert got["em"] == pytest.approx(em)
    assert got["f1"] == pytest.approx(f1)


@pytest.mark.parametrize("lang", ["en", "es", "hi", "vi", "de", "zh"])
def test_normal_forms_are_those_of_the_scripts_copy_in_lm_eval(lang):
    """Arabic is left out: lm-eval has mended the script's pattern there, and the published numbers are the script's."""
    mlqa = pytest.importorskip("lm_eval.tasks.mlqa.utils")
    rng = random.Random(11)
    pieces = [
        *"aelnh \t-–.,'“”«»$+。，،।के北京市龥龦20２ÜßЖ",
        *["", "the", "an", "", "là", "của", "die", "einer", "los", "una", "में", "of"],
        "e\u0301",
    ]
    for _ in range(500):
        text = "".join(rng.choice(pieces) + rng.choice(["", " "]) for _ in range(rng.randrange(16)))
        other = "".join(rng.sample(text, len(text)))
        assert normalise_mlqa(text, lang) == mlqa.normalize_answer(text, lang), text
        got = metrics.score_answer(other, [text, "x"], lambda t: normalise_mlqa(t, lang))
        assert got["em"] == max(mlqa.exact_match_score(other, gold, lang) for gold in (text, "x"))
        assert got["f1"] == pytest.approx(max(mlqa.f1_score(other, gold, lang) for gold in (text, "x")))


# --- ROUGE-L ---


def test_rouge_equals_rouge_score_on_ascii():
    rng = random.Random(7)
    reference = RougeScorer(["rougeL"])
    alphabet = string.ascii_letters[:8] + "AB 019  _-.,'%\t"
    for _ in range(300):
        left, right = ("".join(rng.choices(alphabet, k=rng.randrange(30))) for _ in range(2))
        assert rouge_l(left, right) == reference.score(right, left)["rougeL"].fmeasure, (left, right)


def test_rouge_keeps_letters_that_are_not_ascii():
    assert rouge_l("Müller", "Möller") == 0
    assert RougeScorer(["rougeL"]).score("Möller", "Müller")["rougeL"].fmeasure == 1  # both are "m ller" to it
    assert rouge_l("Übermäßige Größe!", "die übermäßige Größe") == pytest.approx(0.8)
    assert rouge_l("हिन्दी में", "हिन्दी") == pytest.approx(2 / 3)  # vowel signs do not split the word
    assert rouge_l("北京市", "北京") == pytest.approx(0.8)


def test_rouge_composed_and_decomposed_umlauts_agree():
    assert rouge_l(unicodedata.normalize("NFD", "Köln"), "Köln") == 1


def test_rouge_is_about_order_and_takes_the_best_gold():
    # longest common subsequence of "b a c" and "a b c": two words of three
    assert rouge_l("b a c", "a b c") == pytest.approx(2 / 3)
    assert metrics.mlqa_de(doc("ganz anders", "am Rhein"), ["Rhein"])["rougeL"] == pytest.approx(2 / 3)


def test_every_scoring_function_is_found_by_name_and_has_its_normal_form():
    functions = {f.__name__ for f in metrics.NORMALISE}
    assert functions == {"squad", "fictqa_en", "fictqa_de", "mlqa_en", "mlqa_de", "xquad_en", "xquad_de"}
    for function in metrics.NORMALISE:
        assert getattr(metrics, function.__name__) is function
        scores = function(doc("Anna Bold", "Bold"), [" Anna Bold\n"])
        assert all(scores[metric] == 1 for metric in ("em", "f1", "rougeL"))
        assert all(0 <= value <= 1 and isinstance(value, float) for value in scores.values())
