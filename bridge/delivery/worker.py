"""Deliver: lease what is due, map it, send it, settle it. The one loop that catches everything."""

import random
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

import httpx
import structlog

from bridge.crm.client import Crm
from bridge.delivery.batch_gate import BatchGate
from bridge.delivery.budget import Budget
from bridge.delivery.destination import Destination, SharedAccount
from bridge.delivery.doubt_clock import DoubtClock
from bridge.delivery.executor import Attempt, Executor
from bridge.delivery.journal import DeliveryJournal
from bridge.delivery.locks import KeyLocks
from bridge.delivery.outcome import OutcomeRules, names_in_log, without_secrets
from bridge.delivery.plan_sync import PlanSync
from bridge.delivery.poison_records import faults_of
from bridge.delivery.prepare import Job, Preparer
from bridge.delivery.retry import RetryPolicy
from bridge.ledger import Ledger, Settled
from bridge.ledger.retrying import until_answered
from bridge.lib.errors import LedgerError
from bridge.model.deliveries import DeliveryState, Lease, Settlement
from bridge.record.origin import Origin

log = structlog.get_logger("bridge.deliver")

T = TypeVar("T")

# How long a worker waits for the lines of a delivery before it takes another one, in seconds.
LINE_PATIENCE = 0.2
# When a delivery that had to give way is looked at again.
GIVEN_BACK_FOR = timedelta(seconds=1)
# What goes together is worth so many batches at once, since not all of it asks for the same; but no more
# than so many deliveries, unless one batch takes more.
BATCHES_AT_ONCE = 3
MOST_AT_ONCE = 300
# So many are leased and read at a time: a record is large until it is mapped.
LEASED_AT_ONCE = 50


