"""How much the student writes itself as training goes on, and what it wrote before: DistiLLM's adaptive off-policy.

Ko et al. 2024 (arXiv 2402.03898, section 3.2 and algorithm 1). With probability phi a step's completions are the
student's; phi starts at 0 and rises by 0.1 when the validation loss worsens, since the student's own mistakes then need
correcting. Of those steps a share that falls from 1 to 0 over the run writes fresh ones; the rest replay older ones.

Where the paper and its authors' code leave room or differ, here:
- the validation loss is the loss trained with and is compared with the last one before it, worse being more than the
  margin above it (their code: the language-model loss, compared with that of the last rise, so that a loss that falls
  first has to climb all the way back);
- what is in the buffer is replayed from the first fresh batch on (their code writes fresh ones until it is full);
- a whole batch is replayed, drawn with equal chances, not single sequences out of many: its prompts share passages.
"""

from collections import deque
from dataclasses import dataclass, replace
from typing import Literal

RISE = 0.1

Source = Literal["fixed", "fresh", "replay"]


@dataclass(frozen=True)
class Adaptive:
    """margin: how much worse the validation loss has to be; validations: how often it is computed in the run.

    phi: the probability that the student writes, in [0, 1]. last: the last validation loss, None before the first.
    """

    margin: float = 0.1
    validations: int = 10
    phi: float = 0.0
    last: float | None = None

    def due(self, step: int, steps: int) -> bool:
        """Whether the validation loss is computed before `step` (from 0) of `steps`: evenly, first before step 0."""
        return step == 0 or step * self.validations // steps > (step - 1) * self.validations // steps

    def after(self, validation_loss: float) -> "Adaptive":
        worse = self.last is not None and validation_loss > self.last + self.margin
        return replace(self, phi=min(1.0, round(self.phi + RISE * worse, 9)), last=validation_loss)

    def fresh(self, step: int, steps: int) -> float:
        """The probability that the student writes new completions at `step`: phi (1 - t / T)."""
        return self.phi * (1 - step / steps)

    def source(self, step: int, steps: int, coin: float) -> Source:
        """Where the completions of `step` come from, for a `coin` drawn evenly from [0, 1)."""
        if coin >= self.phi:
            return "fixed"
        return "fresh" if coin < self.fresh(step, steps) else "replay"


class ReplayBuffer:
    """Batches of rows that the student wrote, at most `capacity` rows in all; the oldest batch goes first."""

    def __init__(self, capacity: int = 1000, batches: list[list[dict]] | None = None):
        self.capacity = capacity
        self.batches: deque[list[dict]] = deque(batches or [])

    def __len__(self) -> int:
        return sum(map(len, self.batches))

    def add(self, rows: list[dict]) -> None:
        self.batches.append(rows[: self.capacity])
        while len(self) > self.capacity:
            self.batches.popleft()

    def draw(self, coin: float) -> list[dict]:
        """One batch, each as likely, for a `coin` drawn evenly from [0, 1)."""
        return self.batches[int(coin * len(self.batches))]
