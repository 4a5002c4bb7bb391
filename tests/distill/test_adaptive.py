"""DistiLLM's schedule and its replay buffer, without any model."""

import random
from itertools import pairwise

import pytest

from kd_bench.distill.adaptive import Adaptive, ReplayBuffer
from kd_bench.distill.loss import Loss
from kd_bench.distill.sampling import Sampling, Writing
from kd_bench.errors import UserError


def test_the_students_share_rises_when_validation_worsens_by_more_than_the_margin():
    schedule = Adaptive(margin=0.1)
    phis = []
    for loss in (1.0, 1.05, 1.16, 0.5, 0.61, 0.70, 5.0):  # against the last one, not the best or that of a rise
        schedule = schedule.after(loss)
        phis.append(schedule.phi)
    assert phis == [0.0, 0.0, 0.1, 0.1, 0.2, 0.2, 0.3]


def test_the_students_share_ends_at_one():
    schedule = Adaptive(margin=0.0)
    for loss in range(20):
        schedule = schedule.after(float(loss))
    assert schedule.phi == 1.0


def test_fresh_completions_give_way_to_replayed_ones():
    schedule, steps, generator = Adaptive(phi=0.6), 10, random.Random(0)
    for step in range(steps):
        coins = [generator.random() for _ in range(4000)]
        drawn = [schedule.source(step, steps, coin) for coin in coins]
        assert drawn.count("fixed") / 4000 == pytest.approx(0.4, abs=0.03)
        assert drawn.count("fresh") / 4000 == pytest.approx(0.6 * (1 - step / steps), abs=0.03)
    assert set(Adaptive(phi=0.0).source(step, steps, coin) for coin in coins) == {"fixed"}


@pytest.mark.parametrize(("steps", "validations"), [(100, 10), (7, 3), (4, 10)])
def test_validation_comes_evenly(steps, validations):
    due = [step for step in range(steps) if Adaptive(validations=validations).due(step, steps)]
    assert due[0] == 0 and len(due) == min(steps, validations)
    gaps = [b - a for a, b in pairwise(due)]
    assert max(gaps) - min(gaps) <= 1


def test_the_buffer_keeps_the_newest_batches_up_to_its_capacity():
    buffer = ReplayBuffer(capacity=10)
    for batch in range(5):
        buffer.add([{"prompt": [batch], "completion": [row]} for row in range(4)])
        assert len(buffer) <= 10
    assert [rows[0]["prompt"] for rows in buffer.batches] == [[3], [4]]
    drawn = [buffer.draw(coin)[0]["prompt"] for coin in (0.0, 0.49, 0.5, 0.999)]
    assert drawn == [[3], [3], [4], [4]]
    buffer.add([{}] * 50)
    assert len(buffer) == 10


def test_nothing_is_replayed_before_something_was_written():
    writing = Writing(Sampling("adaptive", validation=[0]), seed=0)
    writing.schedule = Adaptive(phi=1.0)
    assert {writing.source(99, 100) for _ in range(3)} == {"fresh"}
    writing.replay.add([{"prompt": [1], "completion": [2]}])
    assert writing.source(99, 100) == "replay"


def test_the_state_survives_a_checkpoint(tmp_path):
    sampling = Sampling("adaptive", validation=[0], margin=0.0)
    writing = Writing(sampling, seed=3)
    for step, loss in enumerate((0.1 + 0.2, 1 / 3, 0.7)):
        writing.validated(step, loss)
        writing.replay.add([{"prompt": [step], "completion": [7], "index": -1}])
    writing.save(tmp_path)
    again = Writing(sampling, seed=3)
    again.load(tmp_path)
    assert (again.schedule, again.curve) == (writing.schedule, writing.curve)
    assert [again.source(step, 50) for step in range(50)] == [writing.source(step, 50) for step in range(50)]
    assert [again.replayed(step) for step in range(9)] == [writing.replayed(step) for step in range(9)]


def test_a_checkpoint_of_other_sampling_is_refused(tmp_path):
    with pytest.raises(UserError, match="adaptive"):
        Writing(Sampling("adaptive", validation=[0]), seed=0).load(tmp_path)


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "adaptive"},
        {"kind": "pair"},
        {"kind": "pair", "student_loss": Loss("reverse_kl"), "lmbda": 0.5},
        {"kind": "pair", "student_loss": Loss("reverse_kl"), "beta": 2.5},
        {"kind": "sometimes"},
    ],
)
def test_what_does_not_go_together_is_refused(settings):
    with pytest.raises(UserError):
        Sampling(**settings)
