"""Who writes a step's completions: the data set, the student, or both; and the state of that, which a checkpoint holds.

Every draw is a function of the seed and the step, so that a resumed run draws what the killed one would have drawn and
all processes toss the same coin.
"""

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from datasets import Dataset

from kd_bench.distill.adaptive import Adaptive, ReplayBuffer, Source
from kd_bench.distill.loss import Loss
from kd_bench.errors import UserError

STATE = "sampling.json"  # in a checkpoint


@dataclass(frozen=True)
class Sampling:
    """kind: "fixed" (with probability `lmbda` a step's completions are written by the student: GKD, arXiv 2306.13649,
    algorithm 1), "adaptive" (DistiLLM: see `adaptive`) or "pair" (DistiLLM-2: see below).

    pair (arXiv 2503.07067, its contrastive loss): every step has its prompts twice, with the data set's completions
    under the trainer's loss at weight (2 - beta) / 2 and with the student's under `student_loss` at beta / 2, each half
    a mean over its own completion tokens. The paper's curricula over beta and the skew are not done.
    validation: features of which the first `validation_limit` say how adaptive training goes, `validations` times.
    Raises UserError for what does not go together.
    """

    kind: Literal["fixed", "adaptive", "pair"] = "fixed"
    lmbda: float = 0.0
    beta: float = 1.0
    student_loss: Loss | None = None
    validation: Dataset | None = None
    validation_limit: int = 64
    validations: int = 10
    margin: float = 0.1
    capacity: int = 1000

    def __post_init__(self):
        if self.kind not in ("fixed", "adaptive", "pair"):
            raise UserError("method.sampling", f"{self.kind!r} is not one of fixed, adaptive, pair")
        if self.lmbda and self.kind != "fixed":
            raise UserError("method.lmbda", f"sampling {self.kind!r} decides itself how much the student writes: set 0")
        if self.kind == "adaptive" and not self.validation:
            raise UserError("method.sampling", "adaptive goes by a validation loss: give validation features")
        if self.kind == "pair" and self.student_loss is None:
            raise UserError("method.sampling", "pair needs a loss for the student's completions: give `student_loss`")
        if not 0 <= self.beta <= 2:
            raise UserError("method.beta", f"{self.beta} is not in [0, 2]. DistiLLM-2 begins at 1.")

    @property
    def student_writes(self) -> bool:
        return self.kind != "fixed" or self.lmbda > 0


class Writing:
    """The state of a run's `Sampling`: the adaptive schedule, its curve and the replay buffer."""

    def __init__(self, sampling: Sampling, seed: int):
        self.sampling, self.seed = sampling, seed
        self.schedule = Adaptive(sampling.margin, sampling.validations)
        self.replay = ReplayBuffer(sampling.capacity)
        self.curve: list[dict] = []

    def draws(self, step: int, what: str) -> random.Random:
        return random.Random(f"{self.seed} {step} {what}")

    def source(self, step: int, steps: int) -> Source:
        """Where a step's completions come from; "pair" does not ask."""
        coin = self.draws(step, "who writes").random()
        if self.sampling.kind == "fixed":
            return "fresh" if coin < self.sampling.lmbda else "fixed"
        source = self.schedule.source(step, steps, coin)
        return "fresh" if source == "replay" and not self.replay.batches else source

    def replayed(self, step: int) -> list[dict]:
        return self.replay.draw(self.draws(step, "which batch").random())

    def validated(self, step: int, loss: float) -> None:
        self.schedule = self.schedule.after(loss)
        self.curve.append({"step": step, "phi": self.schedule.phi, "validation_loss": loss})

    def save(self, checkpoint: Path) -> None:
        if self.sampling.kind == "adaptive":
            state = {"schedule": asdict(self.schedule), "curve": self.curve, "replay": list(self.replay.batches)}
            (checkpoint / STATE).write_text(json.dumps(state), encoding="utf-8")

    def load(self, checkpoint: Path) -> None:
        if self.sampling.kind != "adaptive":
            return
        try:
            state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(str(checkpoint), "was not written by adaptive sampling: remove it to start anew") from None
        self.schedule, self.curve = Adaptive(**state["schedule"]), state["curve"]
        self.replay = ReplayBuffer(self.sampling.capacity, state["replay"])
