"""The students' places: in a table, and over sets of tables."""

import difflib
from collections import defaultdict
from collections.abc import Collection
from dataclasses import replace

from kd_bench.errors import UserError
from kd_bench.leaderboard.names import data_set, prompt_setting
from kd_bench.leaderboard.paired import question_scores, retained
from kd_bench.leaderboard.ranks import over_tasks, ranks
from kd_bench.leaderboard.rows import NOT_STUDENTS, Models, Overall, Ranking, Row, Table
from kd_bench.leaderboard.sizes import DEFAULT, efficient_by, machine, order, sizes_of
from kd_bench.leaderboard.statistics import UNDEFINED

Students = dict[tuple[str, str], dict[int, Row]]  # (run, model name) -> its row in each table, by the table's number


def with_gaps(rows: list[Row], measured: Models, headline: str) -> list[Row]:
    """`rows`, each trained student with the share of its undistilled sibling's gap to the teacher that it closes."""
    raw = {(r.run, r.teacher, r.siblings): r for r in rows if r.role == "undistilled" and headline in r.scores}
    found = []
    for some in rows:
        base, teacher = raw.get((some.run, some.teacher, some.siblings)), measured.get((some.run, some.teacher), [])
        if base and some.role in ("distilled", "sft") and headline in some.scores and teacher:
            each = question_scores(base.results, headline)
            level = {name: value for name, (_, value) in each.items()} if each else base.scores[headline].value
            some = replace(some, gap_closed=retained(some.results, teacher, headline, level))
        found.append(some)
    return found


def placed(rows: list[Row]) -> list[Row]:
    """`rows` with the students' ranks, and by which sizes they are Pareto-efficient."""
    students = {(some.run, some.name): some for some in rows if some.standing and some.role not in NOT_STUDENTS}
    place = ranks({key: some.standing for key, some in students.items()})
    best = efficient_by((key, some.standing.value, some.sizes, some.machine) for key, some in students.items())
    keys = [(some.run, some.name) for some in rows]
    return [replace(some, rank=place.get(key), efficient=best.get(key, {})) for key, some in zip(keys, rows)]


def rankings(found: list[Table], chosen: Collection[str] = (), axis: str = DEFAULT) -> list[Ranking]:
    """The students over each set of tasks: what runs were measured on, the largest set first, then the parts of it that
    have several tasks (one prompt setting, one data set).

    Every student with all tasks of a set is in its ranking, whichever run it is of; best rank first, within a rank the
    smaller by `axis`; last those of these runs that lack a task. chosen: only these tasks are ranked over, and a
    student of any run may lack some. Raises UserError naming each unknown task with the nearest that is known.
    """
    known = sorted({table.task for table in found})
    if unknown := sorted({*chosen} - {*known}):
        raise UserError("--tasks", [_unknown(name, known) for name in unknown])
    students: Students = defaultdict(dict)
    measured: dict[str, set[int]] = defaultdict(set)  # run -> the tables with a student of it
    for number, table in enumerate(found):
        for some in table.rows:
            if some.role not in NOT_STUDENTS:
                students[some.run, some.name][number] = some
                measured[some.run] |= {number} if some.results else set()
    listed = []
    for tables, name in _sets(found, measured, chosen).items():
        mine = {key: own for key, own in students.items() if chosen or measured[key[0]] >= {*tables}}
        whole = bool(chosen) or {*tables} in measured.values()
        tasks = [found[number].task for number in tables]
        listed.append(Ranking(name, [*tables], tasks, whole, _over(mine, tables, tasks, axis)))
    return listed


def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or known
    return f"{name!r} is no task with a record here; there are {', '.join(near)}"


def _sets(found: list[Table], measured: dict[str, set[int]], chosen: Collection[str]) -> dict[tuple[int, ...], str]:
    """{tables: name}. A task's name can stand for several tables, on other questions: a run has one of them."""
    if chosen:
        wanted = {number for number, table in enumerate(found) if table.task in chosen}
        full = [own & wanted for own in measured.values() if {found[n].task for n in own & wanted} == {*chosen}]
        return {tuple(sorted(own)): ", ".join(sorted(chosen)) for own in full or [wanted]}
    runs = defaultdict(list)
    for run, own in measured.items():
        if own:
            runs[tuple(sorted(own))].append(run)
    wholes = sorted(runs, key=lambda own: (-len(own), own))
    of = {own: f" of {', '.join(runs[own])}" if len(wholes) > 1 else "" for own in wholes}
    sets = {own: f"all tasks{of[own]}" for own in wholes}
    for whole in wholes:
        parts = defaultdict(list)
        for number in whole:
            parts[f"all {prompt_setting(found[number].num_fewshot)} tasks"].append(number)
            parts[f"all {data_set(found[number].task)} tasks"].append(number)
        for name, part in parts.items():
            if len(part) > 1:
                sets.setdefault(tuple(part), name + of[whole])
    return sets


def _over(students: Students, tables: tuple[int, ...], tasks: list[str], axis: str) -> list[Overall]:
    whole, listed = {}, {}
    for key, rows in students.items():
        own = [rows[number] for number in tables if number in rows]
        missing = [task for number, task in zip(tables, tasks) if number not in rows or rows[number].standing is None]
        any_row, kept = next(iter(rows.values())), UNDEFINED
        results = [result for row in own for result in row.results]
        sizes = sizes_of(results[0].record.model, results) if results else any_row.sizes
        if not missing:
            whole[key] = over_tasks([row.standing for row in own])
            kept = own[0].above_floor if len(own) == 1 else whole[key].estimate()
        listed[key] = Overall(any_row, own, kept, None, sizes, {}, missing), machine(results)
    place = ranks(whole)
    best = efficient_by((key, some.value, listed[key][0].sizes, listed[key][1]) for key, some in whole.items())

    def by_place(key: tuple[str, str]) -> tuple:
        some = listed[key][0]
        return place[key], order(axis, some.sizes[axis]), -some.kept.value, key

    return [
        listed[key][0]._replace(rank=place.get(key), efficient=best.get(key, {}))
        for key in [*sorted(place, key=by_place), *sorted(listed.keys() - place.keys())]
    ]
