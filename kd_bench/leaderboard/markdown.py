"""LEADERBOARD.md: what was measured, in tables that GitHub shows. Pure: the same results give the same bytes."""

from collections.abc import Iterable

from kd_bench.leaderboard.escape import MISSING, code, escape, grid, millions, percent
from kd_bench.leaderboard.origin import costs, origins, provenance
from kd_bench.leaderboard.places import overall
from kd_bench.leaderboard.ranking import ANSWERABLE, by_model, order_of, tables
from kd_bench.leaderboard.rows import NOT_STUDENTS, Contrast, Measure, Row, Table
from kd_bench.leaderboard.schema import Result
from kd_bench.leaderboard.statistics import Estimate

ROLES = {"sft": "fine-tuned"}
METRICS = {"f1": "F1", "em": "EM", "rougeL": "ROUGE-L", ANSWERABLE: "F1, answerable"}
SHOTS = {0: "zero-shot", 1: "one-shot"}

INTRO = """\
# Leaderboard

<!-- Written by `kd-bench leaderboard` from the records in results/; changes made here are lost. -->

Which student, distilled how, keeps how much of its teacher, and how sure is that?

**How to read it.** One table holds what was measured on the same questions. Scores are in per cent ± one standard
error, which is clustered by passage, since the questions about one passage stand or fall together. With several seeds
they are means, *sd* is the standard deviation between seeds, and intervals hold what other passages and other seeds
could have changed; with one seed, other passages only.

- The **floor** is what the best constant answer scores. Where half the questions have no answer, a model that always
  abstains scores about 50 and has learnt nothing.
- **Above floor** is what a student keeps of what its teacher has learnt, (student − floor) / (teacher − floor), in the
  first score of the table, with the 95 % interval over passages. At 0 % a student is no better than the floor, at
  100 % it is as good as its teacher. Students are ranked by it. It is undefined where the teacher itself is not
  clearly above the floor.
- **Rank**: the best student is 1, and so is every student that a test can't tell apart from it (paired by passage,
  corrected by Holm's method for testing all pairs, 5 %); the best of the rest is 2, and so on. Within a rank the
  smaller is the better buy. **◆** marks the students that no other beats or equals in both parameters and retention.
- **Of teacher** is the plain ratio, student / teacher. Most papers report it; where the floor is high, always
  abstaining may "keep" 80 % of a teacher by it.
- **F1, answerable** is over the questions that have an answer; in brackets, its ratio to the teacher's. It can't be had
  by abstaining, but rewards a model that never does, so see the share *abstained* beside it.
- **Parameters** count the embeddings; in brackets, how many fewer they are than the teacher's.

Beside each distilled student stands the same student *fine-tuned* on the same questions without a teacher, and
*undistilled*, as it was before training. "–" stands for what was not measured or is not defined; nothing is averaged
over it."""


def render(results: Iterable[Result], found: list[Table] | None = None) -> str:
    """The whole page. `results` may come in any order. found: `tables(results)`, where they are at hand."""
    results = sorted(results, key=order_of)
    if not results:
        return f"{INTRO}\n\nThere are no records yet; `kd-bench distill quickstart` makes the first.\n"
    models = by_model(results)
    # Every recipe's teacher is called teacher: on a page with several runs a name needs its run.
    names = {key: key[1] if len({run for run, _ in models}) == 1 else "/".join(key) for key in models}
    found = tables(results) if found is None else found
    parts = [INTRO, *all_tasks(found, names), *overview(found, names)]
    for table in found:
        parts += section(table, names)
    parts += ["## Models and cost", costs(models, names), *origins(models, names), *provenance(results)]
    return "\n\n".join(parts) + "\n"


def metric_name(metric: str) -> str:
    return METRICS.get(metric) or escape(metric.replace("_", " "))


def score(measure: Measure | None) -> str:
    if measure is None:
        return MISSING
    text = percent(measure.value)
    if measure.stderr is not None:
        text += f" ± {percent(measure.stderr)}"
    return text if measure.std is None else f"{text} (sd {percent(measure.std)})"


def share(estimate: Estimate) -> str:
    if estimate.value is None:
        return MISSING
    interval = "" if estimate.low is None else f" [{percent(estimate.low, 0)}, {percent(estimate.high, 0)}]"
    return f"{percent(estimate.value, 0)} %{interval}"


def all_tasks(found: list[Table], names: dict) -> list[str]:
    """The students by their mean over all tables of their run."""
    lines = [
        [
            place(some.rank, some.efficient),
            code(names[some.row.run, some.row.name]),
            sized(some.row),
            share(some.kept),
            ", ".join(map(code, some.missing)),
        ]
        for some in overall(found)
    ]
    missing = any(line[-1] for line in lines)
    headers = ["Rank", "Student", "Parameters", "Above floor, mean", "Not measured on"]
    if not missing:
        lines, headers = [line[:-1] for line in lines], headers[:-1]
    return ["## The students over all tasks", grid(lines, headers, left=2)] if lines else []


def place(rank: int | None, efficient: bool) -> str:
    return MISSING if rank is None else f"{rank} ◆" if efficient else str(rank)


