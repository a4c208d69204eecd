"""How long what was sent may stay unseen: told by a clock that nobody puts back or forward."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from bridge.model.deliveries import Lease


class DoubtClock:
    """What is in doubt is looked up again only once a look-up would show it; here that is reckoned.

    If the system's clock told how long ago something was sent, one that is put forward would make an early
    "not there" count, and the request would be sent twice.
    """

    def __init__(
        self, lags: Mapping[str, timedelta], clock: Callable[[], datetime], steady: Callable[[], datetime]
    ) -> None:
        """`lags` are destination → how long its slowest look-up may not show what was sent."""
        self._lags = lags
        self._clock = clock
        self._steady = steady
        self._first_seen: dict[tuple[int, datetime], datetime] = {}

    def shown_at(self, destination: str, sent_at: datetime | None) -> datetime | None:
        """When, by the system's clock, a look-up shows what was sent; None: it does by now."""
        if sent_at is None:
            return None
        left = sent_at + self._lags[destination] - self._steady()
        return self._clock() + left if left > timedelta(0) else None

    def believed(self, lease: Lease) -> Lease:
        """A lease without requests of the future: what a wrong clock has dated counts from when it is met."""
        now = self._steady()
        if all(each.sent_at is None or each.sent_at <= now for each in lease.progress.values()):
            return lease
        progress = {
            name: each
            if each.sent_at is None or each.sent_at <= now
            else replace(each, sent_at=self._first_seen.setdefault((lease.delivery_id, each.sent_at), now))
            for name, each in lease.progress.items()
        }
        return replace(lease, progress=progress)
