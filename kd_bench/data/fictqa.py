"""fictqa: a fictional encyclopedia with questions, in English and German, of any size, in SQuAD v2's format.

Its people, places, ships and institutions are invented, down to their names, so no model knows an answer by heart: what
is tested is reading. Each passage speaks of two or three entities of one kind, so that the right date or name has to be
found and not just any; a third of the questions have no answer, and something near it stands in the passage
(`plausible_answers`).
"""

from kd_bench.data import fictqa_de, fictqa_en
from kd_bench.data.fictqa_plan import articles
from kd_bench.data.fictqa_text import write_answer, write_paragraph, write_question
from kd_bench.data.fictqa_world import Dice

LANGUAGES = {"en": fictqa_en, "de": fictqa_de}


def generate(lang: str, size: int, seed: int) -> dict:
    """`size` articles as SQuAD v2 JSON: {"version", "data": [{"title", "paragraphs": [{"context", "qas"}]}]}.

    An article has two or three paragraphs with five or six questions each. The same `size` and `seed` give the same
    articles in every language: titles, ids, facts, questions and their order agree. They give the same bytes on every
    machine and Python version, and a larger `size` only adds articles. `answers` may hold more than one right text, all
    of them at one mention ("46.5 metres", "46.5"). Raises ValueError for an unknown language or a size below 1.
    """
    if lang not in LANGUAGES:
        raise ValueError(f"fictqa has no language {lang!r}: it has {', '.join(LANGUAGES)}")
    if size < 1:
        raise ValueError(f"fictqa needs at least one article, not size {size}")
    language = LANGUAGES[lang]
    data = []
    for number, article in enumerate(articles(size, seed)):
        paragraphs = []
        for part, paragraph in enumerate(article.paragraphs):
            dice = Dice("fictqa", seed, number, part, lang)
            written = write_paragraph(language, paragraph, dice)
            qas = []
            for order, question in enumerate(paragraph.questions):
                texts = [
                    {"text": text, "answer_start": start} for text, start in write_answer(language, question, written)
                ]
                qa = {
                    "id": f"fictqa-{seed}-{number:05d}-{part}-{order}",
                    "question": write_question(language, question, dice),
                    "answers": texts if question.answerable else [],
                    "is_impossible": not question.answerable,
                }
                qas.append(qa if question.answerable else {**qa, "plausible_answers": texts})
            paragraphs.append({"context": written.text, "qas": qas})
        data.append({"title": article.title, "paragraphs": paragraphs})
    return {"version": "fictqa-1.0", "data": data}
