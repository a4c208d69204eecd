"""The filters of mapping files, which turn a value into the form that a CRM wants.

The table of filters in docs/mapping.md is made of their usages and docstrings. Every filter leaves null as
it is. Begin at `_filter()`, which registers them in `MAPPING_FILTERS`.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, tzinfo
from html import escape
from inspect import getdoc
from math import ceil, isfinite
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import phonenumbers
from jinja2 import pass_context
from jinja2.runtime import Context

from bridge.lib.expression import as_text, iso_utc
from bridge.lib.lengths import LengthUnit, cut_at, shortened
from bridge.lib.phone import plain_number, to_e164
from bridge.lib.values import SettingError, known_country, known_zone
from bridge.record.call import transcript as write_transcript
from bridge.record.turn import Turn

_NUMBER = re.compile(r"[+-]?\d{1,4000}(\.\d*)?")

MAPPING_FILTERS: dict[str, Callable[..., Any]] = {}
_WRITTEN: dict[str, tuple[str, ...]] = {}
F = TypeVar("F", bound=Callable[..., Any])


def _zone(value: object) -> None:
    if value not in ("", "local"):
        known_zone(value)


def _country(value: object) -> None:
    if value != "":
        known_country(as_text(value))


def _length(value: object) -> None:
    if type(value) is not int:
        raise SettingError("is no number of characters", "write it without quotes, like 200")


MAPPING_ARGUMENTS: dict[str, Callable[[Any], object]] = {
    "country": _country,
    "length": _length,
    "zone": _zone,
}
"""Parameter name → the check of a constant argument; it raises SettingError when the file is loaded."""


def _filter(*written: str, alone: bool = True) -> Callable[[F], F]:
    """Register a function as the filter of its name.

    `written` are examples of its use with arguments; `alone` says that it may be used without.
    """

    def registered(function: F) -> F:
        name = function.__name__
        MAPPING_FILTERS[name] = function
        _WRITTEN[name] = (name, *written) if alone else written
        return function

    return registered


def filter_rows() -> Iterator[str]:
    """The rows of the table of filters in docs/mapping.md."""
    for name in sorted(MAPPING_FILTERS):
        usages = ", ".join(f"`{usage}`" for usage in _WRITTEN[name])
        yield f"| {usages} | {' '.join((getdoc(MAPPING_FILTERS[name]) or '').split())} |"


# Phone numbers


@_filter("e164('US')")
@pass_context
def e164(context: Context, value: Any, country: str = "") -> str | None:
    """A phone number as `+8615899770637`; null for an empty or masked one, and for one with letters in it.
    Without a country, the source's. Every possible number is kept, valid or not; of several numbers the
    first counts, and one that is impossible at home and valid with its own country's code is that.
    """
    return to_e164(value, country or context["_country"])


@_filter("national('US')")
@pass_context
def national(context: Context, value: Any, country: str = "") -> str | None:
    """A phone number's digits without country code and trunk zero, `15899770637`; null where `e164`
    gives null.
    """
    number = e164(context, value, country)
    if number is None:
        return None
    if number.startswith("+86"):
        # phonenumbers takes longer to parse one number than all other fields of a call take together.
        return number[3:]
    return phonenumbers.national_significant_number(phonenumbers.parse(number))


@_filter()
def digits(value: Any) -> str | None:
    """The digits of a text and nothing else; null if there are none."""
    if value is None:
        return None
    # 13800138000.0 is a phone number that a spreadsheet has made a fraction of: the .0 is dropped.
    whole = plain_number(value) or as_text(value)
    return "".join(str(unicodedata.decimal(char)) for char in whole if char.isdecimal()) or None


# Times


def _zone_of(context: Context, zone: str) -> tzinfo:
    named: tzinfo = context["_zone"] if zone in ("", "local") else ZoneInfo(zone)
    return named


@_filter("iso8601('Asia/Tokyo')", "iso8601('local')")
@pass_context
def iso8601(context: Context, value: datetime | None, zone: str = "") -> str | None:
    """A time as `2025-04-14T02:19:21Z`, or with the offset of a zone, `2025-04-14T10:19:21+08:00`;
    `local` is the source's zone. Never with a fraction.
    """
    if value is None:
        return None
    if not zone:
        return iso_utc(value)
    return value.astimezone(_zone_of(context, zone)).isoformat(timespec="seconds")


@_filter("local('%Y/%m/%d %H:%M')", "local('%Y-%m-%d %H:%M:%S', 'UTC')")
@pass_context
def local(
    context: Context, value: datetime | None, form: str = "%Y-%m-%d %H:%M:%S", zone: str = ""
) -> str | None:
    """A time in a zone (the source's without one), in a form as strftime knows it; `%Y-%m-%d %H:%M:%S`
    without one.
    """
    if value is None:
        return None
    return value.astimezone(_zone_of(context, zone)).strftime(form)


@_filter("date('UTC')")
@pass_context
def date(context: Context, value: datetime | None, zone: str = "") -> str | None:
    """A time's day in a zone (the source's without one), `2025-04-14`."""
    day: str | None = local(context, value, "%Y-%m-%d", zone)
    return day


@_filter()
def epoch(value: datetime | None) -> int | None:
    """A time as Unix seconds."""
    return None if value is None else int(value.timestamp())


@_filter()
def epoch_ms(value: datetime | None) -> int | None:
    """A time as Unix milliseconds."""
    return None if value is None else round(value.timestamp() * 1000)


# Durations


def _seconds(value: Any) -> float | None:
    """Seconds, given as a number, as text, or as the difference of two times."""
    if value is None or value == "":
        return None
    if isinstance(value, timedelta):
        return value.total_seconds()
    match = number(value)
    if match is None:
        raise ValueError(f"{value!r} is no number of seconds")
    return match


def _clock(value: Any, form: Callable[[int], str]) -> str | None:
    seconds = _seconds(value)
    if seconds is None:
        return None
    return ("-" if seconds < 0 else "") + form(int(abs(seconds)))


@_filter()
def minutes(value: Any) -> int | None:
    """Seconds as minutes, rounded up: 88 becomes 2."""
    seconds = _seconds(value)
    return None if seconds is None else ceil(seconds / 60)


@_filter()
def ms(value: Any) -> int | None:
    """Seconds as milliseconds: 88 becomes 88000."""
    seconds = _seconds(value)
    return None if seconds is None else round(seconds * 1000)


@_filter()
def mmss(value: Any) -> str | None:
    """Seconds as minutes and seconds: 88 becomes `01:28`, 3700 becomes `61:40`."""
    return _clock(value, lambda seconds: f"{seconds // 60:02}:{seconds % 60:02}")


@_filter()
def hhmm(value: Any) -> str | None:
    """Seconds as hours and minutes, the minutes rounded up: 88 becomes `00:02`."""
    return _clock(value, lambda seconds: f"{-(-seconds // 60) // 60:02}:{-(-seconds // 60) % 60:02}")


@_filter()
def hhmmss(value: Any) -> str | None:
    """Seconds as hours, minutes and seconds: 88 becomes `00:01:28`."""
    return _clock(value, lambda seconds: f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}")


# Texts and numbers


@_filter()
def text(value: Any) -> str | None:
    """Any value as text: a number's digits, `true`, a time as ISO 8601, lists joined by commas."""
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return as_text(value)


