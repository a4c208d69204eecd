"""Quarantine: records that could not be filed under a call, and how they leave it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from bridge.model.calls import Arrival


@dataclass(frozen=True, slots=True)
class QuarantineEntry:
    """One body that could not be filed, however often it came."""

    id: int
    source: str
    via: str
    reason: str
    detail: str
    state: str
    """`waiting`, `released`, or `dropped`."""
    arrivals: int
    received_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class QuarantinedBody(QuarantineEntry):
    """An entry with what came."""

    body: bytes


class QuarantineLedger(Protocol):
    """Keeps the records that belong to no call until a person decides."""

    def list_quarantine(self, state: str | None, limit: int) -> list[QuarantineEntry]:
        """Entries (in this state), the newest first; all of them with a limit of -1."""

    def show_quarantine(self, entry: int) -> QuarantinedBody | None:
        """One entry with its body; None where there is none of this id."""

    def refile(self, entry: int, arrivals: Sequence[Arrival]) -> bool:
        """File a quarantined body again; True: a call has taken a record of it, and it is released."""

    def drop(self, entries: Sequence[int]) -> int:
        """Mark waiting entries as worth nothing; returns how many there were."""
