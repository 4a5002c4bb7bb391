"""What a recipe may say of a method: a divergence, who writes the completions, and the field's methods by name."""

from typing import Any, Literal, NamedTuple

from pydantic import Field, ValidationInfo, field_validator, model_validator

from kd_bench.recipe_sections import Name, Section

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
# Which setting belongs to which way of sampling, and its default there.
SAMPLING_SETTINGS = {
    "capacity": {"adaptive": 1000},
    "margin": {"adaptive": 0.1},
    "contrast": {"pair": 1.0},
}
SFT = "sft"


class Preset(NamedTuple):
    """settings: what the name stands for. takes: what may be given beside it. what: the idea and its paper."""

    settings: dict[str, Any]
    takes: tuple[str, ...]
    what: str


_ALWAYS = ("name", "learning_rate", "preset")
_OWN = ("temperature", "teacher_noise")
_TEACHER = (*_OWN, "cross_entropy")
PRESETS = {
    SFT: Preset(
        {"cross_entropy": 1.0},
        (),
        "Fine-tuning on the gold answers without a teacher: the baseline, whatever else is named.",
    ),
    "kd": Preset(
        {"divergence": "forward_kl"},
        (*_TEACHER, "completions"),
        "Forward KL on the gold answers' tokens: Hinton et al. 2015 (arXiv 1503.02531), per token.",
    ),
    "seqkd": Preset(
        {"completions": "teacher", "cross_entropy": 1.0},
        (),
        "Cross-entropy on answers that the teacher writes once, greedily: Kim and Rush 2016 (arXiv 1606.07947).",
    ),
    "gkd": Preset(
        {"divergence": "jsd", "beta": 0.5, "lmbda": 0.5},
        (*_OWN, "beta", "lmbda"),
        "Generalised JSD, half of the steps on the student's own answers: GKD (arXiv 2306.13649).",
    ),
    "minillm_rkl": Preset(
        {"divergence": "reverse_kl", "lmbda": 1.0},
        (*_OWN, "lmbda"),
        "Reverse KL on the student's own answers, per token: MiniLLM's objective (arXiv 2306.08543, eq. 1) without its"
        " policy gradient.",
    ),
    "distillm": Preset(
        {"divergence": "skew_reverse_kl", "skew": 0.1, "sampling": "adaptive"},
        (*_OWN, "divergence", "skew", "capacity", "margin"),
        "Skew (reverse) KL with adaptive off-policy answers out of a replay buffer: DistiLLM (arXiv 2402.03898).",
    ),
    "distillm2": Preset(
        {"divergence": "skew_kl", "skew": 0.1, "completions": "teacher", "sampling": "pair"},
        ("temperature", "teacher_noise", "skew", "contrast"),
        "Skew KL on the teacher's answers and skew reverse KL on the student's: DistiLLM-2 (arXiv 2503.07067).",
    ),
}  # fmt: skip


def _hint(text: str) -> dict[str, Any]:
    """What a message about a value out of range ends with: the value the field's papers use."""
    return {"json_schema_extra": {"hint": text}}


