"""What delivery workers ask of a ledger: leases, their ends, and what was last sent to CRM objects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from bridge.ledger.intake import Destinations
from bridge.model.crm_objects import KnownObject, SyncedObject
from bridge.model.deliveries import Lane, Lease, LockKey, Settlement
from bridge.model.key_claims import Claim
from bridge.model.plan import PlannedObject
from bridge.model.sync_progress import SyncProgress


class PlannedDelivery(NamedTuple):
    """A delivery, its call's key, and the objects that its plan holds."""

    delivery_id: int
    call_key: str
    objects: Sequence[PlannedObject]


class EndedAttempt(NamedTuple):
    """A lease and how it ended."""

    lease: Lease
    settlement: Settlement
    started_at: datetime


@dataclass(frozen=True, slots=True)
class ProgressNote:
    """How far a leased delivery has come, and which keys it has locked, before a request is sent."""

    lease: Lease
    account: str
    progress: Mapping[str, SyncProgress]
    held_keys: Sequence[LockKey]
    objects: Sequence[SyncedObject] = ()
    """What is known of objects that were synced, or to which something is sent now."""


class DeliveryLedger(Protocol):
    """Leases deliveries that are due, and keeps how each attempt ended."""

    def start_destinations(self, destinations: Destinations, now: datetime) -> None:
        """Register the configured destinations; one that is added later skips the calls that are there."""

    def skipped_before(self) -> dict[str, datetime]:
        """Destination → its first start, for those that were added to a ledger with calls."""

    def release_leases(self, now: datetime | None = None) -> int:
        """Make the leases of a dead daemon due again; returns how many. Only for the ledger's one owner.

        With `now`, every request in doubt counts as sent now: it may still arrive though its sender is dead,
        and the clock may have been wrong when it was sent.
        """

    def lease(
        self,
        destinations: Sequence[str],
        sources: Sequence[str],
        now: datetime,
        limit: int,
        *,
        lane: Lane | None = None,
    ) -> list[Lease]:
        """Lease up to `limit` deliveries in one commit: by lane, then by the call's own time.

        That order holds over all the destinations; `lane` takes only those of one lane. An empty list says
        that none is due. A short one does not say that no more are due: a delivery whose record cannot be
        read is parked and left out.
        """

    def settle(self, settled: Sequence[EndedAttempt], now: datetime) -> None:
        """Write how attempts ended, in one commit; a revision since then makes its delivery due again."""

    def give_back(self, leases: Sequence[tuple[Lease, datetime]]) -> set[int]:
        """End leases with which nothing was done, each due at its time again, as if it had not been taken.

        All in one commit. Returns the ids of the deliveries that are due again: the others were parked or
        skipped by a person meanwhile, or were leased no more.
        """

    def key_claims(self, call_ids: Sequence[int], destinations: Sequence[str]) -> dict[int, list[Claim]]:
        """Call id → the calls of other sources that came to the CRM account under its key before it did.

        `destinations` are those of the account. The earliest comes first; calls without a claim are left out.
        """

    def recall(self, account: str, wanted: Sequence[PlannedDelivery]) -> list[dict[str, KnownObject]]:
        """What was last sent to each plan's objects, by the mapping's names; in the order of `wanted`."""

    def note(self, notes: Sequence[ProgressNote]) -> None:
        """Keep how far deliveries have come, in one commit, before they send what must not be sent twice."""

    def in_doubt(self) -> dict[int, list[LockKey]]:
        """Delivery id → its locked keys, for every delivery with a request whose outcome is unknown."""
