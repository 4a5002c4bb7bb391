"""The main job: everything that a recipe says, from the facts to the records. What `kd-bench distill` runs."""

from pathlib import Path
from typing import Any

from kd_bench.errors import UserError
from kd_bench.recipe import Recipe
from kd_bench.runs.context import Context
from kd_bench.runs.execute import execute
from kd_bench.runs.facts import Facts, gather
from kd_bench.runs.plan import Stage, describe, make_plan
from kd_bench.runs.store import Store, disk_errors
from kd_bench.runs.validate import check_backend, check_layers, check_leaks, check_lengths, check_vocabularies


def distill(recipe: Recipe, dry_run: bool, console) -> list[dict[str, Any]]:
    """Runs what is not done of `recipe` and writes its records; returns a row a (model, task), or a stage with dry_run.

    The rows are `summary.rows` of the records, or what `plan.describe` returns. Raises UserError with everything that
    is wrong, before anything is written.
    """
    with console.status("") as status:
        facts = gather(recipe, lambda text: status.update(f"{text} ..."))
        plan, store = make_plan(recipe, facts.plan), Store(Path(recipe.output) / recipe.name)
        if facts.wrong or (facts.unknown and not dry_run):
            raise UserError(recipe.name, facts.problems())
        if dry_run:
            facts.plan["completion_tokens"] = _completion_tokens(recipe, facts)
            _say_unknown(facts, console)
            return describe(plan, store, facts.plan)
        if any(not store.done(stage) for stage in plan):
            status.update("checking splits, prompts and vocabularies ...")
            _refuse(recipe, facts)
    _run(plan, store, Context(recipe, store.root, facts.tasks), console)
    with console.status("writing records ..."), disk_errors(Path(recipe.leaderboard)):
        return write_records(plan, recipe, store, facts)


def _refuse(recipe: Recipe, facts: Facts) -> None:
    checks = (check_leaks, check_layers, check_backend, check_vocabularies, check_lengths)
    rows = [row for check in checks for row in check(recipe, facts)]
    if problems := [f"{row['check']}: {row['detail']}" for row in rows if row["result"] == "problem"]:
        raise UserError(recipe.name, problems)


def _run(plan: list[Stage], store: Store, context: Context, console) -> None:
    from kd_bench.runs.environment import environment
    from kd_bench.runs.stages import run_stage

    execute(plan, store, run_stage, console, context, environment)


def _say_unknown(facts: Facts, console) -> None:
    for subject, problems in facts.unknown.items():
        for problem in problems:
            console.print(f"[yellow]not known here[/yellow] {subject}: {problem}", markup=True)
    if facts.unknown:
        console.print("What depends on them is shown as to do; a run needs them.")


def _completion_tokens(recipe: Recipe, facts: Facts) -> int | None:
    """Tokens of all training completions, counted; None if a task or the teacher's tokenizer is not at hand."""
    from kd_bench.harness.examples import reference
    from kd_bench.runs.facts import options_of, tokenizer_of

    source = recipe.teacher.model
    if source not in facts.plan["shapes"] or any(name not in facts.tasks for name in recipe.tasks):
        return None
    tokenizer = tokenizer_of(source, **options_of(recipe, source))
    texts = []
    for name in recipe.tasks:
        task = facts.tasks[name]
        texts += [reference(task, doc) for doc, _ in zip(task.training_docs(), range(recipe.training.limit or 1 << 62))]
    return sum(map(len, tokenizer(texts, add_special_tokens=False)["input_ids"]))


def write_records(plan: list[Stage], recipe: Recipe, store: Store, facts: Facts) -> list[dict[str, Any]]:
    """One record a finished evaluation, into the recipe's `leaderboard` folder, and a card beside each model's weights;
    returns the summary's rows."""
    from kd_bench.leaderboard.record import write_record
    from kd_bench.runs.cards import write_cards
    from kd_bench.runs.records import model_folder, record_of
    from kd_bench.runs.summary import rows

    made, folders = [], []
    for stage in plan:
        if stage.kind == "evaluate":
            name = stage.params["task"]
            fingerprint = facts.plan["tasks"][name]["fingerprint"]
            record, samples = record_of(stage, recipe, store, facts.tasks[name], fingerprint)
            write_record(recipe.leaderboard, record, samples)
            made.append((record, samples))
            folders.append(model_folder(store.path(stage.needs["model"])))
    write_cards(made, folders)
    return rows([record for record, _ in made], map(str, folders))
