"""How a report's plots look, and their SVG: the same figure gives the same bytes, light where the reader's system is
light and dark where it is dark."""

import io
import re
import textwrap
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Collection
from typing import NamedTuple

from kd_bench.leaderboard.escape import millions

PAPER, INK, FAINT, GRID = "#fefefe", "#1a1f27", "#596270", "#d9dde3"
DARK = {PAPER: "#1d2128", INK: "#e6e9ee", FAINT: "#a1abb9", GRID: "#363c47"}
FIXED = {"teacher": (INK, "D"), "undistilled": ("#6c7583", "X"), "sft": ("#c75300", "s")}
# Okabe and Ito's colours, which the colour-blind tell apart; the markers tell them apart in print too.
PALETTE = ("#0072b2", "#009e73", "#b0509a", "#8a7300", "#2f9fd8", "#8c4a2f")
MARKERS = "o^vPh<>*"
DARK |= {"#6c7583": "#a9b3c2", "#c75300": "#ff9a4d"}
DARK |= dict(zip(PALETTE, ("#5ab4f0", "#3fd6a8", "#e79cc8", "#e8d44a", "#9bdcff", "#d99a7c")))
RC = {
    "svg.hashsalt": "kd-bench",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.6,
    "grid.color": GRID,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "legend.frameon": False,
    "lines.markersize": 5.5,
    "errorbar.capsize": 2.5,
}
COLUMNS, WIDTH, HEIGHT = 2, 3.6, 2.7  # of panels; inches a panel
TITLE = 38  # letters that fit above a panel


class Plot(NamedTuple):
    """name: of its file, without the ending. text: what it shows, for who can't see it."""

    name: str
    text: str
    svg: str


class Look(NamedTuple):
    color: str
    marker: str


def looks(methods: Collection[str]) -> dict[str, Look]:
    """One colour and marker a method, the same in every plot of a study: those of `methods`, and what has a look of its
    own."""
    found = {name: Look(*look) for name, look in FIXED.items()}
    others = [name for name in sorted(methods) if name not in found]
    return found | {name: Look(PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)]) for i, name in enumerate(others)}


def plot(name: str, text: str, titles: list[str], fill: Callable) -> Plot:
    """A plot of a panel a title; fill(axes, number) draws into each. A legend of all labels stands below."""
    import matplotlib.style
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(titles))
    lines = -(-len(titles) // columns)
    with matplotlib.style.context(["default", RC]):
        size = (COLUMNS * WIDTH, lines * HEIGHT + 0.4) if columns > 1 else (1.5 * WIDTH, 1.2 * HEIGHT + 0.4)
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        panels = figure.subplots(lines, columns, squeeze=False).flat
        labelled = {}
        for number, axes in enumerate(panels):
            if number >= len(titles):
                axes.remove()
                continue
            axes.set_title(textwrap.fill(titles[number], TITLE), loc="left")
            fill(axes, number)
            handles, labels = axes.get_legend_handles_labels()
            labelled |= {label: handle for handle, label in zip(handles, labels) if label not in labelled}
        if labelled:
            names = sorted(labelled, key=lambda label: (label not in FIXED, label))
            figure.legend([labelled[n] for n in names], names, loc="outside lower center", ncols=min(len(names), 5))
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return Plot(name, text, _finished(out.getvalue(), text))


def _finished(svg: str, text: str) -> str:
    """Without what would clash where several stand in one page (the ids of groups, which nothing refers to), with the
    dark colours, and with `text` for who listens."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    rules = "".join(
        f'[style*="{kind}: {light}"]{{{kind}:{dark}!important}}'
        for light, dark in DARK.items()
        for kind in ("fill", "stroke")
    )
    style = f"<style>@media (prefers-color-scheme:dark){{{rules}}}</style>"
    title = ElementTree.Element("title")
    title.text = text
    spoken = ElementTree.tostring(title, encoding="unicode")
    return re.sub(r"(<svg[^>]*)>", lambda tag: f'{tag[1]} role="img">{spoken}{style}', svg, count=1)


def error_bars(axes, x: list[float], y: list[float], ends: list[tuple[float, float] | None], look: Look, label: str):
    """Points with the ends of their intervals, none where it is None; numbers rounded so that plots do not differ with
    the machine's linear algebra."""
    reach = [(0, 0) if end is None else (value - end[0], end[1] - value) for value, end in zip(y, ends)]
    axes.errorbar(
        [round(value, 6) for value in x],
        [round(value, 6) for value in y],
        yerr=[[round(max(0.0, some[i]), 6) for some in reach] for i in (0, 1)],
        color=look.color,
        marker=look.marker,
        linestyle="none",
        linewidth=1.2,
        label=label,
    )


def dodged(axes, values: Collection[float], number: int, count: int) -> list[float]:
    """`values` moved a little aside, so that `count` methods at one place don't hide each other; the axes' scale and
    limits must be set."""
    low, high = axes.get_xlim()
    step = (number - (count - 1) / 2) * min(0.03, 0.15 / count)
    if axes.get_xscale() == "log":
        return [value * (high / low) ** step for value in values]
    return [value + (high - low) * step for value in values]


def size_axis(axes, sizes: Collection[int]) -> None:
    """Parameters from left to right, logarithmic where they span more than fivefold."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    low, high = min(sizes), max(sizes)
    if high > 5 * low:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(low / (high / low) ** 0.13, high * (high / low) ** 0.13)
    else:
        margin = 0.13 * (high - low) or 0.1 * high
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlim(low - margin, high + margin)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: millions(round(value)).replace(".0 ", " ")))
    axes.set_xlabel("parameters")


def value_ticks(axes, values: Collection[float], log: bool) -> None:
    """A tick at each of `values`, written as it is."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    if log:
        axes.set_xscale("log")
    ticks = sorted(values)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{tick:g}" for tick in ticks]))
    axes.xaxis.set_minor_locator(NullLocator())


def zero_line(axes) -> None:
    axes.axhline(0, color=FAINT, linewidth=1, zorder=1)
