"""What every ledger promises to keep of CRM accounts; see `suite`."""

from bridge.ledger import Ledger
from bridge.ledger.accounts import KeptBudget
from bridge.model.account_limits import KeptLimit, KeptLimits
from tests.fixtures.ledger_calls import (
    CLOSED,
    MINUTE,
    NOW,
)
from tests.ledger.contract.arrangements import reopened
from tests.ledger.contract.place import LedgerPlace


class AccountContract:
    """Tokens and budgets."""

    def test_budgets_are_kept(self, ledger: Ledger, place: LedgerPlace) -> None:
        assert ledger.load_budgets() == {}
        limit: KeptLimit = {
            "rates": ["5/1s"],
            "learned_rate": 4.5,
            "factor": 1.0,
            "spent": 3,
            "daily": 100,
            "day_ends_at": None,
            "paused_until": None,
            "requests": 7,
            "went": [[[1, 2]]],
        }
        saved: KeptLimits = {"breaker": CLOSED, "classes": {"default": limit}}
        ledger.save_budget("hub", {"breaker": CLOSED, "classes": {}}, NOW)
        ledger.save_token("hub", {"token": "t"})
        ledger.save_budget("hub", saved, NOW + MINUTE)
        again = reopened(ledger, place)
        assert again.load_budgets() == {"hub": KeptBudget(saved, NOW + MINUTE)}
        assert again.load_token("hub") == {"token": "t"}
        again.close()
