"""LEADERBOARD.md: what was measured, in tables that GitHub shows. Pure: the same results give the same bytes."""

from collections.abc import Iterable

from kd_bench.leaderboard.cells import ROLES, floor_score, metric_name, place, score, share, sized
from kd_bench.leaderboard.escape import code, escape, grid, percent
from kd_bench.leaderboard.names import prompt_setting
from kd_bench.leaderboard.origin import costs, origins, provenance
from kd_bench.leaderboard.overview import over_tasks, overview, which_to_take
from kd_bench.leaderboard.places import rankings
from kd_bench.leaderboard.ranking import ANSWERABLE, by_model, order_of, tables
from kd_bench.leaderboard.rows import NOT_STUDENTS, Contrast, Ranking, Row, Table
from kd_bench.leaderboard.schema import Result
from kd_bench.leaderboard.sizes import AXES, DEFAULT
from kd_bench.leaderboard.statistics import Estimate

INTRO = """\
# Leaderboard

<!-- Written by `kd-bench leaderboard` from the records in results/; changes made here are lost. -->

Which student, distilled how, keeps how much of its teacher, and how sure is that?"""

READING = """\
## How to read it

One table holds what was measured on the same questions. Scores are in per cent ± one standard error, which is clustered
by passage, since the questions about one passage stand or fall together. With several seeds they are means, *sd* is the
standard deviation between seeds, and intervals hold what other passages and other seeds could have changed; with one
seed, other passages only.

- The **floor** is what the best constant answer scores. Where half the questions have no answer, a model that always
  abstains scores about 50 and has learnt nothing.
- **Above floor** is what a student keeps of what its teacher has learnt, (student − floor) / (teacher − floor), in the
  first score of the table, with the 95 % interval over passages. At 0 % a student is no better than the floor, at
  100 % it is as good as its teacher. Students are ranked by it; over several tasks by its mean, and only those that
  were measured on all of them. It is undefined where the teacher itself is not clearly above the floor.
- **Rank**: the best student is 1, and so is every student that a test can't tell apart from it (paired by passage,
  corrected by Holm's method for testing all pairs, 5 %); the best of the rest is 2, and so on. Within a rank the
  smaller is the better buy and stands first. What has no interval, as under a teacher too close to the floor, has no
  rank. **◆** marks the students that no other beats or equals in both size and retention.
- **Of teacher** is the plain ratio, student / teacher. Most papers report it; where the floor is high, always
  abstaining may "keep" 80 % of a teacher by it.
- **F1, answerable** is over the questions that have an answer; in brackets, its ratio to the teacher's. It can't be had
  by abstaining, but rewards a model that never does, so see the share *abstained* beside it.
- **Parameters** count the embeddings; in brackets, how many fewer they are than the teacher's.

Beside each distilled student stands the same student *fine-tuned* on the same questions without a teacher, and
*undistilled*, as it was before training. "–" stands for what was not measured or is not defined; nothing is averaged
over it."""

SAME_MACHINE = (
    "Tokens a second and peak memory change with the machine: ◆ compares only students that were measured on the same"
    " one, and stands beside none that was alone on its machine, or whose machine is not known."
)


def render(
    results: Iterable[Result],
    found: list[Table] | None = None,
    ranked: list[Ranking] | None = None,
    axis: str = DEFAULT,
) -> str:
    """The whole page. `results` may come in any order. found, ranked: `tables(results)` and `rankings(found)`, where
    they are at hand. axis: the size that it goes by."""
    results = sorted(results, key=order_of)
    if not results:
        return f"{INTRO}\n\nThere are no records yet; `kd-bench distill quickstart` makes the first.\n"
    models = by_model(results)
    # Every recipe's teacher is called teacher: on a page with several runs a name needs its run.
    names = {key: key[1] if len({run for run, _ in models}) == 1 else "/".join(key) for key in models}
    found = tables(results) if found is None else found
    ranked = rankings(found, axis=axis) if ranked is None else ranked
    whole = [some for some in ranked if some.whole]
    parts = [INTRO, *which_to_take(whole, found, names, axis), *over_tasks(whole, names, axis)]
    parts += [*overview(found, names, axis), READING, *([SAME_MACHINE] if AXES[axis].measured else [])]
    for table in found:
        parts += section(table, names, axis)
    parts += ["## Models and cost", costs(models, names), *origins(models, names), *provenance(results)]
    return "\n\n".join(parts) + "\n"


def section(table: Table, names: dict, axis: str) -> list[str]:
    """A table's heading, what it was measured on, the table, who beats whom, and what is the matter with it."""
    about = [
        prompt_setting(table.num_fewshot),
        f"{table.questions:,} questions" + (f" about {table.passages:,} passages" if table.passages else ""),
        f"split {escape(table.split)}" + (f" {code(table.split_hash)}" if table.split_hash else ", not verified"),
        f"task version {escape(table.version)}",
    ]
    text = f"{about[0].capitalize()}, {', '.join(about[1:])}."
    if table.floor:
        text += f" The floor always answers “{escape(table.floor.answer)}”."
    headers = ["Model", "Rank", AXES[axis].label, metric_name(table.headline), "Above floor", "Of teacher"]
    others = table.metrics[1:]
    rows = [["*floor*", "", "", floor_score(table, table.headline), "", "", *(floor_score(table, m) for m in others)]]
    for row in table.rows:
        rows.append(
            [
                called(row, names),
                "" if row.role in NOT_STUDENTS else place(row.rank, row.efficient, axis),
                sized(row, axis),
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
