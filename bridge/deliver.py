"""Deliver: lease what is due, map it, send it, settle it. The one loop that catches everything."""

import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from zoneinfo import ZoneInfo

import structlog

from bridge.budget import LONGEST_PAUSE, Budget
from bridge.call import Call
from bridge.connector import Connector
from bridge.crm import Account, Crm
from bridge.effect import Effect
from bridge.errors import DeliveryError, InDoubt, LedgerError, Transient
from bridge.ledger import Held, Ledger, Note
from bridge.lines import Lines, lines_of
from bridge.mapping import CompiledMapping, MappingFault
from bridge.memory import Progress, Remembered
from bridge.model import DeliveryState, Lease, Settlement
from bridge.phone import mask_phones_in
from bridge.plan import Plan, PlannedObject, Skip
from bridge.sending import Journey, Sender
from bridge.tokens import Tokens

log = structlog.get_logger("bridge.deliver")

# How long a worker waits for the lines of a delivery before it takes another one, in seconds.
LINE_PATIENCE = 0.2
# When a delivery that had to give way is looked at again.
GIVEN_BACK_FOR = timedelta(seconds=1)
# How often a ledger that is busy is asked again to settle, in seconds.
SETTLE_EVERY = 1.0


@dataclass(frozen=True, slots=True)
class Origin:
    """How to read the calls of one source."""

    zone: ZoneInfo
    country: str
    recording_url: str


@dataclass(frozen=True, slots=True)
class Schedule:
    """When to try again: waits double from `first` to `longest`, for `patience` in all."""

    first: timedelta
    longest: timedelta
    patience: timedelta


@dataclass(frozen=True, slots=True)
class Destination:
    """One CRM account, ready to be delivered to."""

    name: str
    mapping: CompiledMapping
    connector: Connector
    account: Account


@dataclass(frozen=True, slots=True)
class SharedAccount:
    """What all workers share of one CRM account."""

    tokens: Tokens
    budget: Budget


def next_attempt_at(
    schedule: Schedule,
    *,
    owed_at: datetime,
    attempt: int,
    retry_after: float | None,
    now: datetime,
    chance: float,
    longest: timedelta | None = None,
) -> datetime | None:
    """When a delivery that failed for now is tried again; None when patience has run out.

    `attempt` counts from 1; `chance` in [0, 1) spreads a herd over a fifth of the wait;
    `longest` is a bound beside the schedule's own.
    """
    if now - owed_at >= schedule.patience:
        return None
    doublings = min(attempt - 1, 30)
    bound = schedule.longest if longest is None else min(longest, schedule.longest)
    wait: timedelta = min(schedule.first * 2**doublings, bound) * (0.9 + 0.2 * chance)
    asked = timedelta(seconds=retry_after or 0)
    return now + max(wait, asked)


@dataclass(slots=True)
class Job:
    """One leased delivery on its way, or at its end."""

    lease: Lease
    started_at: datetime
    settlement: Settlement | None = None
    memory: "DeliveryMemory | None" = None
    effect: Effect | None = None
    journey: Journey | None = None


