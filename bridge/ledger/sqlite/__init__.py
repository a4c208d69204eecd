"""The ledger in one SQLite file, owned by one daemon.

Owns all SQL, the migrations, the thread that writes, the lock of the one owner, and the packing of records.
May import `record`, `model` and `lib`, and the interfaces of `ledger`; only `ledger` imports it.
Each part of the interface has a module of the same name here; the other modules are what these use.
Begin at `SqliteLedger` below, then `writer.py` for how commits are shared and `delivery_rows.py` for the
columns.
"""

from bridge.ledger.sqlite.access import prepare_file
from bridge.ledger.sqlite.accounts import AccountPart
from bridge.ledger.sqlite.delivery import DeliveryPart
from bridge.ledger.sqlite.inspection import InspectionPart
from bridge.ledger.sqlite.intake import IntakePart
from bridge.ledger.sqlite.jobs import JobPart
from bridge.ledger.sqlite.operators import OperatorPart
from bridge.ledger.sqlite.owner_lock import OwnerLock
from bridge.ledger.sqlite.quarantine import QuarantinePart
from bridge.ledger.sqlite.reconciliation import ReconciliationPart
from bridge.ledger.sqlite.upkeep import UpkeepPart

__all__ = ["OwnerLock", "SqliteLedger", "prepare_file"]


class SqliteLedger(
    IntakePart,
    DeliveryPart,
    AccountPart,
    ReconciliationPart,
    JobPart,
    OperatorPart,
    QuarantinePart,
    UpkeepPart,
    InspectionPart,
):
    """See `bridge.ledger.Ledger`, which says what each method promises."""
