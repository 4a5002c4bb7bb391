"""LEADERBOARD.md's first tables: which student to take, all students over all tasks, the best on each task."""

from statistics import fmean

from kd_bench.leaderboard.cells import ROLES, floor_score, metric_name, place, score, share, sized
from kd_bench.leaderboard.escape import MISSING, code, grid, percent
from kd_bench.leaderboard.rows import Overall, Ranking, Row, Table
from kd_bench.leaderboard.sizes import AXES, order, size_class

TAKING = """\
The best student of each size: take the first that keeps enough for you. *Keeps* is what it keeps of its teacher's lead
over the best constant answer, with the 95 % interval: 100 % is as good as the teacher. Students of one rank are not
told apart. The command that makes each again stands under "How each was made"."""


def which_to_take(ranked: list[Ranking], found: list[Table], names: dict, axis: str) -> list[str]:
    """For each size class the best student of it: of the best rank there the smallest, and where these are of one size
    the one that keeps most."""
    parts = []
    for some in ranked:
        best: dict[tuple[int, str], Overall] = {}
        for student in some.students:  # which come by rank, and by size within one
            if student.rank is not None and student.sizes[axis] is not None:
                best.setdefault(size_class(axis, student.sizes[axis]), student)
        lines = [
            [
                spans,
                code(names[student.row.run, student.row.name]),
                sized(student, axis),
                made_by(student),
                share(student.kept),
                *mean_scores(student, [found[number] for number in some.tables]),
                str(student.rank),
            ]
            for (_, spans), student in sorted(best.items(), key=lambda item: item[0], reverse=AXES[axis].more_is_better)
        ]
        if lines:
            metrics = {found[number].headline for number in some.tables}
            score_name = metric_name(metrics.pop()) if len(metrics) == 1 else "Score"
            headers = [AXES[axis].label, "Student", "Its size", "Made by", "Keeps", score_name, "Teacher", "Rank"]
            parts += [over(some, ranked), grid(lines, headers, left=2)]
    if not parts:
        return []
    return ["## Which student to take", TAKING, *parts]


def over(some: Ranking, ranked: list[Ranking]) -> str:
    """What a table is over, where there are several or it is one by choice."""
    tasks = ", ".join(map(code, some.tasks))
    return f"Over {tasks}:" if len(some.tasks) > 1 or len(ranked) > 1 else f"On {tasks}:"


def made_by(student: Overall) -> str:
    record = student.row.results[0].record if student.row.results else None
    name = str((record.method or {}).get("name", "")) if record else ""
    return code(name) if name else ROLES.get(student.row.role, student.row.role)


def mean_scores(student: Overall, found: list[Table]) -> list[str]:
    """The student's headline score and its teacher's, each the mean over the tables."""
    teachers = [teacher_of(own, table) for table, own in zip(found, student.own)]
    told = []
    for rows in (student.own, teachers):
        values = [row and row.scores.get(table.headline) for table, row in zip(found, rows)]
        told.append(MISSING if None in values else percent(fmean(value.value for value in values)))
    return told


def teacher_of(student: Row, table: Table) -> Row | None:
    return next((row for row in table.rows if (row.run, row.name) == (student.run, student.teacher)), None)


def over_tasks(ranked: list[Ranking], names: dict, axis: str) -> list[str]:
    """The students by their mean over all tasks of a set of several."""
    parts = []
    for some in ranked:
        lines = [
            [
                place(student.rank, student.efficient, axis),
                code(names[student.row.run, student.row.name]),
                sized(student, axis),
                share(student.kept),
                ", ".join(map(code, student.missing)),
            ]
            for student in some.students
        ]
        headers = ["Rank", "Student", AXES[axis].label, "Above floor, mean", "Not measured on"]
        if not any(line[-1] for line in lines):
            lines, headers = [line[:-1] for line in lines], headers[:-1]
        if lines and len(some.tasks) > 1:
            parts += [over(some, ranked), grid(lines, headers, left=2)]
    return ["## The students over all tasks", *parts] if parts else []


def overview(found: list[Table], names: dict, axis: str) -> list[str]:
    """The smallest of each table's first rank, where there is more than one table to look through."""
    lines = []
    for table in found:
        ranked = [row for row in table.rows if row.rank == 1]
        if not ranked:
            continue
        # A student that was fine-tuned without a teacher can be the one to take: that is what it stands there for.
        student = min(ranked, key=lambda row: (order(axis, row.sizes[axis]), -(row.above_floor.value or 0)))
        teacher = teacher_of(student, table)
        lines.append(
            [
                code(table.task),
                code(names[student.run, student.name]),
                sized(student, axis),
                metric_name(table.headline),
                floor_score(table, table.headline),
                score(teacher.scores.get(table.headline)) if teacher else MISSING,
                score(student.scores.get(table.headline)),
                share(student.above_floor),
                f"{table.questions:,}",
            ]
        )
    size = AXES[axis].label
    headers = ["Task", "Best student", size, "Score", "Floor", "Teacher", "Student", "Above floor", "Questions"]
    return ["## The best student on each task", grid(lines, headers, left=2)] if len(found) > 1 and lines else []