class Worker:
    """One delivery worker: its own HTTP client for each destination."""

    def __init__(
        self,
        ledger: Ledger,
        destinations: Mapping[str, Destination],
        origins: Mapping[str, Origin],
        schedule: Schedule,
        lines: Lines,
        accounts: Mapping[str, SharedAccount],
        *,
        clock: Callable[[], datetime],
        chance: random.Random,
        stop: threading.Event,
    ) -> None:
        self._ledger = ledger
        self._destinations = destinations
        self._origins = origins
        self._schedule = schedule
        self._lines = lines
        self._accounts = accounts
        self._clock = clock
        self._chance = chance
        self._stop = stop
        self._senders: dict[str, Sender] = {}

    def close(self) -> None:
        """Close the connections to the CRMs."""
        for sender in self._senders.values():
            sender.crm.close()

    def deliver_one(self, now: datetime) -> bool:
        """Take what is due first to its end, with what can go together with it; whether there was any."""
        leases = self._lease(now)
        if not leases:
            return False
        jobs = [job for lease in leases if (job := self._prepare(lease, now)) is not None]
        if jobs:
            self._travel(jobs)
            self._settle(jobs)
        return True

    # -- what is due --------------------------------------------------------------------
    def _lease(self, now: datetime) -> list[Lease]:
        """The delivery that goes first, and those of its destination that may go with it."""
        able = [
            name
            for name, destination in self._destinations.items()
            if self._budget(destination).closed_for(now) <= 0
        ]
        sources = list(self._origins)
        first = self._ledger.lease(able, sources, now) if able else None
        if first is None:
            return []
        destination = self._destinations[first.destination]
        budget = self._budget(destination)
        if not budget.probe():
            self._ledger.give_back(first, now + GIVEN_BACK_FOR)
            return []
        if budget.probing or destination.connector.together <= 1:
            return [first]
        more = destination.connector.together - 1
        return [first, *self._ledger.lease_more(first.destination, sources, now, more)]

    def _prepare(self, lease: Lease, now: datetime) -> Job | None:
        """Map a delivery and take its lines; None: given back, because another holds one of them."""
        try:
            plan, event = self._plan(lease)
        except MappingFault as fault:
            reason, cause = (mask_phones_in(f"mapping: {said}") for said in (fault, fault.cause))
            return Job(lease, now, Settlement(DeliveryState.PARKED, reason, cause))
        except Exception as error:  # noqa: BLE001 -- see _own_fault
            return Job(lease, now, self._own_fault(lease, error))
        if isinstance(plan, Skip):
            return Job(lease, now, Settlement(DeliveryState.SKIPPED, plan.rule))
        if plan.shadow:
            return Job(lease, now, Settlement(DeliveryState.SKIPPED, "shadow: nothing is sent"))
        destination = self._destinations[lease.destination]
        account = destination.account.name
        # A key that changed takes the old line too.
        lines = {*lines_of(account, plan), *((account, kind, key) for kind, key in lease.previous)}
        if not self._lines.take(lease.delivery_id, lines, LINE_PATIENCE):
            self._ledger.give_back(lease, now + GIVEN_BACK_FOR)
            return None
        memory = DeliveryMemory(self._ledger, lease, account, plan, sorted(lines))
        effect = Effect(destination.connector, memory, event, self._clock)
        return Job(lease, now, None, memory, effect, Journey(effect.steps(plan), lease.lane))

    def _plan(self, lease: Lease) -> tuple[Plan | Skip, str]:
        origin = self._origins[lease.source]
        call = Call.of(
            lease.values,
            key=lease.key,
            source=lease.source,
            zone=origin.zone,
            country=origin.country,
            recording_url=origin.recording_url,
        )
        plan = self._destinations[lease.destination].mapping.plan(call, origin.zone, origin.country)
        return plan, event_of(call)

    # -- on the way ---------------------------------------------------------------------
    def _travel(self, jobs: Sequence[Job]) -> None:
        """Drive the jobs that are not settled yet; all are of one destination."""
        under_way = [job for job in jobs if job.journey is not None]
        if not under_way:
            return
        sender = self._sender(self._destinations[jobs[0].lease.destination])
        sender.before = partial(self._note, under_way)
        sender.drive([job.journey for job in under_way if job.journey is not None])
        for job in under_way:
            try:
                job.settlement = self._outcome(job)
            except Exception as error:  # noqa: BLE001 -- see _own_fault
                job.settlement = self._own_fault(job.lease, error)

    def _note(self, jobs: Sequence[Job]) -> None:
        """What must be on disk before anything is sent, in one commit."""
        notes = [job.memory.noted() for job in jobs if job.memory is not None and job.memory.unsaved]
        if notes:
            self._ledger.note(notes)

    def _outcome(self, job: Job) -> Settlement:
        journey, memory, effect = job.journey, job.memory, job.effect
        assert journey is not None  # noqa: S101 -- it is under way
        assert memory is not None  # noqa: S101
        assert effect is not None  # noqa: S101
        if journey.fault is not None:
            settlement = self._own_fault(job.lease, journey.fault)
        elif journey.error is not None:
            settlement = self._after_fault(job.lease, journey.error)
        else:
            settlement = Settlement(DeliveryState.DELIVERED)
        waits = settlement.state is DeliveryState.DUE and memory.in_doubt
        return replace(
            settlement,
            account=memory.account,
            done=tuple(effect.done),
            progress=memory.left(),
            lines=memory.lines if waits else (),
        )

    def _own_fault(self, lease: Lease, error: Exception) -> Settlement:
        # A fault of ours must not crash-loop on one row: it waits for a person, its trace in the log.
        log.error("delivery.fault", **_names(lease), exc_info=error)
        reason = f"a fault in callbridge: {mask_phones_in(repr(error))}"
        return Settlement(DeliveryState.PARKED, reason, "a fault in callbridge")

    def _after_fault(self, lease: Lease, error: DeliveryError) -> Settlement:
        message = f"destination {lease.destination}, {error}"
        if isinstance(error, Transient):
            due_at = next_attempt_at(
                self._schedule,
                owed_at=lease.owed_at,
                attempt=lease.attempt,
                retry_after=error.retry_after,
                now=self._clock(),
                chance=self._chance.random(),
                longest=None if error.blame == "record" else LONGEST_PAUSE,
            )
            if due_at is not None:
                return Settlement(DeliveryState.DUE, message, error.cause, due_at)
            message = f"given up after {self._schedule.patience}: {message}"
        if isinstance(error, InDoubt):
            message = f"in doubt, look it up in the CRM: {message}"
        return Settlement(DeliveryState.PARKED, message, error.cause)

    # -- at the end ---------------------------------------------------------------------
    def _settle(self, jobs: Sequence[Job]) -> None:
        """What the CRM has done is written down, however long the ledger is busy."""
        settled = [(job.lease, job.settlement, job.started_at) for job in jobs if job.settlement is not None]
        while True:
            try:
                self._ledger.settle_all(settled, self._clock())
            except LedgerError as error:
                log.warning("delivery.ledger_busy", **_names(jobs[0].lease), error=str(error))
                if self._stop.wait(SETTLE_EVERY):
                    raise
            else:
                break
        for lease, settlement, _ in settled:
            if not settlement.lines:
                self._lines.release(lease.delivery_id)
            if settlement.state is DeliveryState.PARKED:
                log.warning("delivery.parked", **_names(lease), reason=settlement.reason)
            else:
                reason = settlement.reason or None
                log.info("delivery.settled", state=settlement.state, **_names(lease), reason=reason)

    def _budget(self, destination: Destination) -> Budget:
        return self._accounts[destination.account.name].budget

    def _sender(self, destination: Destination) -> Sender:
        if destination.name not in self._senders:
            shared = self._accounts[destination.account.name]
            crm = Crm(destination.connector, destination.account, shared.tokens, self._clock)
            self._senders[destination.name] = Sender(crm, shared.budget, self._chance, self._stop)
        return self._senders[destination.name]


