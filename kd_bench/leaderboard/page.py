"""index.html: the leaderboard as one file that opens from disk and asks the network for nothing."""

import base64
import hashlib
import json
from importlib.resources import files
from string import Template
from typing import Any

FILES = files("kd_bench.leaderboard") / "page_files"
STYLES = ("vendor/tabulator_simple.min.css", "page.css")
SCRIPTS = (
    *("vendor/tabulator.min.js", "vendor/plotly-basic.min.js"),
    *("rows.js", "table.js", "plots.js", "drawer.js", "page.js"),
)


def render_page(data: dict[str, Any]) -> str:
    """The page of what `export.as_data` returns. Pure: the same data gives the same bytes."""
    styles = [_read(name) for name in STYLES]
    scripts = [_read(name) for name in SCRIPTS]
    # Only scripts of these hashes run: were a record's text ever to become markup, nothing in it would.
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    return Template(_read("page.html")).substitute(
        script_hashes=hashes,
        styles="\n".join(f"<style>{style}</style>" for style in styles),
        data=_embedded(data),
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
    )


def _read(name: str) -> str:
    return (FILES / name).read_text(encoding="utf-8")


def _embedded(data: dict[str, Any]) -> str:
    """As JSON in ASCII that can neither end the script it stands in nor begin a comment there."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.translate({ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&"})
