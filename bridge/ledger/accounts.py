"""What is kept of each CRM account: its token, and the limits that its answers have taught."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from bridge.model.account_limits import KeptLimits


@dataclass(frozen=True, slots=True)
class KeptBudget:
    """What was learned about an account's limits, and when."""

    saved: KeptLimits
    at: datetime


class AccountLedger(Protocol):
    """Keeps the state of each CRM account, so that a restart does not learn it again."""

    def load_token(self, account: str) -> Mapping[str, Any] | None:
        """The token that was saved of an account, in the form of `crm.tokens`; None where none was."""

    def save_token(self, account: str, saved: Mapping[str, Any]) -> None:
        """Replace an account's saved token."""

    def save_budget(self, account: str, saved: KeptLimits, now: datetime) -> None:
        """Replace what is kept of an account's limits, its circuit breaker included."""

    def load_budgets(self) -> dict[str, KeptBudget]:
        """What is kept of the limits of every CRM account, by its name."""
