"""What delivery workers ask of a ledger: leases, their ends, and what CRM objects were last told."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from bridge.ledger.intake import Destinations
from bridge.model.crm_objects import KnownObject, SyncedObject
from bridge.model.deliveries import Lease, LockKey, Settlement
from bridge.model.key_claims import Claim
from bridge.model.plan import PlannedObject
from bridge.model.sync_progress import SyncProgress


class PlannedDelivery(NamedTuple):
    """A delivery and what it plans."""

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
    """How far a leased delivery is, and the keys that it has locked."""

    lease: Lease
    account: str
    progress: Mapping[str, SyncProgress]
    held_keys: Sequence[LockKey]
    objects: Sequence[SyncedObject] = ()
    """What is known of objects that were settled, or to which something is sent now."""


class DeliveryLedger(Protocol):
    """Leases deliveries that are due, and keeps how each attempt ended."""

    def start_destinations(self, destinations: Destinations, now: datetime) -> None:
        """Register destinations; calls older than a later one are skipped for it."""

    def skipped_before(self) -> dict[str, datetime]:
        """For destinations added to a ledger that had calls: their first start."""

    def release_leases(self, now: datetime | None = None) -> int:
        """Make the leases of a dead daemon due again. Only for the ledger's one owner.

        With `now`, what they had on the wire counts as sent now: it may arrive though its sender is dead.
        So does all that is in doubt: nobody knows what the clock told when it was sent.
        """

    def lease(self, destinations: Sequence[str], sources: Sequence[str], now: datetime) -> Lease | None:
        """Take the first of these that is due: by lane, then by the call's own time."""

    def lease_more(self, destination: str, sources: Sequence[str], now: datetime, limit: int) -> list[Lease]:
        """Take up to `limit` more of one destination, in the same order."""

    def settle(self, settled: Sequence[EndedAttempt], now: datetime) -> None:
        """End attempts in one commit. A revision that came meanwhile makes its delivery due again."""

    def settle_soon(self, settled: Sequence[EndedAttempt], now: datetime) -> Future[None]:
        """`settle`, not waited for: the future ends after the commit, which the next `lease` shares."""

    def give_back(self, lease: Lease, due_at: datetime) -> bool:
        """End a lease with which nothing was done, as if it had not been taken; whether it is due again."""

    def key_claims(self, call_ids: Sequence[int], destinations: Sequence[str]) -> dict[int, list[Claim]]:
        """Calls of other sources that have a call's key as a name and came to the same CRM account before it.

        `destinations` are those of the account; the earliest comes first, calls without any are left out.
        """

    def recall(self, account: str, wanted: Sequence[PlannedDelivery]) -> list[dict[str, KnownObject]]:
        """What each plan's objects were last told, by the mapping's names; in the order of `wanted`."""

    def note(self, notes: Sequence[ProgressNote]) -> None:
        """How far deliveries are, before they send what must not be sent twice; one commit."""

    def in_doubt(self) -> dict[int, list[LockKey]]:
        """Deliveries with a request of which nothing is known, each with the keys it has locked."""
