"""Clocks: the system's, and one that no correction of it moves."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


def now_utc() -> datetime:
    """The system's clock, which may be put back or forward."""
    return datetime.now(UTC)


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
