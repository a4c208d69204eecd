"""What a walk through the platform's list reads from the SQLite ledger, and keeps in it."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Any

from bridge.ledger.reconciliation import FinishedWindow
from bridge.ledger.sqlite import list_standing, listing
from bridge.ledger.sqlite.access import Access, looks
from bridge.lib.errors import LedgerBusy
from bridge.model.calls import Arrival, Filed, Known
from bridge.model.listing import Coverage, MatchedRow, RowMatch, RowToFile, UnlistedCall, WindowStanding


class ReconciliationPart(Access):
    """See `bridge.ledger.ReconciliationLedger`, which says what each method promises."""

    @looks
    def newest_receipt(self) -> int:
        """Read the highest receipt number."""
        return listing.newest_receipt(self._reader)

    @looks
    def match_rows(self, source: str, arrivals: Sequence[Arrival]) -> list[RowMatch]:
        """Read where the door would file these rows."""
        return listing.match_rows(self._reader, source, arrivals)

    @looks
    def known_states(self, call_ids: Sequence[int]) -> dict[int, Known]:
        """Read and unpack the known states of these calls."""
        return listing.known_states(self._reader, self._payloads, call_ids)

    def fill(self, source: str, fills: Sequence[RowToFile], asked_at: int) -> list[Filed | None]:
        """File listed rows in one commit; raises `LedgerBusy` where the disk is too full."""
        if low := self._low_disk():
            raise LedgerBusy(low)
        return self._write().run(lambda c: listing.fill(c, self._payloads, source, fills, asked_at))

    def remember_listed(self, seen: Sequence[MatchedRow]) -> None:
        """Keep the digests of rows that said nothing new, in one commit."""
        self._write().run(lambda c: listing.remember(c, seen))

    @looks
    def calls_between(self, source: str, since: datetime, until: datetime) -> set[int]:
        """Read the ids of the calls created in a window."""
        return set(listing.calls_between(self._reader, source, since, until))

    @looks
    def unlisted(self, call_ids: Iterable[int], fields: Collection[str]) -> list[UnlistedCall]:
        """Read what may explain that the list does not show these calls."""
        return listing.unlisted(self._reader, self._payloads, call_ids, fields)

    @looks
    def quarantined_rows(self, source: str) -> list[tuple[str, bytes]]:
        """Read and unpack what quarantine holds of a source."""
        return list(listing.quarantined_rows(self._reader, self._payloads, source))

    @looks
    def window_standing(
        self,
        source: str,
        window: tuple[datetime, datetime],
        known: AbstractSet[int],
        unknown: Sequence[Arrival],
        destinations: Sequence[str],
    ) -> WindowStanding:
        """Count both sides of a window in one read transaction."""
        return self._of_one_moment(
            lambda c: list_standing.window_standing(
                c, self._payloads, source, window, known, unknown, destinations
            )
        )

    # -- how far --------------------------------------
    @looks
    def coverage(self, source: str, since: datetime, until: datetime) -> Coverage:
        """Read how far a source is covered, and its gaps in a window."""
        return listing.coverage(self._reader, source, since, until)

    def finish_window(
        self,
        job_id: int,
        window: tuple[datetime, datetime],
        result: Mapping[str, Any],
        progress: Mapping[str, Any],
    ) -> None:
        """Keep a finished window and the walk's progress in one commit."""
        self._write().run(lambda c: listing.finish_window(c, job_id, window, result, progress))

    @looks
    def finished_windows(self, job_id: int) -> list[FinishedWindow]:
        """Read the windows that a walk has finished."""
        return listing.finished_windows(self._reader, job_id)
