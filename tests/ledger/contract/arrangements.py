"""Ledger states that several parts of the contract start from."""

from collections.abc import Mapping

from bridge.ledger import Ledger
from bridge.model.call_order import event_text
from bridge.model.crm_objects import FieldWrite, Fingerprint, KnownObject, SyncedObject
from bridge.model.deliveries import DeliveryState, Settlement
from bridge.model.plan import PlannedObject
from bridge.model.sync_progress import SyncProgress
from tests.fixtures.ledger_calls import (
    NOW,
    delivery,
    leased,
    news,
    settle,
)
from tests.ledger.contract.place import LedgerPlace

BOTH = {"main": ("crm", "other")}


def id_of(ledger: Ledger, call_id: int) -> int:
    found: int = delivery(ledger, call_id).id
    return found


def planned(name: str, key: str, *, shared: bool = True) -> PlannedObject:
    return PlannedObject(name, name, {"k": key}, {}, shared=shared)


def left_by(ledger: Ledger, key: str, objects: Mapping[str, tuple[str, bool, bytes]]) -> int:
    """A call that was delivered, and left these objects: name → key, shared, digest."""
    news(ledger, key)
    lease = leased(ledger)
    done = tuple(
        SyncedObject(
            name,
            name,
            of,
            KnownObject(f"id {of}", told, {}, {"name": FieldWrite(event_text(NOW, "a"), told)}),
            shared,
        )
        for name, (of, shared, told) in objects.items()
    )
    progress = {"contact": SyncProgress(appended={"note": Fingerprint(0, 4, b"told")})}
    settle(
        ledger,
        lease,
        Settlement(DeliveryState.DELIVERED, account="hub", done=done, progress=progress),
        NOW,
        NOW,
    )
    return lease.delivery_id


def reopened(ledger: Ledger, place: LedgerPlace) -> Ledger:
    """The same ledger after a restart."""
    ledger.close()
    return place.open()
