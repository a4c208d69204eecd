"""When a delivery that failed for now is tried again, and how long it is tried at all."""

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Schedule:
    """When to try again: waits double from `first` to `longest`, for `patience` in all."""

    first: timedelta
    longest: timedelta
    patience: timedelta


def next_attempt_at(
    schedule: Schedule,
    *,
    owed_at: datetime,
    attempt: int,
    retry_after: float | None,
    now: datetime,
    chance: float,
    longest: timedelta | None = None,
) -> datetime | None:
    """When a delivery that failed for now is tried again; None when patience has run out.

    `attempt` counts from 1; `chance` in [0, 1) spreads a herd over a fifth of the wait;
    `longest` is a bound beside the schedule's own.
    """
    doublings = min(attempt - 1, 30)
    # Giving up takes both the time and as many tries as lead to the longest wait: a system clock that is put
    # forward by a year gives nothing up.
    if now - owed_at >= schedule.patience and schedule.first * 2**doublings >= schedule.longest:
        return None
    bound = schedule.longest if longest is None else min(longest, schedule.longest)
    wait: timedelta = min(schedule.first * 2**doublings, bound) * (0.9 + 0.2 * chance)
    asked = timedelta(seconds=retry_after or 0)
    return now + max(wait, asked)
