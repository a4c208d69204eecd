"""The seconds that a CRM asks us to wait: by `Retry-After`, a time in the answer, or a time of day."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from zoneinfo import ZoneInfo

from bridge.crm.connector.answer import Answer
from bridge.crm.connector.compiling import Pick
from bridge.crm.connector.rates import bounded_number

LONGEST_RETRY_AFTER = 86400.0
"""Seconds: a longer wait is taken for a mistake of the CRM and cut to a day."""
# 1e11 seconds are the year 5138, 1e11 milliseconds March 1973: a larger number is of milliseconds.
_MILLISECONDS_FROM = 1e11


def seconds_until(until: Pick, answer: Answer, now: datetime) -> float | None:
    """The seconds until a rule's `until`: a time of day, or a time that the answer gives (ISO 8601 or epoch).

    None where the answer gives no time.
    """
    if "{{" not in until.text:
        return (next_time(until.text, now) - now).total_seconds()
    value = until.of_answer(answer)
    try:
        moment = (
            datetime.fromisoformat(value)
            if isinstance(value, str) and not value.isdecimal()
            else datetime.fromtimestamp(
                float(value) / (1000 if float(value) > _MILLISECONDS_FROM else 1), UTC
            )
        )
    except (TypeError, ValueError, OverflowError, OSError):
        return None
    seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds()
    return min(max(0.0, seconds), LONGEST_RETRY_AFTER)


def next_time(text: str, now: datetime) -> datetime:
    """The next moment after `now` at which it is, say, `"00:00 Asia/Shanghai"`; in UTC."""
    clock, _, zone = text.partition(" ")
    hour, minute = clock.split(":")
    local = now.astimezone(ZoneInfo(zone or "UTC"))
    then = local.replace(hour=int(hour), minute=int(minute), second=0, microsecond=0)
    if then <= local:
        then += timedelta(days=1)
    return then.astimezone(UTC)


def retry_after(answer: Answer, now: datetime) -> float | None:
    """The seconds that the header `Retry-After` asks for, which gives seconds or a date; None without one."""
    text = (answer.headers.get("retry-after") or "").strip()
    if not text:
        return None
    seconds = bounded_number(text, LONGEST_RETRY_AFTER)
    if seconds is not None:
        return seconds
    at = http_date(text)
    return None if at is None else bounded_number((at - now).total_seconds(), LONGEST_RETRY_AFTER)


def http_date(text: str) -> datetime | None:
    """A time as HTTP headers write it, in UTC; None where the text is none, or is beyond the calendar."""
    try:
        at = parsedate_to_datetime(text)
    except (OverflowError, TypeError, ValueError):
        return None
    return at.replace(tzinfo=at.tzinfo or UTC)
