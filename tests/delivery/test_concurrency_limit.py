"""How many requests at once a CRM is sent: found from its answers, on a clock that the test moves."""

from collections.abc import Callable

import pytest

from bridge.delivery.concurrency_limit import FIRST, MOST, ConcurrencyLimit

Crm = Callable[[int], float]
"""How many calls a second it takes with so many at once."""


def after(crm: Crm, seconds: float, limit: ConcurrencyLimit | None = None) -> list[int]:
    """What the limit was, turn by turn, for so long; every place is always taken."""
    limit, at, seen = limit or ConcurrencyLimit(), 1.0, list[int]()
    while at < seconds:
        at += 1 / crm(limit.at_once)
        limit.ended(at, 1, more_to_do=True)
        seen.append(limit.at_once)
    return seen


def slow(at_once: int) -> float:
    """Answers after 200 ms, however many ask."""
    return at_once / 0.2


def bounded(at_once: int) -> float:
    """Answers after 20 ms, and takes 600 a second at most."""
    return min(at_once / 0.02, 600)


def test_slow_crm_that_takes_all_is_sent_the_most() -> None:
    seen = after(slow, 30)
    assert (seen[0], seen[-1]) == (FIRST, MOST)


def test_limit_settles_where_more_at_once_gains_nothing() -> None:
    seen = after(bounded, 120)[-20_000:]
    assert min(seen) >= 8
    assert max(seen) <= 24
    assert sum(map(bounded, seen)) / len(seen) > 560, "and nearly all that it can take is sent"


def test_crm_that_gets_slower_with_more_at_once_is_sent_few() -> None:
    seen = after(lambda at_once: 100 / at_once, 200)
    assert seen[-1] <= FIRST
    assert min(seen) >= 1


def test_crm_that_takes_nothing_for_a_while_teaches_nothing() -> None:
    limit = ConcurrencyLimit()
    after(slow, 12, limit)
    before = limit.at_once
    for number in range(1000):
        limit.ended(12 + number / 10, 0, more_to_do=True)
    assert limit.at_once in (before, round(before / 1.5)), "but a step that was being tried is taken back"


def test_crm_that_can_take_more_than_before_is_sent_more_again() -> None:
    limit = ConcurrencyLimit()
    after(bounded, 60, limit)
    assert limit.at_once <= 24
    at, seen = 60.0, list[int]()
    while at < 180:
        at += 1 / slow(limit.at_once)
        limit.ended(at, 1, more_to_do=True)
        seen.append(limit.at_once)
    assert seen[-1] == MOST


@pytest.mark.parametrize("number", [1, 7, 100])
def test_operators_number_stays(number: int) -> None:
    assert set(after(slow, 60, ConcurrencyLimit(number))) == {number}


def test_nothing_is_learned_while_there_is_less_to_do_than_could_be_done() -> None:
    limit = ConcurrencyLimit()
    for number in range(1000):
        limit.ended(float(number), 1, more_to_do=bool(number % 3))
    assert limit.at_once == FIRST


def test_clock_that_goes_back_breaks_nothing() -> None:
    limit = ConcurrencyLimit()
    after(slow, 10, limit)
    limit.ended(-1000.0, 1, more_to_do=True)
    assert 1 <= limit.at_once <= MOST
    after(slow, 40, limit)
    assert limit.at_once == MOST
