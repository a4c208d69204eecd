"""A delivery: one call on its way to one destination, its lease, and how an attempt at it ended."""

from collections.abc import Mapping
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Any

import msgspec

from bridge.model.crm_objects import SyncedObject
from bridge.model.sync_progress import SyncProgress

LockKey = tuple[str, str, str]
"""CRM account, object type, rendered key: two deliveries never touch one at once. Operators say "line"."""


class DeliveryState(StrEnum):
    """Where one call stands on its way to one destination."""

    DUE = "due"
    LEASED = "leased"
    DELIVERED = "delivered"
    SKIPPED = "skipped"
    PARKED = "parked"


class ParkKind(StrEnum):
    """Why a delivery is parked, as far as rules ask: it decides what a retry or a replay may take along."""

    FAILED = "failed"
    IN_DOUBT = "in_doubt"
    """Nothing tells whether a request was processed; a person who retries it says that it was not."""
    GONE = "gone"
    """The object that it wrote is no longer in the CRM; a forced replay creates it again."""
    HELD = "held"
    """A person parked it."""


class Lane(IntEnum):
    """The order of delivery: a live call goes before a retry, and both before a backfill."""

    LIVE = 0
    RETRY = 1
    BACKFILL = 2


class Heading(StrEnum):
    """The heading under which a call counts in a destination's balance."""

    DELIVERED = "delivered"
    SKIPPED = "skipped"
    PARKED = "parked"
    UNDER_WAY = "under_way"


class Delivery(msgspec.Struct, frozen=True):
    """One call on its way to one destination, as the ledger keeps it."""

    state: DeliveryState
    wanted: int
    """The revision that the CRM should have; 0: no record of the call could be read."""
    changed_at: datetime
    delivered: int | None = None
    """The revision that the CRM has."""
    owed_at: datetime | None = None
    """Since when the wanted revision has been wanted."""
    due_at: datetime | None = None
    tries: int = 0
    """How often the wanted revision has been tried."""
    reason: str | None = None
    """The rule that skipped it, or what went wrong: for people to read."""
    cause: str | None = None
    """Groups failures that are alike."""
    park_kind: ParkKind | None = None
    """None unless it is parked."""
    held_as: DeliveryState | None = None
    """What a person wants: skipped, whatever comes; or parked, once its attempt or its doubt has ended."""
    lane: Lane = Lane.LIVE
    called_at: datetime | None = None
    """The call's event time: in a lane the oldest goes first."""
    in_doubt: bool = False
    """Whether a request was sent for it of which nobody knows what became."""


class Lease(msgspec.Struct, frozen=True):
    """One delivery that one worker has taken, with all that it needs to deliver it."""

    delivery_id: int
    call_id: int
    key: str
    source: str
    destination: str
    revision: int
    attempt: int
    owed_at: datetime
    first_seen_at: datetime
    """When the call's first record came."""
    values: Mapping[str, Any]
    """The call's known state; as a `LazyRecord` it takes about 15 KB until it is mapped."""
    progress: Mapping[str, SyncProgress] = {}
    """How far an earlier attempt came, object by object."""
    previous: tuple[tuple[str, str], ...] = ()
    """Type and key of the objects that it has fed so far."""
    lane: Lane = Lane.LIVE
    held: bool = False
    """Whether a person parked or skipped it while in doubt: its doubt is settled, and nothing is sent."""


class Settlement(msgspec.Struct, frozen=True):
    """How an attempt ended, and when the delivery is due again, if it is."""

    state: DeliveryState
    reason: str = ""
    cause: str = ""
    due_at: datetime | None = None
    account: str = ""
    done: tuple[SyncedObject, ...] = ()
    """The objects that the CRM now holds for the call."""
    progress: Mapping[str, SyncProgress] = {}
    held_keys: tuple[LockKey, ...] = ()
    """What the delivery keeps locked, because a request of it is in doubt."""
    remedy: str = ""
    """What to do about the cause."""
    park_kind: ParkKind = ParkKind.FAILED
    """Why it is parked, where `state` is parked."""
    unsent: bool = False
    """Whether the account's limits had no room, so nothing was tried: lane and tries stay as they are."""
