"""Deliver: lease what is due, map it, send it, settle it. The one loop that catches everything."""

import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar
from zoneinfo import ZoneInfo

import structlog
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    sleep_using_event,
    stop_after_attempt,
    stop_any,
    stop_when_event_set,
)

from bridge.call import Call
from bridge.connector import Connector
from bridge.crm import Crm
from bridge.errors import DeliveryError, InDoubt, LedgerError, Transient
from bridge.ledger import Ledger
from bridge.mapping import CompiledMapping, MappingFault, Plan, Skip
from bridge.model import DeliveryState, Lease, Sent, Settlement
from bridge.phone import mask_phones_in

T = TypeVar("T")
log = structlog.get_logger("bridge.deliver")

# tenacity bridges seconds, while the lease is held; the ledger's schedule bridges the rest.
QUICK_TRIES = 3
LONGEST_QUICK_WAIT = 2.0
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
    base_url: str
    secrets: Mapping[str, str] = field(repr=False)
    timeout: float


def next_attempt_at(
    schedule: Schedule,
    *,
    owed_at: datetime,
    attempt: int,
    retry_after: float | None,
    now: datetime,
    chance: float,
) -> datetime | None:
    """When a delivery that failed for now is tried again; None when patience has run out.

    `attempt` counts from 1; `chance` in [0, 1) spreads a herd over a fifth of the wait.
    """
    if now - owed_at >= schedule.patience:
        return None
    doublings = min(attempt - 1, 30)
    wait: timedelta = min(schedule.first * 2**doublings, schedule.longest) * (0.9 + 0.2 * chance)
    asked = timedelta(seconds=retry_after or 0)
    return now + max(wait, asked)


class Worker:
    """One delivery worker: its own HTTP client for each destination."""

    def __init__(
        self,
        ledger: Ledger,
        destinations: Mapping[str, Destination],
        origins: Mapping[str, Origin],
        schedule: Schedule,
        *,
        clock: Callable[[], datetime],
        chance: random.Random,
        stop: threading.Event,
    ) -> None:
        self._ledger = ledger
        self._destinations = destinations
        self._origins = origins
        self._schedule = schedule
        self._clock = clock
        self._chance = chance
        self._stop = stop
        self._crms: dict[str, Crm] = {}

    def close(self) -> None:
        """Close the connections to the CRMs."""
        for crm in self._crms.values():
            crm.close()

    def deliver_one(self, now: datetime) -> bool:
        """Take one due delivery to its end; whether there was one."""
        lease = self._ledger.lease(list(self._destinations), list(self._origins), now)
        if lease is None:
            return False
        try:
            settlement = self._attempt(lease)
        except Exception as error:
            # A fault of ours must not crash-loop on one row: it waits for a person, its trace in the log.
            log.exception("delivery.fault", **_names(lease))
            settlement = Settlement(
                DeliveryState.PARKED,
                f"a fault in callbridge: {mask_phones_in(repr(error))}",
                "a fault in callbridge",
            )
        self._settle(lease, settlement, now)
        if settlement.state is DeliveryState.PARKED:
            log.warning("delivery.parked", **_names(lease), reason=settlement.reason)
        else:
            reason = settlement.reason or None
            log.info("delivery.settled", state=settlement.state, **_names(lease), reason=reason)
        return True

    def _settle(self, lease: Lease, settlement: Settlement, started_at: datetime) -> None:
        """What the CRM has done is written down, however long the ledger is busy."""
        while True:
            try:
                self._ledger.settle(lease, settlement, started_at, self._clock())
            except LedgerError as error:
                log.warning("delivery.ledger_busy", **_names(lease), error=str(error))
                if self._stop.wait(SETTLE_EVERY):
                    raise
            else:
                return

    def _attempt(self, lease: Lease) -> Settlement:
        destination = self._destinations[lease.destination]
        origin = self._origins[lease.source]
        call = Call.of(
            lease.values,
            key=lease.key,
            source=lease.source,
            zone=origin.zone,
            country=origin.country,
            recording_url=origin.recording_url,
        )
        try:
            plan = destination.mapping.plan(call, origin.zone, origin.country)
        except MappingFault as fault:
            reason = mask_phones_in(f"mapping: {fault}")
            return Settlement(DeliveryState.PARKED, reason, reason)
        if isinstance(plan, Skip):
            return Settlement(DeliveryState.SKIPPED, plan.rule)
        return self._send_all(lease, plan)

    def _send_all(self, lease: Lease, plan: Plan) -> Settlement:
        sent: dict[str, Sent] = {}
        try:
            crm = self._crm(lease.destination)
            for planned in plan.objects:
                crm_id = self._quickly(partial(crm.upsert, planned))
                sent[planned.name] = Sent(planned.name, planned.type, planned.key_text, crm_id)
                for link, target in planned.links.items():
                    to = next(other for other in plan.objects if other.name == target)
                    self._quickly(partial(crm.link, planned, link, to, sent[to.name].crm_id))
        except DeliveryError as error:
            return self._after_fault(lease, error, tuple(sent.values()))
        return Settlement(DeliveryState.DELIVERED, sent=tuple(sent.values()))

    def _quickly(self, request: Callable[[], T]) -> T:
        retrying = Retrying(
            retry=retry_if_exception(_worth_waiting),
            wait=self._quick_wait,
            stop=stop_any(stop_after_attempt(QUICK_TRIES), stop_when_event_set(self._stop)),
            sleep=sleep_using_event(self._stop),
            reraise=True,
        )
        return retrying(request)

    def _quick_wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked: float = getattr(error, "retry_after", None) or 0.0
        return max(asked, 0.2 * float(2 ** (state.attempt_number - 1)) * (0.5 + self._chance.random()))

    def _after_fault(self, lease: Lease, error: DeliveryError, sent: tuple[Sent, ...]) -> Settlement:
        message = f"destination {lease.destination}, {error}"
        if isinstance(error, Transient):
            due_at = next_attempt_at(
                self._schedule,
                owed_at=lease.owed_at,
                attempt=lease.attempt,
                retry_after=error.retry_after,
                now=self._clock(),
                chance=self._chance.random(),
            )
            if due_at is not None:
                return Settlement(DeliveryState.DUE, message, error.cause, due_at, sent)
            message = f"given up after {self._schedule.patience}: {message}"
        if isinstance(error, InDoubt):
            message = f"in doubt, look it up in the CRM: {message}"
        return Settlement(DeliveryState.PARKED, message, error.cause, sent=sent)

    def _crm(self, name: str) -> Crm:
        if name not in self._crms:
            destination = self._destinations[name]
            self._crms[name] = Crm(
                destination.connector, destination.base_url, destination.secrets, destination.timeout
            )
        return self._crms[name]


def _worth_waiting(error: BaseException) -> bool:
    return isinstance(error, Transient) and (error.retry_after or 0) <= LONGEST_QUICK_WAIT


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
