"""How far a student's next-token distribution is from its teacher's: pure functions on logits.

Every function takes `student_logits` and `teacher_logits`, [positions, vocab] and any float type, computes in
float32 (float64 for float64 input) and returns [positions] in nats, >= 0 up to rounding and 0 for equal inputs. p is
the teacher, q the student. Masking, averaging and temperature are the trainer's business. Raises ValueError if the
shapes differ.

To add one: write the function here and name it in `DIVERGENCES`; the recipe then takes it by that name.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def _log_probs(student_logits: Tensor, teacher_logits: Tensor) -> tuple[Tensor, Tensor]:
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"student logits {tuple(student_logits.shape)} != teacher logits {tuple(teacher_logits.shape)}"
        )
    wide = torch.promote_types(student_logits.dtype, torch.float32)
    return student_logits.to(wide).log_softmax(-1), teacher_logits.to(wide).log_softmax(-1)


def _kl(log_a: Tensor, log_b: Tensor) -> Tensor:
    return (log_a.exp() * (log_a - log_b)).sum(-1)


def _mix(log_a: Tensor, log_b: Tensor, weight_a: float) -> Tensor:
    """log(weight_a * a + (1 - weight_a) * b), for 0 <= weight_a <= 1."""
    if weight_a in (0, 1):
        return log_a if weight_a else log_b
    return torch.logaddexp(log_a + math.log(weight_a), log_b + math.log1p(-weight_a))


def forward_kl(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """KL(p || q): mode-covering; Hinton et al. 2015 (arXiv 1503.02531) up to the teacher's entropy."""
    log_q, log_p = _log_probs(student_logits, teacher_logits)
    return _kl(log_p, log_q)


def reverse_kl(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """KL(q || p): mode-seeking; MiniLLM (arXiv 2306.08543, eq. 1) per token."""
    log_q, log_p = _log_probs(student_logits, teacher_logits)
    return _kl(log_q, log_p)


def jsd(student_logits: Tensor, teacher_logits: Tensor, *, beta: float = 0.5) -> Tensor:
    """beta KL(p || m) + (1 - beta) KL(q || m), m = beta p + (1 - beta) q: GKD (arXiv 2306.13649, eq. 1).

    As in TRL, beta 0 is forward KL and beta 1 reverse KL: the limits of JSD / beta and JSD / (1 - beta), not of JSD
    itself, which is 0 at both ends.
    """
    log_q, log_p = _log_probs(student_logits, teacher_logits)
    if beta == 0:
        return _kl(log_p, log_q)
    if beta == 1:
        return _kl(log_q, log_p)
    log_m = _mix(log_p, log_q, beta)
    return beta * _kl(log_p, log_m) + (1 - beta) * _kl(log_q, log_m)


def skew_kl(student_logits: Tensor, teacher_logits: Tensor, *, skew: float = 0.1) -> Tensor:
    """KL(p || skew p + (1 - skew) q): DistiLLM's SKL (arXiv 2402.03898, eq. 3). skew 0 is forward KL."""
    log_q, log_p = _log_probs(student_logits, teacher_logits)
    return _kl(log_p, _mix(log_p, log_q, skew))


def skew_reverse_kl(student_logits: Tensor, teacher_logits: Tensor, *, skew: float = 0.1) -> Tensor:
    """KL(q || (1 - skew) p + skew q): DistiLLM's SRKL (arXiv 2402.03898, section 3.1). skew 0 is reverse KL."""
    log_q, log_p = _log_probs(student_logits, teacher_logits)
    return _kl(log_q, _mix(log_q, log_p, skew))


DIVERGENCES: dict[str, Callable[..., Tensor]] = {
    function.__name__: function for function in (forward_kl, reverse_kl, jsd, skew_kl, skew_reverse_kl)
}
