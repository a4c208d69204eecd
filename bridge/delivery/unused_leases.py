"""Leases that go back to the ledger, because nothing was done with them."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from bridge.delivery.locks import KeyLocks
from bridge.delivery.prepare import Preparer
from bridge.delivery.stages import MappedDelivery
from bridge.delivery.work_signal import WorkSignal
from bridge.ledger import DeliveryLedger
from bridge.lib.errors import LedgerError
from bridge.model.deliveries import Lease

GIVEN_BACK_FOR = timedelta(seconds=1)
"""A delivery that was given back is looked at again after so long."""


@dataclass(frozen=True, slots=True)
class _Unused:
    lease: Lease
    due_at: datetime
    turn: int | None = None
    """Its turn at the key locks, which it ends; None: it has no keys, or must keep them."""


class UnusedLeases:
    """Gathers unused leases, and gives all of them back in one commit."""

    def __init__(
        self, ledger: DeliveryLedger, locks: KeyLocks, preparer: Preparer, signal: WorkSignal
    ) -> None:
        """`signal` is told when keys were freed that another delivery may wait for."""
        self._ledger = ledger
        self._locks = locks
        self._preparer = preparer
        self._signal = signal
        self._lock = threading.Lock()
        self._unused: list[_Unused] = []

    def add(self, mapped: Iterable[MappedDelivery], due_at: datetime) -> None:
        """Add deliveries whose keys are freed when they have gone back."""
        with self._lock:
            self._unused += [_Unused(each.lease, due_at, each.turn) for each in mapped]

    def add_leases(self, leases: Iterable[Lease], due_at: datetime) -> None:
        """Add leases that have no keys, or must keep them."""
        with self._lock:
            self._unused += [_Unused(lease, due_at) for lease in leases]

    def give_back(self) -> None:
        """Give back all that were added.

        Raises:
            LedgerError: the ledger is busy; they stay for the next call.
        """
        with self._lock:
            unused, self._unused = self._unused, []
        if not unused:
            return
        try:
            due = self._ledger.give_back([(each.lease, each.due_at) for each in unused])
        except LedgerError:
            with self._lock:
                self._unused += unused
            raise
        for each in unused:
            if each.lease.delivery_id not in due:
                # A person parked or skipped it meanwhile, so nothing will release its keys later.
                self._locks.release(each.lease.delivery_id)
            elif each.turn is not None:
                self.free_keys(each.lease, each.turn, each.due_at)
        self._signal.keys_freed()

    def free_keys(self, lease: Lease, turn: int, until: datetime) -> None:
        """Release the keys of a delivery that was not sent, unless an earlier request of it is in doubt."""
        if self._preparer.may_release(lease):
            self._locks.release(lease.delivery_id, turn)
        else:
            self._locks.hold_until(lease.delivery_id, until, turn)
