"""Finds the date of a dialogue's turn: turns carry only a time of day, and the call's times tell the day."""

import re
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

TIME_OF_DAY = re.compile(
    r"(?:(\d{4}-\d{2}-\d{2})[ T])?(\d{1,2}):(\d{2})(?::(\d{2})(?:\.\d{1,9})?)?", re.ASCII
)
_DAY = timedelta(days=1)


class CallClock:
    """Adds the date to times of day: the call's day or the next, whichever is nearer to the call."""

    def __init__(self, start: datetime | None, end: datetime | None, zone: ZoneInfo) -> None:
        self._start = start or end
        self._end = end or start
        self._zone = zone
        self._days: tuple[date, ...] = ()
        self._midnight: datetime | None = None
        """When the call's day begins; None if clocks are put forward or back on that day."""
        self._known: dict[str, datetime | None] = {}
        if self._start is not None:
            today = self._start.astimezone(zone).date()
            # 9999-12-31 has no next day.
            self._days = (today, min(today, date.max - _DAY) + _DAY)
            self._midnight = _midnight(today, zone)

    def moment(self, time_of_day: str | None) -> datetime | None:
        """The moment in UTC, or None where the text is no time or the call's day is not known."""
        if not time_of_day:
            return None
        # Cached: the robot answers in the second in which the customer spoke, so most times come twice.
        if time_of_day not in self._known:
            self._known[time_of_day] = self._moment(time_of_day)
        return self._known[time_of_day]

    def _moment(self, time_of_day: str) -> datetime | None:
        span = _since_midnight(time_of_day)
        if span is not None and (moment := self._within_call(span)) is not None:
            return moment
        found = TIME_OF_DAY.fullmatch(time_of_day.strip())
        if found is None:
            return None
        day, *parts = found.groups("0")
        hour, minute, second = map(int, parts)
        if hour > 23 or minute > 59 or second > 59:
            return None
        span = timedelta(hours=hour, minutes=minute, seconds=second)
        if day == "0" and (moment := self._within_call(span)) is not None:
            return moment
        return self._nearest(day, time(hour, minute, second, tzinfo=self._zone))

    def _within_call(self, span: timedelta) -> datetime | None:
        """The moment so long after the call's day began, if that is within the call, as nearly all are."""
        if self._midnight is None or self._start is None or self._end is None:
            return None
        moment = self._midnight + span
        return moment if self._start <= moment <= self._end else None

    def _nearest(self, day: str, clock: time) -> datetime | None:
        try:
            days = self._days if day == "0" else (date.fromisoformat(day),)
            moments = [datetime.combine(day, clock).astimezone(UTC) for day in days]
        except (ValueError, OverflowError):
            return None
        return min(moments, key=self._distance, default=None)

    def _distance(self, moment: datetime) -> timedelta:
        if self._start is None or self._end is None:
            return timedelta()
        return max(self._start - moment, moment - self._end, timedelta())


def _since_midnight(time_of_day: str) -> timedelta | None:
    """How long after midnight `HH:MM:SS` is; None for any other form, which takes longer to read."""
    if len(time_of_day) != 8 or time_of_day[2] != ":" or time_of_day[5] != ":" or time_of_day >= "24":
        return None
    try:
        clock = time.fromisoformat(time_of_day)
    except ValueError:
        return None
    return timedelta(0, clock.hour * 3600 + clock.minute * 60 + clock.second)


@lru_cache(maxsize=64)
def _midnight(day: date, zone: ZoneInfo) -> datetime | None:
    """When a day begins; None if clocks are put forward or back on it."""
    try:
        begins, ends = (datetime.combine(each, time(), tzinfo=zone) for each in (day, day + _DAY))
        return begins.astimezone(UTC) if begins.utcoffset() == ends.utcoffset() else None
    except OverflowError:
        return None
