"""The order of calls: by their event time, then by their key. An event is that order as text."""

from datetime import UTC, datetime, timedelta

AHEAD = timedelta(days=1)
"""A platform's clock may be ahead of ours by so much; what lies further ahead is not believed."""

# An event is kept beside every field of every contact, so only the start of the key is in it: ties are rare.
KEY_LENGTH = 16
# Hexadecimal digits of milliseconds: enough until the year 2527, and texts of one length sort as numbers do.
_TIME_LENGTH = 11


def event_time(
    started_at: datetime | None, created_at: datetime | None, first_seen_at: datetime
) -> datetime | None:
    """When a call took place: `started_at`, else `created_at`; too far ahead, its first receipt."""
    at = started_at or created_at
    return first_seen_at if is_ahead(at, first_seen_at) else at


def is_ahead(at: datetime | None, first_seen_at: datetime) -> bool:
    """Whether a call's time is more than a day after its first receipt, further than clocks differ."""
    return at is not None and at - first_seen_at > AHEAD


def event_text(at: datetime | None, key: str) -> str:
    """The event of a call; texts sort as the calls do, and a call without a time comes first."""
    milliseconds = 0 if at is None else max(0, round(at.timestamp() * 1000))
    return f"{milliseconds:0{_TIME_LENGTH}x} {key[:KEY_LENGTH]}"


def event_parts(event: str) -> tuple[datetime, str] | None:
    """The time of an event, and the start of its call's key; None: the text is no event."""
    time, _, key = event.partition(" ")
    if len(time) != _TIME_LENGTH or not set(time) <= set("0123456789abcdef"):
        return None
    return datetime.fromtimestamp(int(time, 16) / 1000, UTC), key
