"""What the page shows as data: one JSON document, and a flat CSV. The same results give the same bytes."""

import csv
import io
import json
from collections.abc import Iterable
from typing import Any

from kd_bench.leaderboard.compare import differing
from kd_bench.leaderboard.origin import average, reproduce_command
from kd_bench.leaderboard.places import rankings
from kd_bench.leaderboard.ranking import tables
from kd_bench.leaderboard.rows import Overall, Ranking, Row, Table
from kd_bench.leaderboard.schema import Result
from kd_bench.leaderboard.statistics import Estimate

DIGITS = 6  # more would differ with the machine's linear algebra
EXAMPLES = 10  # questions each way on which a student and its teacher differ
COSTS = ("train_seconds", "train_peak_memory_bytes", "evaluate_seconds")  # besides those that are sizes


def as_data(
    results: Iterable[Result], found: list[Table] | None = None, ranked: list[Ranking] | None = None
) -> dict[str, Any]:
    """{"schema_version", "tables": [{"task", ..., "rows": [...]}], "overall": [{"name", "tasks", "students"}]};
    estimates are {"value", "stderr", "low", "high"}, None where undefined; "efficient" is {size: true, false, or None
    where it can't be told}. Rows of models without a score on the table's questions have no "scores"; a set of one task
    is not in "overall", it is its table.

    found, ranked: `tables(results)` and `rankings(found)`, where they are at hand."""
    found = tables(results) if found is None else found
    ranked = rankings(found) if ranked is None else ranked
    return _rounded(
        {
            "schema_version": 2,
            "tables": [_table(table) for table in found],
            "overall": [
                {
                    "name": some.name,
                    "tasks": some.tasks,
                    "tables": some.tables,
                    "students": [_overall(student) for student in some.students],
                }
                for some in ranked
                if len(some.tables) > 1
            ],
        }
    )


def as_json(data: dict[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False, indent=1, sort_keys=True, allow_nan=False) + "\n"


def as_csv(data: dict[str, Any]) -> str:
    """A line a (task, model) that was measured. Spreadsheets run what begins like a formula: such text gets a '."""
    lines = []
    for table in data["tables"]:
        about = {key: table[key] for key in table if key not in ("rows", "metrics", "floor", "notes")}
        for row in table["rows"]:
            if not row["scores"]:
                continue
            line = about | {k: v for k, v in row.items() if k != "differs" and not isinstance(v, dict | list)}
            line["floor"] = (table["floor"] or {"scores": {}})["scores"].get(table["headline"])
            for name in ("above_floor", "of_teacher", "gap_closed"):
                line |= {name: row[name]["value"], f"{name}_low": row[name]["low"], f"{name}_high": row[name]["high"]}
            line |= row["cost"] | {f"efficient_{axis}": told for axis, told in row["efficient"].items()}
            for metric, score in row["scores"].items():
                line |= {metric: score["value"], f"{metric}_stderr": score["stderr"], f"{metric}_sd": score["std"]}
            lines.append({key: _inert(value) for key, value in line.items()})
    columns = list(dict.fromkeys(key for line in lines for key in line))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _table(table: Table) -> dict[str, Any]:
    known = {(row.run, row.name): row for row in table.rows}
    return {
        "task": table.task,
        "task_version": table.version,
        "num_fewshot": table.num_fewshot,
        "split": table.split,
        "split_hash": table.split_hash,
        "questions": table.questions,
        "passages": table.passages,
        "headline": table.headline,
        "metrics": table.metrics,
        "floor": table.floor and {"answer": table.floor.answer, "scores": table.floor.scores},
        "notes": table.notes,
        "rows": [_row(row, known.get((row.run, row.teacher)), table.headline) for row in table.rows],
    }


def _row(row: Row, teacher: Row | None, headline: str) -> dict[str, Any]:
    first = row.results[0].record if row.results else None
    records = [result.record for result in row.results]
    return {
        "run": row.run,
        "model": row.name,
        "role": row.role,
        "teacher": row.teacher,
        "student": first and first.model.student,
        "family": first and first.model.family,
        "source": first and first.model.source,
        "method": first and (first.method or {}).get("name"),
        "settings": (first and first.method) or {},
        "seeds": sorted({record.seed for record in records} - {None}),
        "layers": first and first.model.layers,
        **row.sizes,
        "machine": row.machine,
        "rank": row.rank,
        "efficient": row.efficient,
        "above_floor": _estimate(row.above_floor),
        "of_teacher": _estimate(row.kept),
        "gap_closed": _estimate(row.gap_closed),
        "scores": {name: measure._asdict() for name, measure in row.scores.items()},
        "cost": {name: average(records, name) if records else None for name in COSTS},
        "provenance": [record.provenance.model_dump() for record in records],
        "trained_on": first and first.trained_on and first.trained_on.declared,
        "verified": bool(records) and all(record.verified for record in records),
        "reproduce": first and reproduce_command(first, row.results),
        "differs": _differs(row, teacher, headline),
    }


def _overall(student: Overall) -> dict[str, Any]:
    return {
        "run": student.row.run,
        "model": student.row.name,
        **student.sizes,
        "above_floor": _estimate(student.kept),
        "rank": student.rank,
        "efficient": student.efficient,
        "missing": student.missing,
    }


def _differs(row: Row, teacher: Row | None, headline: str) -> dict[str, list] | None:
    """The questions on which a student loses most to its teacher, and wins most; None for what is no student."""
    if not row.results or teacher is None:
        return None
    found = differing(row.results, teacher.results, headline)
    lost = [question for question in found if question.a < question.b]
    won = [question for question in found if question.a > question.b]
    return {
        name: [
            {"id": q.id, "student": q.a, "teacher": q.b, "student_wrote": q.a_wrote[0], "teacher_wrote": q.b_wrote[0]}
            for q in some[:EXAMPLES]
        ]
        for name, some in (("lost", lost), ("won", won))
    } | {"lost_count": len(lost), "won_count": len(won)}


def _estimate(estimate: Estimate) -> dict[str, float | None]:
    return estimate._asdict()


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, dict):
        return {key: _rounded(some) for key, some in value.items()}
    return [_rounded(some) for some in value] if isinstance(value, list | tuple) else value


def _inert(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
