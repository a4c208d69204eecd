"""What an attempt at a delivery has come to: delivered, due again and when, or parked and why."""

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from bridge.delivery.budget import LONGEST_PAUSE
from bridge.delivery.doubt_clock import DoubtClock
from bridge.delivery.executor import Attempt
from bridge.delivery.journal import DeliveryJournal, last_sent
from bridge.delivery.plan_sync import PlanSync
from bridge.delivery.poison_records import (
    FAULTS,
    REMEDY,
    FaultCount,
    Successes,
    count_fault,
    faults_of,
    is_to_blame,
    park_reason,
    without_faults,
)
from bridge.delivery.retry import RetryPolicy, next_attempt_at
from bridge.lib.errors import Deleted, DeliveryError, InDoubt, Pending, Transient, Unsent
from bridge.lib.phone import mask_phones_in
from bridge.mapping import MappingFault
from bridge.model.deliveries import DeliveryState, Lease, ParkKind, Settlement
from bridge.model.failures import OF_A_KEY, OF_A_MAPPING, OF_OURS, cause_of, doubt_of, generalised, remedy_of
from bridge.model.key_claims import Conflict

log = structlog.get_logger("bridge.deliver")


class OutcomeRules:
    """Judges how attempts ended."""

    def __init__(
        self,
        policy: RetryPolicy,
        clock: Callable[[], datetime],
        rng: random.Random,
        doubts: DoubtClock,
        successes: Mapping[str, Successes],
    ) -> None:
        """`successes` are destination → what its account has taken."""
        self._successes = successes
        self._policy = policy
        self._clock = clock
        self._rng = rng
        self._doubts = doubts

    def of(self, lease: Lease, attempt: Attempt, journal: DeliveryJournal, plan_sync: PlanSync) -> Settlement:
        """How an attempt ended that was on its way."""
        faults: FaultCount | None = None
        if attempt.fault is not None:
            settlement = self.of_our_fault(lease, attempt.fault)
            # Where it has to wait before it is parked, it is not tried again meanwhile: it would loop.
            process = self._successes[lease.destination].process
            faults = FaultCount(settlement.cause, lease.revision, process, reason=settlement.reason)
        elif attempt.error is not None:
            settlement = self._of_error(lease, attempt.error, in_doubt=journal.in_doubt)
            settlement, faults = self._of_record(lease, attempt, settlement)
        else:
            settlement = Settlement(DeliveryState.DELIVERED)
            if attempt.questions:
                self._successes[lease.destination].note(recovered=attempt.faults is not None)
        if settlement.state is DeliveryState.PARKED and not isinstance(attempt.error, InDoubt):
            settlement = self._not_yet(lease, journal, settlement)
        for done in plan_sync.done:
            for name, kind in done.altered.items():
                log.warning(
                    "delivery.altered", **names_in_log(lease), object=done.object, field=name, kind=kind
                )
        is_due = settlement.state is DeliveryState.DUE
        waits = is_due and journal.in_doubt
        left = without_faults(journal.left())
        return replace(
            settlement,
            account=journal.account,
            done=tuple(plan_sync.done),
            progress={**left, FAULTS: faults.kept()} if is_due and faults is not None else left,
            lines=journal.lines if waits else (),
        )

    def of_poison_record(self, lease: Lease, account: str) -> Settlement | None:
        """One that is to be parked, and has waited until no request of it can arrive any more.

        Its record is to blame, or callbridge itself, where no fault of the CRM was counted.
        """
        faults = faults_of(lease.progress, lease.revision)
        if faults is None or not faults.reason:
            return None
        cause, remedy = (park_reason(faults, "")[1], REMEDY) if faults.count else (faults.cause, OF_OURS)
        progress = without_faults(lease.progress)
        return Settlement(
            DeliveryState.PARKED, faults.reason, cause, account=account, progress=progress, remedy=remedy
        )

    def _of_record(
        self, lease: Lease, attempt: Attempt, settlement: Settlement
    ) -> tuple[Settlement, FaultCount | None]:
        """The settlement, parked where this record alone draws what looks like the account's fault."""
        error = attempt.error
        assert error is not None  # noqa: S101 -- the caller has looked
        if settlement.state is not DeliveryState.DUE:
            return settlement, None
        successes = self._successes[lease.destination]
        faults = count_fault(attempt.faults, error, settlement.cause, lease.revision, successes)
        if faults is None or not is_to_blame(faults, error):
            return settlement, faults
        reason, cause = park_reason(faults, settlement.reason)
        parked = replace(
            settlement, state=DeliveryState.PARKED, reason=reason, cause=cause, due_at=None, remedy=REMEDY
        )
        return parked, replace(faults, reason=reason)

    def of_mapping_fault(self, fault: MappingFault) -> Settlement:
        """A call that the mapping cannot be applied to waits for a person."""
        reason, cause = (mask_phones_in(f"mapping: {said}") for said in (fault, generalised(fault.cause)))
        return Settlement(DeliveryState.PARKED, reason, cause, remedy=OF_A_MAPPING)

    def of_conflict(self, lease: Lease, conflict: Conflict) -> Settlement:
        """A call whose key is another source's at this CRM account waits for a person."""
        reason = mask_phones_in(f"destination {lease.destination}: {conflict}")
        return Settlement(DeliveryState.PARKED, reason, conflict.cause, remedy=OF_A_KEY)

    def of_our_fault(self, lease: Lease, error: Exception) -> Settlement:
        """A fault of ours must not crash-loop on one row: it waits for a person, its trace in the log."""
        log.error("delivery.fault", **names_in_log(lease), exc_info=error)
        reason = f"a fault in callbridge: {mask_phones_in(repr(error))}"
        return Settlement(DeliveryState.PARKED, reason, "a fault in callbridge", remedy=OF_OURS)

    def _of_error(self, lease: Lease, error: DeliveryError, *, in_doubt: bool) -> Settlement:
        message = f"destination {lease.destination}, {error}"
        cause, remedy = cause_of(error), remedy_of(error)
        kind = ParkKind.GONE if isinstance(error, Deleted) else ParkKind.FAILED
        if isinstance(error, Unsent | Pending):
            room_at = self._clock() + timedelta(seconds=error.retry_after or 0)
            return Settlement(DeliveryState.DUE, message, cause, room_at, unsent=True)
        if isinstance(error, Transient):
            due_at = next_attempt_at(
                self._policy,
                owed_at=lease.owed_at,
                attempt=lease.attempt,
                retry_after=error.retry_after,
                now=self._clock(),
                jitter=self._rng.random(),
                maximum=None if error.blame == "record" else LONGEST_PAUSE,
            )
            if due_at is not None:
                return Settlement(DeliveryState.DUE, message, cause, due_at, remedy=remedy)
            message = f"given up after {self._policy.give_up_after}: {message}"
        if isinstance(error, InDoubt) and in_doubt:
            message = f"in doubt, look it up in the CRM; retry sends it again, skip lets it be: {message}"
            cause, remedy = doubt_of(error)
            kind = ParkKind.IN_DOUBT
        return Settlement(DeliveryState.PARKED, message, cause, remedy=remedy, park_kind=kind)

    def _not_yet(self, lease: Lease, journal: DeliveryJournal, settlement: Settlement) -> Settlement:
        """What would be parked waits, and holds its lines, as long as another request of it may arrive."""
        until = self._doubts.shown_at(lease.destination, last_sent(journal.left()))
        if until is None:
            return settlement
        return replace(settlement, state=DeliveryState.DUE, due_at=until)


def without_secrets(settlement: Settlement, masked: Callable[[str], str]) -> Settlement:
    """What is kept of an attempt may quote what a CRM stored or answered, and so our own token."""
    if not settlement.reason and not settlement.cause:
        return settlement
    progress = settlement.progress
    if FAULTS in progress:
        kept = progress[FAULTS].captured
        told = {name: masked(kept[name]) for name in ("reason", "cause") if kept.get(name)}
        progress = {**progress, FAULTS: replace(progress[FAULTS], captured={**kept, **told})}
    return replace(
        settlement,
        reason=settlement.reason and masked(settlement.reason),
        cause=settlement.cause and masked(settlement.cause),
        progress=progress,
    )


def names_in_log(lease: Lease) -> dict[str, object]:
    """What a line of the log names of a delivery."""
    return {
        "source": lease.source,
        "call": lease.key,
        "destination": lease.destination,
        "revision": lease.revision,
        "attempt": lease.attempt,
    }
