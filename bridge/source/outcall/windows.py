"""A window in a platform's own words: local times, as coarse as it takes them, and never too narrow."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

# Rows at a window's edges are asked for twice: nobody knows which ends the platform includes.
MARGIN = timedelta(seconds=1)
_UNITS = (timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1))


def window_texts(since: datetime, until: datetime, zone: ZoneInfo, time_format: str) -> tuple[str, str]:
    """The texts to ask with for what was created from `since` until before `until`.

    Rounded outwards where the format has no seconds, or no time of day at all: whoever reads `2025-04-14`
    as its first second or as its last shows all that is wanted.
    """
    local = [moment.astimezone(zone) for moment in (since, until)]
    # Where clocks are put back between the two, an hour of local time means two hours.
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
