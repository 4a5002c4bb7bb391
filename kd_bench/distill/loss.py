"""What a completion token costs: a divergence from the teacher, cross-entropy, or a mixture; in chunks of positions."""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from kd_bench.distill.divergences import DIVERGENCES

CHUNK_LOGITS = 2**24  # of student or teacher at once: 64 MB in float32, a few times that with what a divergence makes


@dataclass(frozen=True)
class Loss:
    """(1 - cross_entropy) T^2 D(softmax(z_teacher / T), softmax(z_student / T)) + cross_entropy CE(reference).

    `divergence` names D in `DIVERGENCES` with its `settings` (`beta`, `skew`); None is plain cross-entropy (`sft`).
    The factor T^2 keeps the gradient's size as the temperature rises (Hinton et al. 2015, arXiv 1503.02531, section 2).
    D sees the first `vocabulary` ids, those that teacher and student share (None: all); cross-entropy sees every id of
    the student. noise: the standard deviation of Gaussian noise on the teacher's logits, drawn anew at every step (the
    ablation of arXiv 2505.15442).
    """

    divergence: str | None = None
    settings: dict = field(default_factory=dict)
    temperature: float = 1.0
    cross_entropy: float = 0.0
    vocabulary: int | None = None
    noise: float = 0.0

    def __call__(self, student_logits: Tensor, teacher_logits: Tensor | None, labels: Tensor) -> Tensor:
        """[n]: the loss of each completion token, from [n, vocab] logits and [n] labels."""
        weight = 1.0 if self.divergence is None else self.cross_entropy
        loss = student_logits.new_zeros(len(labels), dtype=torch.promote_types(student_logits.dtype, torch.float32))
        if weight:
            loss = weight * F.cross_entropy(student_logits.to(loss.dtype), labels, reduction="none")
        if weight < 1:
            if self.noise:
                teacher_logits = teacher_logits + self.noise * torch.randn_like(teacher_logits)
            scale = self.temperature
            student, teacher = (z[:, : self.vocabulary] / scale for z in (student_logits, teacher_logits))
            distance = DIVERGENCES[self.divergence](student, teacher, **self.settings)
            loss = loss + (1 - weight) * scale**2 * distance
        return loss

    def total(
        self, head: nn.Module, states: Tensor, teacher_head: nn.Module | None, teacher_states: Tensor | None, labels
    ) -> Tensor:
        """The sum over all positions, [n, width] `states` on; the heads' logits are there for a chunk at a time.

        They are made again in the backward pass, so that a rationale of 2,000 tokens takes no more memory than a chunk
        (torch.utils.checkpoint; as Cut Cross-Entropy, arXiv 2411.09009, does for one loss, in plain PyTorch for all).
        """

        def part(states, teacher_states, labels):
            logits = head(states)
            with torch.no_grad():
                teacher = None if teacher_head is None else teacher_head(teacher_states.to(teacher_head.weight.dtype))
            return self(logits, teacher, labels).sum()

        rows = max(1, CHUNK_LOGITS // head.weight.shape[0])
        if len(states) <= rows:
            return part(states, teacher_states, labels)
        chunks = zip(
            states.split(rows),
            [None] * len(states) if teacher_states is None else teacher_states.split(rows),
            labels.split(rows),
        )
        return sum(checkpoint(part, *chunk, use_reentrant=False) for chunk in chunks)
