"""Clocks for the servers that tests move."""

import threading
from datetime import UTC, datetime, timedelta


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, seconds: float) -> None:
        """Later, without waiting."""
        self.now += timedelta(seconds=seconds)


class Waiting(threading.Event):
    """A stop event that waits by a clock: time passes at once."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        """Whether it is set, once that time has passed."""
        self._clock.pass_by(timeout or 0.0)
        return self.is_set()


class JumpingClock(Clock):
    """What a system's clock says: it is put back and forward, while time itself goes on."""

    def __init__(self, time: Clock) -> None:
        self.time = time
        self.offset = timedelta(0)

    @property
    def now(self) -> datetime:
        """What it says; setting it is a jump."""
        return self.time.now + self.offset

    @now.setter
    def now(self, told: datetime) -> None:
        self.offset = told - self.time.now

    def pass_by(self, seconds: float) -> None:
        """Later, by both."""
        self.time.pass_by(seconds)
