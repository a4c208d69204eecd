"""The ledger's part for those who look: each answer is of one moment."""

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
        now = datetime.now(UTC)
        return self._of_one_moment(lambda c: status_counts.counts(c, now))

    @looks
    def balance(self, destination: str, sources: Sequence[str], window: Window) -> DestinationBalance:
        return balances.balance(self._reader, destination, sources, window)

    @looks
    def source_counts(self, source: str, window: Window) -> SourceCounts:
        return balances.source_counts(self._reader, source, window)

    @looks
    def losses(self) -> list[Loss]:
        return balances.losses(self._reader)

    @looks
    def first_call_at(self, source: str | None = None) -> datetime | None:
        return balances.first_call_at(self._reader, source)

    @looks
    def list_calls(self, words: Sequence[str], limit: int) -> list[ListedCall]:
        return call_history.list_calls(self._reader, words, limit)

    @looks
    def show_call(self, call_id: int) -> CallHistory:
        return self._of_one_moment(lambda c: call_history.show_call(c, self._payloads, call_id))

    @looks
    def list_deliveries(
        self, state: str | None, destination: str | None, limit: int, cause: str = ""
    ) -> list[ListedDelivery]:
        named: tuple[Sequence[str], tuple[str, Sequence[str]]] | None = None
        if cause:
            causes = operator_actions.matching_causes(self._reader, cause)
            named = causes, operator_actions.by_reason(cause, causes)
        return call_history.list_deliveries(self._reader, state, destination, limit, named)
