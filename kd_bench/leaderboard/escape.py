"""Text from outside as it may stand in markdown, and numbers and tables as they are written there."""

import re
import shlex
import unicodedata

import tabulate as tabulating

# tabulate pads by display width where the package wcwidth happens to be installed: other bytes on another machine.
tabulating.WIDE_CHARS_MODE = False

MISSING = "–"
MINUS = "−"
ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "`": "&#96;"}


def one_line(text: str) -> str:
    """Without control and invisible characters (which may reorder a line's text), white space collapsed."""
    spaced = "".join(" " if unicodedata.category(letter)[0] in "CZ" else letter for letter in text)
    return " ".join(spaced.split())


def escape(text: str) -> str:
    """`text` so that it shows as it is, at a line's start and in a table's cell too: no markup, no HTML, no link.

    Underscores within words stay: they are no markup there, and an escaped task name is hard to read in the source.
    """
    markup = r"[\\*\[\]~$!]|(?<!\w)_|_(?!\w)|^[#+=-]|(?<=^\d)[.)](?= |$)"
    text = re.sub(markup, lambda match: f"\\{match[0]}", one_line(text))
    text = re.sub(r"[&<>|`]", lambda match: ENTITIES[match[0]], text)
    return re.sub(r"(?i)(www)\.|:(//)", lambda match: f"{match[1]}&#46;" if match[1] else "&#58;//", text)


def code(text: str) -> str:
    """As code where that is safe, else escaped: neither a pipe nor a backtick can be escaped within code in a cell."""
    text = one_line(text)
    return escape(text) if not text or re.search(r"[`|\\]", text) else f"`{text}`"


def command(*words: str) -> str:
    """A command line to copy, with what a shell would read otherwise in quotes."""
    return code(shlex.join(one_line(word) for word in words))


def percent(share: float, digits: int = 1) -> str:
    """0.125 -> 12.5; never -0.0."""
    text = f"{100 * share:.{digits}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    return text.replace("-", MINUS)


def millions(number: int | None) -> str:
    if number is None:
        return MISSING
    if number < 1e6:
        return f"{number:,}"
    return f"{number / 1e9:.2f} B" if number >= 1e9 else f"{number / 1e6:.1f} M"


def size(number: int | None) -> str:
    """Decimal units, as disks and model hubs count."""
    if number is None:
        return MISSING
    if number < 1e6:
        return f"{number / 1e3:.0f} kB"
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return MISSING
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def hardware(parts: dict) -> str:
    """{"cpu": "X", "cores": 2, "memory_bytes": 8e9, "gpus": []} as "X, 2 cores, 8.0 GB, no GPU"; other keys as they
    are."""
    told = []
    for key, value in sorted(parts.items()):
        if key == "gpus":
            told.append(", ".join(map(str, value)) if value else "no GPU")
        elif key == "memory_bytes" and isinstance(value, int | float):
            told.append(f"{size(value)} memory")
        elif isinstance(value, int):
            told.append(f"{value} {key}")
        elif value is not None:
            told.append(str(value) if key == "cpu" else f"{key} {value}")
    return ", ".join(told)


def grid(rows: list[list[str]], headers: list[str], left: int = 1) -> str:
    align = ["left"] * left + ["right"] * (len(headers) - left)
    return tabulating.tabulate(rows, headers=headers, tablefmt="pipe", disable_numparse=True, colalign=align)
