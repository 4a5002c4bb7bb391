"""fictqa's English: templates and how an entity is spoken of.

References: {S} and {s} the subject, at the start of a sentence and in it; {o} elsewhere; {P} and {p} the possessive.
{an} is the article of the type.
"""

from kd_bench.data.fictqa_world import Entity, Value

# Two sentences become one with AND, unless one has a word of CLAUSES in it; a repeated auxiliary is then left out.
AND = " and "
CLAUSES = (",", " and ", " when ", " which ")
AUXILIARIES = {"was", "is", "has", "had"}

OPENINGS = {
    "person": [
        "{name} was {an} {type}.",
        "{name} was {an} {type} whose work is still discussed today.",
        "The {type} {name} is one of the best-known figures of {p} time.",
        "{name}, {an} {type}, was born in {born}.",
        "The {type} {name} was trained by {teacher}.",
    ],
    "place": [
        "{name} is {an} {type}.",
        "{name} is {an} {type} with a long history.",
        "{name} is {an} {type} in the {region} of the country.",
        "{name} is {an} {type} on the river {river}.",
        "The {type} of {name} has {population} inhabitants.",
        "The {type} of {name} was founded in {founded}.",
    ],
    "ship": [
        "The {name} was {an} {type}.",
        "The {name} was {an} {type} built in {yard}.",
        "The {type} {name} was launched in {launched}.",
        "Among sailors the {type} {name} was well known.",
        "The {name} was {an} {type} of which many stories are told.",
    ],
    "institution": [
        "The {name} is known throughout the country.",
        "The {name} enjoys an excellent reputation.",
        "The {name} has its seat in {seat}.",
        "The {name} was founded in {founded}.",
        "The {name} has a history full of changes.",
    ],
}

OTHERS = {
    "person": [
        "A contemporary was the {type} {name}.",
        "{name}, by contrast, was {an} {type}.",
        "The {type} {name} moved in the same circles.",
        "The same sources mention {name}, {an} {type}.",
        "Better known today is the {type} {name}.",
    ],
    "place": [
        "A day's journey away lies the {type} of {name}.",
        "{name}, by contrast, is {an} {type}.",
        "Many travellers go on to {name}, {an} {type}.",
        "The {type} of {name} is often mentioned as a rival.",
    ],
    "ship": [
        "Another ship of that time was the {type} {name}.",
        "The {type} {name} is often mentioned in the same breath.",
        "The {name}, {an} {type}, sailed the same waters.",
        "Older sailors also remembered the {type} {name}.",
    ],
    "institution": [
        "A comparable institution is the {name}.",
        "The {name} has long been seen as a competitor.",
        "The {name} is often mentioned in the same breath.",
        "The {name}, too, is well known.",
    ],
}

