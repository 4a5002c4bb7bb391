"""The main job: everything that a recipe, or a study's recipes, say, from the facts to the records."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kd_bench.errors import UserError
from kd_bench.recipe import Recipe
from kd_bench.runs.context import Contexts
from kd_bench.runs.cost import Tokens, count, training_completions
from kd_bench.runs.estimate import describe
from kd_bench.runs.execute import Executor, Job, execute
from kd_bench.runs.facts import Facts, gather
from kd_bench.runs.plan import Stage, Trial, make_plan, make_trials, with_needs
from kd_bench.runs.room import memory
from kd_bench.runs.search import Chosen, choose
from kd_bench.runs.store import Store, disk_errors
from kd_bench.runs.validate import (
    check_backend,
    check_layers,
    check_leaks,
    check_lengths,
    check_lora,
    check_vocabularies,
)
from kd_bench.study import Run


@dataclass
class Planned:
    """A run with what is known of the world and its learning-rate trials; and, once those are done, what they chose and
    the plan that makes its records, or, where all of a method's rates failed, the problem that it has none. counted:
    tokens, where somebody wanted to know."""

    run: Run
    facts: Facts
    trials: list[Trial] = field(default_factory=list)
    rates: Chosen = field(default_factory=dict)
    selections: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    plan: list[Stage] | None = None
    problem: UserError | None = None
    counted: dict[tuple, Tokens] = field(default_factory=dict)

    @property
    def recipe(self) -> Recipe:
        return self.run.recipe

    @property
    def tried(self) -> list[Stage]:
        """The trials' trainings and evaluations, each training before its own."""
        return [stage for trial in self.trials for stage in (trial.train, *trial.scored)]

    def stages(self) -> list[Stage]:
        """All of them, trials among them."""
        return with_needs([*self.tried, *make_plan(self.recipe, self.facts.plan, self.rates)])

    def choose(self, store: Store) -> None:
        """The rates, with all trials done or failed; and the plan."""
        try:
            self.rates, self.selections = choose(self.recipe, self.trials, store)
        except UserError as error:
            self.problem = error
        else:
            self.plan = make_plan(self.recipe, self.facts.plan, self.rates)


def distill(recipe: Recipe, dry_run: bool, console, executor: Executor | None = None) -> list[dict[str, Any]]:
    """Runs what is not done of `recipe` and writes its records; returns a row a (model, task), or a stage with dry_run.

    The rows are `summary.rows` of the records, or what `estimate.describe` returns. Raises UserError with everything
    that is wrong, before anything is written.
    """
    store = Store(Path(recipe.output) / recipe.name)
    planned = plan_runs([Run(recipe)], store, console, dry_run)
    if dry_run:
        facts = planned[0].facts
        facts.plan["completion_tokens"] = training_completions(recipe, count(recipe, facts, training_only=True))
        return describe(planned[0].stages(), store, facts.plan)
    return carry_out(planned, store, console, executor)


def plan_runs(runs: list[Run], store: Store, console, dry_run: bool) -> list[Planned]:
    """What there is to do of `runs`, checked. Raises UserError with everything that is wrong, and, unless it is a dry
    run, with what is not known here."""
    planned, problems, known = [], [], {}
    with console.status("") as status:
        for run in runs:
            facts = gather(run.recipe, lambda text: status.update(f"{text} ..."), known)
            if facts.wrong or (facts.unknown and not dry_run):
                problems += [(run.recipe.name, problem) for problem in facts.problems()]
                continue
            this = Planned(run, facts, make_trials(run.recipe, facts.plan))
            if all(_known(store, stage) for stage in this.tried):
                this.choose(store)
            planned.append(this)
        if not problems:
            for this in planned:
                if not dry_run and any(not store.done(stage) for stage in this.stages()):
                    status.update(f"{this.recipe.name}: checking splits, prompts and vocabularies ...")
                    problems += [(this.recipe.name, problem) for problem in _refused(this.recipe, this.facts)]
    if problems:
        alone = len(runs) == 1
        raise UserError(
            runs[0].recipe.name if alone else runs[0].study or "study",
            list(dict.fromkeys(problem if alone else f"{name}: {problem}" for name, problem in problems)),
        )
    if dry_run:
        _say_unknown([this.facts for this in planned], console)
    return planned


def _known(store: Store, stage: Stage) -> bool:
    """Whether a trial's stage is done, or failed, or waits for one that failed."""
    return store.done(stage) or any(store.failed(some) for some in (stage, *stage.needs.values()))


