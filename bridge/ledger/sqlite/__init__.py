"""The ledger in one SQLite file, owned by one daemon.

Owns all SQL, the migrations, the thread that writes, the lock of the one owner, and the packing of records.
May import `record`, `model` and `lib`, and the interfaces of `ledger`; only `ledger` imports it.
Begin at `SqliteLedger` below, then `writer.py` for how commits are shared and `delivery_rows.py` for the
columns.
"""

import sqlite3
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from bridge.ledger import Destinations, EndedAttempt, PlannedDelivery, ProgressNote
from bridge.ledger.queries import (
    CallHistory,
    LedgerCounts,
    ListedCall,
    ListedDelivery,
    Loss,
    SourceCounts,
    Window,
)
from bridge.ledger.sqlite import (
    accounts,
    crm_objects,
    filing,
    inspection,
    judging,
    key_claims,
    leasing,
    operator_actions,
    settle,
    status_counts,
)
from bridge.ledger.sqlite.access import looks
from bridge.ledger.sqlite.destinations import skipped_before, start_destinations
from bridge.ledger.sqlite.jobs import JobPart
from bridge.ledger.sqlite.operators import OperatorPart
from bridge.ledger.sqlite.owner_lock import OwnerLock
from bridge.ledger.sqlite.quarantine import QuarantinePart
from bridge.ledger.sqlite.reconciliation import ReconciliationPart
from bridge.ledger.sqlite.upkeep import UpkeepPart
from bridge.ledger.sqlite.writer import Combiner, heartbeat
from bridge.lib.errors import LedgerBusy
from bridge.model.balance import DestinationBalance
from bridge.model.calls import Arrival, Filed, Judgment, Pending
from bridge.model.crm_objects import KnownObject
from bridge.model.deliveries import Lease, LockKey
from bridge.model.key_claims import Claim

SPACE_EVERY = 1.0

__all__ = ["OwnerLock", "SqliteLedger"]


