"""Delivery in SQLite: leases, how attempts ended, and what was last sent to CRM objects."""

import sqlite3
from collections.abc import Sequence
from concurrent.futures import Future
from datetime import datetime
from functools import cached_property

from bridge.ledger import Destinations, EndedAttempt, PlannedDelivery, ProgressNote
from bridge.ledger.sqlite import (
    crm_objects,
    key_claims,
    leasing,
    settle,
)
from bridge.ledger.sqlite.access import Access, looks
from bridge.ledger.sqlite.destinations import skipped_before, start_destinations
from bridge.ledger.sqlite.writer import Combiner
from bridge.model.crm_objects import KnownObject
from bridge.model.deliveries import Lease, LockKey
from bridge.model.key_claims import Claim


class DeliveryPart(Access):
    """See `bridge.ledger.DeliveryLedger`, which says what each method promises."""

    @cached_property
    def _leasing(self) -> Combiner[leasing.Wish, sqlite3.Row | None]:
        return Combiner(self._write(), leasing.lease_each)

    @cached_property
    def _settling(self) -> Combiner[settle.Ended, None]:
        return Combiner(self._write(), settle.settle_each)

    def start_destinations(self, destinations: Destinations, now: datetime) -> None:
        """Register destinations, and skip earlier calls, in one commit."""
        self._write().run(lambda c: start_destinations(c, destinations, now))

    @looks
    def skipped_before(self) -> dict[str, datetime]:
        """Read the first start of each destination that was added later."""
        return skipped_before(self._reader)

    def release_leases(self, now: datetime | None = None) -> int:
        """Make every leased row due again in one commit."""
        return self._write().run(lambda c: leasing.release_leases(c, now))

    @looks
    def lease(self, destinations: Sequence[str], sources: Sequence[str], now: datetime) -> Lease | None:
        """Lease the next delivery; workers that ask at the same time share one statement and one commit."""
        # An idle worker asks twice a second: a read first keeps it out of the queue of the writer's thread.
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
        """Lease up to `limit` deliveries in one commit; a row that cannot be read is parked and left out."""
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
        """Park a delivery whose row is damaged: it must neither stop the worker nor stay leased."""
        reason = f"the stored record cannot be read: {error}"
        self._write().run(lambda c: leasing.park(c, row["id"], reason, now))

    def settle(self, settled: Sequence[EndedAttempt], now: datetime) -> None:
        """Write how attempts ended, and wait for the commit."""
        self.settle_soon(settled, now).result()

    def settle_soon(self, settled: Sequence[EndedAttempt], now: datetime) -> Future[None]:
        """Queue how attempts ended; the settlements of several workers share one commit."""
        return self._settling.submit((settled, now))

    def give_back(self, lease: Lease, due_at: datetime) -> bool:
        """End an unused lease in a commit of its own."""
        return self._write().run(lambda c: leasing.give_back(c, lease, due_at))

    @looks
    def key_claims(self, call_ids: Sequence[int], destinations: Sequence[str]) -> dict[int, list[Claim]]:
        """Find the earlier calls of other sources under these keys in one query."""
        return key_claims.claims(self._reader, call_ids, destinations)

    @looks
    def recall(self, account: str, wanted: Sequence[PlannedDelivery]) -> list[dict[str, KnownObject]]:
        """Read what the objects of all plans were last sent, in a few queries for all of them."""
        return crm_objects.recall(self._reader, account, wanted)

    def note(self, notes: Sequence[ProgressNote]) -> None:
        """Keep the progress of several deliveries in one commit."""

        def write(connection: sqlite3.Connection) -> None:
            for each in notes:
                crm_objects.note(connection, each)

        self._write().run(write)

    @looks
    def in_doubt(self) -> dict[int, list[LockKey]]:
        """Read the locked keys of every delivery in doubt."""
        return crm_objects.in_doubt(self._reader)
