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
    """They are parked because nobody knows whether a request was processed."""
    count: int


@dataclass(frozen=True, slots=True)
class HeldDeliveries:
    """The ids of deliveries that a person holds."""

    now: Sequence[int]
    later: Sequence[int]
    """On their way or in doubt: they are held once that is over."""


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
    """One call as a walk through the ledger finds it, with its delivery to a destination, if there is one."""

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
    """Where the walk goes on behind it."""


class OperatorLedger(Protocol):
    """Changes the state of deliveries by a person's word."""

    def retriable(
        self, ids: Sequence[int] = (), cause: str = "", destination: str = ""
    ) -> list[RetriableGroup]:
        """What `retry` would make due, by destination, state and cause; the largest group first."""

    def parked_in_doubt(self, destination: str = "") -> int:
        """How many deliveries are parked in doubt; to this destination, where it is named."""

    def retry(self, ids: Sequence[int], now: datetime, *, cause: str = "", destination: str = "") -> int:
        """Make deliveries due now; how many.

        By ids those that are parked, wait, or are held by a person; by a cause (its words, or
        some of them) those that failed so, parked or waiting; else all that are parked.
        Who names one that is parked in doubt, by its id or its whole cause, says that what was
        sent did not arrive; else these stay.
        """

    def hold(self, ids: Sequence[int], reason: str, now: datetime, *, skip: bool) -> HeldDeliveries:
        """A person parks what is due, or skips it.

        What is in doubt is so later too: it holds its lines until its request can be seen, or never came.
        A revision makes what was parked due again; what was skipped stays so until `retry`.
        """

    def page_of_calls(
        self, destination: str, source: str, window: Window, after: tuple[int, int] | None, limit: int
    ) -> list[StoredCall]:
        """The next calls of a source by creation, behind `after` (an earlier one's `cursor`).

        Fewer than `limit`: the last ones.
        """

    def replay(self, ids: Sequence[int], account: str, now: datetime, *, forget: bool) -> int:
        """Make delivered and skipped deliveries due in the last lane, unless a person skipped them.

        `forget`: as if nothing had been sent for them, except for who wrote which field last.
        """
