"""The loop of every thread: one step again and again, until the daemon stops."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bridge.delivery.work_signal import WorkSignal
from bridge.lib.errors import LedgerError
from bridge.model.calls import Filed

DOOR_LOOK_EVERY = 0.02
"""Seconds between two looks at whether callbacks still press."""

LoopStep = Callable[[], bool | None]
"""One piece of work. Returns True when it found some, so that there may be more at once."""
Busy = Callable[[LedgerError], object]
"""Told when the ledger could not answer or commit now."""


def attempt(step: LoopStep, busy: Busy) -> bool:
    """Do one step and return whether it found work; a busy ledger counts as none."""
    try:
        return bool(step())
    except LedgerError as error:
        busy(error)
        return False


def repeat(step: LoopStep, stop: threading.Event, *, wait: Callable[[], object], busy: Busy) -> None:
    """Repeat `step` until `stop` is set: at once while it finds work, else after `wait`.

    A step that fails because the ledger is busy is repeated after `wait`. Any other error ends the loop.
    """
    while not stop.is_set():
        if not attempt(step, busy):
            wait()


@dataclass(frozen=True, slots=True)
class ReceivingWakeups:
    """What the threads that receive wait for."""

    stop: threading.Event = field(default_factory=threading.Event)
    arrived: threading.Event = field(default_factory=threading.Event)
    """Receipts wait for the judge."""
    wake_deliveries: Callable[[], None] = lambda: None
    """Called when deliveries may have become due."""

    def wake_after_filing(self, filed: Sequence[Filed]) -> None:
        """Wake the judge where receipts wait for their verdict, and deliveries where some became due."""
        if any(one.waits for one in filed):
            self.arrived.set()
        if any(one.owes for one in filed):
            self.wake_deliveries()

    def stop_all(self) -> None:
        """End every loop after the step that it is in."""
        self.stop.set()
        self.arrived.set()


@dataclass(frozen=True, slots=True)
class DeliveryWakeups:
    """What the threads that deliver wait for."""

    stop: threading.Event = field(default_factory=threading.Event)
    signal: WorkSignal = field(default_factory=WorkSignal)

    def wake(self) -> None:
        """Let a delivery worker look for what is due."""
        self.signal.deliveries_due()

    def stop_all(self) -> None:
        """End every loop after the step that it is in."""
        self.stop.set()
        self.signal.wake_all()


class GiveWay:
    """Lets callbacks go first: the platform waits seconds for its answer, a delivery can wait for hours."""

    def __init__(self, pressed: Callable[[], bool], stop: threading.Event, at_most: float) -> None:
        """`pressed` tells if callbacks wait at the door; `at_most`: seconds of waiting since `restart`."""
        self._pressed = pressed
        self._stop = stop
        self._at_most = at_most
        self.restart()

    def restart(self) -> None:
        """Start the `at_most` seconds anew, because nothing is late now."""
        self._until = time.monotonic() + self._at_most

    def wait(self) -> None:
        """Return when no callback presses, the time is over, or the daemon stops."""
        while self._pressed() and time.monotonic() < self._until and not self._stop.wait(DOOR_LOOK_EVERY):
            pass
