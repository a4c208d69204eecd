"""The platform's list beside the ledger: the nouns that both sides share."""

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
    """Every receipt of the call has its verdict."""
    digest: bytes = b""
    """Of the row that the list showed last, if nothing has arrived for the call since."""
    stale: bool = False
    """That row was older than what is known."""


@dataclass(frozen=True, slots=True)
class RowToFile:
    """A listed row for the door, which takes it only if its call is as it was when the page was asked for."""

    arrival: Arrival
    digest: bytes
    gap: bool
    """The ledger did not know the call."""


@dataclass(frozen=True, slots=True)
class MatchedRow:
    """What a listed row that needs no filing is remembered by."""

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
    """The fields of its known state that were asked for, as far as it has them."""
    successor: str | None
    """Another call of the same `sn` that came later."""
    first_seen_at: datetime


@dataclass(frozen=True, slots=True)
class WindowStanding:
    """How listed calls stand in the ledger, all of one moment."""

    known: frozenset[int]
    """Calls that have come since their rows were listed as unknown."""
    unknown: Sequence[int]
    """Which of the unknown rows still are, by their places."""
    quarantined: Sequence[tuple[str, bytes]]
    """What quarantine holds of the source: its state (`waiting`, `dropped`) and its body."""
    ledger: int
    """How many calls are of the window, by the ledger's word or by the list's."""
    listed: int
    """How many of those by the ledger's word are listed."""
    unlisted: Sequence[int]
    """The others of them."""
    destinations: Mapping[str, DestinationBalance]
    """Where the calls of `ledger` stand at each destination."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How a source stands with its list."""

    covered_until: datetime | None
    job_id: int | None
    """The last reconciliation of the source."""
    calls: int
    gaps: int
