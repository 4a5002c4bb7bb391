"""Writes fictqa's plan down in a language: sentences from templates, and where in them each answer stands.

A language is a module (fictqa_en, fictqa_de) with its templates and the grammar of its references. Slots of a template
are the entity's attributes ({born}, {type}, ...), {name}, and what the module's `words` gives for the way the entity is
spoken of: by name, by description ("the schooner") or by pronoun.
"""

import re
from dataclasses import dataclass, field
from types import ModuleType

from kd_bench.data.fictqa_plan import Paragraph, Question
from kd_bench.data.fictqa_world import ATTRIBUTES, Dice, Entity

_SLOT = re.compile(r"\{([A-Za-z_.]+)\}")
# Slots that put the entity itself into the sentence. A sentence without one ("Her teacher was ...") lives on a pronoun.
_SUBJECTS = {"S", "s", "name"}
_OBLIQUE = {"o", "d", "a", "g"}


@dataclass
class Written:
    """A passage, and where the facts (entity name, attribute) and the entities' full names begin in it."""

    text: str = ""
    facts: dict[tuple[str, str], int] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)


def _attributes(template: str, kind: str) -> set[str]:
    return {slot for slot in _SLOT.findall(template) if slot in ATTRIBUTES[kind]}


def _join(first: str, second: str, language: ModuleType) -> str | None:
    """Both sentences as one with one subject ("She was born in ... and trained by ..."); None where it reads badly."""
    if any(not t.startswith("{S} ") or any(word in t for word in language.CLAUSES) for t in (first, second)):
        return None
    verb, rest = second.removeprefix("{S} ").split(" ", 1)
    if first.split()[1] != verb:
        rest = f"{verb} {rest}"
    elif verb not in language.AUXILIARIES:
        return None
    return first[:-1] + language.AND + rest


def _allows(template: str, mode: str) -> bool:
    slots = set(_SLOT.findall(template))
    if mode == "pronoun":
        return not slots & _OBLIQUE and "{S}," not in template
    return bool(slots & (_SUBJECTS | _OBLIQUE))


def _fill(language: ModuleType, template: str, entity: Entity, mode: str, gender: str, written: Written) -> None:
    """Appends the template, filled, to `written`."""
    words = language.words(entity, mode, gender)
    parts = _SLOT.split(template)
    for number, part in enumerate(parts):
        if number % 2 == 0:
            written.text += part
        elif part == "name":
            written.names.setdefault(entity.name, len(written.text))
            written.text += language.full_name(entity)
        elif part in words:
            written.text = language.join(written.text, words[part])
        elif "." in part:
            attribute, form = part.split(".")
            written.text = language.join(written.text, language.form(entity.value(attribute), form))
        else:
            written.facts.setdefault((entity.name, part), len(written.text))
            written.text += language.value_texts(entity.value(part))[0]


class _Writer:
    """Chooses the sentences of one passage, so that they vary and each pronoun can mean one thing only."""

    def __init__(self, language: ModuleType, dice: Dice):
        self.language, self.dice = language, dice
        self.written = Written()
        self._used: set[str] = set()

    def _choose(self, templates: list[str]) -> str:
        chosen = self.dice.pick([template for template in templates if template not in self._used] or templates)
        self._used.add(chosen)
        return chosen

    def _fitting(self, entity: Entity, mode: str, left: list[str]) -> list[str]:
        """The sentences that say the first fact that is left, and no more than what is left."""
        return [
            template
            for template in self.language.SENTENCES[entity.kind]
            if left[:1] and left[0] in _attributes(template, entity.kind) <= set(left) and _allows(template, mode)
        ]

    def _sentence(self, entity: Entity, mode: str, left: list[str]) -> str:
        fitting = self._fitting(entity, mode, left)
        longer = [template for template in fitting if len(_attributes(template, entity.kind)) > 1]
        first = self._choose(longer if longer and self.dice.chance(0.6) else fitting)
        then = [attribute for attribute in left if attribute not in _attributes(first, entity.kind)]
        seconds = [t for t in self._fitting(entity, mode, then) if _join(first, t, self.language)]
        return _join(first, self._choose(seconds), self.language) if seconds and self.dice.chance(0.6) else first

    def block(self, entity: Entity, attributes: list[str], openings: list[str]) -> None:
        """Sentences for the entity's attributes, led by an opening if it has not been spoken of."""
        left, mode = list(attributes), ""
        gender = ""  # of the noun that a pronoun would take up; "" while there is none, or another noun could be meant
        opens = entity.name not in self.written.names
        while left or opens:
            if opens:
                mode = "name"
                template = self._choose([t for t in openings if _attributes(t, entity.kind) <= set(left)])
            elif gender and self.dice.chance(0.6):
                mode = "pronoun"
                template = self._sentence(entity, mode, left)
            else:
                mode = self.dice.pick([other for other in ("name", "description") if other != mode])
                template = self._sentence(entity, mode, left)
            opens = False
            self._write(template, entity, mode, gender)
            said = _attributes(template, entity.kind)
            left = [attribute for attribute in left if attribute not in said]
            gender = self.language.gender(entity, mode, template, gender)
            # After a sentence about its building "it" could be either, as could "she" after one that names a woman.
            others = {self.language.value_gender(entity.facts[attribute]) for attribute in said}
            if gender in others or not set(_SLOT.findall(template)) & _SUBJECTS:
                gender = ""

    def filler(self, entity: Entity) -> None:
        """A sentence that says nothing that is asked for."""
        self._write(self._choose(self.language.FILLERS[entity.kind]), entity, "name", "")

    def _write(self, template: str, entity: Entity, mode: str, gender: str) -> None:
        self.written.text += " " if self.written.text else ""
        _fill(self.language, template, entity, mode, gender, self.written)


def write_paragraph(language: ModuleType, paragraph: Paragraph, dice: Dice) -> Written:
    """The passage of the plan's paragraph. Every fact of the plan is in it once, and no other."""
    writer = _Writer(language, dice)
    filler_after = dice.between(0, 2 * len(paragraph.blocks) - 1)  # half the time past the last block: no filler
    for number, (entity, attributes) in enumerate(paragraph.blocks):
        writer.block(entity, attributes, (language.OTHERS if number else language.OPENINGS)[entity.kind])
        if number == filler_after:
            writer.filler(entity)
    return writer.written


def write_question(language: ModuleType, question: Question, dice: Dice) -> str:
    """The question's wording; an entity goes by its full name in it."""
    entity = question.entity
    pool = language.INVERSE if question.inverse else language.QUESTIONS
    template = dice.pick(pool[entity.kind][question.attribute])
    if question.inverse and question.attribute != "type":
        entity = Entity(
            entity.kind, entity.name, entity.gender, entity.type, entity.era, {question.attribute: question.value}
        )
    written = Written()
    _fill(language, template, entity, "full", "", written)
    return written.text


def write_answer(language: ModuleType, question: Question, written: Written) -> list[tuple[str, int]]:
    """The answer's texts, best first, each with its place in the passage; without an answer, the plausible one's."""
    entity, attribute = question.answer
    if attribute is None:
        start, texts = written.names[entity.name], language.name_texts(entity)
    else:
        start, texts = written.facts[entity.name, attribute], language.value_texts(entity.value(attribute))
    return [(text, start + texts[0].index(text)) for text in texts]