SENTENCES = {
    "person": [
        "{S} was born in {born}.",
        "{S} was born in the year {born}.",
        "{S} was born in {birthplace}.",
        "{P} birthplace was {birthplace}.",
        "{S} was born in {birthplace} in {born}.",
        "{S} died in {died}.",
        "{S} lived until {died}.",
        "{S} died in {deathplace}.",
        "{S} spent {p} last years in {deathplace} and died there.",
        "{S} died in {deathplace} in {died}.",
        "{S} was born in {born} and died in {died}.",
        "{S} was trained by {teacher}.",
        "{S} learned the trade from {teacher}.",
        "{P} teacher was {teacher}.",
        "{S} was married to {spouse}.",
        "{S} married {spouse}.",
        "{S} wrote the book “{work}”.",
        "{P} best-known book is “{work}”.",
        "{S} had {siblings} siblings.",
        "{S} grew up with {siblings} siblings.",
        "{S}, who had {siblings} siblings, was trained by {teacher}.",
        "{S} worked at the {employer} for many years.",
        "{S} was employed at the {employer}.",
        "{S} was employed at the {employer} when {p} book “{work}” appeared.",
    ],
    "place": [
        "{S} was founded in {founded}.",
        "{S} dates back to {founded}.",
        "{S} was founded in {founded} and has {population} inhabitants today.",
        "{S} lies on the river {river}.",
        "The river {river} flows through {o}.",
        "{S} has {population} inhabitants.",
        "{P} population is {population}.",
        "{S} lies in the {region} of the country.",
        "The {region} of the country is home to {o}.",
        "{S} lies in the {region} of the country, {altitude} above sea level.",
        "{S} lies {altitude} above sea level.",
        "{P} mayor is {mayor}.",
        "The mayor of {o} is {mayor}.",
        "{S} exports {export}.",
        "{S} sells {export} to all the neighbouring regions.",
        "{S} holds {p} market every {market}.",
        "The market in {o} takes place every {market}.",
        "{P} church tower is {tower} tall.",
        "The church tower of {o} is {tower} tall.",
        "A stone bridge was completed in {o} in {bridge}.",
        "{S} received a stone bridge in {bridge}.",
        "{S} has {population} inhabitants and {p} mayor is {mayor}.",
        "{S} sells {export} at the market, which takes place every {market}.",
    ],
    "ship": [
        "{S} was launched in {launched}.",
        "{S} first took to the water in {launched}.",
        "{S} was built in {yard}.",
        "{S} came from the shipyard in {yard}.",
        "{S} was built in {yard} and launched in {launched}.",
        "{S} was {length} long.",
        "{S} measured {length} from bow to stern.",
        "{S}, {length} long, had a crew of {crew}.",
        "{S} sailed under Captain {captain}.",
        "{P} captain was {captain}.",
        "Captain {captain} was in command of {o}.",
        "{P} home port was {homeport}.",
        "{S} had {p} home port in {homeport}.",
        "{S} had a crew of {crew}.",
        "A crew of {crew} worked on board {o}.",
        "{S} usually carried {cargo}.",
        "{S} was used to transport {cargo}.",
        "{S} usually carried {cargo} to {destination}.",
        "{S} sank in {sunk}.",
        "{S} went down in {sunk}.",
        "{S} sailed regularly to {destination}.",
        "Under Captain {captain}, {s} sailed regularly to {destination}.",
    ],
    "institution": [
        "{S} was founded in {founded}.",
        "{S} was established in {founded}.",
        "{S} was founded by {founder}.",
        "{P} founder was {founder}.",
        "{S} was founded by {founder} in {founded}.",
        "{S} has {p} seat in {seat}.",
        "{S} is based in {seat}.",
        "{S} employs {staff} people.",
        "{S} has a staff of {staff}.",
        "{S} is headed by {director}.",
        "{P} director is {director}.",
        "{S} employs {staff} people and is headed by {director}.",
        "The building of {o} was designed by {architect}.",
        "{P} building was designed by {architect}.",
        "{S} has {rooms} rooms.",
        "There are {rooms} rooms in {o}.",
        "{S} moved into {p} present building in {moved}.",
        "The present building of {o} has been in use since {moved}.",
        "In {moved}, {s} moved into a building designed by {architect}.",
        "{S} is closed every {closed}.",
        "On {closed}, {s} stays closed.",
    ],
}

FILLERS = {
    "person": ["Many letters by {s} have survived.", "A street was later named after {s}."],
    "place": ["Visitors praise the quiet lanes of {o}.", "{S} has changed little in recent years."],
    "ship": ["A model of {o} can be seen in a museum today.", "Several songs tell of {o}."],
    "institution": ["Newspapers often report on {o}.", "{S} holds a summer party every year."],
}

