"""Limits that nobody declared: what refusals cost, and what is learned from them."""

import json
from datetime import timedelta

import pytest

from bridge.delivery.budget import Budget
from bridge.delivery.rate_limit import FORGOTTEN_AFTER, LearnedRate, SlidingWindow
from bridge.model.deliveries import Lane
from tests.fixtures.limiting_crms import (
    SERVICE,
    START,
    CompetingWorkers,
    Limiter,
    bucket,
    by_chance,
    fixed,
    sliding,
)

WORKERS = 4
FULL = WORKERS / SERVICE


@pytest.mark.parametrize("share", [0.0, 0.001, 0.005, 0.02, 0.1])
@pytest.mark.parametrize(("seconds", "worth"), [(40, 0.8), pytest.param(120, 0.9, marks=pytest.mark.long)])
def test_occasional_refusal_costs_little_more_than_its_retry_after(
    share: float, seconds: int, worth: float
) -> None:
    run = CompetingWorkers(by_chance(share), WORKERS).run(seconds)
    pauses_only = CompetingWorkers(by_chance(share), WORKERS, learns=False).run(seconds)
    assert run.accepted >= worth * pauses_only.accepted
    if share <= 0.02:
        assert run.accepted / FULL + run.paused >= 0.8 * seconds


LIMITERS: dict[str, tuple[Limiter, float]] = {
    "100 a second": (sliding(100, 1), 100),
    "100 in 10 s": (sliding(100, 10), 10),
    "100 in 10 s, silent": (sliding(100, 10, None), 10),
    "5 a second": (sliding(5, 1), 5),
    "1 a second, silent": (sliding(1, 1, None), 1),
    "1000 a minute, silent": (sliding(1000, 60, None), 1000 / 60),
    "100 in each second": (fixed(100, 1), 100),
    "100 in each 10 s": (fixed(100, 10), 10),
    "a bucket of 200 filled by 50 a second": (bucket(50, 200), 50),
    "a bucket of 10 filled by 10 a second, silent": (bucket(10, 10, None), 10),
}
# What passes in bursts, with long waits between: it takes minutes until a rate is found, or none is needed.
UNEVEN = {"100 in each 10 s", "1000 a minute, silent"}


@pytest.mark.parametrize("name", LIMITERS)
def test_learned_rate_settles_just_below_the_crms_limit(name: str) -> None:
    limiter, taken = LIMITERS[name]
    desk = CompetingWorkers(limiter, WORKERS)
    desk.run(600 if name in UNEVEN else 60)
    run = desk.run(180)
    assert 0.85 * taken <= run.rate <= 1.05 * taken
    if name not in UNEVEN:
        assert run.learned is not None
        assert 0.8 * taken <= run.learned <= 1.15 * taken
        # One in a hundred, or one in twenty seconds where requests are few.
        assert run.refused <= max(run.accepted / 100, run.seconds / 15)


def test_learned_rate_survives_a_restart() -> None:
    limiter = sliding(100, 1)
    before = CompetingWorkers(limiter, WORKERS).run(120)
    assert before.learned is not None
    begin = START.timestamp() + 125
    after = CompetingWorkers(limiter, WORKERS, json.loads(json.dumps(before.saved)), begin=begin)
    assert after.run(1).learned == pytest.approx(before.learned, rel=0.4)
    run = after.run(30)
    assert run.rate >= 85
    assert run.refused <= 8


def test_learned_rate_recovers_within_minutes_of_a_raised_limit() -> None:
    left = 120.0
    slow, free = sliding(10, 1), by_chance(0.0)
    desk = CompetingWorkers(
        lambda at, rng: (slow if at < START.timestamp() + left else free)(at, rng), WORKERS
    )
    learned = desk.run(left).learned
    assert learned is not None
    assert learned < 13
    desk.run(240)
    assert desk.run(60).rate > 0.5 * FULL


def test_learned_rate_follows_a_halved_limit() -> None:
    wide, narrow = sliding(100, 1), sliding(50, 1)
    desk = CompetingWorkers(
        lambda at, rng: (wide if at < START.timestamp() + 120 else narrow)(at, rng), WORKERS
    )
    desk.run(120)
    desk.run(60)
    assert desk.run(120).rate >= 0.6 * 50


def test_refusal_after_a_quiet_time_does_not_slow_the_rate() -> None:
    rate = LearnedRate()
    at = START.timestamp()
    for _ in range(20):
        for _ in range(50):
            at += 30.0
            rate.sent(at)
            rate.accepted(at)
        rate.refused(at, 1.0)
    assert rate.wait(at) == 0
    assert rate.rate(at) is None


@pytest.mark.parametrize("days", [400, -400])
def test_clock_jump_delays_requests_by_no_more_than_their_interval(days: int) -> None:
    at = START.timestamp()
    rate, window = LearnedRate(), SlidingWindow(5, 10.0)
    rate.restore({"rate": 2.0, "since": at, "share": 0.1}, at)
    for _ in range(5):
        rate.sent(at)
        window.note(at)
    assert rate.wait(at) == pytest.approx(0.5)
    at += days * 86400
    assert rate.wait(at) <= 0.5
    assert window.wait(at) <= 10.0


def test_refusals_without_retry_after_lengthen_pauses_until_a_success() -> None:
    now = [START]
    budget = Budget({}, lambda: now[0])
    pauses = []
    for _ in range(8):
        budget.refused("default", None)
        pauses.append(budget.reserve("default", Lane.LIVE))
        now[0] += timedelta(seconds=pauses[-1])
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    budget.accepted("default")
    budget.refused("default", None)
    assert budget.reserve("default", Lane.LIVE) == 1


def test_refusal_with_retry_after_is_waited_out_exactly() -> None:
    now = [START]
    budget = Budget({}, lambda: now[0])
    for _ in range(100):
        budget.refused("default", 1.0)
        assert budget.reserve("default", Lane.LIVE) == 1
        now[0] += timedelta(seconds=1)
    assert budget.reserve("default", Lane.LIVE) == 0


def test_learned_rate_is_forgotten_after_minutes_without_a_refusal() -> None:
    rate, at = LearnedRate(), START.timestamp()
    rate.restore({"rate": 2.0, "since": at, "share": 0.1}, at)
    assert rate.rate(at) == 2.0
    assert rate.wait(at + FORGOTTEN_AFTER + 1) == 0
    assert rate.rate(at + FORGOTTEN_AFTER + 1) is None


def test_wait_that_has_just_passed_is_over() -> None:
    rate, clock = LearnedRate(), START
    rate.restore({"rate": 3.0, "since": 0.0, "share": 0.1}, clock.timestamp())
    for _ in range(200):
        for _ in range(3):
            # Times have whole microseconds: what rounding leaves of a wait is less, and would never pass.
            clock += timedelta(seconds=rate.wait(clock.timestamp()))
        assert rate.wait(clock.timestamp()) == 0.0
        rate.sent(clock.timestamp())
