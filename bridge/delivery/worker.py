"""The delivery worker: leases what is due, and has it prepared, executed and settled, step by step."""

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import httpx

from bridge.crm.client import Crm
from bridge.crm.connection import Transport
from bridge.delivery.account_gate import AccountGate
from bridge.delivery.attempt import Attempt, AttemptStarter
from bridge.delivery.destination import Destination, Routes
from bridge.delivery.doubt_clock import DoubtClock
from bridge.delivery.executor import Executor
from bridge.delivery.leases import LeaseTaker
from bridge.delivery.locks import KeyLocks
from bridge.delivery.outcome import OutcomeRules
from bridge.delivery.prepare import Preparer
from bridge.delivery.request_sender import RequestSender
from bridge.delivery.retry import RetryPolicy
from bridge.delivery.settle import Settler
from bridge.delivery.stages import BlockedDelivery, PreparedDelivery, SettledDelivery
from bridge.ledger import DeliveryLedger
from bridge.lib.clocks import Clocks
from bridge.model.deliveries import Lease

# Seconds that a worker waits for the keys of its first delivery before it takes another one.
LOCK_TIMEOUT = 0.2
# Up to 3 batches' worth per turn: leases in one batch often need different requests. No more than 300
# deliveries, unless one batch takes more: they all hold their keys until the turn ends.
BATCHES_AT_ONCE = 3
MOST_AT_ONCE = 300
# Leased records are held decoded (about 60 KB each) until they are mapped; 50 keeps that under 3 MB.
LEASED_AT_ONCE = 50

PreparedOrSettled = PreparedDelivery | SettledDelivery


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How a worker retries, fills batches and settles."""

    retry: RetryPolicy
    batch_wait: float = 0.0
    """Seconds for which a batch with room waits for calls that may join it."""
    settles_in_background: bool = False
    """A step ends before its outcome is on disk; the next step, or `Worker.finish`, waits for that."""


class Worker:
    """One delivery worker, with an HTTP client of its own for each destination."""

    def __init__(
        self,
        ledger: DeliveryLedger,
        routes: Routes,
        locks: KeyLocks,
        settings: WorkerSettings,
        *,
        clocks: Clocks,
        rng: random.Random,
        stop: threading.Event,
        network: Callable[[], httpx.BaseTransport | None] = lambda: None,
    ) -> None:
        """`network` makes what carries the requests to a destination; None: the real network."""
        self._ledger = ledger
        self._routes = routes
        self._settings = settings
        self._clock = clocks.wall
        self._rng = rng
        self._stop = stop
        self._network = network
        doubts = DoubtClock({name: each.settles_within for name, each in routes.destinations.items()}, clocks)
        self._leases = LeaseTaker(ledger, routes, locks)
        self._preparer = Preparer(ledger, routes, locks, doubts)
        self._starter = AttemptStarter(ledger, clocks.steady, stop)
        self._outcomes = OutcomeRules(routes, settings.retry, doubts, clocks.wall, rng)
        self._settler = Settler(ledger, locks, self._leases, clocks.wall, stop)
        self._executors: dict[str, Executor] = {}

    def deliver_one(self, now: datetime) -> bool:
        """Deliver the first due lease, batched with others like it. Returns False when nothing was due.

        Raises:
            LedgerError: the ledger is busy; what was leased is given back at the next step.
        """
        self._leases.give_back_interrupted(self._settler.settling, now)
        try:
            # The lease shares a commit with what this worker settled just before.
            first = self._leases.take_first(now)
        finally:
            self._settler.finish()
        if first is None:
            return False
        destination = self._routes.destinations[first.destination]
        try:
            self._deliver(first, destination, now)
        finally:
            self._leases.end_turn(destination)
        return True

    def finish(self) -> None:
        """Wait until what this worker has settled is on disk, however long the ledger is busy."""
        self._settler.finish()

    def close(self) -> None:
        """Close the connections to the CRMs."""
        for executor in self._executors.values():
            executor.crm.close()

    def _deliver(self, first: Lease, destination: Destination, now: datetime) -> None:
        prepared = self._prepare([first], now, LOCK_TIMEOUT)
        if destination.takes_batches and not self._leases.is_probing:
            self._fill_batches(prepared, destination, now)
        if not prepared:
            return
        self._settler.begin(self._execute(prepared, destination))
        if not self._settings.settles_in_background:
            self._settler.finish()

    def _prepare(
        self, leases: Sequence[Lease], now: datetime, lock_timeout: float
    ) -> list[PreparedOrSettled]:
        """Prepare leases; those whose keys another delivery holds are given back."""
        prepared: list[PreparedOrSettled] = []
        for lease in leases:
            one = self._preparer.prepare(lease, now, lock_timeout)
            if isinstance(one, BlockedDelivery):
                self._leases.give_back(one.lease, now, one.free_at)
            else:
                self._leases.hold(one.lease)
                prepared.append(one)
        return prepared

    def _fill_batches(
        self, prepared: list[PreparedOrSettled], destination: Destination, now: datetime
    ) -> None:
        """Add deliveries that may share requests; where there are few, wait a moment for more to come."""
        together = destination.connector.together
        wanted = max(together, min(BATCHES_AT_ONCE * together, MOST_AT_ONCE))
        self._add_due(prepared, destination, now, wanted)
        if len(prepared) < together and self._settings.batch_wait:
            with self._routes.account_of(destination.name).gate.waiting() as may_wait:
                if may_wait:
                    self._stop.wait(self._settings.batch_wait)
                    self._add_due(prepared, destination, self._clock(), wanted)

    def _add_due(
        self, prepared: list[PreparedOrSettled], destination: Destination, now: datetime, wanted: int
    ) -> None:
        # Some are given back because their keys are held, so up to twice as many as wanted are leased.
        for _ in range(2 * wanted // LEASED_AT_ONCE + 1):
            limit = min(wanted - len(prepared), LEASED_AT_ONCE)
            if limit <= 0:
                return
            leases = self._leases.take_more(destination.name, now, limit)
            # No waiting for keys: the holder may be one of these, which goes on only when all are prepared.
            prepared += self._prepare(leases, now, 0.0)
            if len(leases) < limit:
                return

    def _execute(
        self, prepared: Sequence[PreparedOrSettled], destination: Destination
    ) -> list[SettledDelivery]:
        """Bring prepared deliveries to their ends; the order stays."""
        to_send = [each for each in prepared if isinstance(each, PreparedDelivery)]
        started = iter(self._starter.start(to_send, destination))
        ended = [next(started) if isinstance(each, PreparedDelivery) else each for each in prepared]
        attempts = [each for each in ended if isinstance(each, Attempt)]
        if not attempts:
            return [each for each in ended if isinstance(each, SettledDelivery)]
        executor = self._executor(destination)
        executor.drive(attempts)
        masked = executor.crm.masked
        return [self._outcomes.settled(each, masked) if isinstance(each, Attempt) else each for each in ended]

    def _executor(self, destination: Destination) -> Executor:
        if destination.name not in self._executors:
            shared = self._routes.account_of(destination.name)
            gate = AccountGate(shared.budget, self._stop)
            transport = Transport(gate, self._network())
            crm = Crm(destination.connector, destination.account, shared.tokens, self._clock, transport)
            sender = RequestSender(crm, gate, self._rng, self._stop)
            self._executors[destination.name] = Executor(sender, self._ledger, shared.successes)
        return self._executors[destination.name]
