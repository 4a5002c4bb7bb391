"""A model on tasks through lm-eval: its results as they are, and what they cost."""

import contextlib
import copy
import importlib.util
import io
import time

from kd_bench.errors import UserError
from kd_bench.harness.examples import FEWSHOT_SEED, check_names, quiet, task_manager

BACKENDS = ("kd", "hf", "vllm")
SPLITS = ("test", "validation")


def evaluate(
    model,
    tokenizer,
    tasks: str | list[str],
    *,
    batch_size: int = 8,
    limit: int | None = None,
    metadata: dict | None = None,
    split: str = "test",
    backend: str = "kd",
    folder: str | None = None,
    progress: bool = True,
) -> dict:
    """What `lm_eval.evaluate` returns for a loaded `model` on `tasks` (groups count), with every sample.

    limit: the first n documents of each task. metadata: what the tasks' data gets (`data_dir`, `demo_seed`, ...).
    split: `test` is what lm-eval evaluates (the validation split of a task without a test split), `validation` the
    validation split. backend: `kd` computes shared prefixes once, `hf` is lm-eval's own model, `vllm` is vLLM through
    lm-eval, which reads the model itself, from `folder` (a folder of safetensors, or a hub id).

    Adds "kd_bench": {"evaluate_seconds", "generated_tokens", "generated_tokens_per_second" (None where nothing was
    generated or nobody counted), "peak_memory_bytes" (see `PeakMemory`; None for vllm, whose processes are its own),
    "splits": {task: the split's name in its data set}}. Standard errors are left out: lm-eval's take the questions of
    one passage for independent. The model is left in the mode that it came in.

    Raises UserError for unknown tasks, backends and splits, and prompts that are longer than the model's context.
    """
    loaded = load_tasks(tasks, metadata, split)
    if problem := backend_problem(backend, folder):
        raise UserError("evaluation.backend", problem)

    import lm_eval

    from kd_bench.memory import PeakMemory

    training = model.training
    with quiet(), contextlib.nullcontext() if progress else contextlib.redirect_stderr(io.StringIO()):
        # lm-eval gives a tokenizer without a pad token one; the caller's stays as it is.
        own = copy.deepcopy(tokenizer)
        try:
            lm = _language_model(model, own, batch_size, backend, folder)
            problems = [p for task in loaded for p in context_problems(task, own, lm.max_length, limit)]
            if problems:
                raise UserError("evaluation", problems)
            started = time.perf_counter()
            with PeakMemory() as memory:
                # Not `simple_evaluate`, which seeds the caller's random state, and before it returns collects facts
                # about the machine for seconds on end (it runs `pip list`).
                results = lm_eval.evaluate(
                    lm,
                    {"tasks": {task.task_name: task for task in loaded}},
                    limit=limit,
                    log_samples=True,
                    bootstrap_iters=0,
                )
            seconds = time.perf_counter() - started
        finally:
            model.train(training)
    generated = getattr(lm, "generated_tokens", None)
    results["kd_bench"] = {
        "evaluate_seconds": seconds,
        "generated_tokens": generated,
        "generated_tokens_per_second": generated / lm.generate_seconds if generated else None,
        "peak_memory_bytes": None if backend == "vllm" else memory.bytes,
        "splits": {task.task_name: task.config.test_split or task.config.validation_split for task in loaded},
    }
    return results


def backend_problem(backend: str, folder: str | None) -> str | None:
    """Why `backend` cannot evaluate here, else None."""
    if backend not in BACKENDS:
        return f"`{backend}` is not one of {', '.join(BACKENDS)}"
    if backend == "vllm" and importlib.util.find_spec("vllm") is None:
        return "vllm is not installed: `pip install vllm` on a machine with a GPU that it supports, or take `kd`"
    if backend == "vllm" and (folder is None or folder.endswith(".gguf")):
        return "vllm reads a folder of safetensors or a hub id itself, and this model is neither: take `kd`"
    return None


