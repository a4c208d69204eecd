"""Schedules as crontab(5) writes them: five fields, Sunday is 0 or 7, names are fine."""

import calendar
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from apscheduler.triggers.base import BaseTrigger

WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

_PART = re.compile(r"(?P<low>\*|\w+)(?:-(?P<high>\w+))?(?:/(?P<step>\w+))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class _CronField:
    name: str
    lowest: int
    highest: int
    names: Sequence[str] = ()


_FIELDS = (
    _CronField("minute", 0, 59),
    _CronField("hour", 0, 23),
    _CronField("day of month", 1, 31),
    _CronField("month", 1, 12, MONTHS),
    _CronField("day of week", 0, 7, WEEKDAYS),
)


@dataclass(frozen=True, slots=True)
class Crontab:
    """The minutes that a schedule names. Two are equal where they are written the same."""

    expr: str
    minutes: frozenset[int] = field(compare=False, repr=False)
    hours: frozenset[int] = field(compare=False, repr=False)
    days: frozenset[int] = field(compare=False, repr=False)
    months: frozenset[int] = field(compare=False, repr=False)
    weekdays: frozenset[int] = field(compare=False, repr=False)
    either_day: bool = field(compare=False, repr=False)

    def __str__(self) -> str:
        return self.expr

    def matches(self, local: datetime) -> bool:
        """Whether the schedule names this minute of the wall clock."""
        if local.minute not in self.minutes or local.hour not in self.hours:
            return False
        if local.month not in self.months:
            return False
        day = local.day in self.days
        weekday = local.isoweekday() % 7 in self.weekdays
        return (day or weekday) if self.either_day else (day and weekday)


def parse(expr: str) -> Crontab:
    """Read a crontab expression, or raise ValueError with a sentence that says what is wrong."""
    text = expr.strip()
    if text.startswith("@"):
        if text.lower() not in MACROS:
            raise ValueError(f"a schedule that starts with @ is one of {', '.join(MACROS)}")
        text = MACROS[text.lower()]
    parts = text.split()
    if len(parts) != len(_FIELDS):
        raise ValueError(
            f"a schedule has five fields (minute hour day-of-month month day-of-week), not {len(parts)}"
        )
    minutes, hours, days, months, weekdays = map(_values, _FIELDS, parts)
    # crontab(5): either day is enough when neither field starts with a star.
    either_day = not parts[2].startswith("*") and not parts[4].startswith("*")
    if not either_day and all(min(days) > _longest(month) for month in months):
        raise ValueError(f"no month of this schedule has a day {min(days)}")
    return Crontab(
        " ".join(expr.split()),
        minutes,
        hours,
        days,
        months,
        frozenset(day % 7 for day in weekdays),
        either_day,
    )


def to_trigger(crontab: Crontab, zone: ZoneInfo) -> "BaseTrigger":
    """The APScheduler trigger that fires on exactly the minutes that match."""
    # Importing APScheduler costs 95 ms, which only the daemon should pay.
    from apscheduler.triggers.combining import OrTrigger  # noqa: PLC0415 - see above
    from apscheduler.triggers.cron import CronTrigger  # noqa: PLC0415 - see above

    def cron(days: str, weekdays: str) -> "BaseTrigger":
        return CronTrigger(
            month=_listed(crontab.months),
            day=days,
            day_of_week=weekdays,
            hour=_listed(crontab.hours),
            minute=_listed(crontab.minutes),
            timezone=zone,
        )

    days = _listed(crontab.days)
    # APScheduler numbers weekdays from Monday, so they go by name.
    weekdays = ",".join(WEEKDAYS[day] for day in sorted(crontab.weekdays))
    if crontab.either_day:
        return OrTrigger([cron(days, "*"), cron("*", weekdays)])
    return cron(days, weekdays)


def _values(kind: _CronField, text: str) -> frozenset[int]:
    return frozenset(value for part in text.split(",") for value in _part(kind, part))


def _part(kind: _CronField, text: str) -> range:
    found = _PART.fullmatch(text)
    if not found or (found["low"] == "*" and found["high"]):
        raise ValueError(f'the {kind.name} "{text}" is none of *, 5, 1-5, */15, 0-30/10 or a list of these')
    if found["low"] == "*":
        low, high = kind.lowest, kind.highest
    else:
        low = _number(kind, found["low"])
        high = _number(kind, found["high"]) if found["high"] else low
    if found["step"] and found["low"] != "*" and not found["high"]:
        raise ValueError(f'the {kind.name} "{text}" has a step, which needs * or a range before it')
    if high < low:
        hint = "; Sunday is 0 at the start of a range and 7 at its end" if kind.names is WEEKDAYS else ""
        raise ValueError(f'the {kind.name} "{text}" ends before it begins{hint}')
    return range(low, high + 1, _step(kind, found["step"]))


def _number(kind: _CronField, text: str) -> int:
    if text.lower() in kind.names:
        return kind.names.index(text.lower()) + (1 if kind.names is MONTHS else 0)
    if not text.isdecimal():
        named = f" or a name, {kind.names[0]} to {kind.names[-1]}" if kind.names else ""
        raise ValueError(f'the {kind.name} "{text}" is not a number{named}')
    if len(text) > 2 or not kind.lowest <= int(text) <= kind.highest:
        raise ValueError(f"the {kind.name} {text} is not between {kind.lowest} and {kind.highest}")
    return int(text)


def _step(kind: _CronField, text: str | None) -> int:
    if text is None:
        return 1
    if not text.isdecimal() or len(text) > 2 or int(text) == 0:
        raise ValueError(f'the step "{text}" of the {kind.name} is not a number from 1 to 99')
    return int(text)


def _longest(month: int) -> int:
    return calendar.monthrange(2024, month)[1]


def _listed(values: frozenset[int]) -> str:
    return ",".join(map(str, sorted(values)))
