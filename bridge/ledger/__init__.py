"""The ledger: everything callbridge knows and everything it still owes.

Owns receipts, calls with their revisions, quarantine, deliveries, attempts, what was last sent to each CRM
object, and jobs. When a method that writes returns, a power cut loses nothing of it. A method raises
`LedgerBusy` where the ledger cannot be read or committed to now; then the caller may simply ask again.

The interface is split by who uses it, one module each; code asks in its annotations only for the part that
it uses: `intake` (the door, the judge), `delivery` and `accounts` (workers), `reconciliation` (the list
beside the ledger), `jobs`, `operators`, `quarantine`, `upkeep` and `inspection` (operators, and the daemon
on their behalf). What is read comes as the frozen structures of `queries`.

May import: `record`, `model`, `lib`. What a verdict, a retry or a lease's end means is decided there;
a ledger finds and keeps.

Begin at `Ledger` below, then read the part that you need. `sqlite/` is the one implementation;
nobody outside this package imports it.
"""

from pathlib import Path
from typing import Protocol

from bridge.ledger.accounts import AccountLedger
from bridge.ledger.delivery import DeliveryLedger, EndedAttempt, PlannedDelivery, ProgressNote
from bridge.ledger.inspection import InspectionLedger
from bridge.ledger.intake import Destinations, IntakeLedger
from bridge.ledger.jobs import JobQueue
from bridge.ledger.operators import OperatorLedger, SentObject, StoredCall
from bridge.ledger.ownership import Ownership
from bridge.ledger.quarantine import QuarantineLedger
from bridge.ledger.queries import Window
from bridge.ledger.reconciliation import ReconciliationLedger
from bridge.ledger.upkeep import UpkeepLedger

__all__ = [
    "AccountLedger",
    "DeliveryLedger",
    "Destinations",
    "EndedAttempt",
    "InspectionLedger",
    "IntakeLedger",
    "JobQueue",
    "Ledger",
    "OperatorLedger",
    "Ownership",
    "PlannedDelivery",
    "ProgressNote",
    "QuarantineLedger",
    "ReconciliationLedger",
    "SentObject",
    "StoredCall",
    "UpkeepLedger",
    "Window",
    "check_user",
    "open_ledger",
    "ownership_of",
    "prepare_ledger",
]


class Ledger(
    IntakeLedger,
    DeliveryLedger,
    AccountLedger,
    ReconciliationLedger,
    JobQueue,
    OperatorLedger,
    QuarantineLedger,
    UpkeepLedger,
    InspectionLedger,
    Protocol,
):
    """All that a ledger promises; a stage asks for the parts that it uses, never for the whole."""


def ownership_of(place: Path, *, guest: bool = False) -> Ownership:
    """The right to do a daemon's work on the ledger at `place`, not acquired yet.

    `guest`: for a command that does that work while no daemon lives; it gives way to one that starts.
    """
    from bridge.ledger.sqlite.owner_lock import OwnerLock  # noqa: PLC0415 -- as in `open_ledger`

    return OwnerLock(place, guest=guest)


def check_user(place: Path) -> None:
    """Refuse the wrong user before anything is touched; a ledger that is not there yet is anybody's.

    Raises:
        LedgerUnusable: the ledger is another user's, or its folder is closed to this one.
    """
    from bridge.ledger.sqlite.connection import check_owner, usable  # noqa: PLC0415 -- as in `open_ledger`

    with usable(place):
        if place.exists():
            check_owner(place)


def prepare_ledger(place: Path, owner: Ownership) -> None:
    """Create the ledger at `place`, or bring it up to date, and leave nothing open: for a daemon that forks.

    Raises:
        LedgerUnusable: newer than this program, another user's.
    """
    from bridge.ledger.sqlite import prepare_file  # noqa: PLC0415 -- as in `open_ledger`

    prepare_file(place, owner)


def open_ledger(
    place: Path,
    *,
    create: bool = False,
    read_only: bool = False,
    min_free: int = 0,
    owner: Ownership | None = None,
) -> Ledger:
    """Open the ledger at `place`; with less than `min_free` bytes left there it takes nothing in.

    `owner` is the daemon's ownership: then the ledger notes what it has lost since the last daemon.

    Raises:
        LedgerUnusable: missing (and not `create`), newer than this program, another user's.
    """
    from bridge.ledger.sqlite import SqliteLedger  # noqa: PLC0415 -- loads sqlite-utils: 80 ms

    return SqliteLedger(place, create=create, read_only=read_only, min_free=min_free, owner=owner)
