"""Writes a time window as the list is asked for it: in local time, and never too narrow."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

# Added on both sides: which ends of a window the platform includes is not documented.
MARGIN = timedelta(seconds=1)
_UNITS = (timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1))


def window_texts(since: datetime, until: datetime, zone: ZoneInfo, time_format: str) -> tuple[str, str]:
    """The start and end to ask with for calls created from `since` until before `until`.

    Rounded outwards where the format has no seconds, or no time of day at all: whoever reads `2025-04-14`
    as its first second or as its last shows all that is wanted.
    """
    local = [moment.astimezone(zone) for moment in (since, until)]
    # If clocks are put back between the two, one local hour stands for two hours.
    shift = abs((local[0].utcoffset() or timedelta()) - (local[1].utcoffset() or timedelta()))
    plain = [moment.replace(tzinfo=None) for moment in local]
    start, end = min(plain) - MARGIN - shift, max(plain) + MARGIN + shift
    unit = resolution(time_format)
    floored = end - (end - datetime(1970, 1, 1)) % unit  # noqa: DTZ001 -- a local time
    return start.strftime(time_format), (floored if floored == end else floored + unit).strftime(time_format)


def resolution(time_format: str) -> timedelta:
    """The shortest time that the format tells apart."""
    at = datetime(2025, 4, 14, 10, 20, 30)  # noqa: DTZ001 -- a local time
    shown = at.strftime(time_format)
    return next((unit for unit in _UNITS if (at + unit).strftime(time_format) != shown), _UNITS[-1])
