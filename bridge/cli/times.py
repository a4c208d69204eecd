"""Times as operators write them: a date, a time, one with an offset, or an age."""

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
    """A time that still lacks its zone, or an age that still lacks its now."""

    text: str

    def at(self, now: datetime, zone: ZoneInfo) -> datetime:
        """The moment in UTC; without an offset in `zone`."""
        if _AGE.fullmatch(self.text):
            parts = _AGE_PART.findall(self.text)
            return now - timedelta(seconds=sum(int(count) * _UNITS[unit] for count, unit in parts))
        moment = datetime.fromisoformat(self.text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)


def refuse_reversed(since: datetime | None, until: datetime | None) -> None:
    """A window that ends before it begins has nothing in it, which looks like nothing to do.

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
        found = WhenText(str(value).strip())
        try:
            found.at(now_utc(), ZoneInfo("UTC"))
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time: write 2025-04-14, 2025-04-14T10:00, 3h or 7d", param, ctx)
        return found