class DeliveryMemory:
    """What one delivery remembers: objects in the ledger, and its own progress."""

    def __init__(self, ledger: Ledger, lease: Lease, account: str, plan: Plan, lines: Sequence[Held]) -> None:
        self.lines = tuple(lines)
        self.account = account
        self.unsaved = False
        """Whether something must be on disk before anything is sent."""
        self._lease = lease
        self._progress = dict(lease.progress)
        self._known = ledger.recall(lease, account, plan.objects)

    @property
    def in_doubt(self) -> bool:
        """Whether it is unknown what became of a request."""
        return any(each.sent_at is not None for each in self._progress.values())

    def recall(self, planned: PlannedObject) -> Remembered | None:
        """The object as it was last left."""
        return self._known.get(planned.name)

    def progress(self, name: str) -> Progress:
        """How far the delivery came with an object."""
        return self._progress.get(name, Progress())

    def note(self, name: str, progress: Progress, *, durable: bool) -> None:
        """How far it is now."""
        self._progress[name] = progress
        self.unsaved = self.unsaved or durable

    def noted(self) -> Note:
        """What is to be on disk now."""
        self.unsaved = False
        return Note(self._lease, self.account, self.left(), self.lines)

    def left(self) -> dict[str, Progress]:
        """What is worth keeping of it."""
        return {name: each for name, each in self._progress.items() if each != Progress()}


def event_of(call: Call) -> str:
    """A call's place among calls: its time, then its key."""
    at = call.started_at or call.created_at
    # It stands beside every field of every contact: of a key its start is enough for the rare tie.
    return f"{round(at.timestamp() * 1000) if at else 0:011x} {call.key[:16]}"


def _names(lease: Lease) -> dict[str, object]:
    return {
        "source": lease.source,
        "call": lease.key,
        "destination": lease.destination,
        "revision": lease.revision,
        "attempt": lease.attempt,
    }


def work(
    worker: Worker, awake: threading.Condition, stop: threading.Event, clock: Callable[[], datetime]
) -> None:
    """Loop over `deliver_one` until told to stop; a ledger that is busy is asked again."""
    while not stop.is_set():
        try:
            busy = worker.deliver_one(clock())
        except LedgerError as error:
            log.warning("delivery.ledger_busy", error=str(error))
            busy = False
        if not busy:
            with awake:
                awake.wait(0.5)
    worker.close()
