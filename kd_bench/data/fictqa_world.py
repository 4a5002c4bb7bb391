"""The invented world of fictqa: names that nobody has, and people, places, ships and institutions with their facts.

Everything here is free of language: a value is data (a year, a name, the key of a word), which each language writes in
its own way.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


class Dice:
    """Random choices that are the same on every machine and Python version.

    Only `random.Random.random` is promised to stay the same for a seed, so everything is made of it. `key` is joined to
    one text: dice with different keys are independent, so that a language's wording cannot shift the facts.
    """

    def __init__(self, *key: object):
        self._random = random.Random("/".join(map(str, key))).random

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def between(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(self._random() * (high - low + 1))

    def pick(self, items: Sequence[T]) -> T:
        return items[self.between(0, len(items) - 1)]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        left = list(items)
        return [left.pop(self.between(0, len(left) - 1)) for _ in range(len(left))]


def _listed(text: str) -> list[str]:
    return [item.strip() for item in text.split(",")]


@dataclass(frozen=True)
class Value:
    """One fact's value. `kind` says what `data` is and which other values could be mistaken for it."""

    kind: str
    data: Any


@dataclass(frozen=True)
class Entity:
    kind: str  # person, place, ship, institution
    name: str  # the bare name, unique in the data set and the same in every language
    gender: str  # of a person: "f" or "m"; else ""
    type: str  # key into TYPES[kind]
    era: int  # the year around which its life lies
    facts: dict[str, Value] = field(compare=False)

    def value(self, attribute: str) -> Value:
        """The fact; the type is one too, with the gender that a person's profession has in some languages."""
        return Value("type", (self.kind, self.type, self.gender)) if attribute == "type" else self.facts[attribute]


# Attribute -> kind of value. Two attributes of one kind are what unanswerable questions confuse.
ATTRIBUTES: dict[str, dict[str, str]] = {
    "person": {
        "born": "year",
        "died": "year",
        "birthplace": "place",
        "deathplace": "place",
        "teacher": "person",
        "spouse": "person",
        "work": "title",
        "siblings": "few",
        "employer": "institution",
    },
    "place": {
        "founded": "year",
        "bridge": "year",
        "river": "river",
        "population": "count",
        "mayor": "person",
        "export": "goods",
        "altitude": "metres",
        "tower": "metres",
        "market": "weekday",
        "region": "region",
    },
    "ship": {
        "launched": "year",
        "sunk": "year",
        "yard": "place",
        "homeport": "place",
        "destination": "place",
        "length": "decimetres",
        "captain": "person",
        "crew": "count",
        "cargo": "goods",
    },
    "institution": {
        "founded": "year",
        "moved": "year",
        "founder": "person",
        "director": "person",
        "architect": "person",
        "seat": "place",
        "staff": "count",
        "rooms": "count",
        "closed": "weekday",
    },
}

# In which order a passage says them: births before deaths; what is not listed comes in between.
FIRST = {"born", "birthplace", "siblings", "founded", "founder", "yard", "launched", "region", "river"}
SECOND = {"teacher", "length", "population", "seat"}
LAST = {"died", "deathplace", "sunk", "closed"}

# What ties a later paragraph's entity to the article's: its kind, and its attribute that is the article's entity, or,
# of a ship, has the same value as the article's ship's.
TIES: dict[str, list[tuple[str, str]]] = {
    "person": [("institution", "founder"), ("ship", "captain"), ("person", "teacher")],
    "place": [("ship", "homeport"), ("institution", "seat"), ("person", "birthplace")],
    "ship": [("ship", "homeport"), ("ship", "captain")],
    "institution": [("person", "employer")],
}

TYPES: dict[str, list[str]] = {
    "person": _listed(
        "cartographer, glassblower, botanist, clockmaker, composer, bell founder, painter, astronomer, poet, surveyor,"
        "beekeeper, printer, architect, engraver, organ builder, weaver, potter, geologist, historian, sculptor,"
        "bookbinder, meteorologist, lexicographer, gardener, goldsmith, instrument maker"
    ),
    "place": _listed(
        "harbour town, mining town, market town, fishing village, spa town, mountain village, island town, border town,"
        "university town, wine village"
    ),
    "ship": _listed(
        "schooner, paddle steamer, brig, barque, ketch, lugger, freighter, ferry, galleon, mail steamer",
    ),
    "institution": _listed(
        "academy, library, museum, observatory, theatre, publishing house, conservatory, archive,"
        "printing works, art school"
    ),
}

# How large a number is: by kind of value, by kind of entity and attribute, or by type and attribute.
RANGES: dict[str | tuple[str, str], tuple[int, int]] = {
    "few": (2, 9),
    "count": (11, 64),
    "metres": (18, 92),
    "decimetres": (180, 890),
    ("place", "population"): (4100, 87000),
    ("fishing village", "population"): (310, 2900),
    ("mountain village", "population"): (310, 2900),
    ("wine village", "population"): (310, 2900),
    ("place", "altitude"): (4, 95),
    ("harbour town", "altitude"): (3, 17),
    ("fishing village", "altitude"): (3, 17),
    ("island town", "altitude"): (3, 17),
    ("mountain village", "altitude"): (610, 1840),
    ("mining town", "altitude"): (310, 980),
    ("institution", "staff"): (12, 480),
}
GOODS = _listed(
    "salt, amber, slate, honey, bells, wool, glass beads, copper, tea, paper, cork, prunes, hops, linen, cheese,"
    "candles, timber, marble, saffron, smoked fish, barley, ink, ropes, porcelain, walnuts, furs, sulphur, mirrors,"
    "tobacco, chalk"
)
WEEKDAYS = _listed("Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday")
REGIONS = _listed("north, south, east, west, north-east, south-west")
TITLE_ADJECTIVES = _listed(
    "silver, quiet, blue, lost, long, copper, hidden, last, red, frozen, burning, green, empty, old, white, broken,"
    "golden, dark, slow, seventh, forgotten, distant"
)
TITLE_NOUNS = _listed(
    "ferry, tower, gate, garden, winter, bell, mirror, lamp, bridge, harbour, letter, island, key, river, horse, mill,"
    "staircase, window, star, road, house, song, map, stone, boat, fire, clock, forest, traveller, meadow"
)

