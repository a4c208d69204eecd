"""The part of the SQLite ledger that stands beside the platform's list."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Any

from bridge.ledger.sqlite import list_standing, listing
from bridge.ledger.sqlite.access import Access, looks
from bridge.lib.errors import LedgerBusy
from bridge.model.calls import Arrival, Filed, Known
from bridge.model.listing import Coverage, MatchedRow, RowMatch, RowToFile, UnlistedCall, WindowStanding


class ReconciliationPart(Access):
    """See `bridge.ledger.ReconciliationLedger`, which says what each method promises."""

    @looks
    def newest_receipt(self) -> int:
        return listing.newest_receipt(self._reader)

    @looks
    def match_rows(self, source: str, arrivals: Sequence[Arrival]) -> list[RowMatch]:
        return listing.match_rows(self._reader, source, arrivals)

    @looks
    def known_states(self, call_ids: Sequence[int]) -> dict[int, Known]:
        return listing.known_states(self._reader, self._payloads, call_ids)

    def fill(self, source: str, fills: Sequence[RowToFile], asked_at: int) -> list[Filed | None]:
        if low := self._low_disk():
            raise LedgerBusy(low)
        return self._write().run(lambda c: listing.fill(c, self._payloads, source, fills, asked_at))

    def remember_listed(self, seen: Sequence[MatchedRow]) -> None:
        self._write().run(lambda c: listing.remember(c, seen))

    @looks
    def calls_between(self, source: str, since: datetime, until: datetime) -> set[int]:
        return set(listing.calls_between(self._reader, source, since, until))

    @looks
    def unlisted(self, call_ids: Iterable[int], fields: Collection[str]) -> list[UnlistedCall]:
        return listing.unlisted(self._reader, self._payloads, call_ids, fields)

    @looks
    def quarantined_rows(self, source: str) -> list[tuple[str, bytes]]:
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
        return self._of_one_moment(
            lambda c: list_standing.window_standing(
                c, self._payloads, source, window, known, unknown, destinations
            )
        )

    # -- how far --------------------------------------
    @looks
    def coverage(self, source: str, since: datetime, until: datetime) -> Coverage:
        return listing.coverage(self._reader, source, since, until)

    def finish_window(
        self,
        job_id: int,
        window: tuple[datetime, datetime],
        result: Mapping[str, Any],
        progress: Mapping[str, Any],
    ) -> None:
        self._write().run(lambda c: listing.finish_window(c, job_id, window, result, progress))

    @looks
    def finished_windows(self, job_id: int) -> list[tuple[datetime, datetime, Mapping[str, Any]]]:
        return listing.finished_windows(self._reader, job_id)
