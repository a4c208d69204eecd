"""Complete: writes down how attempts ended, all that wait in one commit, then frees their key locks."""

import threading
from collections.abc import Callable, Sequence
from datetime import datetime

import structlog

from bridge.delivery.locks import KeyLocks
from bridge.delivery.stages import SettledDelivery, busy_ledger_of, names_in_log
from bridge.delivery.work_signal import WorkSignal
from bridge.ledger import DeliveryLedger, EndedAttempt
from bridge.ledger.retrying import until_answered
from bridge.model.deliveries import DeliveryState

log = structlog.get_logger("bridge.deliver")


class Completer:
    """Settles what the workers have ended; while one commit runs, the next ones gather."""

    def __init__(
        self,
        ledger: DeliveryLedger,
        locks: KeyLocks,
        clock: Callable[[], datetime],
        stop: threading.Event,
        signal: WorkSignal,
    ) -> None:
        """`signal` is told when keys were freed that another delivery may wait for."""
        self._ledger = ledger
        self._locks = locks
        self._clock = clock
        self._stop = stop
        self._signal = signal
        self._ended: list[SettledDelivery] = []
        self._changed = threading.Condition()
        self._writing = threading.Lock()

    def hand_over(self, ended: Sequence[SettledDelivery]) -> None:
        """Leave ended attempts to be settled."""
        if not ended:
            return
        with self._changed:
            self._ended += ended
            self._changed.notify()

    def wait(self, seconds: float) -> None:
        """Wait until something has ended, at most so long."""
        with self._changed:
            if not self._ended:
                self._changed.wait(seconds)

    def settle_ended(self) -> bool:
        """Settle all that has ended, however long the ledger is busy: the CRM has the calls already.

        Returns whether there was anything; when it returns, all that was handed over before is on disk.

        Raises:
            LedgerError: the daemon stops before the ledger could write.
        """
        with self._writing:
            with self._changed:
                ended, self._ended = self._ended, []
            if not ended:
                return False
            rows = [EndedAttempt(each.lease, each.settlement, each.started_at) for each in ended]
            until_answered(
                lambda: self._ledger.settle(rows, self._clock()),
                self._stop,
                busy=busy_ledger_of(ended[0].lease),
            )
        for each in ended:
            self._free_keys(each)
        self._signal.keys_freed()
        for each in ended:
            _tell(each)
        return True

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
