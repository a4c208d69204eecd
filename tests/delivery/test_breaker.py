"""The circuit breaker by itself: when it opens, who may probe, how its pauses grow, what a restart keeps."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from bridge.delivery.breaker import FIRST_PAUSE, CircuitBreaker

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)


def opened() -> CircuitBreaker:
    """A breaker that refused credentials have opened."""
    breaker = CircuitBreaker()
    breaker.failed("401", NOW, at_once=True)
    return breaker


def test_five_faults_in_a_row_open_the_breaker_and_an_answer_resets_it() -> None:
    breaker = CircuitBreaker()
    assert not breaker.probing
    for _ in range(4):
        breaker.failed("503", NOW, at_once=False)
    assert breaker.admit(NOW), "four are no reason"
    breaker.answered()
    for _ in range(4):
        breaker.failed("503", NOW, at_once=False)
    assert (breaker.open_for(NOW), breaker.admit(NOW)) == (0, True)
    breaker.failed("503", NOW, at_once=False)
    assert (breaker.open_for(NOW), breaker.admit(NOW)) == (FIRST_PAUSE.total_seconds(), False)
    assert breaker.why == "503"


def test_after_its_pause_one_delivery_probes_and_the_others_wait() -> None:
    breaker, later = opened(), NOW + FIRST_PAUSE
    assert breaker.open_for(later) == 0
    assert (breaker.admit(later), breaker.admit(later)) == (True, False)
    assert breaker.open_for(later) == 1, "the probe is looked for once a second"
    breaker.end_probe()
    assert breaker.admit(later), "a probe that asked nothing makes room for another one"


def test_answer_to_the_probe_closes_the_breaker() -> None:
    breaker, later = opened(), NOW + FIRST_PAUSE
    breaker.admit(later)
    breaker.answered()
    assert (breaker.open_for(later), breaker.admit(later), breaker.probing) == (0, True, False)
    assert breaker.why == ""


def test_failed_probe_doubles_the_pause_up_to_five_minutes() -> None:
    breaker, now, pauses = opened(), NOW, list[float]()
    for _ in range(8):
        pauses.append(breaker.open_for(now))
        now += timedelta(seconds=pauses[-1])
        assert breaker.admit(now)
        breaker.failed("503", now, at_once=False)
    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300]
    breaker.answered()
    breaker.failed("401", now, at_once=True)
    assert breaker.open_for(now) == 5, "after an answer the pauses are short again"


def test_faults_of_requests_already_under_way_do_not_lengthen_the_pause() -> None:
    breaker = opened()
    for _ in range(3):
        breaker.failed("503", NOW + timedelta(seconds=1), at_once=False)
    assert breaker.open_for(NOW) == FIRST_PAUSE.total_seconds()
    assert breaker.why == "401"


@pytest.mark.parametrize("put_back", [timedelta(days=1), timedelta(days=400)])
def test_clock_put_back_ends_the_pause(put_back: timedelta) -> None:
    earlier = NOW - put_back
    assert opened().open_for(earlier) == 0
    assert opened().admit(earlier)
    breaker = opened()
    breaker.failed("503", earlier, at_once=True)
    assert breaker.open_until == earlier + 2 * FIRST_PAUSE, "it is opened again by the clock of now"


def test_restart_keeps_the_pause_its_reason_and_the_next_length() -> None:
    breaker, later = opened(), NOW + FIRST_PAUSE
    breaker.admit(later)
    breaker.failed("503", later, at_once=False)
    again = CircuitBreaker()
    again.restore(breaker.kept())
    assert again.kept() == breaker.kept()
    assert (again.open_for(later), again.why) == (10, "503")
    again.admit(later + timedelta(seconds=10))
    again.failed("503", later + timedelta(seconds=10), at_once=False)
    assert again.open_for(later + timedelta(seconds=10)) == 20


def test_closed_breaker_is_stored_as_closed() -> None:
    breaker = CircuitBreaker()
    assert breaker.kept() == {"open_until": None, "why": "", "pause": FIRST_PAUSE.total_seconds()}
    for kept in (breaker.kept(), json.loads("{}")):
        again = CircuitBreaker()
        again.restore(kept)
        assert again.admit(NOW)