class SqliteLedger(OperatorPart, ReconciliationPart, JobPart, QuarantinePart, UpkeepPart):
    """See `bridge.ledger.Ledger`, which says what each method promises."""

    _space_at = float("-inf")
    _low = ""

    @cached_property
    def _leasing(self) -> Combiner[leasing.Wish, sqlite3.Row | None]:
        return Combiner(self._write(), leasing.lease_each)

    @cached_property
    def _settling(self) -> Combiner[settle.Ended, None]:
        return Combiner(self._write(), settle.settle_each)

    # -- taking in ---------------------------------------------------------------
    def submit(self, arrivals: Sequence[Arrival]) -> Future[list[Filed]]:
        if low := self._low_disk():
            refused: Future[list[Filed]] = Future()
            refused.set_exception(LedgerBusy(low))
            return refused
        filed = self._write().submit(lambda c: filing.file_arrivals(c, self._payloads, arrivals))
        filed.add_done_callback(self._look_again)
        return filed

    @looks
    def waiting(self, limit: int, sources: Sequence[str] | None = None) -> list[Pending]:
        return judging.waiting(self._reader, self._payloads, limit, sources)

    def judge(self, judgments: Sequence[Judgment], destinations: Destinations, now: datetime) -> None:
        self._write().run(lambda c: judging.write_judgments(c, self._payloads, judgments, destinations, now))

    def set_aside(self, pending: Pending, reason: str, destinations: Destinations, now: datetime) -> None:
        self._write().run(lambda c: judging.set_aside(c, self._payloads, pending, reason, destinations, now))

    def _look_again(self, filed: Future[list[Filed]]) -> None:
        """A commit that failed may be the disk's fault: look before the next one."""
        if filed.exception() is not None:
            self._space_at = float("-inf")

    def _low_disk(self) -> str:
        """Why nothing is taken in, told anew every second; empty where there is room."""
        if time.monotonic() - self._space_at > SPACE_EVERY:
            self._space_at = time.monotonic()
            found = self.space()
            left = f"only {found.free_bytes / 2**20:.0f} MiB are left on the ledger's disk"
            self._low = left if found.free_bytes < found.floor_bytes else ""
        return self._low

    # -- delivering --------------------------------------------------------------
    def start_destinations(self, destinations: Destinations, now: datetime) -> None:
        self._write().run(lambda c: start_destinations(c, destinations, now))

    @looks
    def skipped_before(self) -> dict[str, datetime]:
        return skipped_before(self._reader)

    def release_leases(self, now: datetime | None = None) -> int:
        return self._write().run(lambda c: leasing.release_leases(c, now))

    @looks
    def lease(self, destinations: Sequence[str], sources: Sequence[str], now: datetime) -> Lease | None:
        # An idle worker asks twice a second: looking first keeps it out of the writer's way.
        if getattr(self._local, "idle", True) and not leasing.any_due(self._reader, destinations, now):
            return None
        row = self._leasing.run((tuple(destinations), tuple(sources), now))
        self._local.idle = row is None
        if row is None:
            return None
        try:
            previous = crm_objects.previous_lines(self._reader, [row]).get(row["id"], ())
            return leasing.lease_of(self._payloads, row, previous)
        except Exception as error:  # noqa: BLE001 -- whatever is wrong with it
            self._park_unreadable(row, error, now)
            return self.lease(destinations, sources, now)

    def lease_more(self, destination: str, sources: Sequence[str], now: datetime, limit: int) -> list[Lease]:
        rows = self._write().run(lambda c: leasing.lease_more(c, destination, sources, now, limit))
        previous = crm_objects.previous_lines(self._reader, rows) if rows else {}
        leases = []
        for row in rows:
            try:
                leases.append(leasing.lease_of(self._payloads, row, previous.get(row["id"], ())))
            except Exception as error:  # noqa: BLE001 -- whatever is wrong with it
                self._park_unreadable(row, error, now)
        return leases

    def _park_unreadable(self, row: sqlite3.Row, error: Exception, now: datetime) -> None:
        """A damaged row must not stop the worker, nor stay leased."""
        reason = f"the stored record cannot be read: {error}"
        self._write().run(lambda c: leasing.park(c, row["id"], reason, now))

    def settle(self, settled: Sequence[EndedAttempt], now: datetime) -> None:
        self.settle_soon(settled, now).result()

    def settle_soon(self, settled: Sequence[EndedAttempt], now: datetime) -> Future[None]:
        return self._settling.submit((settled, now))

    def give_back(self, lease: Lease, due_at: datetime) -> bool:
        return self._write().run(lambda c: leasing.give_back(c, lease, due_at))

    @looks
    def key_claims(self, call_ids: Sequence[int], destinations: Sequence[str]) -> dict[int, list[Claim]]:
        return key_claims.claims(self._reader, call_ids, destinations)

    @looks
    def recall(self, account: str, wanted: Sequence[PlannedDelivery]) -> list[dict[str, KnownObject]]:
        return crm_objects.recall(self._reader, account, wanted)

    def note(self, notes: Sequence[ProgressNote]) -> None:
        def write(connection: sqlite3.Connection) -> None:
            for each in notes:
                crm_objects.note(connection, each)

        self._write().run(write)

    @looks
    def in_doubt(self) -> dict[int, list[LockKey]]:
        return crm_objects.in_doubt(self._reader)

    @looks
    def load_token(self, account: str) -> Mapping[str, Any] | None:
        return accounts.load_token(self._reader, account)

    def save_token(self, account: str, saved: Mapping[str, Any]) -> None:
        self._write().run(lambda c: accounts.save_token(c, account, saved))

    # -- looking -----------------------------------------------------------------
    @looks
    def counts(self) -> LedgerCounts:
        now = datetime.now(UTC)
        return self._of_one_moment(lambda c: status_counts.counts(c, now))

    @looks
    def balance(self, destination: str, sources: Sequence[str], window: Window) -> DestinationBalance:
        return inspection.balance(self._reader, destination, sources, window)

    @looks
    def source_counts(self, source: str, window: Window) -> SourceCounts:
        return inspection.source_counts(self._reader, source, window)

    @looks
    def losses(self) -> list[Loss]:
        return inspection.losses(self._reader)

    @looks
    def first_call_at(self, source: str | None = None) -> datetime | None:
        return inspection.first_call_at(self._reader, source)

    @looks
    def list_calls(self, words: Sequence[str], limit: int) -> list[ListedCall]:
        return inspection.list_calls(self._reader, words, limit)

    @looks
    def show_call(self, call_id: int) -> CallHistory:
        return self._of_one_moment(lambda c: inspection.show_call(c, self._payloads, call_id))

    @looks
    def list_deliveries(
        self, state: str | None, destination: str | None, limit: int, cause: str = ""
    ) -> list[ListedDelivery]:
        named: tuple[Sequence[str], tuple[str, Sequence[str]]] | None = None
        if cause:
            causes = operator_actions.matching_causes(self._reader, cause)
            named = causes, operator_actions.by_reason(cause, causes)
        return inspection.list_deliveries(self._reader, state, destination, limit, named)

    def writable(self) -> bool:
        """Whether a commit would succeed now."""
        if self._low_disk():
            return False
        try:
            self._write().run(heartbeat)
        except LedgerBusy:
            return False
        return True
