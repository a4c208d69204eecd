"""Rows of the platform's list and what the ledger says of them: shared by reconciliation and the ledger."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bridge.model.balance import DestinationBalance
from bridge.model.calls import Arrival, Quarantined


@dataclass(frozen=True, slots=True)
class RowMatch:
    """The call that the door would file a listed row under, and what is remembered of that call.

    `call_id` is None for a call that nobody knows; `key` is then the name that it would get.
    """

    call_id: int | None
    key: str
    trouble: Quarantined | None = None
    detail: str = ""
    newest: int = 0
    """The newest receipt of the call."""
    judged: bool = True
    """Whether every receipt of the call has its verdict."""
    digest: bytes = b""
    """The digest of the row that the list showed last; empty where something has arrived since."""
    stale: bool = False
    """Whether that row was older than what is known."""


@dataclass(frozen=True, slots=True)
class RowToFile:
    """A listed row to be filed, unless its call has changed since the page was asked for."""

    arrival: Arrival
    digest: bytes
    gap: bool
    """The ledger did not know the call."""


@dataclass(frozen=True, slots=True)
class MatchedRow:
    """A listed row that needs no filing, as it is remembered for the next walk."""

    call_id: int
    newest: int
    stale: bool
    digest: bytes


@dataclass(frozen=True, slots=True)
class UnlistedCall:
    """A call that the list does not show, with what may explain it."""

    key: str
    created_at: datetime | None
    said: Mapping[str, Any]
    """Of the fields that were asked for, those that its known state has."""
    successor: str | None
    """Another call of the same `sn` that came later."""
    first_seen_at: datetime


@dataclass(frozen=True, slots=True)
class WindowStanding:
    """How listed calls stand in the ledger, all of one moment."""

    known: frozenset[int]
    """Calls that have come since their rows were listed as unknown."""
    unknown: Sequence[int]
    """The indexes of the unknown rows whose calls have not come."""
    quarantined: Sequence[tuple[str, bytes]]
    """What quarantine holds of the source: its state (`waiting`, `dropped`) and its body."""
    ledger: int
    """How many calls are of the window, by their time in the ledger or in the list."""
    listed: int
    """How many of the calls that the ledger has in the window are listed."""
    unlisted: Sequence[int]
    """The ids of the calls that the ledger has in the window and the list does not show."""
    destinations: Mapping[str, DestinationBalance]
    """The balance of the calls counted in `ledger`, by destination."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How a source stands with its list."""

    covered_until: datetime | None
    job_id: int | None
    """The last reconciliation of the source."""
    calls: int
    gaps: int
