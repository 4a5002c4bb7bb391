"""What a recipe's parts may say: every key typed, each description telling what the setting does to the result."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=60)]
Dtype = Literal["float32", "bfloat16", "float16"]
Divergence = Literal[
    "forward_kl", "reverse_kl", "jsd", "symmetric_kl", "total_variation", "skew_kl", "skew_reverse_kl", "adaptive_kl",
    "alpha_beta",
]  # fmt: skip
# Which setting belongs to which divergence, and its default there.
SETTINGS = {
    "alpha": {"alpha_beta": 0.2},
    "beta": {"jsd": 0.5, "alpha_beta": 0.7},
    "skew": {"skew_kl": 0.1, "skew_reverse_kl": 0.1},
}


def _hint(text: str) -> dict[str, Any]:
    """What a message about a value out of range ends with: the value the field's papers use."""
    return {"json_schema_extra": {"hint": text}}


class Section(BaseModel):
    # Strict: `epochs: "3"` and `epochs: yes` are mistakes, not the numbers 3 and 1.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)


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

    @field_validator("init")
    @classmethod
    def _one_origin(cls, init: Init | None, info: ValidationInfo) -> Init | None:
        if "model" in info.data and (init is None) == (info.data["model"] is None):
            raise ValueError("give either `model` (a model of its own) or `init` (the teacher with layers taken out).")
        return init


class Method(Section):
    """How the student learns from the teacher; p is the teacher's distribution, q the student's."""

    name: Name | None = Field(
        None, description="What rows and folders are called after; without it the divergence. Changes no result."
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="This method's own: the gradients of divergences differ in size, so equal rates are unequal steps.",
    )
    divergence: Divergence = Field(
        "forward_kl",
        description="forward_kl covers all p deems likely; reverse_kl keeps to its favourites; the rest lie between.",
    )
    temperature: float = Field(
        1.0, gt=0, le=100, description="Higher softens both distributions: unlikely tokens weigh more in the loss."
    )
    beta: float | None = Field(
        None,
        ge=0,
        le=1,
        description="jsd: near 0 as forward KL, near 1 as reverse KL. alpha_beta: higher looks more at q's own mass.",
        **_hint("GKD uses 0.1, 0.5 and 0.9."),
    )
    alpha: float | None = Field(
        None,
        ge=0,
        le=1,
        description="alpha_beta only: higher looks more at what p deems likely; with beta 0, 1 is forward KL.",
    )
    skew: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="skew ones only: the share of p mixed into q (or q into p); more: smaller gradients.",
        **_hint("DistiLLM uses 0.1."),
    )
    lmbda: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of steps on completions the student writes; above 0 the teacher runs at every step: slower.",
    )
    cross_entropy: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Weight of the plain loss on the gold answer, the rest being the divergence; 1 would be sft.",
    )
    teacher_noise: float = Field(
        0.0,
        ge=0,
        description="Standard deviation of noise on the teacher's logits: for ablations of what its details are worth.",
    )

    @property
    def label(self) -> str:
        """What tells two ways of training one student apart: the divergence, and what it is mixed with."""
        mixed = f"-ce{self.cross_entropy:g}" if self.cross_entropy else ""
        return self.name or self.divergence + mixed

    @field_validator(*SETTINGS)
    @classmethod
    def _used_by_the_divergence(cls, value: float | None, info: ValidationInfo) -> float | None:
        users, divergence = SETTINGS[info.field_name], info.data.get("divergence")
        if divergence in users:
            return users[divergence] if value is None else value
        if divergence is not None and value is not None:
            raise ValueError(f"{divergence} does not use it, only {' and '.join(users)}: take the line out.")
        return value


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
        description="bfloat16: matrix products in half the bits, two to three times faster; weights stay float32.",
    )
    max_tokens: int | None = Field(
        8192, ge=1, description="Distinct tokens in one forward: lower takes less memory; the numbers stay the same."
    )
    save_steps: int = Field(100, ge=1, description="Steps between checkpoints: what a killed run repeats at most.")
    store_teacher_states: bool = Field(
        True,
        description="The teacher's body runs once, onto disk, not every epoch, student and seed; unused if lmbda > 0.",
    )
    teacher_states_dtype: Dtype = Field(
        "float32", description="bfloat16 and float16 halve the disk and round what students learn from."
    )
    limit: int | None = Field(None, ge=1, description="Training questions a task, the first ones; null takes all.")


class Evaluation(Section):
    tasks: list[str] | None = Field(
        None, min_length=1, description="Tasks that are scored; null scores those trained on."
    )
    batch_size: int = Field(8, ge=1, description="Prompts read together: speed and memory, not scores.")
    split: Literal["test", "validation"] = Field(
        "test", description="validation while tuning, so that test stays unseen."
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
    size: int | None = Field(None, ge=1, description="fictqa only: articles generated, some fourteen questions each.")
    seed: int | None = Field(None, ge=0, description="fictqa only: generates another encyclopedia.")
    metadata: dict[str, Any] = Field(
        {}, description="Anything else that a task of your own reads from lm-eval's metadata."
    )

    def as_metadata(self) -> dict[str, Any]:
        own = {"data_dir": self.dir, "demo_seed": self.demo_seed, "size": self.size, "seed": self.seed}
        return {**self.metadata, **{key: value for key, value in own.items() if value is not None}}
