"""What a recipe's parts may say: every key typed, each description telling what the setting does to the result."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=60)]
Dtype = Literal["float32", "bfloat16", "float16"]
Bits = Literal["nf4", "int8"]


class Section(BaseModel):
    # Strict: `epochs: "3"` and `epochs: yes` are mistakes, not the numbers 3 and 1.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)


class Lora(Section):
    """Low-rank adapters (arXiv 2106.09685) are trained instead of all weights, and merged into them on saving."""

    rank: int = Field(
        16, ge=1, description="Higher learns more of what the weights cannot say yet, and takes more memory."
    )
    alpha: float | None = Field(
        None, gt=0, description="The update is multiplied by alpha / rank; null is twice the rank."
    )
    targets: list[str] | None = Field(
        None, min_length=1, description="Linear modules that get one, by name (q_proj, ...); null: all but the head."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="On the adapters' input: against overfitting on few questions.")


class Finetune(Section):
    """The teacher's fine-tuning on the tasks; what it does not name is as in `training`."""

    epochs: float = Field(
        2, gt=0, description="Passes over the training questions; more fit them better and cost time."
    )
    learning_rate: float = Field(
        1e-4, gt=0, lt=1, description="Higher learns the format faster and forgets more of what the teacher knew."
    )
    batch_size: int = Field(
        32, ge=1, description="Questions an optimizer step; larger is steadier and makes fewer steps."
    )
    lora: Lora | None = Field(None, description="Trains adapters instead of all weights; null trains in full.")
    quantize: Literal["nf4"] | None = Field(
        None,
        description="QLoRA: the frozen base in 4 bits while adapters are trained; the merged teacher is whole again.",
    )

    @field_validator("quantize")
    @classmethod
    def _only_under_adapters(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("lora") is None:
            raise ValueError("4-bit weights cannot be trained themselves: give `lora: {}` as well (QLoRA).")
        return value


class Teacher(Section):
    model: str = Field(
        min_length=1, description="Hub id, folder, or pip:PACKAGE/FILE.gguf; its scores are what retention is of."
    )
    finetune: Finetune | None = Field(
        None, description="Fine-tunes the teacher on the tasks first; null takes it as it comes, prompts and all."
    )
    revision: str | None = Field(
        None, description="Pins the hub's commit; null follows the branch, so a re-run may differ."
    )
    trust_remote_code: bool = Field(
        False, description="Runs Python code that comes with the model: only if you trust its author."
    )
    dtype: Dtype = Field(
        "float32", description="bfloat16 halves memory and rounds the logits that students learn from."
    )
    quantize: Bits | None = Field(
        None,
        description="Frozen in 4 or 8 bits while it teaches: less memory, other logits. Its row is that of it whole.",
    )


class Init(Section):
    """The student is the (fine-tuned) teacher with layers taken out."""

    keep_layers: int | None = Field(
        None,
        ge=2,
        description="Layers that stay, first and last always; fewer is smaller, faster, further from the teacher.",
    )
    by: Literal["influence", "even", "loss"] = Field(
        "influence",
        description="influence: those that turn the hidden state least go; loss: one by one those missed least; even.",
    )
    layers: list[int] | None = Field(
        None,
        description="The kept layers by index, from 0, instead of keep_layers and by: when you know which you want.",
    )

    @field_validator("layers")
    @classmethod
    def _layers(cls, layers: list[int] | None, info: ValidationInfo) -> list[int] | None:
        keep = info.data.get("keep_layers")
        if layers is None:
            if "keep_layers" in info.data and keep is None:
                raise ValueError(
                    "nothing says which layers stay: give `keep_layers` (a number) or `layers` (their indices)."
                )
            return None
        if len(layers) < 2 or layers[0] < 0 or layers != sorted(set(layers)):
            raise ValueError(f"{layers} are not two or more layer indices in rising order, counted from 0.")
        if keep is not None and keep != len(layers):
            raise ValueError(f"names {len(layers)} layers but keep_layers is {keep}: leave keep_layers out.")
        return layers


class Student(Section):
    name: Name = Field(description="What the leaderboard's rows and the run's folders are called after.")
    model: str | None = Field(
        None, min_length=1, description="Hub id, folder, or pip:PACKAGE/FILE.gguf; must share the teacher's tokens."
    )
    init: Init | None = Field(
        None, description="Makes the student out of the teacher, by taking layers out, instead of `model`."
    )
    revision: str | None = Field(None, description="Pins the hub's commit of `model`.")
    trust_remote_code: bool = Field(
        False, description="Runs Python code that comes with `model`: only if you trust its author."
    )
    quantize: list[Bits] = Field(
        [], description="Each trained student also in 4 or 8 bits, as a row of its own with its own bytes and scores."
    )

    @field_validator("init")
    @classmethod
    def _one_origin(cls, init: Init | None, info: ValidationInfo) -> Init | None:
        if "model" in info.data and (init is None) == (info.data["model"] is None):
            raise ValueError("give either `model` (a model of its own) or `init` (the teacher with layers taken out).")
        return init


class Training(Section):
    epochs: float = Field(3, gt=0, description="Passes over the training questions, for sft and distillation alike.")
    learning_rate: float = Field(
        3e-4, gt=0, lt=1, description="Higher recovers a pruned student faster, until the loss jumps or turns NaN."
    )
    batch_size: int = Field(
        32, ge=1, description="Questions an optimizer step; those of one passage share its computation."
    )
    warmup_ratio: float = Field(
        0.05, ge=0, lt=1, description="Share of steps over which the rate rises; guards the first steps."
    )
    weight_decay: float = Field(
        0.0, ge=0, lt=1, description="Pulls weights to 0 at each step; more regularises few data."
    )
    max_grad_norm: float = Field(
        1.0, gt=0, description="Clips larger gradients: a bad batch moves the weights no further."
    )
    scheduler: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="How the rate falls to 0 after warm-up; constant never falls and ends noisier."
    )
    gradient_checkpointing: bool = Field(
        False, description="Recomputes activations: about a third slower, much less memory."
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="bfloat16: half the bits in matrix products, two to three times faster where the processor has it,"
        " many times slower where it has not; weights stay float32.",
    )
    max_tokens: int | None = Field(
        8192, ge=1, description="Distinct tokens in one forward: lower takes less memory; the numbers stay the same."
    )
    save_steps: int = Field(100, ge=1, description="Steps between checkpoints: what a killed run repeats at most.")
    store_teacher_states: bool = Field(
        True,
        description="The teacher's body runs once, onto disk, not every epoch, student and seed.",
    )
    teacher_states_dtype: Dtype = Field(
        "float32", description="bfloat16 and float16 halve the disk and round what students learn from."
    )
    limit: int | None = Field(None, ge=1, description="Training questions a task, the first ones; null takes all.")
    lora: Lora | None = Field(None, description="Students train adapters instead of all weights, merged on saving.")


