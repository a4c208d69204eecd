"""Where a record comes from, and therefore how it is read."""

from dataclasses import dataclass
from zoneinfo import ZoneInfo

from bridge.record.dialect import Dialect


@dataclass(frozen=True, slots=True)
class Origin:
    """How the records of one source are read: its times are in `zone`, its phones at home in `country`."""

    source: str
    dialect: Dialect
    zone: ZoneInfo
    country: str = "CN"
    recording_url: str = ""
    """The prefix that turns a recording's path into a link."""
