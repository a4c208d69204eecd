"""The contract of every ledger. A kind of ledger runs it by a subclass that says where its ledgers are.

Nothing here knows what a ledger is made of: each test opens one at a `LedgerPlace`, by the interface.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.ledger import Ledger
from tests.ledger.contract.accounts import AccountContract
from tests.ledger.contract.delivery import DeliveryContract
from tests.ledger.contract.identity import IdentityContract
from tests.ledger.contract.inspection import InspectionContract
from tests.ledger.contract.intake import IntakeContract
from tests.ledger.contract.jobs import JobContract
from tests.ledger.contract.leases import LeaseContract
from tests.ledger.contract.operators import OperatorContract
from tests.ledger.contract.ownership import OwnershipContract
from tests.ledger.contract.place import LedgerPlace
from tests.ledger.contract.quarantine import QuarantineContract
from tests.ledger.contract.reconciliation import ReconciliationContract
from tests.ledger.contract.upkeep import UpkeepContract


class LedgerContract(
    IntakeContract,
    IdentityContract,
    DeliveryContract,
    LeaseContract,
    AccountContract,
    ReconciliationContract,
    JobContract,
    OperatorContract,
    QuarantineContract,
    UpkeepContract,
    InspectionContract,
    OwnershipContract,
):
    """All that a ledger promises."""

    def new_place(self, folder: Path) -> LedgerPlace:
        """A place for a ledger, where there is none yet; `folder` is free for it."""
        raise NotImplementedError

    @pytest.fixture
    def place(self, tmp_path: Path) -> LedgerPlace:
        return self.new_place(tmp_path)

    @pytest.fixture
    def ledger(self, place: LedgerPlace) -> Iterator[Ledger]:
        ledger = place.open()
        yield ledger
        ledger.close()
