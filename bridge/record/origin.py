"""Where a record comes from, which decides how it is read."""

from dataclasses import dataclass
from zoneinfo import ZoneInfo

from bridge.record.dialect import Dialect


@dataclass(frozen=True, slots=True)
class Origin:
    """How the records of one source are read: local times are in `zone`, phone numbers in `country`."""

    source: str
    dialect: Dialect
    zone: ZoneInfo
    country: str = "CN"
    recording_url: str = ""
    """The prefix that turns a recording's path into a link."""