class Worker:
    """One delivery worker: its own HTTP client for each destination."""

    def __init__(
        self,
        ledger: Ledger,
        destinations: Mapping[str, Destination],
        origins: Mapping[str, Origin],
        policy: RetryPolicy,
        locks: KeyLocks,
        accounts: Mapping[str, SharedAccount],
        *,
        clock: Callable[[], datetime],
        rng: random.Random,
        stop: threading.Event,
        steady: Callable[[], datetime] | None = None,
        network: Callable[[], httpx.BaseTransport | None] = lambda: None,
        gather: float = 0.0,
        overlaps: bool = False,
    ) -> None:
        """`network` makes what carries the requests to a destination; none: the real one.

        `gather`: how many seconds what can go with others waits for them. `overlaps`: a step ends before
        its outcome is on disk, which the next step, or `finish`, waits for.
        """
        self._ledger = ledger
        self._destinations = destinations
        self._origins = origins
        self._locks = locks
        self._accounts = accounts
        self._clock = clock
        self._steady = steady or clock
        self._rng = rng
        lags = {
            name: max(kind.settles_within for kind in destination.connector.objects.values())
            for name, destination in destinations.items()
        }
        successes = {
            name: accounts[destination.account.name].successes for name, destination in destinations.items()
        }
        doubts = DoubtClock(lags, clock, self._steady)
        self._outcomes = OutcomeRules(policy, clock, rng, doubts, successes)
        self._preparer = Preparer(destinations, origins, locks, self._outcomes, doubts, ledger.key_claims)
        self._stop = stop
        self._network = network
        self._gather_for = gather
        self._overlaps = overlaps
        self._ended: tuple[Sequence[Settled], Future[None]] | None = None
        """What is settled and perhaps not yet on disk."""
        self._turns: dict[int, int] = {}
        """Which turn of a delivery at its lines this worker has."""
        self._executors: dict[str, Executor] = {}
        self._held: dict[int, Lease] = {}
        """What this worker has leased, and neither settled nor given back."""
        self._probes: Budget | None = None
        """The account that this worker's delivery finds out about."""

    def close(self) -> None:
        """Close the connections to the CRMs."""
        for executor in self._executors.values():
            executor.crm.close()

    def deliver_one(self, now: datetime) -> bool:
        """Take what is due first to its end, with what can go together with it; whether there was any."""
        ended = {lease.delivery_id for lease, _, _ in self._ended[0]} if self._ended is not None else set()
        for lease in list(self._held.values()):
            # The ledger was busy, which ended the attempt as a crash would have. It keeps its lines.
            if lease.delivery_id not in ended:
                self._give_back(lease, now)
        try:
            # It shares a commit with what this worker has ended just before.
            first = self._lease(now)
        finally:
            self.finish()
        if first is None:
            return False
        destination = self._destinations[first.destination]
        try:
            self._deliver(first, destination, now)
        finally:
            if self._probes is not None:
                # It may have asked nothing: skipped, refused by the mapping, its lines held by another.
                self._probes.probed()
                self._probes = None
            if destination.connector.together > 1:
                self._gate(destination).end()
        return True

    def _deliver(self, first: Lease, destination: Destination, now: datetime) -> None:
        job = self._prepare(first, now, LINE_PATIENCE)
        jobs = [] if job is None else [job]
        if self._probes is None and destination.connector.together > 1:
            self._gather(jobs, destination, now)
        if jobs:
            self._recall([job for job in jobs if job.plan is not None])
            self._travel(jobs)
            self._settle(jobs)

    # -- what is due --------------------------------------------------------------------
    def _lease(self, now: datetime) -> Lease | None:
        """The delivery that goes first; where others may go with it, `gate` has begun."""
        open_ones = {
            name: destination
            for name, destination in self._destinations.items()
            if self._budget(destination).closed_for(now) <= 0
        }
        begun = {
            name
            for name, destination in open_ones.items()
            if destination.connector.together > 1 and self._gate(destination).begin()
        }
        first: Lease | None = None
        try:
            able = [
                name
                for name, destination in open_ones.items()
                if destination.connector.together <= 1 or name in begun
            ]
            first = self._take_first(able, now)
        finally:
            for name in begun - {first.destination if first is not None else ""}:
                self._gate(open_ones[name]).end()
        return first

    def _take_first(self, able: Sequence[str], now: datetime) -> Lease | None:
        first = self._ledger.lease(able, list(self._origins), now) if able else None
        if first is None:
            return None
        self._held[first.delivery_id] = first
        budget = self._budget(self._destinations[first.destination])
        if not budget.probe():
            self._give_back(first, now)
            return None
        self._probes = budget if budget.probing else None
        return first

    def _gather(self, jobs: list[Job], destination: Destination, now: datetime) -> None:
        """Those of the same destination that may go along; where there are few, those that come soon."""
        together = destination.connector.together
        wanted = max(together, min(BATCHES_AT_ONCE * together, MOST_AT_ONCE))
        self._take_along(jobs, destination, now, wanted)
        if len(jobs) < together and self._gather_for:
            with self._gate(destination).waiting() as may:
                if may:
                    self._stop.wait(self._gather_for)
                    self._take_along(jobs, destination, self._clock(), wanted)

    def _take_along(self, jobs: list[Job], destination: Destination, now: datetime, wanted: int) -> None:
        # Whose line another holds is given back, so more are looked at than are wanted.
        for _ in range(2 * wanted // LEASED_AT_ONCE + 1):
            limit = min(wanted - len(jobs), LEASED_AT_ONCE)
            if limit <= 0:
                return
            leases = self._ledger.lease_more(destination.name, list(self._origins), now, limit)
            self._held.update((lease.delivery_id, lease) for lease in leases)
            # What goes along waits for nobody: it may wait for one of these itself.
            jobs.extend(job for lease in leases if (job := self._prepare(lease, now, 0.0)) is not None)
            if len(leases) < limit:
                return

    def _give_back(self, lease: Lease, now: datetime, until: datetime | None = None) -> None:
        again = now + GIVEN_BACK_FOR
        if not self._ledger.give_back(lease, again if until is None else max(again, until)):
            # A person took it meanwhile.
            self._locks.release(lease.delivery_id)
        self._held.pop(lease.delivery_id)
        self._turns.pop(lease.delivery_id, None)

    def _prepare(self, lease: Lease, now: datetime, patience: float) -> Job | None:
        """Map a delivery and take its lines; None: given back, because another holds one of them."""
        self._turns[lease.delivery_id] = self._locks.begin_turn(lease.delivery_id)
        job = self._preparer.prepare(lease, now, patience)
        if job.gives_way:
            self._give_back(lease, now, job.free_at)
            return None
        self._held[lease.delivery_id] = job.lease
        return job

    def _recall(self, jobs: Sequence[Job]) -> None:
        """What is known of the objects of all plans, now that their lines are held."""
        if not jobs:
            return
        destination = self._destinations[jobs[0].lease.destination]
        account = destination.account.name
        wanted = [(job.lease.delivery_id, job.lease.key, job.plan.objects) for job in jobs if job.plan]
        try:
            found = self._until_answered(
                [job.lease for job in jobs], lambda: self._ledger.recall(account, wanted)
            )
        except Exception as error:
            if isinstance(error, LedgerError):
                raise
            for job in jobs:
                if len(jobs) == 1:
                    job.settlement = self._outcomes.of_our_fault(job.lease, error)
                else:
                    # One that is damaged must not take the others along.
                    self._recall([job])
            return
        for job, known in zip(jobs, found, strict=True):
            assert job.plan is not None  # noqa: S101 -- the caller has looked
            job.journal = DeliveryJournal(job.lease, account, job.plan, known, job.lines)
            job.plan_sync = PlanSync(destination.connector, job.journal, job.event, self._steady)
            job.attempt = Attempt(
                job.plan_sync.steps(job.plan),
                job.lease.lane,
                job.plan_sync,
                faults=faults_of(job.lease.progress, job.lease.revision),
                objects=len(job.plan.objects),
            )

    # -- on the way ---------------------------------------------------------------------
    def _travel(self, jobs: Sequence[Job]) -> None:
        """Drive the jobs that are not settled yet; all are of one destination."""
        under_way = [job for job in jobs if job.attempt is not None]
        if not under_way:
            return
        executor = self._executor(self._destinations[jobs[0].lease.destination])
        executor.before = partial(self._note, under_way)
        executor.drive([job.attempt for job in under_way if job.attempt is not None])
        for job in under_way:
            assert job.attempt is not None  # noqa: S101 -- it is under way
            assert job.journal is not None  # noqa: S101
            assert job.plan_sync is not None  # noqa: S101
            try:
                settlement = self._outcomes.of(job.lease, job.attempt, job.journal, job.plan_sync)
                job.settlement = without_secrets(settlement, executor.crm.masked)
            except Exception as error:  # noqa: BLE001 -- see of_our_fault
                job.settlement = self._outcomes.of_our_fault(job.lease, error)

    def _note(self, jobs: Sequence[Job]) -> None:
        """What must be on disk before anything is sent, in one commit."""
        notes = [
            job.journal.noted(job.plan_sync.done)
            for job in jobs
            if job.journal is not None and job.plan_sync is not None and job.journal.unsaved
        ]
        if notes:
            self._ledger.note(notes)

    # -- at the end ---------------------------------------------------------------------
    def _settle(self, jobs: Sequence[Job]) -> None:
        """What the CRM has done is written down."""
        settled = [
            (job.lease, self._kept(job, job.settlement), job.started_at) for job in jobs if job.settlement
        ]
        self._ended = settled, self._ledger.settle_soon(settled, self._clock())
        if not self._overlaps:
            self.finish()

    def finish(self) -> None:
        """Wait until what this worker has ended is on disk, however long the ledger is busy."""
        if self._ended is None:
            return
        (settled, written), self._ended = self._ended, None
        try:
            written.result()
        except LedgerError:
            leases = [lease for lease, _, _ in settled]
            self._until_answered(leases, lambda: self._ledger.settle(settled, self._clock()))
        for lease, settlement, _ in settled:
            # It may have been leased again meanwhile.
            if self._held.get(lease.delivery_id) is lease:
                del self._held[lease.delivery_id]
            turn = self._turns.pop(lease.delivery_id)
            if settlement.lines:
                self._locks.hold_until(lease.delivery_id, settlement.due_at or self._clock(), turn)
            else:
                self._locks.release(lease.delivery_id, turn)
            if settlement.state is DeliveryState.PARKED:
                log.warning("delivery.parked", **names_in_log(lease), reason=settlement.reason)
            else:
                reason = settlement.reason or None
                log.info("delivery.settled", state=settlement.state, **names_in_log(lease), reason=reason)

    def _kept(self, job: Job, settlement: Settlement) -> Settlement:
        """Where nothing was asked, how far earlier attempts came still holds."""
        if job.journal is not None or settlement.account:
            return settlement
        account = self._destinations[job.lease.destination].account.name
        return replace(settlement, account=account, progress=job.lease.progress)

    def _until_answered(self, leases: Sequence[Lease], ask: Callable[[], T]) -> T:
        """Ask the ledger, however long it is busy: what is begun is brought to its end."""

        def busy(error: LedgerError) -> None:
            log.warning("delivery.ledger_busy", **names_in_log(leases[0]), error=str(error))

        return until_answered(ask, self._stop, busy=busy)

    def _gate(self, destination: Destination) -> BatchGate:
        return self._accounts[destination.account.name].gate

    def _budget(self, destination: Destination) -> Budget:
        return self._accounts[destination.account.name].budget

    def _executor(self, destination: Destination) -> Executor:
        if destination.name not in self._executors:
            shared = self._accounts[destination.account.name]
            network = self._network()
            crm = Crm(destination.connector, destination.account, shared.tokens, self._clock, network)
            self._executors[destination.name] = Executor(
                crm, shared.budget, self._rng, self._stop, shared.successes
            )
        return self._executors[destination.name]
