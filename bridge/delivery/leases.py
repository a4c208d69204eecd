"""Leases of one worker: taken where the account's budget has room, given back when they are not used."""

from collections.abc import Collection
from datetime import datetime, timedelta

from bridge.delivery.budget import Budget
from bridge.delivery.destination import Destination, Routes
from bridge.delivery.locks import KeyLocks
from bridge.ledger import DeliveryLedger
from bridge.model.deliveries import Lease

# A delivery that was given back is looked at again after so long.
GIVEN_BACK_FOR = timedelta(seconds=1)


class LeaseTaker:
    """Takes leases for one worker, and knows which of them are neither settled nor given back."""

    def __init__(self, ledger: DeliveryLedger, routes: Routes, locks: KeyLocks) -> None:
        self._ledger = ledger
        self._routes = routes
        self._sources = list(routes.origins)
        self._locks = locks
        self._held: dict[int, Lease] = {}
        self._probed: Budget | None = None

    @property
    def is_probing(self) -> bool:
        """Whether this turn's delivery goes out alone, to see if a paused account is well again."""
        return self._probed is not None

    def take_first(self, now: datetime) -> Lease | None:
        """Take the delivery that goes first, if its account allows; `end_turn` must follow.

        Where deliveries can share a request, the worker may then assemble a batch: see `BatchGate.begin`.
        """
        open_now = [
            each
            for name, each in self._routes.destinations.items()
            if self._routes.account_of(name).budget.paused_for(now) <= 0
        ]
        begun = {
            each.name
            for each in open_now
            if each.takes_batches and self._routes.account_of(each.name).gate.begin()
        }
        first: Lease | None = None
        try:
            able = [each.name for each in open_now if not each.takes_batches or each.name in begun]
            first = self._take_probing(able, now)
        finally:
            for name in begun - {first.destination if first is not None else ""}:
                self._routes.account_of(name).gate.end()
        return first

    def _take_probing(self, destinations: list[str], now: datetime) -> Lease | None:
        leases = self._ledger.lease(destinations, self._sources, now, 1) if destinations else []
        if not leases:
            return None
        first = leases[0]
        self.hold(first)
        budget = self._routes.account_of(first.destination).budget
        if not budget.admit():
            self.give_back(first, now)
            return None
        self._probed = budget if budget.probing else None
        return first

    def take_more(self, destination: str, now: datetime, limit: int) -> list[Lease]:
        """Take up to `limit` more deliveries of one destination."""
        leases = self._ledger.lease([destination], self._sources, now, limit)
        for lease in leases:
            self.hold(lease)
        return leases

    def end_turn(self, destination: Destination) -> None:
        """End the turn that `take_first` began, so that others may probe and assemble batches."""
        if self._probed is not None:
            # It may have sent no request: skipped, refused by the mapping, or its keys held by another.
            self._probed.end_probe()
            self._probed = None
        if destination.takes_batches:
            self._routes.account_of(destination.name).gate.end()

    def hold(self, lease: Lease) -> None:
        """Remember a lease as this worker's own, as it will be settled."""
        self._held[lease.delivery_id] = lease

    def forget(self, lease: Lease) -> None:
        """Forget a settled lease; if the delivery has been leased again since, the new lease stays."""
        if self._held.get(lease.delivery_id) is lease:
            del self._held[lease.delivery_id]

    def give_back(self, lease: Lease, now: datetime, not_before: datetime | None = None) -> None:
        """Give back a lease with which nothing was done; it is due again in a second, or at `not_before`."""
        due_at = now + GIVEN_BACK_FOR
        if not self._ledger.give_back([(lease, due_at if not_before is None else max(due_at, not_before))]):
            # A person parked or skipped it meanwhile, so nothing will release its keys later.
            self._locks.release(lease.delivery_id)
        self._held.pop(lease.delivery_id)

    def give_back_interrupted(self, settling: Collection[int], now: datetime) -> None:
        """Give back leases that an earlier turn left when the ledger was busy, except those being settled.

        Their attempts ended as in a crash: requests may be in doubt, so the deliveries keep their keys.
        """
        for lease in list(self._held.values()):
            if lease.delivery_id not in settling:
                self.give_back(lease, now)
