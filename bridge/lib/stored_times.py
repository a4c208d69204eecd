"""Instants that were stored, as far as they may be believed: the clock may have stood wrong, then or now."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

LONGEST_STORED_WAIT = timedelta(hours=27)
"""Nothing waits longer: no wait that a CRM asks for, no wait of the schedule (a day, and what spreads it), no
day's quota when the clocks change."""

LONGEST_PAUSE = timedelta(minutes=5)
"""No CRM account is paused for longer before it is asked again."""


def bounded(at: datetime | None, now: datetime, longest: timedelta = LONGEST_STORED_WAIT) -> datetime | None:
    """An instant that is waited for; None where it lies further ahead than anything waits, and so is over."""
    return None if at is None or at - now > longest else at


def past(at: datetime | None, now: datetime) -> datetime | None:
    """An instant at which something was; None where that lies in the future."""
    return None if at is None or at > now else at


class SteadyClock:
    """A clock that goes evenly from where the system's stood, whatever that is put to afterwards."""

    def __init__(
        self, clock: Callable[[], datetime], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._began_at, self._began = clock(), monotonic()
        self._monotonic = monotonic

    def __call__(self) -> datetime:
        """Now, as far as what lies between two readings is asked for."""
        return self._began_at + timedelta(seconds=self._monotonic() - self._began)


@dataclass(frozen=True, slots=True)
class Clocks:
    """The two clocks of a daemon."""

    wall: Callable[[], datetime]
    """The system's clock, which may be put back or forward: what people and other machines go by."""
    steady: Callable[[], datetime]
    """A `SteadyClock`: what the time between two moments is measured by."""
