"""One study's results, and what its models, methods and runs are called in its report."""

import difflib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from kd_bench.errors import UserError
from kd_bench.leaderboard.escape import code, escape
from kd_bench.leaderboard.names import data_set, language, prompt_setting
from kd_bench.leaderboard.ranking import order_of, tables
from kd_bench.leaderboard.rows import Row, Table
from kd_bench.leaderboard.schema import Model, Provenance, Record, Result

DRAWS = ("data.demo_seed", "data.split_seed")
# What has a column, a table or a mean of its own, or is in the model's name.
TOLD_ELSEWHERE = ("tasks", "students", "seeds", "method", "methods", "method.preset", "method.name")
ROLES = ("teacher", "undistilled", "sft", "distilled", "other")


def method_of(model: Model) -> str:
    """How a student was made, as its name says it: 12l-distillm of student 12l is distillm. What is no student is its
    role, or its name where that says nothing."""
    if model.student and model.name.startswith(f"{model.student}-"):
        return model.name.removeprefix(f"{model.student}-")
    return model.name if model.role == "other" else model.role


def size_then_method(model: Model) -> tuple:
    """Sorts the teacher first, then the larger student, then untrained, fine-tuned, distilled."""
    return (
        model.role != "teacher",
        -(model.parameters or 0),
        model.student or "",
        ROLES.index(model.role),
        model.name,
    )


def same_questions(table: Table) -> tuple:
    """Equal for tables that differ in the prompt setting alone."""
    task = table.task
    return (
        data_set(task),
        language(task) or "",
        table.split,
        table.questions,
        table.version,
        table.split_hash or "",
    )


def questions_name(table: Table) -> str:
    """squad (en); a task of somebody else's by its name alone."""
    told = language(table.task)
    return f"{escape(data_set(table.task))} ({told})" if told else escape(data_set(table.task))


def on_validation(results: Iterable[Result]) -> list[Result]:
    """Those of `results` that were scored on the validation split too, with the scores and the floor there. Their
    answers there are not kept."""
    found = []
    for record, _ in results:
        if record.validation:
            scores = {"scores": record.validation.scores, "floor": record.validation.floor}
            found.append(Result(record.model_copy(update=scores), None))
    return found


@dataclass(frozen=True)
class Study:
    """results: in a fixed order. left_out: problems with records that seem to be its own."""

    name: str
    results: list[Result]
    left_out: list[str]

    @cached_property
    def tables(self) -> list[Table]:
        return tables(self.results)

    @cached_property
    def runs(self) -> dict[str, list[Record]]:
        runs = defaultdict(list)
        for result in self.results:
            runs[result.record.provenance.run].append(result.record)
        return dict(runs)

    @cached_property
    def methods(self) -> list[str]:
        """Of the distilled models."""
        return sorted({method_of(r.record.model) for r in self.results if r.record.model.role == "distilled"})

    @cached_property
    def varied(self) -> list[str]:
        """The keys of the study's grid that have several values, or that some runs alone set."""
        points = [records[0].provenance.point for records in self.runs.values()]
        keys = sorted({key for point in points for key in point})
        return [key for key in keys if len({repr(point.get(key)) for point in points}) > 1]

    @cached_property
    def variants(self) -> dict[str, str]:
        """{run: what sets it apart from runs on the same task}: "skew 0.3"; empty where nothing does."""
        found, taken = {}, defaultdict(list)
        for run, records in self.runs.items():
            point = records[0].provenance.point
            keys = [key for key in self.varied if key in point and key not in TOLD_ELSEWHERE]
            found[run] = ", ".join(f"{short(key)} {shown(point[key])}" for key in keys)
            for key in {(record.task.name, record.model.name, found[run]) for record in records}:
                taken[key].append(run)
        for run in {run for same in taken.values() if len(same) > 1 for run in same}:
            found[run] = run.removeprefix(f"{self.name}.")
        return found

    def called(self, model: Model, run: str) -> str:
        """A model in a table's cell."""
        variant = self.variants[run]
        return code(model.name) + (f", {escape(variant)}" if variant else "")

    def where(self, run: str) -> str:
        """A run by what it was measured on, and what sets it apart from others on that."""
        names = sorted({record.task.name for record in self.runs[run]})
        told = ", ".join(names) if len(names) < 3 else f"{len(names)} tasks"
        return f"{told}, {self.variants[run]}" if self.variants[run] else told

    def rows(self, table: Table) -> list[Row]:
        """The measured rows of a table, by size and method."""
        rows = [row for row in table.rows if row.results]
        return sorted(rows, key=lambda row: (*size_then_method(model(row)), self.variants[row.run], row.run))


def model(row: Row) -> Model:
    return row.results[0].record.model


def short(key: str) -> str:
    return key.rpartition(".")[2].replace("_", " ")


def shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(shown, value))
    if isinstance(value, dict) and "name" in value:
        return str(value["name"])
    return f"{value:g}" if isinstance(value, float) else str(value)


def setting(table: Table) -> str:
    return prompt_setting(table.num_fewshot)


def _name(origin: Provenance) -> str:
    return origin.study or origin.run


def find_study(name: str, results: list[Result], problems: list[str], folder: str) -> Study:
    """The study, or the run, called `name`. Raises UserError naming those that there are."""
    own = [result for result in results if result.record.provenance.study == name]
    own = own or [result for result in results if result.record.provenance.run == name]
    if not own:
        known = sorted({_name(result.record.provenance) for result in results})
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise UserError(
            name, f"no record in {folder} is of such a study; there are {', '.join(known) or 'none'}.{hint}"
        )
    return Study(name, sorted(own, key=order_of), [p for p in problems if p.startswith(f"{name}.")])
