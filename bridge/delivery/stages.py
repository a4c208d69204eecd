"""The frozen structures that the stages of a delivery hand on: prepare → send → complete."""

from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec
import structlog

from bridge.lib.errors import LedgerError
from bridge.model.deliveries import Lease, LockKey, Settlement
from bridge.model.plan import Plan

log = structlog.get_logger("bridge.deliver")


class MappedDelivery(msgspec.Struct, frozen=True):
    """A leased delivery with its plan; it can be sent once it holds its key locks."""

    lease: Lease
    """Without the call's values: all that is needed of them is in the plan."""
    turn: int
    """The number of its turn at the key locks."""
    plan: Plan
    event: str
    """The call's place among calls: its time, then its key."""
    keys: Sequence[LockKey]


class SettledDelivery(msgspec.Struct, frozen=True):
    """A leased delivery whose attempt has ended, to be written to the ledger."""

    lease: Lease
    started_at: datetime
    turn: int
    settlement: Settlement


def names_in_log(lease: Lease) -> dict[str, object]:
    """What a line of the log names of a delivery."""
    return {
        "source": lease.source,
        "call": lease.key,
        "destination": lease.destination,
        "revision": lease.revision,
        "attempt": lease.attempt,
    }


def busy_ledger_of(lease: Lease) -> Callable[[LedgerError], None]:
    """What to do while the ledger is busy with a delivery: say so in the log."""

    def tell(error: LedgerError) -> None:
        log.warning("delivery.ledger_busy", **names_in_log(lease), error=str(error))

    return tell
