"""Times as platforms write them, read where the meaning is plain.

What is ambiguous (04/14/2025, a year of two digits) is not guessed at, and what stands for no time at
all (0000-00-00, 1970-01-01 and the zeros of other programs) is none.
"""

import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from math import isfinite
from typing import Any
from urllib.parse import unquote
from zoneinfo import ZoneInfo

_LONGEST = 100
_FIRST_YEAR = 1971
_PLAIN_LENGTH, _PLAIN_MARKS = 19, "-- ::"
_NO_TIME = re.compile(
    r"-?0000[-/.]?0{1,2}[-/.]?0{1,2}(?!\d).*|-0001-11-30.*|[-/]{1,2}|null|none|nil|nan|n/?a|无|空",
    re.IGNORECASE | re.DOTALL | re.ASCII,
)

# The hour of 24 for what a half of the day says of 12; 晚上12点 is midnight, but of which day?
_MORNING = {hour: hour % 12 for hour in range(13)}
_NOON = {1: 13, 2: 14} | {hour: hour for hour in (11, 12, 13, 14)}
_AFTERNOON = {hour: hour + 12 for hour in range(1, 12)} | {hour: hour for hour in range(12, 24)}
_EVENING = {hour: hour + 12 for hour in range(5, 12)} | {hour: hour for hour in range(17, 24)}
_HALVES = {
    **dict.fromkeys(("am", "上午", "凌晨", "清晨", "早上", "早晨"), _MORNING),
    **dict.fromkeys(("pm", "下午"), _AFTERNOON),
    **dict.fromkeys(("傍晚", "晚上", "夜里"), _EVENING),
    "中午": _NOON,
}
_HALF = "|".join([*_HALVES, r"[ap]\.m\."])
_CHINESE_DAY = re.compile(r"(\d{4}) ?年 ?(\d{1,2}) ?月 ?(\d{1,2}) ?[日号]?")
_CHINESE_CLOCK = re.compile(r"(\d{1,2}) ?[点时] ?(?:(\d{1,2})(?: ?分)?(?: ?(\d{1,2}) ?秒)?|整)?")
_WEEKDAY = re.compile(r"[(]?(?:星期|周|礼拜)[一二三四五六日天][)]?")
_DAYS = (
    re.compile(r"(?P<year>\d{4})([-/.])(?P<month>\d{1,2})\2(?P<day>\d{1,2})(?!\d)"),
    re.compile(r"(?P<year>(?:19|20)\d{2})(?P<month>\d{2})(?P<day>\d{2})(?=[ T]\d)"),
    re.compile(
        r"(?:[a-z]{3,9},? )?(?P<day>\d{1,2})[ -](?P<month>[a-z]{3,9})[ -](?P<year>\d{4}),?", re.IGNORECASE
    ),
    re.compile(
        r"(?:[a-z]{3,9},? )?(?P<month>[a-z]{3,9}) (?P<day>\d{1,2}),? (?P<year>\d{4}),?", re.IGNORECASE
    ),
)
# Mon Apr 14 11:00:00 2025, as C writes it, and Mon Apr 14 11:00:00 CST 2025, as Java does.
_YEAR_LAST = re.compile(
    r"([a-z]{3} [a-z]{3} \d{1,2}) (\d{2}:\d{2}:\d{2})( [A-Z]{2,5}| GMT[+-]\d{2}:\d{2})? (\d{4})",
    re.IGNORECASE,
)
# The plus of a form that nobody decoded, and the one that a form has made a blank.
_PLUS_FOR_BLANK = re.compile(r"(\d{4}[-/.]\d{1,2}[-/.]\d{1,2})\+(?=\d{1,2}:\d{2}:\d{2})")
_BLANK_FOR_PLUS = re.compile(r"(?<=:\d{2}) (?=\d{2}:\d{2}$)|(?<=\.\d{3}) (?=\d{2}:\d{2}$)")
_CLOCK = re.compile(
    rf"(?:T| ?)(?P<before>{_HALF})? ?(?P<hour>\d{{1,2}}):(?P<minute>\d{{2}}|\d(?=:\d))"
    rf"(?::(?P<second>\d{{1,2}})(?:[.,:](?P<fraction>\d{{1,6}})\d{{0,6}})?)?(?: ?(?P<behind>{_HALF}))?",
    re.IGNORECASE,
)
# Behind an offset some programs name the zone as well.
_OFFSET = re.compile(
    r" ?(?:(?P<utc>Z|UTC|GMT)|(?:UTC|GMT)?(?P<sign>[+-])(?P<hours>\d{1,2})(?::?(?P<minutes>\d{2}))?)"
    r" ?(?:\[[\w/+-]{1,40}\]|[(][^()]{1,40}[)]|[A-Z]{2,5})?| (?P<name>[A-Z]{2,5})",
    re.ASCII,
)
_COMPACT = re.compile(
    r"((?:19|20)\d{2})(\d{2})(\d{2})(?:[T ]?(\d{2})(\d{2})(?:(\d{2})(?:\.?(\d{3}))?)?(Z)?)?"
)
_NUMBER = re.compile(r"([+-]?\d{1,20})(?:\.(\d{1,12}))?")
_SCIENTIFIC = re.compile(r"\d\.\d{5,16}[eE][+]?\d{1,2}")
_DOTNET = re.compile(r"/Date\((-?\d{1,16})(?:[+-]\d{4})?\)/")
_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_UNITS = (1, 10**3, 10**6, 10**9)
_EPOCH_RANGE = (10**8, 10**10)
"""In seconds, 1973 to 2286, so that no number is a time in two units."""
_FIRST_DAY = 86_400


