"""What people and metrics ask of a ledger: counts, balances, calls and deliveries. Nothing is written."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Window:
    """Calls by their `created_at`: `since` inclusive, `until` exclusive, None open."""

    since: datetime | None = None
    until: datetime | None = None


class InspectionLedger(Protocol):
    """Answers questions about the whole ledger, each of one moment."""

    def counts(self) -> Row:
        """Receipts, calls, deliveries, quarantine by state; failures by cause; what is owed, and its pace.

        Under `lists`, by source: `covered_until`, the `last` reconciliation, and `gaps`, the calls of the
        last day covered that only the list has told of.
        """

    def balance(self, destination: str, sources: Sequence[str], window: Window) -> dict[str, int]:
        """`ledger = delivered + skipped + parked + under_way`, of one moment."""

    def source_counts(self, source: str, window: Window) -> dict[str, int]:
        """Of one source: `ledger`, `quarantined`, `erased`."""

    def losses(self) -> list[Row]:
        """What had been acknowledged and is not here: `since_at`, `until_at`, how many `receipts` and more.

        Under `open`: the sources whose list has not been walked beyond `until_at` since.
        """

    def first_call_at(self, source: str | None = None) -> datetime | None:
        """When the first call of the ledger was created."""

    def list_calls(self, words: Sequence[str], limit: int) -> list[Row]:
        """Calls whose name, phone or sn is one of `words` (all without any), newest first."""

    def show_call(self, call_id: int) -> Row:
        """One call's whole history: receipts, deliveries, attempts, CRM ids, state."""

    def list_deliveries(
        self, state: str | None, destination: str | None, limit: int, cause: str = ""
    ) -> list[Row]:
        """Deliveries with their calls, those changed last first; of a cause, or those that hold its words."""
