"""Delivery in SQLite: leases, how attempts ended, and what was last sent to CRM objects."""

from collections.abc import Sequence
from concurrent.futures import wait
from datetime import datetime
from functools import partial

from bridge.ledger import Destinations, EndedAttempt, PlannedDelivery, ProgressNote
from bridge.ledger.sqlite import (
    crm_objects,
    key_claims,
    leasing,
    settle,
)
from bridge.ledger.sqlite.access import Access, looks
from bridge.ledger.sqlite.destinations import skipped_before, start_destinations
from bridge.model.crm_objects import KnownObject
from bridge.model.deliveries import Lane, Lease, LockKey
from bridge.model.key_claims import Claim


class DeliveryPart(Access):
    """See `bridge.ledger.DeliveryLedger`, which says what each method promises."""

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
    def lease(
        self,
        destinations: Sequence[str],
        sources: Sequence[str],
        now: datetime,
        limit: int,
        *,
        lane: Lane | None = None,
    ) -> list[Lease]:
        """Lease the next deliveries with one query for each destination, and one change for all of them."""
        wish = leasing.Wish(tuple(destinations), tuple(sources), now, limit, lane)
        # An idle dispatcher asks twice a second: a read first keeps it from committing.
        while limit and leasing.any_due(self._reader, wish):
            taken = self._write().run(lambda c: leasing.lease_due(c, wish))
            leases, damaged = leasing.leases_of(self._payloads, taken)
            if not damaged:
                return leases
            parked = self._write().submit(partial(leasing.park, damaged=damaged, now=now))
            # What is leased reaches the caller, also where the damaged ones cannot be parked now.
            wait([parked])
            if leases:
                return leases
            parked.result()
        return []

    def settle(self, settled: Sequence[EndedAttempt], now: datetime) -> None:
        """Write how attempts ended, 200 in a few statements."""
        self._write().run(lambda c: settle.settle_all(c, settled, now))

    def give_back(self, leases: Sequence[tuple[Lease, datetime]]) -> set[int]:
        """End unused leases in one commit."""
        due_at = {lease.delivery_id: at for lease, at in leases}
        return self._write().run(lambda c: leasing.give_back(c, due_at))

    @looks
    def key_claims(self, call_ids: Sequence[int], destinations: Sequence[str]) -> dict[int, list[Claim]]:
        """Find the earlier calls of other sources under these keys in one query."""
        return key_claims.claims(self._reader, call_ids, destinations)

    @looks
    def recall(self, account: str, wanted: Sequence[PlannedDelivery]) -> list[dict[str, KnownObject]]:
        """Read what the objects of all plans were last sent, in a few queries for all of them."""
        return crm_objects.recall(self._reader, account, wanted)

    def note(self, notes: Sequence[ProgressNote]) -> None:
        """Keep the progress of several deliveries with one statement for each table."""
        self._write().run(lambda c: crm_objects.note(c, notes))

    @looks
    def in_doubt(self) -> dict[int, list[LockKey]]:
        """Read the locked keys of every delivery in doubt."""
        return crm_objects.in_doubt(self._reader)
