"""Budgets in the ledger: saved now and then, and at once when a breaker opens or closes."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from bridge.delivery.budget import Budget
from bridge.delivery.budget_store import SAVE_EVERY, BudgetStore
from bridge.ledger import open_ledger

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)


def test_budget_is_saved_periodically_and_its_breaker_at_once(tmp_path: Path) -> None:
    budget = Budget({}, lambda: NOW)
    ledger = open_ledger(tmp_path / "ledger.db", create=True)
    budget_store = BudgetStore(ledger, {"hub": budget})
    assert budget_store.save_changed(NOW) == 1
    budget.reserve("default", 0)  # type: ignore[arg-type]
    budget.refused("default", 30.0)
    assert budget_store.save_changed(NOW + SAVE_EVERY / 2) == 0
    assert budget_store.save_changed(NOW + SAVE_EVERY) == 1
    budget.failed("answered 401", at_once=True)
    assert budget_store.save_changed(NOW + SAVE_EVERY + timedelta(seconds=1)) == 1
    saved = ledger.load_budgets()["hub"].saved
    ledger.close()
    assert (saved["breaker"]["why"], saved["classes"]["default"]["requests"]) == ("answered 401", 1)
    again = Budget({}, lambda: NOW, saved)
    assert again.paused_for(NOW) > 0
    assert again.state()["breaker"] == budget.state()["breaker"]
    assert again.state()["classes"]["default"]["paused_until"] == (NOW + timedelta(seconds=30)).isoformat()
