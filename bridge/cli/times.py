"""Reads times of the command line: a date, a time, a time with an offset, or an age such as `3h`."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import click

from bridge.lib.clocks import now_utc

_AGE = re.compile(r"(?:\d+[smhdw])+")
_AGE_PART = re.compile(r"(?<!\d)(\d+)([smhdw])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass(frozen=True, slots=True)
class WhenText:
    """The text of a time or an age, until zone and present time are known."""

    text: str

    def at(self, now: datetime, zone: ZoneInfo) -> datetime:
        """The moment in UTC; a time without an offset is in `zone`."""
        if _AGE.fullmatch(self.text):
            parts = _AGE_PART.findall(self.text)
            return now - timedelta(seconds=sum(int(count) * _UNITS[unit] for count, unit in parts))
        moment = datetime.fromisoformat(self.text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)


def refuse_reversed(since: datetime | None, until: datetime | None) -> None:
    """Refuse a window that ends before it begins: it would look like a window without calls.

    Raises:
        click.UsageError: it does.
    """
    if since is not None and until is not None and since >= until:
        raise click.UsageError(f"--since ({since:%Y-%m-%d %H:%M:%S}Z) is not before --until")


class When(click.ParamType[WhenText]):
    """`2025-04-14`, `2025-04-14T10:00`, with an offset, or an age such as `3h` or `7d`."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> WhenText:
        """Refuse what is neither a time nor an age, or reaches beyond the calendar."""
        if isinstance(value, WhenText):
            return value
        when = WhenText(str(value).strip())
        try:
            when.at(now_utc(), ZoneInfo("UTC"))
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time: write 2025-04-14, 2025-04-14T10:00, 3h or 7d", param, ctx)
        return when
