"""The page with texts: those of the very questions that it names, and a word where the data is not at hand."""

import json
import re

from kd_bench.leaderboard.export import as_data
from kd_bench.leaderboard.record import write_record
from kd_bench.runs.texts import page_with_texts
from tests.runs.test_submit import METADATA, answered, task  # noqa: F401 (a fixture)


def embedded(page: str) -> dict:
    return json.loads(re.search(r'<script[^>]*id="data"[^>]*>(.*?)</script>', page, re.DOTALL)[1])


def test_the_page_gets_the_texts_of_the_questions_it_names(tmp_path, task):  # noqa: F811
    gold = [
        answered(task, lambda i, doc: (doc["answers"]["text"] or ["unanswerable"])[0], name="teacher", role="teacher")
    ]
    gold.append(answered(task, lambda i, doc: "a ship"))
    for result in gold:
        write_record(tmp_path, *result)
    page, notes = page_with_texts(as_data(gold), tmp_path, METADATA)
    assert notes == []
    (table,) = embedded(page)["tables"]
    lost = next(row["differs"]["lost"] for row in table["rows"] if row["model"] == "student")
    docs = {doc["id"]: doc for doc in task.test_docs()}
    assert lost and {question["id"] for question in lost} == set(table["texts"])
    for name, text in table["texts"].items():
        assert text["passage"] == docs[name]["context"] and text["question"] == docs[name]["question"]
        assert set(text["gold"]) == set(docs[name]["answers"]["text"])

    page, notes = page_with_texts(as_data(gold), tmp_path, {"size": 13})
    assert len(notes) == 1 and "not what the record was measured on" in notes[0]
    assert "texts" not in embedded(page)["tables"][0]