class UnreadableTimeError(ValueError):
    """A value is present and cannot be read as a time with certainty."""


def read_time(value: object, zone: ZoneInfo) -> datetime | None:
    """The moment in aware UTC: a local time in `zone`, one with an offset, or an epoch; None for no time.

    Raises:
        UnreadableTimeError: the value says something else.
    """
    try:
        return _read(value, zone)
    except (ArithmeticError, LookupError, OSError, StopIteration, ValueError):
        raise UnreadableTimeError("no time that can be read for sure") from None


def parse_time(value: object, zone: ZoneInfo) -> datetime | None:
    """The same, with None also for what cannot be read."""
    try:
        return read_time(value, zone)
    except UnreadableTimeError:
        return None


def _read(value: object, zone: ZoneInfo) -> datetime | None:
    if isinstance(value, str):
        return _of_text(value, zone)
    if value is None or value is False or value in ([], {}):
        return None
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=zone)).astimezone(UTC)
    if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value):
        return _of_number(value, zone)
    if isinstance(value, Mapping):
        return _of_object(value, zone)
    if isinstance(value, list):
        return _of_parts(value, zone)
    raise UnreadableTimeError("no time that can be read for sure")


def _of_text(text: str, zone: ZoneInfo) -> datetime | None:
    if len(text) == _PLAIN_LENGTH and text[4::3] == _PLAIN_MARKS and text.isascii():
        # What the platform nearly always writes; the general way takes ten times as long.
        try:
            return _of_plain(text, zone)
        except ValueError:
            pass
    text = _plain(text)
    if not text or _NO_TIME.fullmatch(text):
        return None
    if compact := _COMPACT.fullmatch(text):
        return _of_compact(compact, zone)
    if number := _NUMBER.fullmatch(text):
        return _of_epoch(int(number[1]), (number[2] or "")[:6].ljust(6, "0"))
    if milliseconds := _DOTNET.fullmatch(text):
        return _of_epoch(int(milliseconds[1]))
    return _of_number(float(text), zone) if _SCIENTIFIC.fullmatch(text) else _of_calendar(text, zone)


