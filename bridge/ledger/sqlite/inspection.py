"""The ledger's answers to people and metrics: each is read in one transaction, so it is of one moment."""

from collections.abc import Sequence
from datetime import UTC, datetime

from bridge.ledger.queries import (
    CallHistory,
    LedgerCounts,
    ListedCall,
    ListedDelivery,
    Loss,
    SourceCounts,
    Window,
)
from bridge.ledger.sqlite import (
    balances,
    call_history,
    operator_actions,
    status_counts,
)
from bridge.ledger.sqlite.access import Access, looks
from bridge.model.balance import DestinationBalance


class InspectionPart(Access):
    """See `bridge.ledger.InspectionLedger`, which says what each method promises."""

    @looks
    def counts(self) -> LedgerCounts:
        """Count everything that `status` and the metrics show, in one read transaction."""
        now = datetime.now(UTC)
        return self._of_one_moment(lambda c: status_counts.counts(c, now))

    @looks
    def balance(self, destination: str, sources: Sequence[str], window: Window) -> DestinationBalance:
        """Count the calls under each heading of a destination's balance in one statement."""
        return balances.balance(self._reader, destination, sources, window)

    @looks
    def source_counts(self, source: str, window: Window) -> SourceCounts:
        """Count the calls of a source, and its records in quarantine."""
        return balances.source_counts(self._reader, source, window)

    @looks
    def losses(self) -> list[Loss]:
        """Read the losses that were found when a daemon started."""
        return balances.losses(self._reader)

    @looks
    def first_call_at(self, source: str | None = None) -> datetime | None:
        """Read the earliest creation time of a call from the index."""
        return balances.first_call_at(self._reader, source)

    @looks
    def list_calls(self, words: Sequence[str], limit: int) -> list[ListedCall]:
        """Read the newest calls with one of these words as name, phone or sn."""
        return call_history.list_calls(self._reader, words, limit)

    @looks
    def show_call(self, call_id: int) -> CallHistory:
        """Read one call with its receipts, deliveries, attempts and CRM objects in one read transaction."""
        return self._of_one_moment(lambda c: call_history.show_call(c, self._payloads, call_id))

    @looks
    def list_deliveries(
        self, state: str | None, destination: str | None, limit: int, cause: str = ""
    ) -> list[ListedDelivery]:
        """Read deliveries with their calls; `cause` is looked for among causes first, then within reasons."""
        named: tuple[Sequence[str], tuple[str, Sequence[str]]] | None = None
        if cause:
            causes = operator_actions.matching_causes(self._reader, cause)
            named = causes, operator_actions.by_reason(cause, causes)
        return call_history.list_deliveries(self._reader, state, destination, limit, named)
