"""Keeps in the ledger what each CRM account allows, for the next start and for `status`."""

from collections.abc import Mapping
from datetime import datetime, timedelta

import structlog

from bridge.delivery.budget import Budget
from bridge.ledger import AccountLedger
from bridge.model.account_limits import KeptBreaker, KeptLimits

log = structlog.get_logger("bridge.accounts")

# Counts of requests change all the time; for a restart it is enough to have those of 10 s ago.
SAVE_EVERY = timedelta(seconds=10)


class BudgetStore:
    """Saves the budgets of all accounts: every 10 s, and a breaker as soon as it opens or closes."""

    def __init__(self, ledger: AccountLedger, budgets: Mapping[str, Budget]) -> None:
        """`budgets` are by account."""
        self._ledger = ledger
        self._budgets = budgets
        self._saved: dict[str, KeptLimits] = {}
        self._saved_at: dict[str, datetime] = {}

    def save_changed(self, now: datetime) -> int:
        """Save the budgets that changed and are due. Returns how many that were.

        Raises:
            LedgerError: the ledger is busy; the next step saves them.
        """
        written = 0
        for name, budget in self._budgets.items():
            state, before = budget.state(), self._saved.get(name)
            if state == before:
                continue
            same_breaker = before is not None and state["breaker"] == before["breaker"]
            if same_breaker and now - self._saved_at[name] < SAVE_EVERY:
                continue
            self._ledger.save_budget(name, state, now)
            _log_breaker(name, state["breaker"], before["breaker"] if before is not None else None)
            self._saved[name], self._saved_at[name] = state, now
            written += 1
        return written


def _log_breaker(name: str, breaker: KeptBreaker, before: KeptBreaker | None) -> None:
    was_open = before is not None and before["open_until"] is not None
    if breaker["open_until"] is not None:
        log.warning("account.paused", account=name, until=breaker["open_until"], why=breaker["why"])
    elif was_open:
        log.info("account.well", account=name)