# Sounds of the invented names. What stands twice is twice as frequent.
_ONSETS = _listed(
    "b, br, d, dr, f, fl, g, gl, h, j, k, kl, kr, l, m, n, p, pl, r, s, sk, sl, st, t, th, tr, v, vr, w, z"
)
_VOWELS = _listed("a, a, a, a, e, e, e, e, i, i, i, i, o, o, o, o, u, u, u, au, ei, ie, ö, ü")
_MIDDLES = _listed("l, n, r, s, v, m, d, k, b, nd, lm, rn, st, ll, rr, sk, lv, nt")
_ENDINGS = {
    "f": _listed("a, a, ia, ine, e, is, eth, ea"),
    "m": _listed("o, en, ar, ek, ian, or, us, an"),
    "surname": _listed("en, ak, oss, ind, ell, are, um, ott, ik, ane, erg, old"),
    "place": _listed("mar, holm, vik, dun, esk, ora, und, ast, ingen, orp, ael, osk"),
    "river": _listed("a, e, is, u, ir, ane"),
    "ship": _listed("a, is, or, ane, eia, ula, onde"),
    "institution": _listed("el, and, ian, on, are, ost, is"),
}


class World:
    """Makes entities. No name that it gives is ever given again, but for persons' first names."""

    def __init__(self):
        self._used: set[str] = set()

    def name(self, dice: Dice, ending: str) -> str:
        while True:
            syllables = dice.pick(_ONSETS) + dice.pick(_VOWELS) + dice.pick(_MIDDLES)
            if ending in ("f", "m"):
                return (syllables + dice.pick(_ENDINGS[ending])).capitalize()
            if dice.chance(0.4):
                syllables += dice.pick(_VOWELS) + dice.pick(_MIDDLES)
            name = (syllables + dice.pick(_ENDINGS[ending])).capitalize()
            if name not in self._used:
                self._used.add(name)
                return name

    def person_name(self, dice: Dice, gender: str) -> str:
        return f"{self.name(dice, gender)} {self.name(dice, 'surname')}"

    def entity(self, dice: Dice, kind: str, era: int, *, unlike: Sequence[Entity] = (), **given: Value) -> Entity:
        """An entity of `kind` with every attribute valued, no two alike.

        Its type is that of none of `unlike`; `given` facts are set.
        """
        gender = dice.pick("fm") if kind == "person" else ""
        name = self.person_name(dice, gender) if kind == "person" else self.name(dice, kind)
        taken = {other.type for other in unlike}
        type_ = dice.pick([t for t in TYPES[kind] if t not in taken])
        facts = dict(given)
        years = _years(dice, kind, era, founder_is_known="founder" in given)
        for attribute, of in ATTRIBUTES[kind].items():
            while attribute not in facts:
                low, high = RANGES.get((type_, attribute)) or RANGES.get((kind, attribute)) or RANGES.get(of, (0, 0))
                value = Value(of, years[attribute]) if of == "year" else self._value(dice, of, low, high)
                if value not in facts.values():
                    facts[attribute] = value
        return Entity(kind, name, gender, type_, era, facts)

    def _value(self, dice: Dice, kind: str, low: int, high: int) -> Value:
        match kind:
            case "person":
                gender = dice.pick("fm")
                data = (self.person_name(dice, gender), gender)
            case "place" | "river":
                data = self.name(dice, kind)
            case "institution":
                data = (self.name(dice, kind), dice.pick(TYPES[kind]))
            case "title":
                data = (dice.pick(TITLE_ADJECTIVES), dice.pick(TITLE_NOUNS))
            case "few" | "count" | "metres" | "decimetres":
                data = dice.between(low, high)
            case "goods":
                data = dice.pick(GOODS)
            case "weekday":
                data = dice.pick(WEEKDAYS)
            case "region":
                data = dice.pick(REGIONS)
        return Value(kind, data)


def _years(dice: Dice, kind: str, era: int, founder_is_known: bool) -> dict[str, int]:
    """Years in a possible order: nobody dies before birth, and a founder was grown up."""
    if kind == "person":
        born = era - dice.between(35, 50)
        return {"born": born, "died": born + dice.between(52, 86)}
    if kind == "place":
        return {"founded": era - dice.between(150, 580), "bridge": era - dice.between(1, 90)}
    if kind == "ship":
        launched = era + dice.between(-10, 10)
        return {"launched": launched, "sunk": launched + dice.between(4, 45)}
    founded = era - dice.between(0, 8 if founder_is_known else 60)
    return {"founded": founded, "moved": founded + dice.between(12, 60)}


def as_value(entity: Entity) -> Value:
    """The entity as another entity's fact."""
    match entity.kind:
        case "person":
            return Value("person", (entity.name, entity.gender))
        case "institution":
            return Value("institution", (entity.name, entity.type))
    return Value(entity.kind, entity.name)
