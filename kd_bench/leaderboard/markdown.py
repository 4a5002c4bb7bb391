"""LEADERBOARD.md: what was measured, in tables that GitHub shows. Pure: the same results give the same bytes."""

from collections.abc import Iterable
from statistics import fmean

import tabulate as tabulating

from kd_bench.leaderboard.escape import MISSING, code, command, duration, escape, millions, percent, size
from kd_bench.leaderboard.ranking import ANSWERABLE, Contrast, Measure, Models, Row, Table, by_model, order_of, tables
from kd_bench.leaderboard.schema import Record, Result
from kd_bench.leaderboard.statistics import Estimate

# tabulate pads by display width where the package wcwidth happens to be installed: other bytes on another machine.
tabulating.WIDE_CHARS_MODE = False

ROLES = {"sft": "fine-tuned"}
METRICS = {"f1": "F1", "em": "EM", "rougeL": "ROUGE-L", ANSWERABLE: "F1, answerable"}
SHOTS = {0: "zero-shot", 1: "one-shot"}
# What tells two methods apart; the whole of it is in the record.
SETTINGS = ("temperature", "beta", "skew", "lmbda", "cross_entropy", "epochs", "learning_rate", "batch_size", "limit")

INTRO = """\
# Leaderboard

<!-- Written by `kd-bench leaderboard` from the records in results/; changes made here are lost. -->

Which student, distilled how, keeps how much of its teacher, and how sure is that?

**How to read it.** One table holds what was measured on the same questions. Scores are in per cent ± one standard
error, which is clustered by passage, since the questions about one passage stand or fall together. With several seeds
they are means, and *sd* is the standard deviation between seeds. Intervals say what other passages could have changed,
not what training again with another seed would.

- The **floor** is what the best constant answer scores. Where half the questions have no answer, a model that always
  abstains scores about 50 and has learnt nothing.
- **Above floor** is what a student keeps of what its teacher has learnt, (student − floor) / (teacher − floor), in the
  first score of the table, with the 95 % interval over passages. At 0 % a student is no better than the floor, at
  100 % it is as good as its teacher. Students are ranked by it.
- **Of teacher** is the plain ratio, student / teacher. Most papers report it; where the floor is high, always
  abstaining may "keep" 80 % of a teacher by it.
- **F1, answerable** is over the questions that have an answer; in brackets, its ratio to the teacher's. It can't be had
  by abstaining, but rewards a model that never does, so see the share *abstained* beside it.
- **Parameters** count the embeddings; in brackets, how many fewer they are than the teacher's.

Beside each distilled student stands the same student *fine-tuned* on the same questions without a teacher, and
*undistilled*, as it was before training. "–" stands for what was not measured or is not defined; nothing is averaged
over it."""


def render(results: Iterable[Result]) -> str:
    """The whole page. `results` may come in any order."""
    results = sorted(results, key=order_of)
    if not results:
        return f"{INTRO}\n\nThere are no records yet; `kd-bench distill quickstart` makes the first.\n"
    models = by_model(results)
    # Every recipe's teacher is called teacher: on a page with several runs a name needs its run.
    names = {key: key[1] if len({run for run, _ in models}) == 1 else "/".join(key) for key in models}
    found = tables(results)
    parts = [INTRO, *overview(found, names)]
    for table in found:
        parts += section(table, names)
    parts += ["## Models and cost", costs(models, names), *origins(models, names), *provenance(results)]
    return "\n\n".join(parts) + "\n"


def grid(rows: list[list[str]], headers: list[str], left: int = 1) -> str:
    align = ["left"] * left + ["right"] * (len(headers) - left)
    return tabulating.tabulate(rows, headers=headers, tablefmt="pipe", disable_numparse=True, colalign=align)


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


def overview(found: list[Table], names: dict) -> list[str]:
    """The student of each table that keeps most above the floor, where there is more than one table to look through."""
    lines = []
    for table in found:
        trained = [row for row in table.rows if row.role in ("distilled", "sft") and row.scores]
        if not trained:
            continue
        # A student that was fine-tuned without a teacher can be the one to take: that is what it stands there for.
        student = max(trained, key=lambda row: -1e9 if row.above_floor.value is None else row.above_floor.value)
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
    headers = ["Model", "Parameters", metric_name(table.headline), "Above floor", "Of teacher"]
    others = table.metrics[1:]
    rows = [["*floor*", "", floor_score(table, table.headline), "", "", *(floor_score(table, m) for m in others)]]
    for row in table.rows:
        rows.append(
            [
                called(row, names),
                f"{millions(row.parameters)} ({resized(row)})" if row.fewer is not None else millions(row.parameters),
                score(row.scores.get(table.headline)),
                *(
                    ["", ""]
                    if row.role in ("teacher", "other")
                    else [share(row.above_floor), share(Estimate(row.kept.value))]
                ),
                *(cell(row, metric) for metric in others),
            ]
        )
    parts = [f"## {escape(table.task)}", text, grid(rows, [*headers, *map(metric_name, others)])]
    remarks = [contrast(some, table, names) for some in table.contrasts] + [escape(note) for note in table.notes]
    return parts + (["\n".join(f"- {remark}" for remark in remarks)] if remarks else [])


