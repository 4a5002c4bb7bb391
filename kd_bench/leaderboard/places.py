"""The students' places: in a table, and over all tables."""

from collections import defaultdict
from dataclasses import replace

from kd_bench.leaderboard.paired import question_scores, retained
from kd_bench.leaderboard.ranks import efficient, over_tasks, ranks
from kd_bench.leaderboard.rows import NOT_STUDENTS, Models, Overall, Row, Table
from kd_bench.leaderboard.statistics import UNDEFINED


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
    """`rows` with the students' ranks, and which of them are Pareto-efficient in parameters and retention."""
    students = {(some.run, some.name): some for some in rows if some.standing and some.role not in NOT_STUDENTS}
    order = ranks({key: some.standing for key, some in students.items()})
    best = efficient(
        (key, some.parameters, some.standing.value) for key, some in students.items() if some.parameters is not None
    )
    return [
        replace(some, rank=order.get((some.run, some.name)), efficient=(some.run, some.name) in best) for some in rows
    ]


def overall(found: list[Table]) -> list[Overall]:
    """The students over all of their run's tables, best rank first, within a rank the smaller first; then those that
    lack a task. Students of runs with one table are in that table's order already: with one table in all, none."""
    students = defaultdict(dict)
    needed = defaultdict(list)
    for number, table in enumerate(found):
        for run in sorted({some.run for some in table.rows if some.results and some.role not in NOT_STUDENTS}):
            needed[run].append(number)
        for some in table.rows:
            if some.role not in NOT_STUDENTS:
                students[some.run, some.name][number] = some
    if len(found) < 2:
        return []
    sets = defaultdict(dict)  # the tables of a run -> key -> standing over them: what can be compared
    lacking = {}
    for key, own in students.items():
        tables_of_run = tuple(needed[key[0]])
        absent = [found[n].task for n in tables_of_run if n not in own or own[n].standing is None]
        if absent or not tables_of_run:
            lacking[key] = absent
        else:
            sets[tables_of_run][key] = over_tasks([own[n].standing for n in tables_of_run])
    listed = []
    for chosen in sets.values():
        order, rows = ranks(chosen), {key: next(iter(students[key].values())) for key in chosen}
        sizes = [(key, rows[key].parameters, some.value) for key, some in chosen.items()]
        best = efficient(place for place in sizes if place[1] is not None)
        ranked = sorted(chosen, key=lambda key: (order[key], rows[key].parameters or 0, -chosen[key].value, key))
        listed += [Overall(rows[key], chosen[key].estimate(), order[key], key in best, []) for key in ranked]
    for key in sorted(lacking):
        listed.append(Overall(next(iter(students[key].values())), UNDEFINED, None, False, lacking[key]))
    return listed