@_filter()
def number(value: Any) -> int | float | None:
    """A text such as `88` or `12.50` as a number; null where it is none. A long id stays exact, but many
    CRMs round numbers beyond 9007199254740991: leave ids as text.
    """
    if isinstance(value, bool) or value is None:
        return None if value is None else int(value)
    if isinstance(value, int | float):
        return value if isfinite(value) else None
    written = as_text(value).strip()
    match = _NUMBER.fullmatch(written)
    if not match:
        return None
    exact = float(written) if match[1] else int(written)
    return exact if isfinite(exact) else None


def _unit(context: Context) -> LengthUnit:
    """The unit that the CRM's length limits count."""
    unit: LengthUnit = context.get("_unit", "characters")
    return unit


@_filter("shorten(200)", alone=False)
@pass_context
def shorten(context: Context, value: Any, length: int) -> str | None:
    """A text of at most so many characters, as the CRM counts them; a longer one ends in a visible `…`.
    What people see as one character, and an entity such as `&amp;`, is never cut in two.
    """
    return None if value is None else shortened(as_text(value), length, _unit(context))


@_filter("overflow(200)", alone=False)
@pass_context
def overflow(context: Context, value: Any, length: int) -> str | None:
    """What `shorten` with the same length leaves out, for a field or a note of its own; null if nothing."""
    if value is None:
        return None
    whole = as_text(value)
    at = cut_at(whole, length, _unit(context))
    return None if at is None else whole[at:]


@_filter("shorten_bytes(4000)", alone=False)
def shorten_bytes(value: Any, length: int) -> str | None:
    """A text of at most so many bytes in UTF-8, the visible `…` of a longer one included; no character
    is split.
    """
    return None if value is None else shortened(as_text(value), length, "bytes")


@_filter("strip_chars('<>=')", alone=False)
def strip_chars(value: Any, characters: str) -> str | None:
    """A text without these characters, which some CRMs refuse."""
    return None if value is None else as_text(value).translate(dict.fromkeys(map(ord, characters)))


@_filter("bmp('〓')")
def bmp(value: Any, instead: str = "") -> str | None:
    """A text without the characters that take four bytes in UTF-8 (emoji, rare ideographs), or with
    something in their place, for a CRM whose database turns each of them to `????`.
    """
    return (
        None if value is None else "".join(char if char <= "\uffff" else instead for char in as_text(value))
    )


@_filter()
def html(value: Any) -> str | None:
    """A text for an HTML field: `&`, `<`, `>` and quotes as entities."""
    return None if value is None else escape(as_text(value))


@_filter("transcript('Robot', 'Customer')")
@pass_context
def transcript(
    context: Context, turns: tuple[Turn, ...] | None, robot: str = "机器人", customer: str = "客户"
) -> str | None:
    """A dialogue as text, a line a turn, `[10:19:21] 机器人: …`; null without turns."""
    return write_transcript(turns or (), context["_zone"], robot, customer) or None
