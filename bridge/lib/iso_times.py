"""Moments as text, for documents and for whatever is kept as JSON."""

from datetime import UTC, datetime
from functools import lru_cache


@lru_cache(maxsize=256)
def stamp(moment: datetime) -> str:
    """A moment as text: UTC, milliseconds, sortable."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(text: str) -> datetime:
    """Reads what `stamp` wrote."""
    return datetime.fromisoformat(text)
