"""Tells when a look-up will show what became of a request in doubt, by a clock that nobody sets."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from msgspec.structs import replace

from bridge.lib.clocks import Clocks
from bridge.model.deliveries import Lease


class DoubtClock:
    """Computes when a look-up shows what became of a request in doubt.

    A CRM's search lags. If the system's clock is put forward, a request would look older than it is, an early
    "not there" would be believed, and the request be sent twice. So a steady clock measures its age.
    """

    def __init__(self, lags: Mapping[str, timedelta], clocks: Clocks) -> None:
        """`lags` are destination → how long its slowest look-up may not show what was sent."""
        self._lags = lags
        self._clocks = clocks
        self._met_at: dict[tuple[int, datetime], datetime] = {}
        """When a request with a time in the future was first met, by delivery and that time."""

    def shown_at(self, destination: str, sent_at: datetime | None) -> datetime | None:
        """When, by the system's clock, a look-up shows what was sent; None: it does by now."""
        if sent_at is None:
            return None
        left = sent_at + self._lags[destination] - self._clocks.steady()
        return self._clocks.wall() + left if left > timedelta(0) else None

    def believed(self, lease: Lease) -> Lease:
        """The lease, with requests dated in the future counted as sent now: the clock was wrong then."""
        now = self._clocks.steady()
        if all(each.sent_at is None or each.sent_at <= now for each in lease.progress.values()):
            return lease
        progress = {
            name: each
            if each.sent_at is None or each.sent_at <= now
            else each.with_sent_at(self._met_at.setdefault((lease.delivery_id, each.sent_at), now))
            for name, each in lease.progress.items()
        }
        return replace(lease, progress=progress)
