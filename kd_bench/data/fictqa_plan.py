"""What fictqa's articles say and ask, before any language: blocks of facts, and questions with or without an answer."""

from collections.abc import Iterator
from dataclasses import dataclass

from kd_bench.data.fictqa_world import ATTRIBUTES, FIRST, LAST, SECOND, TIES, Dice, Entity, Value, World, as_value

KINDS = ("person", "place", "ship", "institution")


@dataclass(frozen=True)
class Question:
    """A question for `entity`'s `attribute`, or, `inverse`, for the entity whose `attribute` is `value`.

    answer: where the answer stands, or, if the question has none, what could be mistaken for it: the fact (entity,
    attribute), or, with the attribute None, the entity's name.
    """

    entity: Entity
    attribute: str
    inverse: bool
    value: Value | None
    answerable: bool
    answer: tuple[Entity, str | None]

    @property
    def key(self) -> tuple:
        """Questions with one key would read the same."""
        return (self.attribute, self.value) if self.inverse else (self.attribute, self.entity.name)


@dataclass(frozen=True)
class Paragraph:
    blocks: list[tuple[Entity, list[str]]]  # who is spoken of, and which attributes are said, in order
    questions: list[Question]

    def stated(self) -> list[tuple[Entity, str]]:
        """Every fact that the paragraph gives, but for the types of its entities, which it always gives."""
        return [(entity, attribute) for entity, attributes in self.blocks for attribute in attributes]


@dataclass(frozen=True)
class Article:
    title: str
    paragraphs: list[Paragraph]


def articles(size: int, seed: int) -> Iterator[Article]:
    """`size` articles. The first n are the same whatever `size` is."""
    world = World()
    asked = unanswerable = 0
    for number in range(size):
        dice = Dice("fictqa", seed, number)
        main = world.entity(dice, dice.pick(KINDS), dice.between(1825, 1915))
        paragraphs, said, ties = [], [], []
        for part in range(dice.between(2, 3)):
            subject, required = main, []
            left = [attribute for attribute in ATTRIBUTES[main.kind] if attribute not in said]
            if part and (len(left) < 4 or dice.chance(0.6)):
                kind, tie = dice.pick([tie for tie in TIES[main.kind] if tie not in ties] or TIES[main.kind])
                ties.append((kind, tie))
                value = as_value(main) if ATTRIBUTES[kind][tie] == main.kind else main.facts[tie]
                era = main.era + 25 * (tie == "teacher")
                subject, required = world.entity(dice, kind, era, **{tie: value}), [tie]
                left = [attribute for attribute in ATTRIBUTES[kind] if attribute not in required]
            chosen = dice.shuffled(left)[: dice.between(4, 5) - len(required)]
            blocks = _blocks(world, dice, subject, _in_order(dice, required + chosen))
            said += chosen if subject is main else []
            count = dice.between(5, 6)
            without = round((asked + count) / 3) - unanswerable  # so that a third of all questions so far has no answer
            asked, unanswerable = asked + count, unanswerable + without
            stranger = world.entity(dice, subject.kind, subject.era)
            paragraphs.append(Paragraph(blocks, _questions(dice, blocks, stranger, count - without, without)))
        yield Article(main.name, paragraphs)


def _in_order(dice: Dice, attributes: list[str]) -> list[str]:
    ranks = {attribute: rank for rank, some in ((0, FIRST), (1, SECOND), (3, LAST)) for attribute in some}
    return sorted(dice.shuffled(attributes), key=lambda attribute: ranks.get(attribute, 2))


def _blocks(world: World, dice: Dice, subject: Entity, attributes: list[str]) -> list[tuple[Entity, list[str]]]:
    """The subject's facts and, between or after them, those of one or two others of its kind.

    The others share an attribute with the subject, with another value, and have one that is not said of the subject.
    """
    entities, stated = [subject], [subject.facts[attribute] for attribute in attributes]
    others = []
    unsaid = [attribute for attribute in ATTRIBUTES[subject.kind] if attribute not in attributes]
    for count in (3, 2)[: dice.between(1, 2)]:
        chosen = _in_order(dice, [dice.pick(attributes), *dice.shuffled(unsaid)[: count - 1]])
        while True:
            other = world.entity(dice, subject.kind, subject.era + dice.between(-8, 8), unlike=entities)
            values = [other.facts[attribute] for attribute in chosen]
            if not any(value in stated for value in values) and len(set(values)) == len(values):
                break
        entities.append(other)
        stated += values
        others.append((other, chosen))
    if dice.chance(0.5):
        cut = dice.between(1, len(attributes) - 1)
        return [(subject, attributes[:cut]), others[0], (subject, attributes[cut:]), *others[1:]]
    return [(subject, attributes), *others]


def _questions(
    dice: Dice, blocks: list[tuple[Entity, list[str]]], stranger: Entity, answerable: int, unanswerable: int
) -> list[Question]:
    stated = Paragraph(blocks, []).stated()
    facts = dice.shuffled(stated)[:answerable]
    if blocks[0][0].kind != "institution" and dice.chance(0.4):  # an institution's type is part of its name
        facts[-1] = (dice.pick([entity for entity, _ in blocks]), "type")
    questions = []
    for entity, attribute in facts:
        inverse = dice.chance(0.25)
        value = entity.value(attribute) if inverse else None
        questions.append(Question(entity, attribute, inverse, value, True, (entity, None if inverse else attribute)))
    traps = [dice.shuffled(kind) for kind in _traps(stated, stranger)]
    while unanswerable:
        # The harder kinds of trap are the more frequent ones.
        number = dice.pick((0, 0, 0, 0, 1, 1, 1, 2, 3, 3))
        if not traps[number]:
            continue
        trap = traps[number].pop()
        if trap.key not in [question.key for question in questions]:
            questions.append(trap)
            unanswerable -= 1
    return dice.shuffled(questions)


def _traps(stated: list[tuple[Entity, str]], stranger: Entity) -> list[list[Question]]:
    """Unanswerable questions, by how they mislead: four lists, the third of which is never empty.

    [0] asks for what is said of another entity only; [1] for an attribute that is not said, where the same entity has a
    like one (the director for the founder); [2] about an entity that is not spoken of; [3] for the entity that has a
    value, where the value stands as another attribute.
    """
    entities = list(dict.fromkeys(entity for entity, _ in stated))
    of_other = [
        Question(entity, attribute, False, None, False, (other, attribute))
        for entity in entities
        for other, attribute in stated
        if (entity, attribute) not in stated
    ]
    near, swapped = [], []
    for entity, attribute in stated:
        of = ATTRIBUTES[entity.kind]
        for like in [like for like in of if of[like] == of[attribute] and like != attribute]:
            if {like, attribute} == {"homeport", "destination"}:
                continue  # a ship does sail to its home port
            if (entity, like) not in stated:
                near.append(Question(entity, like, False, None, False, (entity, attribute)))
            swapped.append(Question(entity, like, True, entity.facts[attribute], False, (entity, None)))
    of_nobody = [Question(stranger, attribute, False, None, False, (entity, attribute)) for entity, attribute in stated]
    return [of_other, near, of_nobody, swapped]