def overview(found: list[Table], names: dict) -> list[str]:
    """The smallest of each table's first rank, where there is more than one table to look through."""
    lines = []
    for table in found:
        ranked = [row for row in table.rows if row.rank == 1]
        if not ranked:
            continue
        # A student that was fine-tuned without a teacher can be the one to take: that is what it stands there for.
        student = min(ranked, key=lambda row: (row.parameters or 0, -(row.above_floor.value or 0)))
        teacher = next((r for r in table.rows if (r.run, r.name) == (student.run, student.teacher)), None)
        lines.append(
            [
                code(table.task),
                code(names[student.run, student.name]),
                resized(student),
                metric_name(table.headline),
                floor_score(table, table.headline),
                score(teacher.scores.get(table.headline)) if teacher else MISSING,
                score(student.scores.get(table.headline)),
                share(student.above_floor),
                f"{table.questions:,}",
            ]
        )
    headers = ["Task", "Best student", "Parameters", "Score", "Floor", "Teacher", "Student", "Above floor", "Questions"]
    return ["## The best student on each task", grid(lines, headers, left=2)] if len(found) > 1 and lines else []


def floor_score(table: Table, metric: str) -> str:
    value = table.floor.scores.get(metric) if table.floor else None
    return MISSING if value is None else percent(value)


def resized(row: Row) -> str:
    """How much smaller than its teacher, as a change: "−19.7 %"."""
    if row.fewer is None:
        return MISSING
    return f"{'+' if row.fewer < 0 else ''}{percent(-row.fewer)} %"


def sized(row: Row) -> str:
    return millions(row.parameters) + (f" ({resized(row)})" if row.fewer is not None else "")


def section(table: Table, names: dict) -> list[str]:
    """A table's heading, what it was measured on, the table, who beats whom, and what is the matter with it."""
    about = [
        SHOTS.get(table.num_fewshot, f"{table.num_fewshot}-shot"),
        f"{table.questions:,} questions" + (f" about {table.passages:,} passages" if table.passages else ""),
        f"split {escape(table.split)}" + (f" {code(table.split_hash)}" if table.split_hash else ", not verified"),
        f"task version {escape(table.version)}",
    ]
    text = f"{about[0].capitalize()}, {', '.join(about[1:])}."
    if table.floor:
        text += f" The floor always answers “{escape(table.floor.answer)}”."
    headers = ["Model", "Rank", "Parameters", metric_name(table.headline), "Above floor", "Of teacher"]
    others = table.metrics[1:]
    rows = [["*floor*", "", "", floor_score(table, table.headline), "", "", *(floor_score(table, m) for m in others)]]
    for row in table.rows:
        rows.append(
            [
                called(row, names),
                "" if row.role in NOT_STUDENTS else place(row.rank, row.efficient),
                sized(row),
                score(row.scores.get(table.headline)),
                *(["", ""] if row.role in NOT_STUDENTS else [share(row.above_floor), share(Estimate(row.kept.value))]),
                *(cell(row, metric) for metric in others),
            ]
        )
    parts = [f"## {escape(table.task)}", text, grid(rows, [*headers, *map(metric_name, others)])]
    remarks = [contrast(some, table, names) for some in table.contrasts]
    remarks += [gap(row, names) for row in table.rows if row.gap_closed.value is not None]
    remarks += [escape(note) for note in table.notes]
    return parts + (["\n".join(f"- {remark}" for remark in remarks)] if remarks else [])


def called(row: Row, names: dict) -> str:
    """The model's name and what kind of row it is, unless its name is just that."""
    role = "" if row.role == row.name else f" {ROLES.get(row.role, row.role)}"
    verified = ", verified" if row.results and all(result.record.verified for result in row.results) else ""
    seeds = f", {len(row.results)} seeds" if len(row.results) > 1 else ""
    return code(names[row.run, row.name]) + role + seeds + verified


def cell(row: Row, metric: str) -> str:
    text = score(row.scores.get(metric))
    if metric == ANSWERABLE and row.answerable_kept is not None and row.role != "teacher":
        text += f" ({percent(row.answerable_kept, 0)} %)"
    return text


def contrast(some: Contrast, table: Table, names: dict) -> str:
    """One sentence on what distilling gained, and whether the interval allows to say so."""
    ours, other = (code(names[row.run, row.name]) for row in (some.distilled, some.other))
    gain = some.change
    points = ("+" if gain.value > 0 else "") + percent(gain.value)
    role = ROLES.get(some.other.role, some.other.role)
    text = f"{ours} against {other} ({role}): {points} points of {metric_name(table.headline)}"
    if gain.low is None:
        return f"{text}, without an interval."
    verdict = "better" if gain.low > 0 else "worse" if gain.high < 0 else "not told apart"
    return f"{text}, 95 % interval [{percent(gain.low)}, {percent(gain.high)}]: {verdict}."


def gap(row: Row, names: dict) -> str:
    student = code(names[row.run, row.name])
    return f"{student} closes {share(row.gap_closed)} of the gap between the undistilled student and the teacher."