def carry_out(planned: list[Planned], store: Store, console, executor: Executor | None = None) -> list[dict[str, Any]]:
    """Makes everything of `planned` that is not done, trials first; a run's records are written as soon as all of its
    stages are there. Raises UserError at the end for the runs that have no plan."""
    from kd_bench.runs.environment import environment

    contexts = Contexts(store.root)
    for this in planned:
        contexts.of(this.recipe).tasks.update(this.facts.tasks)
    rows: dict[int, list[dict[str, Any]]] = {}
    listed: set[int] = set()

    def then(state: Mapping[str, str]) -> Iterator[Job]:
        for number, this in enumerate(planned):
            if not this.plan and not this.problem and all(state[stage.key] in _SETTLED for stage in this.tried):
                this.choose(store)
            if this.plan and number not in listed:
                listed.add(number)
                yield from (Job(stage, this.recipe) for stage in this.plan)
            elif this.plan and number not in rows and all(state[stage.key] in _THERE for stage in this.plan):
                with disk_errors(Path(this.recipe.leaderboard)):
                    rows[number] = write_records(this, store)

    owners, known = {id(this.recipe): this for this in planned}, {}

    def needs(job: Job, on_gpu: bool) -> dict[str, int]:
        this = owners[id(job.recipe)]
        this.counted = this.counted or count(this.recipe, this.facts, known=known)
        found = memory(job.stage, this.recipe, this.facts, this.counted, on_gpu)
        return {} if found is None else {"memory": found}

    execute(
        (job for this in planned for job in _tried(this)),
        store,
        console,
        executor=executor,
        then=then,
        needs=needs,
        expected=len({stage.key for this in planned for stage in this.stages()}),
        made_with=environment,
        contexts=contexts,
    )
    if failed := [this.problem for this in planned if this.problem]:
        raise UserError(store.root.name, [f"{error.where}: {told}" for error in failed for told in error.problems])
    return [row for number in sorted(rows) for row in rows[number]]


_SETTLED = ("done", "failed", "skipped")  # of a trial
_THERE = ("done", "not needed")


def _tried(this: Planned) -> list[Job]:
    trainings = {trial.train.key for trial in this.trials}
    return [Job(stage, this.recipe, stage.key in trainings) for stage in with_needs(this.tried)]


def _refused(recipe: Recipe, facts: Facts) -> list[str]:
    checks = (check_leaks, check_layers, check_lora, check_backend, check_vocabularies, check_lengths)
    rows = [row for check in checks for row in check(recipe, facts)]
    return [f"{row['check']}: {row['detail']}" for row in rows if row["result"] == "problem"]


def _say_unknown(found: list[Facts], console) -> None:
    told = {(subject, p) for facts in found for subject, some in facts.unknown.items() for p in some}
    for subject, problem in sorted(told):
        console.print(f"[yellow]not known here[/yellow] {subject}: {problem}", markup=True)
    if told:
        console.print("What depends on them is shown as to do; a run needs them.")


def write_records(this: Planned, store: Store) -> list[dict[str, Any]]:
    """One record a finished evaluation, into the recipe's `leaderboard` folder, and a card beside each model's weights;
    returns the summary's rows. Where both splits were evaluated, the record is the test split's."""
    from kd_bench.leaderboard.record import write_record
    from kd_bench.runs.cards import write_cards
    from kd_bench.runs.records import identity, model_folder, record_of
    from kd_bench.runs.summary import rows

    recipe, facts = this.recipe, this.facts
    evaluations = [stage for stage in this.plan or () if stage.kind == "evaluate"]
    both = recipe.evaluation.split == "both"
    validation = {}
    if both:
        validation = {
            (stage.needs["model"].key, stage.params["task"]): stage
            for stage in evaluations
            if stage.params["split"] == "validation"
        }
    made, folders = [], []
    for stage in evaluations:
        if both and stage.params["split"] == "validation":
            continue
        name, model = stage.params["task"], stage.needs["model"]
        trained = model.needs["model"] if model.kind == "quantize" else model
        who = identity(trained)
        selection = this.selections.get((who["student"], who["name"].removeprefix(f"{who['student']}-")))
        selection = None if model.kind == "quantize" else selection
        record, samples = record_of(
            stage,
            this.run,
            store,
            facts.tasks[name],
            facts.plan["tasks"][name]["fingerprint"],
            validation=validation.get((model.key, name)),
            selection=selection,
        )
        write_record(recipe.leaderboard, record, samples)
        made.append((record, samples))
        folders.append(model_folder(store.path(model)))
    write_cards(made, folders)
    return rows([record for record, _ in made], map(str, folders))