class Method(Section):
    """How the student learns from the teacher; p is the teacher's distribution, q the student's."""

    preset: Literal["sft", "kd", "seqkd", "gkd", "minillm_rkl", "distillm", "distillm2"] | None = Field(
        None, description="A method of the field by name: see `kd-bench ls methods`. Alone, just write its name."
    )
    name: Name | None = Field(
        None, description="What rows and folders are called after; without it the preset or divergence."
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
        1.0, gt=0, le=100, description="Higher softens both distributions; the loss is multiplied by its square."
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
    completions: Literal["data", "teacher"] = Field(
        "data", description="Who writes the answers that are trained on: the data set, or the teacher, once (SeqKD)."
    )
    sampling: Literal["fixed", "adaptive", "pair"] = Field(
        "fixed",
        description="The student's own answers: a fixed share `lmbda`; adaptive: a share that rises as validation"
        " worsens, out of a replay buffer (DistiLLM); pair: beside every fixed answer (DistiLLM-2).",
    )
    lmbda: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of steps on answers that the student writes; the teacher runs at those steps: slower.",
    )
    capacity: int | None = Field(
        None, ge=1, description="adaptive only: answers in the replay buffer; more are cheaper and older."
    )
    margin: float | None = Field(
        None, ge=0, description="adaptive only: by how much the validation loss has to worsen before the share rises."
    )
    contrast: float | None = Field(
        None,
        ge=0,
        le=2,
        description="pair only: weight of the student's answers, 2 less it that of the fixed ones (the paper's beta).",
    )
    cross_entropy: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Weight of the plain loss on the answer, the rest being the divergence; 1 needs no teacher.",
    )
    teacher_noise: float = Field(
        0.0,
        ge=0,
        description="Standard deviation of noise on the teacher's logits: for ablations of what its details are worth.",
    )

    @model_validator(mode="before")
    @classmethod
    def _named(cls, data: Any) -> Any:
        """`method: kd` and `{preset: kd, ...}`: the preset's settings, and beside them only what it uses."""
        if isinstance(data, str):
            data = {"preset": data}
        preset = PRESETS.get(data["preset"]) if isinstance(data, dict) and isinstance(data.get("preset"), str) else None
        if preset is None:
            return data
        known = set(cls.model_fields)
        unused = [
            key
            for key, value in data.items()
            if key in known
            and key not in (*_ALWAYS, *preset.takes)
            and value != preset.settings.get(key, _DEFAULTS[key])
        ]
        if unused:
            more = f"it takes {', '.join(preset.takes)}" if preset.takes else "it takes nothing but a rate and a name"
            raise ValueError(
                f"{data['preset']} does not use {', '.join(f'`{key}`' for key in unused)}: {more}. Leave `preset` out "
                "to set everything yourself."
            )
        settings = dict(preset.settings)
        if data.get("divergence", settings.get("divergence")) not in SETTINGS["skew"]:
            settings.pop("skew", None)
        return {**settings, **data}

    @property
    def label(self) -> str:
        """What tells two ways of training one student apart."""
        marks = [f"ce{self.cross_entropy:g}"] if self.cross_entropy else []
        marks += [self.sampling] if self.sampling != "fixed" else []
        marks += ["teacher-written"] if self.completions == "teacher" else []
        return self.name or self.preset or "-".join([self.divergence, *marks])

    @property
    def uses_teacher(self) -> bool:
        """Whether the loss looks at the teacher's logits."""
        return self.cross_entropy < 1

    @property
    def student_writes(self) -> bool:
        return self.sampling != "fixed" or self.lmbda > 0

    @property
    def is_sft(self) -> bool:
        """Whether nothing of a teacher is in it, whatever it is called."""
        return self.cross_entropy == 1 and self.completions == "data"

    @field_validator(*SETTINGS)
    @classmethod
    def _used_by_the_divergence(cls, value: float | None, info: ValidationInfo) -> float | None:
        return _used(value, SETTINGS[info.field_name], info.data.get("divergence"))

    @field_validator(*SAMPLING_SETTINGS)
    @classmethod
    def _used_by_the_sampling(cls, value: float | None, info: ValidationInfo) -> float | None:
        return _used(value, SAMPLING_SETTINGS[info.field_name], info.data.get("sampling"), "sampling: ")

    @field_validator("lmbda")
    @classmethod
    def _one_share(cls, value: float, info: ValidationInfo) -> float:
        if value and info.data.get("sampling", "fixed") != "fixed":
            raise ValueError(f"sampling: {info.data['sampling']} decides itself when the student writes: take it out.")
        return value

    @field_validator("sampling")
    @classmethod
    def _pairs_are_skewed(cls, value: str, info: ValidationInfo) -> str:
        if value == "pair" and info.data.get("divergence", "skew_kl") != "skew_kl":
            raise ValueError("pair sets skew_kl against skew_reverse_kl: `divergence` has to be skew_kl.")
        return value

    @field_validator("cross_entropy")
    @classmethod
    def _divides(cls, value: float, info: ValidationInfo) -> float:
        if value and (info.data.get("sampling", "fixed") != "fixed" or info.data.get("lmbda")):
            raise ValueError("it goes with fixed answers: a student learns nothing from repeating its own.")
        return value


_DEFAULTS = {name: field.default for name, field in Method.model_fields.items()}


def _used(value, users: dict[str, Any], chosen: str | None, what: str = ""):
    if chosen in users:
        return users[chosen] if value is None else value
    if chosen is not None and value is not None:
        raise ValueError(f"{what}{chosen} does not use it, only {' and '.join(users)}: take the line out.")
    return value
