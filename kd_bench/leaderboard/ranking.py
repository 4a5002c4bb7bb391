"""From results to the rows of a table: pure functions, no files and no formatting.

The headline metric is F1 over all questions, where a task has it. Exact match pays nothing for a right answer with one
word too many, which hides most of what a small student learns and differs between languages; F1 over the answerable
questions alone rewards a model that never abstains, and does not exist on every data set. F1 over all questions has one
weakness, that always abstaining scores about 0.5 on SQuAD v2, and retention above the floor takes exactly that away.
The others stand beside it.
"""

from collections import defaultdict
from collections.abc import Iterable
from statistics import fmean, stdev

from kd_bench.leaderboard.paired import change, floor_scores, retained
from kd_bench.leaderboard.places import placed, with_gaps
from kd_bench.leaderboard.ranks import standing
from kd_bench.leaderboard.rows import Contrast, Measure, Models, Row, Table
from kd_bench.leaderboard.schema import Floor, Record, Result
from kd_bench.leaderboard.sizes import machine, sizes_of
from kd_bench.leaderboard.statistics import UNDEFINED

HEADLINES = ("f1", "em", "exact_match", "acc")
ANSWERABLE = "has_ans_f1"
SHOWN = ("f1", "em", "rougeL", ANSWERABLE, "abstained")
MOST_METRICS = 5  # a wider table can't be read
ROLES = ("teacher", "distilled", "sft", "undistilled", "other")


def headline_of(metrics: Iterable[str]) -> str:
    """The metric that rows are ranked by: the first of HEADLINES that is there (under any filter), else the first by
    name."""
    by_name = {metric.split(",")[0]: metric for metric in sorted(metrics, reverse=True)}
    return next((by_name[name] for name in HEADLINES if name in by_name), min(by_name.values()))


def shown_metrics(metrics: set[str], headline: str) -> list[str]:
    chosen = [metric for metric in SHOWN if metric in metrics] if headline in SHOWN else sorted(metrics)
    return [headline, *(metric for metric in chosen if metric != headline)][:MOST_METRICS]


def table_key(record: Record) -> tuple:
    """What must be equal for two scores to stand in one table: 1,105 questions can't pass for 11,873."""
    task = record.task
    questions = max(score.n for score in record.scores.values())
    return task.name, str(task.version), task.num_fewshot, task.split, questions, task.split_hash or ""


def measures(results: list[Result]) -> dict[str, Measure]:
    """{metric: mean over seeds}, of the metrics that every seed has. The standard error is the mean of the seeds': they
    answer the same questions, so more seeds are not more questions, and this bounds the error of the average from
    above."""
    records = [result.record for result in results]
    common = set.intersection(*(set(record.scores) for record in records)) if records else set()
    found = {}
    for metric in sorted(common):
        values = [record.scores[metric].value for record in records]
        errors = [record.scores[metric].stderr for record in records]
        std = stdev(values) if len(values) > 1 else None
        found[metric] = Measure(fmean(values), None if None in errors else fmean(errors), std, len(values))
    return found


def order_of(result: Result) -> tuple:
    run, model, task, seed = result.record.key
    return run, model, task, seed is not None, seed or 0


def by_model(results: Iterable[Result]) -> Models:
    models = defaultdict(list)
    for result in results:
        models[result.record.provenance.run, result.record.model.name].append(result)
    return models


def tables(results: Iterable[Result]) -> list[Table]:
    """One table for each set of questions, ordered by task; the same for any order of `results`."""
    results = sorted(results, key=order_of)
    everything = by_model(results)
    grouped = defaultdict(list)
    for result in results:
        grouped[table_key(result.record)].append(result)
    return [table(grouped[key], everything) for key in sorted(grouped)]


def table(results: list[Result], everything: Models) -> Table:
    """results: those on one set of questions, ordered. everything: all results; a model of the same runs without one
    here is missing."""
    first, measured = results[0].record, by_model(results)
    metrics = set().union(*(result.record.scores for result in results))
    headline = headline_of(metrics)
    floors = [result.record.floor for result in results if result.record.floor]
    floor = floors[0] if floors else None
    runs = {run for run, _ in measured}
    rows = [
        row(key, everything, measured, headline, floor)
        for key, known in everything.items()
        if key in measured or (key[0] in runs and known[0].record.model.role != "other")
    ]
    rows = arrange(placed(with_gaps(rows, measured, headline)), headline)
    notes = retention_notes(rows, floor, headline)
    saw = sorted(
        {f"{run}/{name}" for (run, name), own in measured.items() if any(r.record.saw_its_questions for r in own)}
    )
    notes += [f"{name} is not ranked: it was trained on the questions it is measured on." for name in saw]
    if any(other != floor for other in floors):
        notes.append("The records disagree about the floor; the first one's is used.")
    if len({result.record.task.hash for result in results} - {None}) > 1:
        notes.append(
            "The task hashes differ: not all rows saw the same prompts"
            " (another demonstration, template or copy of the data)."
        )
    questions = table_key(first)[4]
    passages = {score.clusters for r in results for score in r.record.scores.values() if score.n == questions}
    return Table(
        task=first.task.name,
        version=str(first.task.version),
        num_fewshot=first.task.num_fewshot,
        split=first.task.split,
        questions=questions,
        passages=max(passages - {None}, default=None),
        split_hash=first.task.split_hash,
        headline=headline,
        metrics=shown_metrics(metrics, headline),
        floor=floor,
        rows=rows,
        contrasts=contrasts(rows, headline),
        notes=notes,
    )


