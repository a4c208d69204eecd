"""What is kept of a CRM account: its token, and what it was learned to allow."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class KeptBudget:
    """What was learned of what a CRM account allows, and when; the delivery room alone knows its shape."""

    saved: Mapping[str, Any]
    at: datetime


class AccountLedger(Protocol):
    """Keeps the state of each CRM account, so that a restart does not learn it again."""

    def load_token(self, account: str) -> Mapping[str, Any] | None:
        """What was saved of a CRM account's token."""

    def save_token(self, account: str, saved: Mapping[str, Any]) -> None:
        """Keep a CRM account's token."""

    def save_budget(self, account: str, saved: Mapping[str, Any], now: datetime) -> None:
        """Keep what a CRM account allows, as it was learned, and its breaker."""

    def load_budgets(self) -> dict[str, KeptBudget]:
        """What was kept of every CRM account, by its name."""