class Search(Section):
    """Each method's learning rate, `sft` included, chosen on the validation split out of the same grid: equal rates are
    unequal steps, since the gradients of divergences differ in size."""

    learning_rates: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        min_length=2,
        description="Tried with the first seed, each a training of its own; the best one trains all seeds.",
    )
    limit: int | None = Field(
        None, ge=1, description="Validation questions a task that decide; fewer choose more by chance."
    )

    @field_validator("learning_rates")
    @classmethod
    def _distinct(cls, rates: list[float]) -> list[float]:
        if len(set(rates)) < len(rates):
            raise ValueError("a rate stands there twice.")
        return rates


class Evaluation(Section):
    tasks: list[str] | None = Field(
        None, min_length=1, description="Tasks that are scored; null scores those trained on."
    )
    batch_size: int = Field(8, ge=1, description="Prompts read together: speed and memory, not scores.")
    split: Literal["test", "validation", "both"] = Field(
        "test", description="validation while tuning, so that test stays unseen; both shows where the two disagree."
    )
    limit: int | None = Field(None, ge=1, description="Questions a task; null scores all: fewer widen every interval.")
    backend: Literal["kd", "hf", "vllm"] = Field(
        "kd", description="kd computes shared prompt prefixes once; hf is lm-eval's own; vllm where it is installed."
    )


class Data(Section):
    """Passed to the tasks as lm-eval metadata."""

    dir: str | None = Field(None, description="Where the data sets lie; null reads $KD_BENCH_DATA, then the hub.")
    demo_seed: int = Field(
        0, ge=0, description="Chooses the one-shot demonstration: another one shifts every one-shot score."
    )
    split_seed: int = Field(0, ge=0, description="Another one puts other articles into training and validation.")
    size: int | None = Field(None, ge=1, description="fictqa only: articles generated, some fourteen questions each.")
    seed: int | None = Field(None, ge=0, description="fictqa only: generates another encyclopedia.")
    metadata: dict[str, Any] = Field(
        {}, description="Anything else that a task of your own reads from lm-eval's metadata."
    )

    def as_metadata(self) -> dict[str, Any]:
        own = {"data_dir": self.dir, "demo_seed": self.demo_seed, "size": self.size, "seed": self.seed}
        own["split_seed"] = (
            self.split_seed or None
        )  # where it is 0, data sets and records of before stay what they were
        return {**self.metadata, **{key: value for key, value in own.items() if value is not None}}
