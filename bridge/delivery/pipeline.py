"""The way of a delivery put together: the dispatcher, the workers, and the completer of one process."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

import httpx

from bridge.crm.client import Crm
from bridge.crm.connection import Transport
from bridge.delivery.account_gate import AccountGate
from bridge.delivery.attempt import AttemptStarter
from bridge.delivery.completer import Completer
from bridge.delivery.destination import Destination, Routes
from bridge.delivery.dispatcher import Dispatcher, DispatchParts, DispatchSettings
from bridge.delivery.doubt_clock import DoubtClock
from bridge.delivery.executor import Executor
from bridge.delivery.locks import KeyLocks
from bridge.delivery.outcome import OutcomeRules
from bridge.delivery.prepare import Preparer
from bridge.delivery.request_sender import RequestSender
from bridge.delivery.retry import RetryPolicy
from bridge.delivery.work_signal import WorkSignal
from bridge.delivery.worker import Worker
from bridge.ledger import DeliveryLedger
from bridge.lib.clocks import Clocks


def _real_network() -> httpx.BaseTransport | None:
    return None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What deliveries meet outside of the program: clocks, chance, the end, and the network."""

    clocks: Clocks
    rng: random.Random
    stop: threading.Event
    network: Callable[[], httpx.BaseTransport | None] = _real_network
    """Makes what carries the requests to a destination; None: the real network."""
    signal: WorkSignal = field(default_factory=WorkSignal)
    passes: Callable[[], float] = time.monotonic
    """Tells seconds that pass, whatever is done to the clocks."""


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """How deliveries are retried, leased ahead, and settled."""

    retry: RetryPolicy
    dispatch: DispatchSettings = field(default_factory=DispatchSettings)
    settles_itself: bool = True
    """Each worker settles what it has ended; else a thread repeats `completer.settle_ended`."""


class DeliveryPipeline:
    """Shares one dispatcher and one completer among all workers of a process."""

    completers: ClassVar[type[Completer]] = Completer
    dispatchers: ClassVar[type[Dispatcher]] = Dispatcher

    def __init__(
        self,
        ledger: DeliveryLedger,
        routes: Routes,
        locks: KeyLocks,
        settings: PipelineSettings,
        outside: Surroundings,
    ) -> None:
        self._ledger = ledger
        self._routes = routes
        self._outside = outside
        self._settles_itself = settings.settles_itself
        self._lock = threading.Lock()
        self._workers = 0
        clocks, stop = outside.clocks, outside.stop
        doubts = DoubtClock({name: each.settles_within for name, each in routes.destinations.items()}, clocks)
        self._outcomes = OutcomeRules(routes, settings.retry, doubts, clocks.wall, outside.rng)
        self.completer = self.completers(ledger, locks, clocks.wall, stop, outside.signal)
        parts = DispatchParts(
            Preparer(ledger, routes, locks, doubts),
            AttemptStarter(ledger, clocks.steady, stop),
            self.completer,
        )
        self.dispatcher = self.dispatchers(
            ledger, routes, locks, parts, outside.signal, settings.dispatch, outside.passes
        )

    def new_worker(self) -> Worker:
        """One more worker; `end_worker` must follow once it takes no more turns."""
        with self._lock:
            self._workers += 1
        return Worker(
            self.dispatcher,
            self.completer,
            self._outcomes,
            self._new_executor,
            settles_itself=self._settles_itself,
        )

    def end_worker(self, worker: Worker, now: datetime) -> None:
        """End a worker: what it has ended is on disk, and the last one gives back what nobody has begun.

        Raises:
            LedgerError: the ledger is busy while the daemon stops; the leases come due at the next start.
        """
        worker.close()
        self.completer.settle_ended()
        with self._lock:
            self._workers -= 1
            is_last = not self._workers
        if is_last:
            self.dispatcher.close(now)

    def _new_executor(self, destination: Destination) -> Executor:
        shared, outside = self._routes.account_of(destination.name), self._outside
        gate = AccountGate(shared.budget, outside.stop)
        transport = Transport(gate, outside.network())
        crm = Crm(destination.connector, destination.account, shared.tokens, outside.clocks.wall, transport)
        sender = RequestSender(crm, gate, outside.rng, outside.stop)
        return Executor(sender, self._ledger, shared.successes)
