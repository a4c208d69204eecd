"""What every ledger promises to keep of CRM accounts; see `suite`."""

from collections.abc import Mapping
from typing import Any

from bridge.ledger import Ledger
from bridge.ledger.accounts import KeptBudget
from tests.fixtures.ledger_calls import (
    MINUTE,
    NOW,
)
from tests.ledger.contract.place import LedgerPlace
from tests.ledger.contract.steps import reopened


class AccountContract:
    """Tokens and budgets."""

    def test_budgets_are_kept(self, ledger: Ledger, place: LedgerPlace) -> None:
        assert ledger.load_budgets() == {}
        saved: Mapping[str, Any] = {"breaker": {"open_until": None}, "classes": {"default": {"factor": 0.5}}}
        ledger.save_budget("hub", {"old": 1}, NOW)
        ledger.save_token("hub", {"token": "t"})
        ledger.save_budget("hub", saved, NOW + MINUTE)
        again = reopened(ledger, place)
        assert again.load_budgets() == {"hub": KeptBudget(saved, NOW + MINUTE)}
        assert again.load_token("hub") == {"token": "t"}
        again.close()
