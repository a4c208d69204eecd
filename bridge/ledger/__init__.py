"""The ledger: what callbridge knows and owes. One interface, one contract suite.

Every method that writes is one durable commit: when it returns, a power cut loses
nothing of it. All raise `LedgerBusy` where the ledger cannot commit now; then nothing
of the call has happened.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from bridge.model import Arrival, Filed, Judgment, Lease, Pending, Settlement

Row = dict[str, Any]
Destinations = Mapping[str, Sequence[str]]
"""Which destinations a source's calls go to: source → destination names."""


@dataclass(frozen=True, slots=True)
class Window:
    """Calls by their `created_at`: `since` inclusive, `until` exclusive, None open."""

    since: datetime | None = None
    until: datetime | None = None


class Ledger(Protocol):
    """What every ledger promises."""

    # -- taking in ---------------------------------------------------------------
    def submit(self, arrivals: Sequence[Arrival]) -> Future[list[Filed]]:
        """File arrivals in one commit; the future ends after it. Order is kept."""

    def record(self, arrivals: Sequence[Arrival]) -> list[Filed]:
        """`submit`, waited for."""

    def waiting(self, limit: int) -> list[Pending]:
        """The oldest receipts without a verdict, each with its call's known state."""

    def judge(self, judgments: Sequence[Judgment], destinations: Destinations, now: datetime) -> None:
        """Write verdicts; news makes the call's deliveries due."""

    def set_aside(self, pending: Pending, reason: str, destinations: Destinations, now: datetime) -> None:
        """A receipt whose record cannot be judged: kept, and its deliveries parked with the reason."""

    # -- delivering --------------------------------------------------------------
    def start_destinations(self, destinations: Destinations, now: datetime) -> None:
        """Register destinations; calls older than a later one are skipped for it."""

    def skipped_before(self) -> dict[str, datetime]:
        """For destinations added to a ledger that had calls: their first start."""

    def release_leases(self) -> int:
        """Make the leases of a dead daemon due again. Only for the ledger's one owner."""

    def lease(self, destinations: Sequence[str], now: datetime) -> Lease | None:
        """Take the delivery that has been due longest, if any is due."""

    def settle(self, lease: Lease, settlement: Settlement, started_at: datetime, now: datetime) -> None:
        """End an attempt. A revision that came meanwhile makes the delivery due again."""

    def retry(self, ids: Sequence[int], now: datetime) -> int:
        """Make parked or waiting deliveries due now; no ids: all parked ones. How many."""

    # -- work that an operator asks for -----------------------------------------
    def request_run(self, kind: str, args: Mapping[str, Any], now: datetime) -> int:
        """Add one row of work for the daemon; its id."""

    def take_run(self, now: datetime) -> Row | None:
        """The oldest requested run, now running."""

    def end_run(self, run_id: int, state: str, result: Mapping[str, Any], now: datetime) -> None:
        """Write what came of a run: `done` or `failed`."""

    def run(self, run_id: int) -> Row:
        """One run as it stands."""

    # -- looking -----------------------------------------------------------------
    def counts(self) -> Row:
        """Receipts, calls, deliveries and quarantine by state, and what is waiting."""

    def balance(self, destination: str, sources: Sequence[str], window: Window) -> dict[str, int]:
        """`ledger = delivered + skipped + parked + under_way`, of one moment."""

    def source_counts(self, source: str, window: Window) -> dict[str, int]:
        """Of one source: `ledger`, `quarantined`, `erased`."""

    def keys(self, source: str) -> list[str]:
        """All call keys of a source."""

    def first_call_at(self, source: str | None = None) -> datetime | None:
        """When the first call of the ledger was created."""

    def list_calls(self, words: Sequence[str], limit: int) -> list[Row]:
        """Calls whose name, phone or sn is one of `words` (all without any), newest first."""

    def show_call(self, call_id: int) -> Row:
        """One call's whole history: receipts, deliveries, attempts, CRM ids, state."""

    def list_deliveries(self, state: str | None, destination: str | None, limit: int) -> list[Row]:
        """Deliveries with their calls, those changed last first."""

    def pragmas(self) -> Row:
        """The durability settings of the connection that writes."""

    def writable(self) -> bool:
        """Whether a commit would succeed now."""

    def close(self) -> None:
        """Finish what was submitted, then close."""


def open_ledger(path: Path, *, create: bool = False, read_only: bool = False) -> Ledger:
    """Open the SQLite ledger at `path`.

    Raises:
        LedgerUnusable: missing (and not `create`), newer than this program, another user's.
    """
    from bridge.ledger.sqlite import SqliteLedger  # noqa: PLC0415 -- loads sqlite-utils: 80 ms

    return SqliteLedger(path, create=create, read_only=read_only)