def _language_model(model, tokenizer, batch_size: int, backend: str, folder: str | None):
    if backend == "vllm":
        from lm_eval.models.vllm_causallms import VLLM

        model.to("cpu")  # vLLM loads its own copy
        return VLLM(folder, dtype=str(model.dtype).removeprefix("torch."), enable_prefix_caching=True)
    from kd_bench.harness.prefix_lm import PrefixLM

    return PrefixLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, share=backend == "kd")


def load_tasks(names: str | list[str], metadata: dict | None = None, split: str = "test") -> list:
    """lm-eval's task objects for `names`, groups opened, set to evaluate `split`.

    Raises UserError naming every unknown task with the nearest known ones, and every task without the split.
    """
    names = [names] if isinstance(names, str) else list(names)
    if split not in SPLITS:
        raise UserError("evaluation.split", f"`{split}` is not one of {', '.join(SPLITS)}")
    if not names:
        raise UserError("tasks", "no task is named. See `kd-bench ls tasks`")
    if problems := check_names(names):
        raise UserError("tasks", problems)
    with quiet():
        loaded = {
            name: task for spec in names for name, task in task_manager([spec], metadata).load([spec])["tasks"].items()
        }
    if split == "validation":
        if problems := [
            f"`{name}` has no validation split" for name, t in loaded.items() if not t.has_validation_docs()
        ]:
            raise UserError("tasks", problems)
        for task in loaded.values():
            # lm-eval evaluates the test split where there is one.
            task.set_config("test_split", task.config.validation_split)
    for task in loaded.values():
        task.set_fewshot_seed(FEWSHOT_SEED)
        if task.config.num_fewshot is None:
            task.set_config("num_fewshot", 0)
    return list(loaded.values())


def check_context(task, tokenizer, max_length: int, limit: int | None = None) -> None:
    """Raises UserError if a prompt of `task`, with room for its answer, is longer than `max_length` tokens.

    lm-eval would drop the beginning of such a prompt, which is where the instructions and the passage stand.
    """
    if problems := context_problems(task, tokenizer, max_length, limit):
        raise UserError("evaluation", problems)


def context_problems(task, tokenizer, max_length: int, limit: int | None = None) -> list[str]:
    """What `check_context` would say of `task`: no or one problem."""
    with quiet(), contextlib.redirect_stderr(io.StringIO()):
        task.set_fewshot_seed(FEWSHOT_SEED)
        task.build_all_requests(limit=limit, rank=0, world_size=1)
        task.set_fewshot_seed(FEWSHOT_SEED)  # so that a task that draws its shots draws the same ones again
        lengths = _lengths(task.instances, tokenizer)
    too_long = [length for length in lengths if length > max_length]
    if not too_long:
        return []
    return [
        f"{task.task_name}: {len(too_long)} of {len(lengths)} prompts do not fit the model's context of {max_length} "
        f"tokens; with room for the answer the longest takes {max(too_long)}. Use a model with a longer context or a "
        "task with fewer shots: nothing is cut off silently"
    ]


def _lengths(instances, tokenizer) -> list[int]:
    """Tokens of context that each request takes: prompt and room for the answer, or prompt and choice."""
    from lm_eval.models.utils import normalize_gen_kwargs

    kinds = {"generate_until", "loglikelihood"}  # a rolling log-likelihood is cut into windows on purpose
    instances = [instance for instance in instances if instance.request_type in kinds]
    if not instances:
        return []
    generated = [instance.request_type == "generate_until" for instance in instances]
    texts = [i.args[0] if generates else i.args[0] + i.args[1] for i, generates in zip(instances, generated)]
    prompts = tokenizer(texts)["input_ids"]
    return [
        len(prompt) + (normalize_gen_kwargs(instance.args[1])["max_gen_toks"] if generates else -1)
        for prompt, instance, generates in zip(prompts, instances, generated)
    ]
