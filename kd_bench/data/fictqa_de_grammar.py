"""How fictqa's German speaks of entities and writes values: articles, cases, pronouns, contractions."""

from kd_bench.data.fictqa_de_words import (
    GOODS,
    NOUNS,
    PROFESSIONS,
    REGIONS,
    TITLE_ADJECTIVES,
    TITLE_NOUNS,
    WEEKDAYS,
)
from kd_bench.data.fictqa_world import Entity, Value

_ARTICLES = {
    "nom": {"m": "der", "f": "die", "n": "das"},
    "acc": {"m": "den", "f": "die", "n": "das"},
    "dat": {"m": "dem", "f": "der", "n": "dem"},
    "gen": {"m": "des", "f": "der", "n": "des"},
}
_PRONOUNS = {"m": "er", "f": "sie", "n": "es"}
_CONTRACTED = {"von ": "vom", "bei ": "beim", "in ": "im", "In ": "Im", "an ": "am", "An ": "Am", "zu ": "zum"}
_FEW = ["null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"]


def join(text: str, piece: str) -> str:
    """Appends `piece`, contracting a preposition with the article: "von" + "dem Schoner" is "vom Schoner"."""
    head, preposition = text[: text.rstrip().rfind(" ") + 1], text[text.rstrip().rfind(" ") + 1 :]
    if preposition in _CONTRACTED and piece.split()[0] == "dem":
        return head + _CONTRACTED[preposition] + piece.removeprefix("dem")
    return text + piece


def full_name(entity: Entity) -> str:
    """The name as an answer gives it, without an article."""
    return f"{NOUNS[entity.type][0]} {entity.name}" if entity.kind == "institution" else entity.name


def name_texts(entity: Entity) -> list[str]:
    """The texts that answer "who" or "which one", best first, each within the first."""
    return [entity.name, entity.name.split()[1]] if entity.kind == "person" else [full_name(entity)]


def _type(entity: Entity) -> tuple[str, str, str]:
    if entity.kind == "person":
        noun = PROFESSIONS[entity.type][entity.gender == "f"]
        return noun, entity.gender, noun
    return NOUNS[entity.type]


def _name_gender(entity: Entity) -> str:
    return {"person": entity.gender, "place": "n", "ship": "f", "institution": _type(entity)[1]}[entity.kind]


def gender(entity: Entity, mode: str, template: str, before: str) -> str:
    """The gender of the pronoun that takes up the entity next: that of the noun that stood for it in this sentence."""
    if mode == "pronoun":
        return before
    by_type = mode == "description" or "er} {type} {name}" in template
    return _type(entity)[1] if by_type else _name_gender(entity)


def value_gender(value: Value) -> str:
    """Which pronoun could mean the value; "" for none."""
    match value.kind:
        case "person":
            return value.data[1]
        case "institution":
            return NOUNS[value.data[1]][1]
    return {"place": "n", "river": "m"}.get(value.kind, "")


def _cases(entity: Entity, mode: str) -> dict[str, str]:
    """The reference in each case."""
    noun, of_type, genitive = _type(entity)
    if mode == "description":
        return {
            case: f"{articles[of_type]} {genitive if case == 'gen' else noun}" for case, articles in _ARTICLES.items()
        }
    if entity.kind == "ship":
        return {case: f"{articles['f']} {entity.name}" for case, articles in _ARTICLES.items()}
    if entity.kind == "institution":
        return {
            case: f"{articles[of_type]} {genitive if case == 'gen' else noun} {entity.name}"
            for case, articles in _ARTICLES.items()
        }
    name = entity.name.split()[-1] if mode == "name" else entity.name
    return {"nom": name, "acc": name, "dat": name, "gen": f"von {name}"}


def words(entity: Entity, mode: str, gender: str) -> dict[str, str]:
    """The reference slots. mode: "name", "full" (a person's first name too), "description", "pronoun".

    gender: of the noun that stood for the entity last, which a pronoun takes up.
    """
    of_type = _type(entity)[1]
    cases = _cases(entity, mode) if mode != "pronoun" else dict.fromkeys(_ARTICLES, _PRONOUNS[gender])
    own = gender if mode == "pronoun" else of_type if mode == "description" else _name_gender(entity)
    possessive = "ihr" if own == "f" else "sein"
    return {
        "S": cases["nom"][0].upper() + cases["nom"][1:],
        "s": cases["nom"],
        "a": cases["acc"],
        "d": cases["dat"],
        "g": cases["gen"],
        "P": possessive.capitalize(),
        "p": possessive,
        "pe": possessive + "e",
        "pen": possessive + "en",
        "per": possessive + "er",
        "der": _ARTICLES["nom"][of_type],
        "Der": _ARTICLES["nom"][of_type].capitalize(),
        "den": _ARTICLES["acc"][of_type],
        "ein": "eine" if of_type == "f" else "ein",
    }


def form(value: Value, form: str) -> str:
    """What goes with a value: the ending "in" of a woman's title, or an institution's article in the case named."""
    if form == "in":
        return "in" if value.data[1] == "f" else ""
    return _ARTICLES[form][NOUNS[value.data[1]][1]]


def value_texts(value: Value) -> list[str]:
    """How the value is written, and shorter texts within that are right as an answer too."""
    data = value.data
    match value.kind:
        case "person":
            return [data[0], data[0].split()[1]]
        case "institution":
            return [f"{NOUNS[data[1]][0]} {data[0]}"]
        case "title":
            noun, of = TITLE_NOUNS[data[1]]
            return [f"{_ARTICLES['nom'][of].capitalize()} {TITLE_ADJECTIVES[data[0]]} {noun}"]
        case "type":
            kind, key, of = data
            return [PROFESSIONS[key][of == "f"] if kind == "person" else NOUNS[key][0]]
        case "few":
            return [_FEW[data]]
        case "count":
            return [_number(data)]
        case "metres":
            return [f"{_number(data)} Meter", _number(data)]
        case "decimetres":
            number = f"{data / 10:g}".replace(".", ",")
            return [f"{number} Meter", number]
        case "goods":
            return [GOODS[data]]
        case "weekday":
            return [WEEKDAYS[data]]
        case "region":
            return [REGIONS[data]]
    return [str(data)]


def _number(number: int) -> str:
    return f"{number:,}".replace(",", ".")
