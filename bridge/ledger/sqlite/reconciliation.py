"""The part of the SQLite ledger that stands beside the platform's list."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Any

from bridge.ledger import Row
from bridge.ledger.sqlite import deliveries, listing, standing
from bridge.ledger.sqlite.access import Access, looks
from bridge.lib.errors import LedgerBusy
from bridge.model.calls import Arrival, Filed, Known
from bridge.model.listing import Coverage, Fill, Place, Seen, Standing, Unlisted


class ReconciliationPart(Access):
    """See `bridge.ledger.ReconciliationLedger`, which says what each method promises."""

    def _low_disk(self) -> str:
        """Why nothing is taken in; empty where there is room."""
        raise NotImplementedError

    @looks
    def newest_receipt(self) -> int:
        return listing.newest_receipt(self._reader)

    @looks
    def places(self, source: str, arrivals: Sequence[Arrival]) -> list[Place]:
        return listing.places(self._reader, source, arrivals)

    @looks
    def known_states(self, call_ids: Sequence[int]) -> dict[int, Known]:
        return listing.known_states(self._reader, self._payloads, call_ids)

    def fill(self, source: str, fills: Sequence[Fill], asked_at: int) -> list[Filed | None]:
        if low := self._low_disk():
            raise LedgerBusy(low)
        return self._write().run(lambda c: listing.fill(c, self._payloads, source, fills, asked_at))

    def remember_listed(self, seen: Sequence[Seen]) -> None:
        self._write().run(lambda c: listing.remember(c, seen))

    @looks
    def calls_between(self, source: str, since: datetime, until: datetime) -> set[int]:
        return set(listing.calls_between(self._reader, source, since, until))

    @looks
    def unlisted(self, call_ids: Iterable[int]) -> list[Unlisted]:
        return listing.unlisted(self._reader, self._payloads, call_ids)

    @looks
    def strays(self, source: str) -> list[tuple[str, bytes]]:
        return list(listing.strays(self._reader, self._payloads, source))

    @looks
    def standing(
        self,
        source: str,
        window: tuple[datetime, datetime],
        known: AbstractSet[int],
        unknown: Sequence[Arrival],
        destinations: Sequence[str],
    ) -> Standing:
        return self._of_one_moment(
            lambda c: standing.standing(c, self._payloads, source, window, known, unknown, destinations)
        )

    # -- how far, and the runs that go there --------------------------------------
    @looks
    def coverage(self, source: str, since: datetime, until: datetime) -> Coverage:
        return listing.coverage(self._reader, source, since, until)

    def finish_window(
        self,
        run_id: int,
        window: tuple[datetime, datetime],
        result: Mapping[str, Any],
        progress: Mapping[str, Any],
    ) -> None:
        self._write().run(lambda c: listing.finish_window(c, run_id, window, result, progress))

    @looks
    def finished_windows(self, run_id: int) -> list[tuple[datetime, datetime, Mapping[str, Any]]]:
        return listing.finished_windows(self._reader, run_id)

    def take_walk(self, source: str, sources: Sequence[str], now: datetime) -> Row | None:
        if not self.any_walk():
            return None
        return self._write().run(lambda c: listing.take_walk(c, source, sources, now))

    @looks
    def any_walk(self) -> bool:
        return listing.any_walk(self._reader)

    def end_walk(
        self,
        run_id: int,
        state: str,
        result: Mapping[str, Any],
        source: str,
        covered_until: datetime | None,
        now: datetime,
    ) -> None:
        def end(connection: sqlite3.Connection) -> None:
            deliveries.end_run(connection, run_id, state, result, now)
            listing.end_walk(connection, run_id, source, covered_until, now)

        self._write().run(end)

    @looks
    def open_walks(self, source: str) -> list[Row]:
        return listing.open_walks(self._reader, source)

    @looks
    def last_walk(self, source: str, trigger: str) -> datetime | None:
        return listing.last_walk(self._reader, source, trigger)

    def note_run(self, run_id: int, progress: Mapping[str, Any]) -> None:
        self._write().run(lambda c: listing.note_run(c, run_id, progress))

    def cancel_run(self, run_id: int, now: datetime) -> None:
        self._write().run(lambda c: listing.cancel_run(c, run_id, now))

    @looks
    def is_cancelled(self, run_id: int) -> bool:
        return listing.is_cancelled(self._reader, run_id)
