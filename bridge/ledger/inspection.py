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
        """Count receipts, calls, deliveries and quarantine by state, failures by cause, and what is owed."""

    def balance(self, destination: str, sources: Sequence[str], window: Window) -> DestinationBalance:
        """Count calls under the headings of `ledger = delivered + skipped + parked + under_way`."""

    def source_counts(self, source: str, window: Window) -> SourceCounts:
        """Count a source's calls, its quarantined records and its erased calls."""

    def losses(self) -> list[Loss]:
        """The losses found so far, the oldest first: what was acknowledged and is no longer in the file."""

    def first_call_at(self, source: str | None = None) -> datetime | None:
        """The earliest creation time of a call (of this source); None without calls."""

    def list_calls(self, words: Sequence[str], limit: int) -> list[ListedCall]:
        """Calls whose name, phone or sn is one of `words` (all without any), newest first."""

    def show_call(self, call_id: int) -> CallHistory:
        """One call with its receipts, deliveries, attempts, CRM objects and known state."""

    def list_deliveries(
        self, state: str | None, destination: str | None, limit: int, cause: str = ""
    ) -> list[ListedDelivery]:
        """Deliveries with their calls, those changed last first.

        `cause` is a whole cause, or words that the reason or the cause contains.
        """
