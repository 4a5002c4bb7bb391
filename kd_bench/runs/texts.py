"""The leaderboard's page with the data sets' texts, for whoever has these: records and the public page hold none."""

from pathlib import Path
from typing import Any

from kd_bench.errors import UserError
from kd_bench.leaderboard.page import render_page
from kd_bench.leaderboard.record import read_records
from kd_bench.runs.questions import documents, text_of


def page_with_texts(
    data: dict[str, Any], results: Path, metadata: dict[str, Any] | None = None
) -> tuple[str, list[str]]:
    """(HTML, what texts are missing and why): the page of `data` (`export.as_data`) where the drawer shows question,
    passage and gold answers beside what student and teacher wrote.

    results: the folder of records that `data` was made of. metadata: what the tasks' data gets (`data_dir`, ...).
    """
    records, _ = read_records(results)
    notes = []
    for table in data["tables"]:
        asked = {
            question["id"]
            for row in table["rows"]
            for side in ("lost", "won")
            for question in (row["differs"] or {}).get(side, [])
        }
        measured = (r for r in records if (r.task.name, r.task.split_hash) == (table["task"], table["split_hash"]))
        record = next(measured, None)
        if record is None or not asked:
            continue
        try:
            docs = documents(record, metadata)
        except UserError as error:
            notes += [f"{table['task']}: without texts: {problem}" for problem in error.problems]
            continue
        table["texts"] = {name: text for name in sorted(asked & docs.keys()) if (text := text_of(docs[name]))}
    return render_page(data), notes