@lru_cache(maxsize=1024)
def _of_plain(text: str, zone: ZoneInfo) -> datetime | None:
    """A time such as `2025-04-14 10:19:05`; kept, because a record's times are read several times."""
    return _in_utc(datetime.fromisoformat(text), zone)


def _plain(text: str) -> str:
    """A text in ASCII digits and marks, with single spaces, days and clocks as elsewhere."""
    text = text.strip().strip("\0'\"").strip()
    if len(text) > _LONGEST:
        raise UnreadableTimeError("no time that can be read for sure")
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
        text = "".join(
            str(unicodedata.decimal(char)) if char.isdecimal() else char
            for char in text
            if unicodedata.category(char) != "Cf"
        )
        text = _WEEKDAY.sub(" ", text)
        text = _CHINESE_DAY.sub(r"\1-\2-\3 ", text)
        text = _CHINESE_CLOCK.sub(lambda at: f" {at[1]}:{at[2] or 0:0>2}:{at[3] or 0:0>2}", text)
    text = _PLUS_FOR_BLANK.sub(r"\1 ", unquote(text) if "%" in text else text)
    return _BLANK_FOR_PLUS.sub("+", " ".join(text.split()))


def _of_compact(found: re.Match[str], zone: ZoneInfo) -> datetime | None:
    year, month, day, *clock = (int(part or 0) for part in found.groups()[:6])
    moment = _moment(year, month, day, clock, int(found[7] or 0) * 1000)
    return _in_utc(moment, UTC if found[8] else zone)


def _of_calendar(text: str, zone: ZoneInfo) -> datetime | None:
    if last := _YEAR_LAST.fullmatch(text):
        text = f"{last[1]} {last[4]} {last[2]}{last[3] or ''}"
    day = next((found for each in _DAYS if (found := each.match(text))), None)
    if day is None:
        raise UnreadableTimeError("no time that can be read for sure")
    month = day["month"]
    month = int(month) if month.isdecimal() else _month(month.lower())
    clock = _CLOCK.match(text, day.end())
    parts, fraction = [0, 0, 0], 0
    if clock:
        parts = [int(clock[name] or 0) for name in ("hour", "minute", "second")]
        parts[0] = _hour(parts[0], clock["before"], clock["behind"])
        fraction = int((clock["fraction"] or "0").ljust(6, "0"))
    moment = _moment(int(day["year"]), month, int(day["day"]), parts, fraction)
    return _in_utc(moment, _zone_of(text[(clock or day).end() :], moment, zone))


def _month(name: str) -> int:
    """The number of a month that is written out or cut after three letters or more."""
    return 1 + next(at for at, month in enumerate(_MONTHS) if month.startswith(name.replace("sept", "sep")))


def _hour(hour: int, before: str | None, behind: str | None) -> int:
    """The hour of 24 for one that may be of 12, before or behind which stands the half of the day."""
    if before and behind:
        raise UnreadableTimeError("no time that can be read for sure")
    half = (before or behind or "").lower().replace(".", "")
    return _HALVES[half][hour] if half else hour


def _moment(year: int, month: int, day: int, clock: list[int], fraction: int) -> datetime:
    """A local time; 24:00:00 is the next day's start, and a leap second the next minute's."""
    hour, minute, second = clock
    if hour > 24 or minute > 59 or second > 60 or (hour == 24 and (minute or second or fraction)):
        raise UnreadableTimeError("no time that can be read for sure")
    span = timedelta(hours=hour, minutes=minute, seconds=second, microseconds=fraction)
    return datetime(year, month, day) + span  # noqa: DTZ001 - its zone follows


