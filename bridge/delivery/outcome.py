"""The outcome of an attempt: delivered, due again and when, or parked and why. Begin at `OutcomeRules.of`."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from msgspec.structs import replace

from bridge.delivery.attempt import Attempt
from bridge.delivery.destination import Routes
from bridge.delivery.doubt_clock import DoubtClock
from bridge.delivery.journal import last_sent
from bridge.delivery.parking import parked_by_our_fault
from bridge.delivery.poison_records import (
    FAULTS,
    REMEDY,
    FaultCount,
    count_fault,
    is_to_blame,
    park_reason,
    with_masked_faults,
    without_faults,
)
from bridge.delivery.retry import RetryPolicy, next_attempt_at
from bridge.delivery.stages import SettledDelivery, names_in_log
from bridge.lib.errors import Deleted, DeliveryError, InDoubt, StillRunning, Transient, Unsent
from bridge.lib.stored_times import LONGEST_PAUSE
from bridge.model.deliveries import DeliveryState, Lease, ParkKind, Settlement
from bridge.model.failures import cause_of, doubt_of, remedy_of

log = structlog.get_logger("bridge.deliver")


@dataclass(frozen=True, slots=True)
class OutcomeRules:
    """Decides what becomes of deliveries whose attempts have ended."""

    routes: Routes
    retry: RetryPolicy
    doubts: DoubtClock
    clock: Callable[[], datetime]
    rng: random.Random

    def settled(self, attempt: Attempt, masked: Callable[[str], str]) -> SettledDelivery:
        """An ended attempt, to be written down; `masked` takes the CRM's secrets out of a text."""
        delivery = attempt.delivery
        try:
            settlement = without_secrets(self._settlement_guarded(attempt), masked)
        except Exception as error:  # noqa: BLE001 -- see parked_by_our_fault
            settlement = parked_by_our_fault(delivery.lease, error)
        return SettledDelivery(delivery.lease, attempt.began_at, delivery.turn, settlement)

    def _settlement_guarded(self, attempt: Attempt) -> Settlement:
        """As `of`; if that fails by a fault of ours, the delivery is parked and its progress kept."""
        try:
            return self.settlement_of(attempt)
        except Exception as error:  # noqa: BLE001 -- see parked_by_our_fault
            attempt.break_off(error)
        return self.settlement_of(attempt)

    def settlement_of(self, attempt: Attempt) -> Settlement:
        """How an attempt ended."""
        journal = attempt.journal
        settlement, faults = self._judged(attempt)
        if settlement.state is DeliveryState.PARKED and not isinstance(attempt.error, InDoubt):
            settlement = self._not_yet(attempt, settlement)
        _tell_alterations(attempt)
        is_due = settlement.state is DeliveryState.DUE
        left = without_faults(journal.left())
        return replace(
            settlement,
            account=journal.account,
            done=tuple(attempt.sync.done),
            progress={**left, FAULTS: faults.kept()} if is_due and faults is not None else left,
            held_keys=journal.keys if is_due and journal.in_doubt else (),
        )

    def _judged(self, attempt: Attempt) -> tuple[Settlement, FaultCount | None]:
        """The settlement of an attempt, and the faults now counted against its record."""
        lease = attempt.delivery.lease
        successes = self.routes.account_of(lease.destination).successes
        if attempt.fault is not None:
            settlement = parked_by_our_fault(lease, attempt.fault)
            # It may have to wait before it is parked; the count stops it from being tried again meanwhile.
            return settlement, FaultCount(
                settlement.cause, lease.revision, successes.process, reason=settlement.reason
            )
        if attempt.error is not None:
            settlement = self._of_error(lease, attempt.error, in_doubt=attempt.journal.in_doubt)
            return self._of_record(attempt, attempt.error, settlement)
        if attempt.questions:
            successes.note(recovered=attempt.earlier_faults is not None)
        return Settlement(DeliveryState.DELIVERED), None

    def _of_record(
        self, attempt: Attempt, error: DeliveryError, settlement: Settlement
    ) -> tuple[Settlement, FaultCount | None]:
        """The settlement; parked where this record alone causes what looks like a fault of the account."""
        if settlement.state is not DeliveryState.DUE:
            return settlement, None
        lease = attempt.delivery.lease
        successes = self.routes.account_of(lease.destination).successes
        faults = count_fault(attempt.earlier_faults, error, settlement.cause, lease.revision, successes)
        if faults is None or not is_to_blame(faults, error):
            return settlement, faults
        reason, cause = park_reason(faults, settlement.reason)
        parked = replace(
            settlement, state=DeliveryState.PARKED, reason=reason, cause=cause, due_at=None, remedy=REMEDY
        )
        return parked, replace(faults, reason=reason)

    def _of_error(self, lease: Lease, error: DeliveryError, *, in_doubt: bool) -> Settlement:
        message = f"destination {lease.destination}, {error}"
        cause, remedy = cause_of(error), remedy_of(error)
        kind = ParkKind.GONE if isinstance(error, Deleted) else ParkKind.FAILED
        if isinstance(error, Unsent | StillRunning):
            room_at = self.clock() + timedelta(seconds=error.retry_after or 0)
            return Settlement(DeliveryState.DUE, message, cause, room_at, unsent=True)
        if isinstance(error, Transient):
            due_at = self._next_attempt_at(lease, error)
            if due_at is not None:
                return Settlement(DeliveryState.DUE, message, cause, due_at, remedy=remedy)
            message = f"given up after {self.retry.give_up_after}: {message}"
        if isinstance(error, InDoubt) and in_doubt:
            message = f"in doubt, look it up in the CRM; retry sends it again, skip lets it be: {message}"
            cause, remedy = doubt_of(error)
            kind = ParkKind.IN_DOUBT
        return Settlement(DeliveryState.PARKED, message, cause, remedy=remedy, park_kind=kind)

    def _next_attempt_at(self, lease: Lease, error: Transient) -> datetime | None:
        return next_attempt_at(
            self.retry,
            owed_at=lease.owed_at,
            attempt=lease.attempt,
            retry_after=error.retry_after,
            now=self.clock(),
            jitter=self.rng.random(),
            # A fault of the account waits 5 minutes at most, so that calls go on soon after it is over.
            maximum=None if error.blame == "record" else LONGEST_PAUSE,
        )

    def _not_yet(self, attempt: Attempt, settlement: Settlement) -> Settlement:
        """Put off parking, with the keys held, while a request of the delivery may still arrive."""
        until = self.doubts.shown_at(attempt.delivery.lease.destination, last_sent(attempt.journal.left()))
        if until is None:
            return settlement
        return replace(settlement, state=DeliveryState.DUE, due_at=until)


def _tell_alterations(attempt: Attempt) -> None:
    names = names_in_log(attempt.delivery.lease)
    for done in attempt.sync.done:
        for field, kind in done.altered.items():
            log.warning("delivery.altered", **names, object=done.object, field=field, kind=kind)


def without_secrets(settlement: Settlement, masked: Callable[[str], str]) -> Settlement:
    """A settlement with secrets masked: what a CRM stored or answered may quote our own token."""
    if not settlement.reason and not settlement.cause:
        return settlement
    return replace(
        settlement,
        reason=settlement.reason and masked(settlement.reason),
        cause=settlement.cause and masked(settlement.cause),
        progress=with_masked_faults(settlement.progress, masked),
    )