def called(row: Row, names: dict) -> str:
    """The model's name and what kind of row it is, unless its name is just that."""
    role = "" if row.role == row.name else f" {ROLES.get(row.role, row.role)}"
    return code(names[row.run, row.name]) + role + (f", {len(row.results)} seeds" if len(row.results) > 1 else "")


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


def average(records: list[Record], name: str) -> float | None:
    """Over a model's seeds and tasks, of a cost that is the same for all its tasks; None unless all have it."""
    values = [getattr(record.cost, name) for record in records]
    return None if None in values else fmean(values)


def costs(models: Models, names: dict) -> str:
    """What each model weighs and what it took to make; tokens a second as a range, since tasks differ in what they
    ask."""
    rows = []
    for key, results in sorted(models.items()):
        records = [result.record for result in results]
        model = records[0].model
        speeds = [r.cost.generated_tokens_per_second for r in records if r.cost.generated_tokens_per_second is not None]
        low, high = (f"{min(speeds):,.0f}", f"{max(speeds):,.0f}") if speeds else ("", "")
        rows.append(
            [
                code(names[key]),
                MISSING if model.layers is None else str(model.layers),
                millions(model.parameters),
                millions(model.parameters_without_embeddings),
                size(model.bytes_on_disk),
                duration(average(records, "train_seconds")),
                size(average(records, "train_peak_memory_bytes")),
                MISSING if not speeds else low if low == high else f"{low}–{high}",
            ]
        )
    headers = ["Model", "Layers", "Parameters", "Without embeddings", "On disk", "Training", "Peak memory", "Tokens/s"]
    return grid(rows, headers)


def origins(models: Models, names: dict) -> list[str]:
    """How each model is made again: the command of its run, then what it came from and how it was trained."""
    lines = {}
    for key, results in sorted(models.items()):
        record = results[0].record
        told = sorted({result.record.seed for result in results} - {None})
        made = f"{code(names[key])}: from {code(record.model.source)}"
        if record.model.revision:
            made += f" at {code(record.model.revision)}"
        if record.method:
            made += f"; {method(record.method)}"
        if told:
            made += f"; seed{'s' if len(told) > 1 else ''} {', '.join(map(str, told))}"
        lines.setdefault(reproduce(record, results), []).append(made)
    text = ["## How each was made"]
    for said, models_made in lines.items():
        text.append("\n".join([said, "", *(f"- {made}" for made in models_made)]))
    return text


def reproduce(record: Record, results: list[Result]) -> str:
    """The command that makes a record again."""
    tasks = ",".join(sorted({result.record.task.name for result in results}))
    run = record.provenance.run
    if record.provenance.recipe or record.provenance.recipe_hash:
        return f"Run {code(run)}: {command('kd-bench', 'distill', record.provenance.recipe or f'recipes/{run}.yaml')}"
    if run == "lm_eval":
        model = f"pretrained={record.model.source}"
        return f"Measured by {command('lm_eval', '--model', 'hf', '--model_args', model, '--tasks', tasks)}"
    return f"Measured by {command('kd-bench', 'evaluate', record.model.source, '--tasks', tasks)}"


def method(settings: dict) -> str:
    """The method's name and the settings that tell it from others, in a fixed order; zeros and blanks are left out."""
    known = [(key, settings[key]) for key in SETTINGS if settings.get(key) not in (None, 0)]
    shown = [f"{key.replace('_', ' ')} {value:g}" for key, value in known if isinstance(value, int | float)]
    return ", ".join([code(str(settings.get("name", "trained"))), *shown])


def provenance(results: list[Result]) -> list[str]:
    """What each run's numbers were made with. Several values stand where records of one run differ."""
    runs: dict[str, list[Record]] = {}
    for result in results:
        runs.setdefault(result.record.provenance.run, []).append(result.record)
    lines = []
    for run, records in sorted(runs.items()):
        origin = [record.provenance for record in records]
        changed = any(some.dirty for some in origin)
        commits = distinct(code(some.commit[:12]) for some in origin if some.commit)
        recipes = distinct(code(some.recipe_hash[:12]) for some in origin if some.recipe_hash)
        machines = distinct(escape(hardware(some.hardware)) for some in origin)
        pairs = sorted({(name, v) for some in origin for name, v in some.versions.items() if v})
        told = [
            f"kd-bench at commit {commits}{' with uncommitted changes' if changed else ''}" if commits else "",
            f"recipe {recipes}" if recipes else "",
            f"on {machines}" if machines else "",
            ", ".join(f"{escape(name)} {escape(version)}" for name, version in pairs),
        ]
        lines.append(f"- {code(run)}: {'; '.join(part for part in told if part)}.")
    return ["## Provenance", "\n".join(lines)]


def distinct(texts: Iterable[str]) -> str:
    return ", ".join(sorted(set(texts) - {""}))


def hardware(parts: dict) -> str:
    """{"cpu": "X", "cores": 2, "memory_bytes": 8e9, "gpus": []} as "X, 2 cores, 8.0 GB, no GPU"; other keys as they
    are."""
    told = []
    for key, value in sorted(parts.items()):
        if key == "gpus":
            told.append(", ".join(map(str, value)) if value else "no GPU")
        elif key == "memory_bytes" and isinstance(value, int | float):
            told.append(f"{size(value)} memory")
        elif isinstance(value, int):
            told.append(f"{value} {key}")
        elif value is not None:
            told.append(str(value) if key == "cpu" else f"{key} {value}")
    return ", ".join(told)
