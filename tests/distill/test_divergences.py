"""Each divergence against its definition in float64, its limits, and TRL where TRL has the same one."""

import pytest
import torch
from trl.experimental.gkd import GKDTrainer

from kd_bench.distill.divergences import (
    DIVERGENCES,
    adaptive_kl,
    alpha_beta,
    forward_kl,
    jsd,
    reverse_kl,
    skew_kl,
    skew_reverse_kl,
    symmetric_kl,
)
from kd_bench.distill.loss import Loss


def logits(seed: int, *, scale: float = 3.0, dtype=torch.float64) -> torch.Tensor:
    return scale * torch.randn(7, 31, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


Q, P = logits(0), logits(1)


def kl(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """sum a log(a / b), written out over probabilities."""
    return (a * torch.log(a / b)).sum(-1)


def probabilities() -> tuple[torch.Tensor, torch.Tensor]:
    return Q.exp() / Q.exp().sum(-1, keepdim=True), P.exp() / P.exp().sum(-1, keepdim=True)


def mixed(weight: float) -> torch.Tensor:
    q, p = probabilities()
    return weight * p + (1 - weight) * q


def adaptive(head: float) -> torch.Tensor:
    """Position by position, the head grown token by token."""
    found = []
    for q, p in zip(*probabilities()):
        ranked, mass, inside = sorted(range(len(p)), key=lambda i: -p[i]), 0.0, []
        while mass < head:
            inside.append(ranked[len(inside)])
            mass += float(p[inside[-1]])
        gap = (p - q).abs()
        share = gap[inside].sum() / gap.sum()
        found.append(share * kl(p, q) + (1 - share) * kl(q, p))
    return torch.stack(found)


def alpha_beta_sum(a: float, b: float) -> torch.Tensor:
    q, p = probabilities()
    return -(p**a * q**b - a / (a + b) * p ** (a + b) - b / (a + b) * q ** (a + b)).sum(-1) / (a * b)


q, p = probabilities()
DEFINITIONS = [
    ("forward_kl", {}, kl(p, q)),
    ("reverse_kl", {}, kl(q, p)),
    ("symmetric_kl", {}, (kl(p, q) + kl(q, p)) / 2),
    ("total_variation", {}, (p - q).clamp_min(0).sum(-1)),
    *(("jsd", {"beta": beta}, beta * kl(p, mixed(beta)) + (1 - beta) * kl(q, mixed(beta))) for beta in (0.1, 0.5, 0.9)),
    *(("skew_kl", {"skew": skew}, kl(p, mixed(skew))) for skew in (0.0, 0.1, 0.5, 0.9)),
    *(("skew_reverse_kl", {"skew": skew}, kl(q, skew * q + (1 - skew) * p)) for skew in (0.0, 0.1, 0.5, 0.9)),
    *(("adaptive_kl", {"head": head}, adaptive(head)) for head in (0.1, 0.5, 0.95)),
    *(
        ("alpha_beta", {"alpha": a, "beta": b}, alpha_beta_sum(a, b))
        for a, b in ((0.2, 0.7), (0.5, 0.5), (1.0, 1.0), (0.9, 0.3))
    ),
]


@pytest.mark.parametrize(("name", "settings", "expected"), DEFINITIONS)
def test_equals_its_definition(name, settings, expected):
    found = DIVERGENCES[name](Q, P, **settings)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    assert found.shape == (7,) and (found > 0).all()


def test_every_divergence_is_written_out():
    assert {name for name, _, _ in DEFINITIONS} == set(DIVERGENCES)


def test_alpha_beta_has_its_special_cases_and_is_continuous_to_them():
    torch.testing.assert_close(alpha_beta(Q, P, alpha=1, beta=0), forward_kl(Q, P))
    torch.testing.assert_close(alpha_beta(Q, P, alpha=0, beta=1), reverse_kl(Q, P))
    torch.testing.assert_close(alpha_beta(Q, P, alpha=1, beta=1), (p - q).square().sum(-1) / 2)
    hellinger = (p.sqrt() - q.sqrt()).square().sum(-1)
    torch.testing.assert_close(alpha_beta(Q, P, alpha=0.5, beta=0.5), 2 * hellinger)
    small, near, far = 1e-5, logits(5, scale=1.0), logits(6, scale=1.0)
    for alpha, beta in ((1, 0), (0.4, 0), (0, 1), (0, 0.4), (0, 0)):
        at, by = (alpha_beta(near, far, alpha=a, beta=b) for a, b in ((alpha, beta), (alpha + small, beta + small)))
        torch.testing.assert_close(by, at, rtol=1e-3, atol=1e-5)


def test_adaptive_weights_carry_no_gradient():
    student = Q.clone().requires_grad_()
    adaptive_kl(student, P).sum().backward()
    own = Q.clone().requires_grad_()
    gap, inside = (p - q).abs(), torch.zeros_like(p, dtype=torch.bool)
    for row, mass in zip(inside, p):
        ranked = mass.argsort(descending=True)
        row[ranked[: int((mass[ranked].cumsum(0) < 0.5).sum()) + 1]] = True
    share = (gap * inside).sum(-1) / gap.sum(-1)
    (share * forward_kl(own, P) + (1 - share) * reverse_kl(own, P)).sum().backward()
    torch.testing.assert_close(student.grad, own.grad)


def test_symmetric_is_the_mean_of_both_directions():
    torch.testing.assert_close(symmetric_kl(Q, P), symmetric_kl(P, Q))


@pytest.mark.parametrize("name", DIVERGENCES)
def test_zero_for_equal_inputs_and_never_negative(name):
    divergence = DIVERGENCES[name]
    assert divergence(P, P + 5.0).abs().max() < 1e-12  # a shift of all logits is the same distribution
    for seed in range(20):
        near = P + 1e-3 * logits(seed + 2)
        assert (divergence(near, P) >= -1e-12).all()


def test_skew_zero_is_the_plain_divergence():
    torch.testing.assert_close(skew_kl(Q, P, skew=0.0), forward_kl(Q, P))
    torch.testing.assert_close(skew_reverse_kl(Q, P, skew=0.0), reverse_kl(Q, P))


def test_jsd_ends_are_the_two_divergences_and_scaled_limits():
    torch.testing.assert_close(jsd(Q, P, beta=0), forward_kl(Q, P))
    torch.testing.assert_close(jsd(Q, P, beta=1), reverse_kl(Q, P))
    small, q, p = 1e-7, logits(5, scale=1.0), logits(6, scale=1.0)
    torch.testing.assert_close(jsd(q, p, beta=small) / small, forward_kl(q, p), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(jsd(q, p, beta=1 - small) / small, reverse_kl(q, p), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("beta", [0.0, 0.3, 0.5, 1.0])
def test_jsd_equals_trl(beta):
    theirs = GKDTrainer.generalized_jsd_loss(Q[None], P[None], beta=beta, reduction="none").sum(-1)[0]
    torch.testing.assert_close(jsd(Q, P, beta=beta), theirs, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_extreme_logits_give_finite_values_and_gradients(name):
    student = logits(3, scale=200.0, dtype=torch.float32).requires_grad_()
    value = DIVERGENCES[name](student, logits(4, scale=200.0, dtype=torch.float32))
    value.sum().backward()
    assert torch.isfinite(value).all() and torch.isfinite(student.grad).all()


def test_half_precision_is_computed_in_float32():
    value = forward_kl(Q.bfloat16(), P.bfloat16())
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, forward_kl(Q.bfloat16().float(), P.bfloat16().float()))


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"\(7, 30\)"):
        forward_kl(Q[:, :30], P)


def test_temperature_softens_and_is_scaled_back():
    loss = Loss("forward_kl", temperature=4.0)
    torch.testing.assert_close(loss(Q, P, torch.zeros(7, dtype=int)), 16 * forward_kl(Q / 4, P / 4))


def test_cross_entropy_mixes_by_weight():
    labels = torch.arange(7)
    plain = torch.nn.functional.cross_entropy(Q, labels, reduction="none")
    torch.testing.assert_close(Loss()(Q, None, labels), plain)
    mixed = Loss("reverse_kl", cross_entropy=0.25)(Q, P, labels)
    torch.testing.assert_close(mixed, 0.25 * plain + 0.75 * reverse_kl(Q, P))


def test_ids_beyond_the_shared_vocabulary_do_not_count():
    wide = torch.cat([P, 100 * torch.ones(7, 3, dtype=P.dtype)], dim=1)
    loss = Loss("forward_kl", vocabulary=31)
    torch.testing.assert_close(loss(Q, wide, torch.zeros(7, dtype=int)), forward_kl(Q, P))


def test_noise_is_on_the_teachers_logits_and_follows_the_seed():
    labels, loss = torch.zeros(7, dtype=int), Loss("forward_kl", noise=0.5)

    def drawn(seed):
        torch.manual_seed(seed)
        return loss(Q, P, labels)

    torch.testing.assert_close(drawn(0), drawn(0), rtol=0, atol=0)
    assert not torch.allclose(drawn(0), drawn(1))
    found = drawn(3)
    torch.manual_seed(3)
    torch.testing.assert_close(found, forward_kl(Q, P + 0.5 * torch.randn_like(P)))
