"""Settle: write down how attempts ended, then free their key locks."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import datetime

import structlog

from bridge.delivery.leases import LeaseTaker
from bridge.delivery.locks import KeyLocks
from bridge.delivery.stages import SettledDelivery, busy_ledger_of, names_in_log
from bridge.ledger import DeliveryLedger, EndedAttempt
from bridge.ledger.retrying import until_answered
from bridge.lib.errors import LedgerError
from bridge.model.deliveries import DeliveryState

log = structlog.get_logger("bridge.deliver")


class Settler:
    """Writes one worker's settlements, many in one commit."""

    def __init__(
        self,
        ledger: DeliveryLedger,
        locks: KeyLocks,
        leases: LeaseTaker,
        clock: Callable[[], datetime],
        stop: threading.Event,
    ) -> None:
        self._ledger = ledger
        self._locks = locks
        self._leases = leases
        self._clock = clock
        self._stop = stop
        self._begun: tuple[Sequence[SettledDelivery], Future[None]] | None = None

    @property
    def settling(self) -> frozenset[int]:
        """The ids of deliveries that are settled and perhaps not yet on disk."""
        return frozenset(each.lease.delivery_id for each in self._begun[0]) if self._begun else frozenset()

    def begin(self, settled: Sequence[SettledDelivery]) -> None:
        """Hand settlements to the ledger; `finish` must follow. A lease taken between shares the commit."""
        written = self._ledger.settle_soon(
            [EndedAttempt(each.lease, each.settlement, each.started_at) for each in settled], self._clock()
        )
        self._begun = settled, written

    def finish(self) -> None:
        """Wait until settlements are on disk, however long the ledger is busy: the CRM has the calls already.

        Raises:
            LedgerError: the daemon stops before the ledger could write.
        """
        if self._begun is None:
            return
        (settled, written), self._begun = self._begun, None
        try:
            written.result()
        except LedgerError:
            self._write_until_answered(settled)
        for each in settled:
            self._leases.forget(each.lease)
            self._free_keys(each)
            _tell(each)

    def _write_until_answered(self, settled: Sequence[SettledDelivery]) -> None:
        rows = [EndedAttempt(each.lease, each.settlement, each.started_at) for each in settled]
        until_answered(
            lambda: self._ledger.settle(rows, self._clock()),
            self._stop,
            busy=busy_ledger_of(settled[0].lease),
        )

    def _free_keys(self, settled: SettledDelivery) -> None:
        delivery_id, settlement = settled.lease.delivery_id, settled.settlement
        if settlement.held_keys:
            # A request is in doubt: no other delivery may touch the object until a look-up has settled that.
            self._locks.hold_until(delivery_id, settlement.due_at or self._clock(), settled.turn)
        else:
            self._locks.release(delivery_id, settled.turn)


def _tell(settled: SettledDelivery) -> None:
    settlement, names = settled.settlement, names_in_log(settled.lease)
    if settlement.state is DeliveryState.PARKED:
        log.warning("delivery.parked", **names, reason=settlement.reason)
    else:
        log.info("delivery.settled", state=settlement.state, **names, reason=settlement.reason or None)
