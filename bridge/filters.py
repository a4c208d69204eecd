"""The filters of mapping files: what a value may become on its way to a CRM."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from jinja2 import pass_context
from jinja2.runtime import Context

from bridge.call import transcript as write_transcript
from bridge.dialogue import Turn
from bridge.phone import to_e164

ELLIPSIS = "…"


@pass_context
def e164(context: Context, value: Any, country: str = "") -> str | None:
    """A phone number as `+8615899770637`; null for an empty or masked one."""
    return to_e164(value, country or context["_country"])


def iso8601(value: datetime | None, zone: str = "") -> str | None:
    """A time as `2025-04-14T02:19:21Z`, or with the offset of a zone."""
    if value is None:
        return None
    if zone:
        return value.astimezone(ZoneInfo(zone)).isoformat(timespec="seconds")
    return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


@pass_context
def local(
    context: Context, value: datetime | None, form: str = "%Y-%m-%d %H:%M:%S", zone: str = ""
) -> str | None:
    """A time in a zone (the source's without one), in the form that strftime knows."""
    if value is None:
        return None
    return value.astimezone(ZoneInfo(zone) if zone else context["_zone"]).strftime(form)


def epoch(value: datetime | None) -> int | None:
    """A time as Unix seconds."""
    return None if value is None else int(value.timestamp())


def epoch_ms(value: datetime | None) -> int | None:
    """A time as Unix milliseconds."""
    return None if value is None else round(value.timestamp() * 1000)


@pass_context
def transcript(
    context: Context, turns: tuple[Turn, ...], robot: str = "机器人", customer: str = "客户"
) -> str | None:
    """A dialogue as text, a line a turn, `[10:19:21] 机器人: …`; null without turns."""
    return write_transcript(turns, context["_zone"], robot, customer) or None


def shorten(value: Any, length: int) -> str | None:
    """A text of at most `length` characters; a longer one ends in a visible `…`."""
    if value is None:
        return None
    text = str(value)
    return text if len(text) <= length else text[: max(length - 1, 0)] + ELLIPSIS


FILTERS: dict[str, Callable[..., Any]] = {
    "e164": e164,
    "epoch": epoch,
    "epoch_ms": epoch_ms,
    "iso8601": iso8601,
    "local": local,
    "shorten": shorten,
    "transcript": transcript,
}
