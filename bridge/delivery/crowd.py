"""A crowd: more deliveries wait for keys than stay leased, as where thousands of one customer are due."""

from datetime import datetime, timedelta

SOONEST = timedelta(seconds=5)
LATEST = timedelta(minutes=5)
WINDOW = timedelta(seconds=5)
"""The time in which it is counted how many get their keys."""
FIRST_RATE = 20.0
"""Deliveries a second, until it was counted."""
LOWEST_RATE = 2.0


class Crowd:
    """Tells those of a crowd that go back to the ledger when they are due again: one after the other.

    Each is leased and mapped to find that its keys are taken, which takes 1 to 2 ms of processor time. So
    twice as many come back in a second as get their keys in one, not all of them every 5 s.
    """

    def __init__(self) -> None:
        self._rate = FIRST_RATE
        self._served = 0
        self._counted_since: datetime | None = None
        self._last: datetime | None = None

    def count(self, waiting: int, served: int, now: datetime) -> None:
        """Note that so many waited, and so many of them have their keys now."""
        if not waiting or self._counted_since is None or now < self._counted_since:
            self._served, self._counted_since = 0, now if waiting else None
        self._served += served
        passed = now - (self._counted_since or now)
        if passed >= WINDOW:
            self._rate = max(LOWEST_RATE, self._served / passed.total_seconds())
            self._served, self._counted_since = 0, now

    def back_at(self, now: datetime) -> datetime:
        """When the next one that goes back is due again: in 5 s to 5 minutes."""
        after = now + SOONEST if self._last is None else max(self._last, now + SOONEST)
        self._last = min(after + timedelta(seconds=0.5 / self._rate), now + LATEST)
        return self._last
