"""Instants that were stored, as far as they may be believed: the clock may have stood wrong, then or now."""

from datetime import datetime, timedelta

LONGEST_WAIT = timedelta(hours=27)
"""Nothing waits longer: no wait that a CRM asks for, no wait of the schedule (a day, and what spreads it), no
day's quota when the clocks change."""


def bounded(at: datetime | None, now: datetime, longest: timedelta = LONGEST_WAIT) -> datetime | None:
    """An instant that is waited for; None where it lies further ahead than anything waits, and so is over."""
    return None if at is None or at - now > longest else at


def past(at: datetime | None, now: datetime) -> datetime | None:
    """An instant at which something was; None where that lies in the future."""
    return None if at is None or at > now else at
