"""Settlements of deliveries that are parked for another reason than a CRM's answer, each with its remedy."""

import structlog

from bridge.delivery.poison_records import REMEDY, faults_of, park_reason, without_faults
from bridge.delivery.stages import names_in_log
from bridge.lib.phone import mask_phones_in
from bridge.mapping import MappingFault
from bridge.model.deliveries import DeliveryState, Lease, Settlement
from bridge.model.failures import OF_A_KEY, OF_A_MAPPING, OF_OURS, UNREADABLE_RECORD, generalised
from bridge.model.key_claims import Conflict
from bridge.record.lazy_record import UnreadableRecordError

log = structlog.get_logger("bridge.deliver")


def parked_by_mapping(fault: MappingFault) -> Settlement:
    """The settlement of a call that the mapping cannot be applied to."""
    reason, cause = (mask_phones_in(f"mapping: {text}") for text in (fault, generalised(fault.cause)))
    return Settlement(DeliveryState.PARKED, reason, cause, remedy=OF_A_MAPPING)


def parked_as_unreadable(error: UnreadableRecordError) -> Settlement:
    """The settlement of a call whose stored record is damaged."""
    return Settlement(DeliveryState.PARKED, f"the stored record cannot be read: {error}", UNREADABLE_RECORD)


def parked_by_conflict(lease: Lease, conflict: Conflict) -> Settlement:
    """The settlement of a call whose key belongs to another source's call at this CRM account."""
    reason = mask_phones_in(f"destination {lease.destination}: {conflict}")
    return Settlement(DeliveryState.PARKED, reason, conflict.cause, remedy=OF_A_KEY)


def parked_by_our_fault(lease: Lease, error: Exception) -> Settlement:
    """The settlement after an unexpected error, whose traceback goes to the log.

    It is parked because the error would come again at every try, and other deliveries must go on.
    """
    log.error("delivery.fault", **names_in_log(lease), exc_info=error)
    reason = f"a fault in callbridge: {mask_phones_in(repr(error))}"
    return Settlement(DeliveryState.PARKED, reason, "a fault in callbridge", remedy=OF_OURS)


def parked_as_poison_record(lease: Lease, account: str) -> Settlement | None:
    """The settlement of a delivery that waited until no request of it can arrive any more; None: it did not.

    Its record is to blame or, where no fault of the CRM was counted, callbridge itself.
    """
    faults = faults_of(lease.progress, lease.revision)
    if faults is None or not faults.reason:
        return None
    cause, remedy = (park_reason(faults, "")[1], REMEDY) if faults.count else (faults.cause, OF_OURS)
    progress = without_faults(lease.progress)
    return Settlement(
        DeliveryState.PARKED, faults.reason, cause, account=account, progress=progress, remedy=remedy
    )
