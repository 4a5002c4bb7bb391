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


def symmetric_kl(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """(KL(p || q) + KL(q || p)) / 2: half of Jeffreys' divergence."""
    log_q, log_p = _log_probs(student_logits, teacher_logits)
    return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1) / 2


def total_variation(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """sum |p - q| / 2, in [0, 1]: one of f-DISTILL's divergences (arXiv 2307.15190)."""
    log_q, log_p = _log_probs(student_logits, teacher_logits)
    return (log_p.exp() - log_q.exp()).abs().sum(-1) / 2


def adaptive_kl(student_logits: Tensor, teacher_logits: Tensor, *, head: float = 0.5) -> Tensor:
    """(g_head KL(p || q) + g_tail KL(q || p)) / (g_head + g_tail): AKL (arXiv 2404.02657).

    The head is the fewest tokens with a mass of p of at least `head`, the tail all others; g is the sum of |p - q| over
    it. Where forward KL has more to learn, in the head, it weighs more. The weights carry no gradient.
    """
    log_q, log_p = _log_probs(student_logits, teacher_logits)
    p, q = log_p.exp(), log_q.exp()
    with torch.no_grad():
        order = p.argsort(dim=-1, descending=True, stable=True)
        before = p.gather(-1, order).cumsum(-1) - p.gather(-1, order)  # the mass of those more probable
        in_head = torch.empty_like(order, dtype=torch.bool).scatter(-1, order, before < head)
        gap = (p - q).abs()
        share = (gap * in_head).sum(-1) / gap.sum(-1).clamp_min(torch.finfo(gap.dtype).tiny)
    return share * _kl(log_p, log_q) + (1 - share) * _kl(log_q, log_p)


def alpha_beta(student_logits: Tensor, teacher_logits: Tensor, *, alpha: float = 0.2, beta: float = 0.7) -> Tensor:
    """sum (a p^(a+b) + b q^(a+b) - (a+b) p^a q^b) / (a b (a+b)), a = alpha, b = beta: ABKD (arXiv 2505.04560).

    (1, 0) is forward KL, (0, 1) reverse KL, (1, 1) half the squared distance, (0, 0) half of that between logarithms;
    at 0 it is continued by its limits (Cichocki, Cruces and Amari 2011, Entropy 13). alpha, beta >= 0.
    """
    log_q, log_p = _log_probs(student_logits, teacher_logits)
    if alpha == 0 and beta == 0:
        return (log_p - log_q).square().sum(-1) / 2
    if alpha == 0:
        return _power_kl(log_q, log_p, beta)
    if beta == 0:
        return _power_kl(log_p, log_q, alpha)
    both = alpha + beta
    parts = alpha * (both * log_p).exp() + beta * (both * log_q).exp() - both * (alpha * log_p + beta * log_q).exp()
    return parts.sum(-1) / (alpha * beta * both)


def _power_kl(log_a: Tensor, log_b: Tensor, power: float) -> Tensor:
    """sum (a^c log(a^c / b^c) - a^c + b^c) / c^2, c = power: KL(a || b) at 1."""
    a, b = (power * log_a).exp(), (power * log_b).exp()
    return (a * power * (log_a - log_b) - a + b).sum(-1) / power**2


DIVERGENCES: dict[str, Callable[..., Tensor]] = {
    function.__name__: function
    for function in (
        forward_kl,
        reverse_kl,
        jsd,
        symmetric_kl,
        total_variation,
        skew_kl,
        skew_reverse_kl,
        adaptive_kl,
        alpha_beta,
    )
}
