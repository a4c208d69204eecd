"""What could not be filed under a call, and its ways out."""

from collections.abc import Sequence
from typing import Any, Protocol

from bridge.model.calls import Arrival

Row = dict[str, Any]


class QuarantineLedger(Protocol):
    """Keeps the records that belong to no call until a person decides."""

    def list_quarantine(self, state: str | None, limit: int) -> list[Row]:
        """What could not be filed: `waiting`, `released`, `dropped`; the newest first."""

    def show_quarantine(self, entry: int) -> Row | None:
        """One entry with its `body` (bytes)."""

    def refile(self, entry: int, arrivals: Sequence[Arrival]) -> bool:
        """File a quarantined body again; released where a call takes a record of it, else it waits on."""

    def drop(self, entries: Sequence[int]) -> int:
        """Take waiting entries as worth nothing; how many there were."""
