"""`kd-bench compare`: two models' records, question by question, with the questions' text where the data is here."""

from pathlib import Path
from typing import Any

from kd_bench.errors import UserError
from kd_bench.leaderboard.compare import Comparison, compare, find, pairs, together
from kd_bench.leaderboard.escape import MISSING, one_line, percent
from kd_bench.leaderboard.record import read_results
from kd_bench.leaderboard.statistics import Estimate
from kd_bench.runs.questions import documents, kinds, text_of

WINDOW = 160  # characters of the passage on either side of the answer


def compare_models(
    a: str,
    b: str,
    results: Path,
    *,
    tasks: list[str] | None = None,
    metric: str | None = None,
    examples: int = 3,
    metadata: dict[str, Any] | None = None,
) -> tuple[list[dict[str, Any]], list[str]]:
    """(a dict a task, then one over all of several: `Comparison`'s fields and "examples" {"a better", "b better"}; what
    to know besides).

    a, b: names of models in the records of the folder `results`. tasks: of those that both have; None takes all. Where
    a task's data can't be read, its comparison lacks what needs the questions' text, and a note says why. Raises
    UserError if there is nothing to compare.
    """
    found, notes = read_results(results)
    both, missing = pairs(find(found, a), find(found, b))
    if tasks:
        both = [pair for pair in both if pair[0][0].record.task.name in tasks]
        missing = [note for note in missing if note.split(":")[0] in tasks]
    if not both:
        raise UserError("compare", [f"no task was measured on both {a} and {b}", *missing])
    rows = []
    for left, right in both:
        record, docs = left[0].record, {}
        try:
            docs = documents(record, metadata)
        except UserError as error:
            notes.append(f"{record.task.name}: without the questions' text: {'; '.join(error.problems)}")
        try:
            rows.append(_as_dict(compare(left, right, metric, kinds(docs)), docs, examples))
        except UserError as error:
            missing += [f"{error.where}: {problem}" for problem in error.problems]
    if not rows:
        raise UserError("compare", missing)
    if over_all := together(both, metric):
        rows.append(_as_dict(over_all, {}, 0))
    return rows, [*notes, *missing]


def _as_dict(made: Comparison, docs: dict[str, dict], examples: int) -> dict[str, Any]:
    row = {key: value for key, value in vars(made).items() if key not in ("questions", "kinds", "change", "mcnemar")}
    row["change"] = made.change._asdict()
    row["mcnemar"] = made.mcnemar and made.mcnemar._asdict()
    row["kinds"] = [{**kind._asdict(), "change": kind.change._asdict()} for kind in made.kinds]
    better = {
        "a better": [question for question in made.questions if question.a > question.b],
        "b better": [question for question in made.questions if question.b > question.a],
    }
    row["differ"] = {side: len(some) for side, some in better.items()}
    row["examples"] = {
        side: [{**question._asdict(), **_text(docs.get(question.id))} for question in some[:examples]]
        for side, some in better.items()
    }
    return row


def _text(doc: dict | None) -> dict[str, Any]:
    """`text_of` a document, with what stands around the answer for a passage; nothing where there is none."""
    text = text_of(doc) if doc is not None else None
    if text is None:
        return {}
    passage, starts = text["passage"], doc["answers"].get("answer_start")
    start = starts[0] if starts else 0
    low, high = max(0, start - WINDOW), start + WINDOW
    return text | {"passage": f"{'…' if low else ''}{passage[low:high]}{'…' if high < len(passage) else ''}"}


def comparison_view(row: dict[str, Any], a: str, b: str):
    """One task's comparison for a terminal."""
    from rich.console import Group
    from rich.markup import escape

    title = f"[bold]{escape(row['task'])}[/bold]: {row['count']:,} questions about {row['passages']:,} passages"
    parts: list[Any] = [title, "", _scores(row, a, b), *_sentences(row, a, b), ""]
    for side, name, other in (("a better", a, b), ("b better", b, a)):
        for example in row["examples"][side]:
            parts += [f"[bold]{escape(name)}[/bold] better than {escape(other)}", _example(example, a, b), ""]
    return Group(*parts)


def _scores(row: dict[str, Any], a: str, b: str):
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column(f"{row['metric']}, in points", no_wrap=True)
    for name in ("questions", escape(a), escape(b), "difference", "95 % interval"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_row("all", f"{row['count']:,}", *_points(row), style="bold")
    by = None
    for kind in row["kinds"]:
        if kind["by"] != by:
            by = kind["by"]
            table.add_section()
            table.add_row(f"[dim]by {escape(by)}[/dim]")
        table.add_row(f"  {escape(kind['kind'])}", f"{kind['questions']:,}", *_points(kind))
    return table


def _points(row: dict[str, Any]) -> list[str]:
    change = Estimate(**row["change"])
    sure = change.low is not None and (change.low > 0 or change.high < 0)
    interval = MISSING if change.low is None else f"\\[{percent(change.low)}, {percent(change.high)}]"
    difference = ("+" if change.value > 0 else "") + percent(change.value)
    mark = ("[green]", "[/green]") if sure and change.value > 0 else ("[red]", "[/red]") if sure else ("", "")
    return [percent(row["a"]), percent(row["b"]), difference.join(mark), interval]


def _sentences(row: dict[str, Any], a: str, b: str) -> list[str]:
    from rich.markup import escape

    a, b = escape(a), escape(b)
    said = [
        "[dim]Difference: the first less the second. Intervals are over passages and each for itself: of twenty kinds, "
        "expect one to leave 0 by chance.[/dim]"
    ]
    if test := row["mcnemar"]:
        said.append(
            f"{test['metric']}: both right on {test['both']:,}, only {a} on {test['only_a']:,}, only {b} on "
            f"{test['only_b']:,}, neither on {test['neither']:,}; McNemar's exact p = {test['p_value']:.2g} (as if "
            "questions were independent)"
        )
    if row["same_answer"] is not None:
        said.append(f"They wrote the same on {row['same_answer']:.0%} of the questions.")
    return said


def _example(example: dict[str, Any], a: str, b: str):
    from rich.markup import escape
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("question", escape(one_line(example.get("question", example["id"]))))
    if "gold" in example:
        grid.add_row("gold", escape(" / ".join(map(one_line, example["gold"])) or "(no answer)"))
    for name, side in ((a, "a"), (b, "b")):
        wrote = " / ".join(
            MISSING if text is None else one_line(text) or "(nothing)" for text in example[f"{side}_wrote"]
        )
        grid.add_row(escape(name), f"{escape(wrote)}  [dim]{percent(example[side])}[/dim]")
    if "passage" in example:
        grid.add_row("passage", escape(one_line(example["passage"])))
    return grid
