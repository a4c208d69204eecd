"""What people ask of deliveries: try again, hold back, deliver again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from bridge.ledger.queries import Window


@dataclass(frozen=True, slots=True)
class RetriableGroup:
    """Deliveries that a retry would make due, which failed alike."""

    destination: str
    state: str
    cause: str | None
    in_doubt: bool
    """Whether they are parked because nobody knows if a request was processed."""
    count: int


@dataclass(frozen=True, slots=True)
class HeldDeliveries:
    """The ids of deliveries that a person holds."""

    now: Sequence[int]
    later: Sequence[int]
    """Leased or in doubt now: they are held once that is over."""


@dataclass(frozen=True, slots=True)
class SentObject:
    """What a delivery last sent to one object."""

    type: str
    key: str
    crm_id: str
    digest: bytes
    """Empty: nobody knows."""


@dataclass(frozen=True, slots=True)
class StoredCall:
    """One call of a page, with its delivery to a destination, if it has one."""

    call_id: int
    key: str
    source: str
    delivery_id: int | None
    state: str | None
    reason: str
    held: bool
    """Whether a person holds it back."""
    gone: bool
    """Whether it is parked because what it wrote is no longer in the CRM."""
    values: Mapping[str, Any] | None
    """The call's known state; None where it cannot be read."""
    sent: Mapping[str, SentObject]
    """What it last sent, by the mapping's names of objects."""
    cursor: tuple[int, int]
    """What `page_of_calls` takes as `after` to go on behind this call."""


class OperatorLedger(Protocol):
    """Changes the state of deliveries because a person says so."""

    def retriable(
        self, ids: Sequence[int] = (), cause: str = "", destination: str = ""
    ) -> list[RetriableGroup]:
        """What `retry` would make due, by destination, state and cause; the largest group first."""

    def parked_in_doubt(self, destination: str = "") -> int:
        """How many deliveries are parked in doubt; to this destination, where it is named."""

    def retry(self, ids: Sequence[int], now: datetime, *, cause: str = "", destination: str = "") -> int:
        """Make deliveries due now; returns how many.

        With `ids`: those that are parked, wait, or are held by a person. With `cause` (a whole cause, or some
        of its words): those that failed so, parked or waiting. Else all that are parked. Naming a delivery
        that is parked in doubt, by its id or its whole cause, says that what was sent did not arrive;
        otherwise those in doubt stay parked.
        """

    def hold(self, ids: Sequence[int], reason: str, now: datetime, *, skip: bool) -> HeldDeliveries:
        """Park deliveries, or with `skip` skip them, because a person says so.

        One in doubt is held later: it keeps its locks until a look-up shows whether its request arrived.
        A revision makes a parked delivery due again; a skipped one stays skipped until `retry`.
        """

    def page_of_calls(
        self, destination: str, source: str, window: Window, after: tuple[int, int] | None, limit: int
    ) -> list[StoredCall]:
        """The next calls of a source in the order of creation, behind `after` (an earlier call's `cursor`).

        A page with fewer than `limit` calls is the last one.
        """

    def replay(self, ids: Sequence[int], account: str, now: datetime, *, forget: bool) -> int:
        """Make delivered and skipped deliveries due in the backfill lane; returns how many.

        What a person skipped stays skipped. With `forget` everything is sent again; only which call wrote
        which field last stays known, so that no older call overwrites a newer one.
        """