QUESTIONS = {
    "person": {
        "type": ["What was {s}'s profession?", "What did {s} do for a living?"],
        "born": ["When was {s} born?", "In what year was {s} born?"],
        "died": ["When did {s} die?", "In what year did {s} die?"],
        "birthplace": ["Where was {s} born?", "What was the birthplace of {s}?"],
        "deathplace": ["Where did {s} die?", "In which place did {s} die?"],
        "teacher": ["Who trained {s}?", "Who was {s}'s teacher?"],
        "spouse": ["Who was {s} married to?", "Whom did {s} marry?"],
        "work": ["Which book did {s} write?", "What is the title of {s}'s book?"],
        "siblings": ["How many siblings did {s} have?", "With how many siblings did {s} grow up?"],
        "employer": ["At which institution was {s} employed?", "Where did {s} work for many years?"],
    },
    "place": {
        "type": ["What kind of place is {s}?"],
        "founded": ["When was {s} founded?", "In what year was {s} founded?"],
        "bridge": ["When was the stone bridge in {s} completed?", "In what year did {s} receive a stone bridge?"],
        "river": ["On which river does {s} lie?", "Which river flows through {s}?"],
        "population": ["How many inhabitants does {s} have?", "How many people live in {s}?"],
        "mayor": ["Who is the mayor of {s}?", "What is the name of the mayor of {s}?"],
        "export": ["What does {s} export?", "Which goods does {s} sell?"],
        "altitude": ["How high above sea level does {s} lie?", "What is the altitude of {s}?"],
        "tower": ["How tall is the church tower of {s}?", "What is the height of the church tower of {s}?"],
        "market": ["On which day is the market held in {s}?", "When is market day in {s}?"],
        "region": ["In which part of the country does {s} lie?", "Where in the country is {s}?"],
    },
    "ship": {
        "type": ["What kind of ship was {s}?"],
        "launched": ["When was {s} launched?", "In what year did {s} first take to the water?"],
        "sunk": ["When did {s} sink?", "In what year did {s} go down?"],
        "yard": ["Where was {s} built?", "In which place was {s} built?"],
        "homeport": ["What was the home port of {s}?", "In which place did {s} have its home port?"],
        "destination": ["To which place did {s} sail regularly?", "What was the usual destination of {s}?"],
        "length": ["How long was {s}?", "What was the length of {s}?"],
        "captain": ["Who was the captain of {s}?", "Who commanded {s}?"],
        "crew": ["How large was the crew of {s}?", "How many people worked on board {s}?"],
        "cargo": ["What did {s} usually carry?", "Which cargo did {s} transport?"],
    },
    "institution": {
        "founded": ["When was {s} founded?", "In what year was {s} established?"],
        "moved": [
            "When did {s} move into its present building?",
            "Since what year has {s} been in its present building?",
        ],
        "founder": ["Who founded {s}?", "Who was the founder of {s}?"],
        "director": ["Who is the director of {s}?", "Who heads {s}?"],
        "architect": ["Who designed the building of {s}?", "Who was the architect of the building of {s}?"],
        "seat": ["Where is {s} based?", "In which place does {s} have its seat?"],
        "staff": ["How many people does {s} employ?", "How many people work at {s}?"],
        "rooms": ["How many rooms does {s} have?", "How many rooms are there in {s}?"],
        "closed": ["On which day is {s} closed?", "On which day of the week does {s} stay closed?"],
    },
}

INVERSE = {
    "person": {
        "type": ["Who was {an} {type}?", "Who worked as {an} {type}?"],
        "born": ["Who was born in the year {born}?"],
        "died": ["Who died in the year {died}?", "Who lived until {died}?"],
        "birthplace": ["Who was born in {birthplace}?", "Whose birthplace was {birthplace}?"],
        "deathplace": ["Who died in {deathplace}?"],
        "teacher": ["Who was trained by {teacher}?", "Whose teacher was {teacher}?"],
        "spouse": ["Who was married to {spouse}?"],
        "work": ["Who wrote “{work}”?", "Whose book is “{work}”?"],
        "siblings": ["Who had {siblings} siblings?"],
        "employer": ["Who was employed at the {employer}?"],
    },
    "place": {
        "type": ["Which place is {an} {type}?"],
        "founded": ["Which place was founded in {founded}?"],
        "bridge": ["Where was a stone bridge completed in {bridge}?"],
        "river": ["Which place lies on the river {river}?"],
        "population": ["Which place has {population} inhabitants?"],
        "mayor": ["Which place has {mayor} as its mayor?"],
        "export": ["Which place exports {export}?"],
        "altitude": ["Which place lies {altitude} above sea level?"],
        "tower": ["Which place has a church tower that is {tower} tall?"],
        "market": ["Which place holds its market on {market}?"],
        "region": ["Which place lies in the {region} of the country?"],
    },
    "ship": {
        "type": ["Which ship was {an} {type}?"],
        "launched": ["Which ship was launched in {launched}?"],
        "sunk": ["Which ship sank in {sunk}?", "Which ship went down in {sunk}?"],
        "yard": ["Which ship was built in {yard}?"],
        "homeport": ["Which ship had {homeport} as its home port?"],
        "destination": ["Which ship sailed regularly to {destination}?"],
        "length": ["Which ship was {length} long?"],
        "captain": ["Which ship did {captain} command?", "Which ship sailed under Captain {captain}?"],
        "crew": ["Which ship had a crew of {crew}?"],
        "cargo": ["Which ship usually carried {cargo}?"],
    },
    "institution": {
        "founded": ["Which institution was founded in {founded}?"],
        "moved": ["Which institution moved into its present building in {moved}?"],
        "founder": ["Which institution was founded by {founder}?"],
        "director": ["Which institution is headed by {director}?"],
        "architect": ["Which institution's building was designed by {architect}?"],
        "seat": ["Which institution has its seat in {seat}?", "Which institution is based in {seat}?"],
        "staff": ["Which institution employs {staff} people?"],
        "rooms": ["Which institution has {rooms} rooms?"],
        "closed": ["Which institution is closed on {closed}?"],
    },
}

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
