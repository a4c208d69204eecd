"""What people and metrics ask of a ledger: counts, balances, calls and deliveries. Nothing is written."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from bridge.ledger.queries import (
    CallHistory,
    LedgerCounts,
    ListedCall,
    ListedDelivery,
    Loss,
    SourceCounts,
    Window,
)
from bridge.model.balance import DestinationBalance


class InspectionLedger(Protocol):
    """Answers questions about the whole ledger, each of one moment."""

    def counts(self) -> LedgerCounts:
        """Receipts, calls, deliveries, quarantine by state; failures by cause; what is owed, and its pace."""

    def balance(self, destination: str, sources: Sequence[str], window: Window) -> DestinationBalance:
        """`ledger = delivered + skipped + parked + under_way`, of one moment."""

    def source_counts(self, source: str, window: Window) -> SourceCounts:
        """What is counted of one source."""

    def losses(self) -> list[Loss]:
        """What had been acknowledged and is not here, the oldest first."""

    def first_call_at(self, source: str | None = None) -> datetime | None:
        """When the first call of the ledger was created."""

    def list_calls(self, words: Sequence[str], limit: int) -> list[ListedCall]:
        """Calls whose name, phone or sn is one of `words` (all without any), newest first."""

    def show_call(self, call_id: int) -> CallHistory:
        """One call's whole history: receipts, deliveries, attempts, CRM ids, state."""

    def list_deliveries(
        self, state: str | None, destination: str | None, limit: int, cause: str = ""
    ) -> list[ListedDelivery]:
        """Deliveries with their calls, those changed last first; of a cause, or those that hold its words."""
