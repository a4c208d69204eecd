"""How far stored moments are believed: the clock may have been wrong when they were stored, or be so now."""

from datetime import datetime, timedelta

LONGEST_STORED_WAIT = timedelta(hours=27)
"""Nothing waits longer: no wait that a CRM asks for, no wait of the schedule (a day, and what spreads it), no
day's quota when the clocks change."""

LONGEST_PAUSE = timedelta(minutes=5)
"""No CRM account is paused for longer before it is asked again."""


def bounded(at: datetime | None, now: datetime, longest: timedelta = LONGEST_STORED_WAIT) -> datetime | None:
    """A moment that something waits for; None where it lies further ahead than anything may wait."""
    return None if at is None or at - now > longest else at


def past(at: datetime | None, now: datetime) -> datetime | None:
    """A moment at which something happened; None where that lies in the future."""
    return None if at is None or at > now else at
