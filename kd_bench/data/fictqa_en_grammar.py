"""How fictqa's English speaks of entities and writes values."""

from kd_bench.data.fictqa_world import Entity, Value

_FEW = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_PRONOUNS = {"f": ("she", "her"), "m": ("he", "his"), "n": ("it", "its")}


def join(text: str, piece: str) -> str:
    """English runs nothing together."""
    return text + piece


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" and not word.startswith("uni") else "a"


def full_name(entity: Entity) -> str:
    """The name as an answer gives it, without an article."""
    return f"{entity.name} {entity.type.title()}" if entity.kind == "institution" else entity.name


def name_texts(entity: Entity) -> list[str]:
    """The texts that answer "who" or "which one", best first, each within the first."""
    return [entity.name, entity.name.split()[1]] if entity.kind == "person" else [full_name(entity)]


def gender(entity: Entity, mode: str, template: str, before: str) -> str:
    """The gender of the pronoun that takes up the entity after this sentence."""
    return entity.gender or "n"


def value_gender(value: Value) -> str:
    """Which pronoun could mean the value; "" for none."""
    return {
        "person": value.data[1] if value.kind == "person" else "",
        "place": "n",
        "river": "n",
        "institution": "n",
    }.get(value.kind, "")


def words(entity: Entity, mode: str, gender: str) -> dict[str, str]:
    """The reference slots. mode: "name", "full" (a person's first name too), "description", "pronoun"."""
    subject, possessive = _PRONOUNS[entity.gender or "n"]
    if mode == "description":
        subject = f"the {entity.type}"
    elif mode != "pronoun":
        short = entity.name.split()[-1] if mode == "name" else entity.name
        subject = {"person": short, "place": entity.name}.get(entity.kind, f"the {full_name(entity)}")
    return {
        "S": subject[0].upper() + subject[1:],
        "s": subject,
        "o": subject,
        "P": possessive.capitalize(),
        "p": possessive,
        "an": _article(entity.type),
    }


def form(value: Value, form: str) -> str:
    """What goes with a value: nothing in English, where nouns have no gender."""
    return ""


def value_texts(value: Value) -> list[str]:
    """How the value is written, and shorter texts within that are right as an answer too."""
    data = value.data
    match value.kind:
        case "person":
            return [data[0], data[0].split()[1]]
        case "institution":
            return [f"{data[0]} {data[1].title()}"]
        case "title":
            return [f"The {data[0]} {data[1]}".title()]
        case "type":
            return [data[1]]
        case "few":
            return [_FEW[data]]
        case "count":
            return [f"{data:,}"]
        case "metres":
            return [f"{data:,} metres", f"{data:,}"]
        case "decimetres":
            return [f"{data / 10:g} metres", f"{data / 10:g}"]
    return [str(data)]
