"""What is kept of a CRM account: its token, and what it was learned to allow."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

Row = dict[str, Any]


class AccountLedger(Protocol):
    """Keeps the state of each CRM account, so that a restart does not learn it again."""

    def load_token(self, account: str) -> Mapping[str, Any] | None:
        """What was saved of a CRM account's token."""

    def save_token(self, account: str, saved: Mapping[str, Any]) -> None:
        """Keep a CRM account's token."""

    def save_budget(self, account: str, saved: Mapping[str, Any], now: datetime) -> None:
        """Keep what a CRM account allows, as it was learned, and its breaker."""

    def load_budgets(self) -> dict[str, Row]:
        """What was kept of every CRM account; `at` is when."""
