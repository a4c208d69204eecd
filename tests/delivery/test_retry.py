"""The retry policy as a table: how long each wait is, what bounds it, and when it gives up."""

from datetime import UTC, datetime, timedelta

import pytest

from bridge.delivery.retry import RetryPolicy, next_attempt_at

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
POLICY = RetryPolicy(timedelta(seconds=10), timedelta(hours=1), timedelta(days=5))
MIDDLE = 0.5
"""The jitter that changes nothing."""


def wait(
    attempt: int,
    *,
    owed_for: timedelta = timedelta(0),
    retry_after: float | None = None,
    jitter: float = MIDDLE,
    maximum: timedelta | None = None,
) -> float | None:
    """Seconds until the next attempt; None: it is given up."""
    at = next_attempt_at(
        POLICY,
        owed_at=NOW - owed_for,
        attempt=attempt,
        retry_after=retry_after,
        now=NOW,
        jitter=jitter,
        maximum=maximum,
    )
    return None if at is None else (at - NOW).total_seconds()


@pytest.mark.parametrize(
    ("attempt", "seconds"),
    [(1, 10), (2, 20), (3, 40), (4, 80), (8, 1280), (9, 2560), (10, 3600), (11, 3600), (10_000, 3600)],
)
def test_waits_double_from_ten_seconds_to_an_hour(attempt: int, seconds: float) -> None:
    assert wait(attempt) == seconds


@pytest.mark.parametrize(("jitter", "seconds"), [(0.0, 9), (0.25, 9.5), (0.5, 10), (0.999999, 10.999998)])
def test_jitter_spreads_a_wait_over_ten_percent_on_both_sides(jitter: float, seconds: float) -> None:
    assert wait(1, jitter=jitter) == pytest.approx(seconds, abs=1e-5)


@pytest.mark.parametrize(
    ("attempt", "retry_after", "seconds"), [(1, 0, 10), (1, 9.5, 10), (1, 60, 60), (10, 7200, 7200)]
)
def test_longer_retry_after_is_respected(attempt: int, retry_after: float, seconds: float) -> None:
    assert wait(attempt, retry_after=retry_after) == seconds


@pytest.mark.parametrize(
    ("attempt", "maximum", "seconds"),
    [(1, timedelta(minutes=5), 10), (9, timedelta(minutes=5), 300), (12, timedelta(days=1), 3600)],
)
def test_callers_maximum_wait_applies_too(attempt: int, maximum: timedelta, seconds: float) -> None:
    assert wait(attempt, maximum=maximum) == seconds


@pytest.mark.parametrize(
    ("attempt", "owed_for", "gives_up"),
    [
        (10, timedelta(days=5), True),
        (10, timedelta(days=5) - timedelta(seconds=1), False),
        (9, timedelta(days=5), False),
        (9, timedelta(days=400), False),
        (1_000, timedelta(days=1), False),
        (1_000, timedelta(days=6), True),
        (1_000, -timedelta(days=6), False),
    ],
)
def test_giving_up_takes_five_days_and_attempts_up_to_the_longest_wait(
    attempt: int, owed_for: timedelta, gives_up: bool
) -> None:
    assert (wait(attempt, owed_for=owed_for) is None) is gives_up


@pytest.mark.parametrize(("retry_after", "seconds"), [(None, 0.5), (0, 0.5), (0.75, 0.75)])
def test_wait_below_one_second_is_kept(retry_after: float | None, seconds: float) -> None:
    policy = RetryPolicy(timedelta(seconds=0.5), timedelta(hours=1), timedelta(days=5))
    at = next_attempt_at(policy, owed_at=NOW, attempt=1, retry_after=retry_after, now=NOW, jitter=MIDDLE)
    assert at == NOW + timedelta(seconds=seconds)


def test_shortened_waits_do_not_make_it_give_up_earlier() -> None:
    assert wait(9, owed_for=timedelta(days=6), maximum=timedelta(minutes=5)) == 300


def test_first_attempt_to_give_up_is_the_one_with_the_longest_wait() -> None:
    policy = RetryPolicy(timedelta(seconds=1), timedelta(seconds=8), timedelta(seconds=30))

    def gives_up(attempt: int) -> bool:
        owed_at = NOW - timedelta(minutes=1)
        at = next_attempt_at(
            policy, owed_at=owed_at, attempt=attempt, retry_after=None, now=NOW, jitter=MIDDLE
        )
        return at is None

    assert [gives_up(attempt) for attempt in (3, 4)] == [False, True]