def _zone_of(text: str, moment: datetime, zone: ZoneInfo) -> tzinfo:
    if not text:
        return zone
    found = _OFFSET.fullmatch(text)
    if found is None:
        raise UnreadableTimeError("no time that can be read for sure")
    if found["name"] and found["name"] not in ("UTC", "GMT"):
        # Such as CST, which is a time of three countries: only as the source's own zone is called then.
        for fold in (0, 1):
            local = moment.replace(tzinfo=zone, fold=fold)
            if local.tzname() == found["name"]:
                return timezone(local.utcoffset() or timedelta())
        raise UnreadableTimeError("no time that can be read for sure")
    if found["utc"] or found["name"]:
        return UTC
    offset = timedelta(hours=int(found["hours"]), minutes=int(found["minutes"] or 0))
    return timezone(-offset if found["sign"] == "-" else offset)


def _in_utc(moment: datetime, zone: tzinfo) -> datetime | None:
    return None if moment.year < _FIRST_YEAR else moment.replace(tzinfo=zone).astimezone(UTC)


def _of_number(value: float, zone: ZoneInfo) -> datetime | None:
    whole = int(value)
    if whole == value and (compact := _COMPACT.fullmatch(str(whole))):
        return _of_compact(compact, zone)
    return _of_epoch(whole, f"{value - whole:.6f}"[2:] if whole != value and value > 0 else "0")


def _of_epoch(number: int, fraction: str = "0") -> datetime | None:
    """Seconds, or thousandths, millionths and so on of them, since 1970."""
    if number <= _FIRST_DAY:
        return None
    low, high = _EPOCH_RANGE
    for unit in _EPOCH_UNITS:
        if low <= number / unit < high:
            microseconds = number * 10**6 // unit + (int(fraction) if unit == 1 else 0)
            return _EPOCH + timedelta(microseconds=microseconds)
    raise UnreadableTimeError("no time that can be read for sure")


def _of_object(value: Mapping[Any, Any], zone: ZoneInfo) -> datetime | None:
    """A time as objects of PHP, Java, MongoDB and Protocol Buffers become JSON."""
    if isinstance(value.get("date"), str):
        return _of_php(value, zone)
    for name in ("$date", "$numberLong", "seconds", "_seconds", "epochSecond"):
        if name in value:
            return _read(value[name], zone)
    date, clock = value.get("date"), value.get("time")
    if isinstance(date, Mapping) and isinstance(clock, Mapping):
        return _of_java({**date, **clock}, zone)
    if isinstance(clock, int):
        # java.util.Date; its year is counted from 1900, its month from 0.
        return _of_epoch(clock)
    return _of_java(value, zone)


def _of_java(value: Mapping[Any, Any], zone: ZoneInfo) -> datetime | None:
    """A LocalDateTime by its getters or its fields."""
    month, day = value.get("monthValue", value.get("month")), value.get("dayOfMonth", value.get("day"))
    clock = [value.get(name, 0) for name in ("hour", "minute", "second", "nano")]
    return _of_parts([value.get("year"), month, day, *clock], zone)


def _of_parts(parts: list[Any], zone: ZoneInfo) -> datetime | None:
    """A LocalDateTime as Jackson writes it: `[2025, 4, 14, 10, 20, 50, 123000000]`."""
    if not 3 <= len(parts) <= 7 or any(type(part) is not int for part in parts):
        raise UnreadableTimeError("no time that can be read for sure")
    year, month, day, hour, minute, second, nano = [*parts, 0, 0, 0, 0][:7]
    if min(hour, minute, second, nano) < 0 or nano >= 10**9:
        raise UnreadableTimeError("no time that can be read for sure")
    return _in_utc(_moment(year, month, day, [hour, minute, second], nano // 1000), zone)


def _of_php(value: Mapping[Any, Any], zone: ZoneInfo) -> datetime | None:
    """A DateTime of PHP as its JSON: `{"date": …, "timezone_type": 3, "timezone": "Asia/Shanghai"}`."""
    name = value.get("timezone")
    if not isinstance(name, str) or len(name) > _LONGEST:
        return _of_text(value["date"], zone)
    if name[:1] in ("+", "-") or name in ("Z", "UTC", "GMT"):
        return _of_text(f"{value['date']} {name}", zone)
    return _of_text(value["date"], ZoneInfo(name))