def row(key: tuple[str, str], everything: Models, measured: Models, headline: str, floor: Floor | None) -> Row:
    """The row of the model `key` in the table that `measured` holds the results of."""
    run, name = key
    model = everything[key][0].record.model
    mine = measured.get(key, [])
    teacher_key = (run, name if model.role == "teacher" else model.teacher)
    teacher = measured.get(teacher_key, [])
    teacher_size = everything[teacher_key][0].record.model.parameters if teacher_key in everything else None
    fewer = kept = above = answerable_kept = None
    if model.role != "teacher" and teacher_size and model.parameters is not None:
        fewer = 1 - model.parameters / teacher_size
    scores, best = measures(mine), measures(teacher)
    saw = any(result.record.saw_its_questions for result in mine)
    if ANSWERABLE in scores and ANSWERABLE in best and best[ANSWERABLE].value > 0:
        answerable_kept = scores[ANSWERABLE].value / best[ANSWERABLE].value
    if headline in scores and headline in best:
        base = floor_scores(floor, mine, headline)
        kept = retained(mine, teacher, headline)
        above = None if base is None else retained(mine, teacher, headline, base)
    return Row(
        run=run,
        name=name,
        role=model.role,
        teacher=None if model.role == "teacher" else model.teacher,
        siblings=model.student or f"{model.source} {model.parameters}",
        sizes=sizes_of(model, mine),
        machine=machine(mine),
        results=mine,
        scores=scores,
        kept=kept or UNDEFINED,
        above_floor=above or UNDEFINED,
        answerable_kept=answerable_kept,
        fewer=fewer,
        # A ratio without an interval, as under a teacher too close to the floor, can be told apart from nothing.
        standing=standing(mine, teacher, headline, floor) if above and above.low is not None and not saw else None,
    )


def arrange(rows: list[Row], headline: str) -> list[Row]:
    """Best teacher first, after each teacher its students, then students without a teacher's row, then the other
    models.

    Students come by what their best row keeps above the floor (where that is undefined, by score), the smaller first
    where equal; the rows of one student stay together: distilled (the best first), fine-tuned, undistilled.
    """

    def merit(some: Row) -> tuple:
        score = some.scores[headline].value if headline in some.scores else -1.0
        kept = some.above_floor.value
        return (
            not some.results,
            kept is None,
            -(score if kept is None else kept),
            some.parameters or 0,
            some.run,
            some.name,
        )

    def by_score(some: Row) -> tuple:
        return -some.scores[headline].value if headline in some.scores else 1.0, some.run, some.name

    students = defaultdict(lambda: defaultdict(list))  # (run, teacher) -> siblings -> rows
    for some in rows:
        if some.role not in ("teacher", "other"):
            students[some.run, some.teacher or ""][some.siblings].append(some)
    arranged = []
    teachers = sorted((some for some in rows if some.role == "teacher"), key=by_score)
    blocks = [([teacher], students.pop((teacher.run, teacher.name), {})) for teacher in teachers]
    blocks += [([], students[key]) for key in sorted(students)]
    for head, families in blocks:
        arranged += head
        for family in sorted(families.values(), key=lambda family: min(map(merit, family))):
            arranged += sorted(family, key=lambda some: (ROLES.index(some.role), merit(some)))
    return arranged + sorted((some for some in rows if some.role == "other"), key=by_score)


def contrasts(rows: list[Row], headline: str) -> list[Contrast]:
    """Each distilled row against its fine-tuned sibling, or its undistilled one where nothing was fine-tuned."""
    found = []
    for distilled in rows:
        siblings = [
            r for r in rows if (r.run, r.teacher, r.siblings) == (distilled.run, distilled.teacher, distilled.siblings)
        ]
        others = [r for role in ("sft", "undistilled") for r in siblings if r.role == role and headline in r.scores]
        if distilled.role == "distilled" and headline in distilled.scores and others:
            found.append(Contrast(distilled, others[0], change(distilled.results, others[0].results, headline)))
    return found


def retention_notes(rows: list[Row], floor: Floor | None, headline: str) -> list[str]:
    """Why what is kept above the floor is undefined, or has no interval, once a teacher."""
    notes = []
    if floor is None and any(some.role != "other" for some in rows):
        notes.append("No record here has a floor, so what is kept above it is undefined.")
    students = [some for some in rows if some.role not in ("teacher", "other") and some.results]
    teachers = {(some.run, some.name): some for some in rows if some.role == "teacher" and headline in some.scores}
    for run, name in sorted({(some.run, some.teacher) for some in students}, key=str):
        teacher, whose = teachers.get((run, name)), f"teacher {name!r} of run {run!r}" if name else f"run {run!r}"
        if teacher is None:
            notes.append(f"No score of the {whose} on these questions: what its students keep is undefined.")
        elif floor and headline in floor.scores and teacher.above_floor.value is None:
            notes.append(f"The {whose} is not clearly above the floor: what is kept of nothing is undefined.")
        elif teacher.above_floor.value is not None and teacher.above_floor.low is None:
            notes.append(
                f"No intervals for the students of the {whose}, and so no ranks: the questions' scores are not kept,"
                " come from one passage, or put the teacher too close to the floor for a ratio to its lead to have one."
            )
    return notes
