"""The README.md of a model that a run made: the hub's model card, with its scores, how it was made and what it is not.

Written beside the weights when the records are, so that the folder can be uploaded as it is.
"""

from pathlib import Path
from typing import Any

from kd_bench.errors import UserError
from kd_bench.leaderboard.escape import code, escape, grid, millions
from kd_bench.leaderboard.markdown import metric_name, score, share
from kd_bench.leaderboard.origin import dataset, method, reproduce
from kd_bench.leaderboard.ranking import tables
from kd_bench.leaderboard.rows import Row, Table
from kd_bench.leaderboard.schema import Record, Result

CARD = "README.md"
METRICS = {"em": "exact_match", "has_ans_em": "exact_match", "no_ans_em": "exact_match", "rougeL": "rouge",
           "acc": "accuracy", "has_ans_f1": "f1"}  # fmt: skip
WHAT = {
    "teacher": "A teacher fine-tuned on the tasks below.",
    "undistilled": "A student as it was before any training: a starting point, and a baseline.",
    "sft": "A student fine-tuned without a teacher: the baseline that distillation has to beat.",
    "distilled": "A student distilled from a teacher.",
}


def card(found: list[Table], name: str) -> str:
    """The text of `name`'s card. found: the tables of one run's results, one seed a model, `name`'s teacher among
    them."""
    from huggingface_hub import ModelCardData

    own = [(table, row) for table in found for row in table.rows if row.name == name and row.results]
    record = own[0][1].results[0].record
    base = record.model.source
    data = ModelCardData(
        base_model=None if ":" in base or " " in base or base.count("/") != 1 else base,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["kd-bench", "knowledge-distillation"],
        datasets=sorted({dataset(table.task) for table, _ in own} - {None}) or None,
        metrics=sorted(
            {METRICS.get(metric, metric) for _, row in own for metric in row.scores if metric != "abstained"}
        ),
        model_name=f"{record.provenance.run}/{name}",
        eval_results=[result for table, row in own for result in _eval_results(table, row)],
    )
    return f"---\n{data.to_yaml()}\n---\n\n{_body(record, name, own)}\n"


def write_cards(records: list[tuple[Record, list[dict]]], folders: list[Path]) -> None:
    """Writes the card of each model into its folder. records, folders: one each a (model, task), in the same order."""
    results = [Result(record, samples) for record, samples in records]
    models = {folder: result.record for result, folder in zip(results, folders)}
    for seed in {record.seed for record in models.values()}:
        found = tables(result for result in results if result.record.seed in (seed, None))
        for folder, record in models.items():
            if record.seed == seed:
                (folder / CARD).write_text(card(found, record.model.name), encoding="utf-8")


def _eval_results(table: Table, row: Row) -> list[Any]:
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type="question-answering",
            task_name=f"{table.task}, {table.num_fewshot}-shot, {table.questions} questions",
            dataset_type=dataset(table.task) or table.task,
            dataset_name=table.task,
            dataset_config=table.task,  # or the hub's library folds two prompts of one data set into one result
            dataset_split=table.split,
            dataset_args={"num_few_shot": table.num_fewshot},
            metric_type=METRICS.get(metric, metric),
            metric_name=metric,
            metric_value=round(measure.value, 6),
            verified=False,
        )
        for metric, measure in row.scores.items()
    ]


def _body(record: Record, name: str, own: list[tuple[Table, Row]]) -> str:
    role, model = record.model.role, record.model
    lines = [
        [
            code(table.task),
            f"{table.questions:,}",
            score(row.scores.get(table.headline)),
            "" if role == "teacher" else share(row.above_floor),
            "" if role == "teacher" else share(row.kept),
        ]
        for table, row in own
    ]
    headline = metric_name(own[0][0].headline)
    made = f"From {code(model.source)}" + (f"; {method(record.method)}" if record.method else "")
    seed = "" if record.seed is None else f", seed {record.seed}"
    commit = f" kd-bench at commit {code(record.provenance.commit[:12])}." if record.provenance.commit else ""
    parts = [
        f"# {escape(record.provenance.run)}/{escape(name)}",
        f"{WHAT.get(role, 'A model.')} {millions(model.parameters)} parameters, {model.layers} layers.",
        "## Scores",
        grid(lines, ["Task", "Questions", headline, "Above floor", "Of teacher"]),
        "In per cent ± one standard error over passages; 95 % intervals in brackets. *Above floor* is what is kept of "
        "the teacher's lead over the best constant answer, (student − floor) / (teacher − floor).",
        "## How it was made",
        f"{made}{seed}.{commit} {reproduce(record, [result for _, row in own for result in row.results])}",
        "## Limits",
        "Measured on the questions above and nothing else, in the prompts of these tasks; one training seed says "
        "nothing of what another would give. It inherits its teacher's limits and licence.",
    ]
    return "\n\n".join(parts)


def push(folder: Path, repo: str, private: bool = True) -> str:
    """Uploads a model's folder, card and all, to the hub's `repo`; returns where it is. Raises UserError."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    from kd_bench.runs.records import model_folder

    folder = model_folder(folder)
    if not (folder / CARD).is_file():
        raise UserError(str(folder), f"has no {CARD}: `kd-bench distill` writes it when it has evaluated the model.")
    api = HfApi()
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Upload by kd-bench"))
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise UserError(repo, f"cannot be uploaded to: {str(error).strip().splitlines()[0]}") from error
