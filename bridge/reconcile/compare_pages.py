"""Compares the pages of a walk with the ledger, and files what it lacks, as a callback would be filed."""

import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from bridge.ledger.reconciliation import ReconciliationLedger
from bridge.lib.iso_times import stamp
from bridge.model.calls import Filed
from bridge.model.listing import MatchedRow, RowMatch, RowToFile
from bridge.reconcile.counts import WindowCounts
from bridge.reconcile.coverage import ReconcileRules
from bridge.reconcile.diff import (
    DiffOutcome,
    ListedRow,
    compare_by_digest,
    compare_by_meaning,
    read_row,
    stray_key,
)
from bridge.reconcile.paging import RowIdentity
from bridge.reconcile.window import ListWindow

ROWS_AT_ONCE = 100
"""So many rows are read by meaning, or filed in one commit, at a time: callbacks have their turn between."""


@dataclass(frozen=True, slots=True)
class Host:
    """What a reconciliation needs of its process: the daemon, or a command where no daemon lives."""

    clock: Callable[[], datetime]
    stop: threading.Event
    catch_up: Callable[[], None]
    """Returns once all that has arrived has its verdict."""
    filed: Callable[[], None] = lambda: None
    """Called after rows were filed, which now wait for the judge."""


class _RowWithOutcome(NamedTuple):
    row: ListedRow
    place: RowMatch
    outcome: DiffOutcome


class PageComparer:
    """Compares the rows of each page with the ledger and files what is missing; see `RowConsumer`."""

    def __init__(
        self,
        rules: ReconcileRules,
        ledger: ReconciliationLedger,
        host: Host,
        go_on: Callable[[], None],
        *,
        dry_run: bool,
    ) -> None:
        """`go_on` raises where the walk shall end; `dry_run`: nothing is filed or remembered."""
        self._rules = rules
        self._ledger = ledger
        self._host = host
        self._go_on = go_on
        self._dry_run = dry_run
        self._asked_at = 0
        self._strays: set[str] | None = None
        self._undated: dict[str, str] = {}
        """Rows that do not say when they were created, and in which window they were seen first."""
        self._window = WindowCounts()

    def before_page(self) -> None:
        """Note the newest receipt before a page is asked for: later ones may be newer than the page."""
        self._go_on()
        self._asked_at = self._ledger.newest_receipt()

    def end_window(self, window: ListWindow) -> WindowCounts:
        """The counts of a window that has ended; rows of later windows count when those end."""
        ended, self._window = self._window.until(stamp(window.until))
        return ended

    def take_rows(self, window: ListWindow, rows: Sequence[bytes]) -> Sequence[RowIdentity]:
        """Compare the rows of a page with the ledger, and file what it lacks."""
        now = self._host.clock()
        listed = [read_row(self._rules.origin, row, now) for row in rows]
        to_compare: dict[Hashable, ListedRow] = {}
        for row in listed:
            if self._is_inside(window, row) and self._window.needs_comparing(row):
                state = _state_of(row)
                # An answer may show two states of one call with one stamp. The one with the lower digest
                # counts, so that each run chooses the same: else every run would find a revision.
                to_compare[state] = min(to_compare.get(state, row), row, key=lambda one: one.digest)
        if to_compare:
            self._compare(list(to_compare.values()))
        return [RowIdentity(row.key, row.arrival.created_at) for row in listed]

    def _is_inside(self, window: ListWindow, row: ListedRow) -> bool:
        since, until, created_at = stamp(window.since), stamp(window.until), row.arrival.created_at
        if created_at is None:
            # A row without a time may be shown in every window; it counts in the first only.
            return self._undated.setdefault(row.key, since) == since
        return since <= created_at < until

    def _compare(self, rows: Sequence[ListedRow]) -> None:
        placed = self._places(rows)
        unread: list[tuple[ListedRow, RowMatch]] = []
        fills: list[_RowWithOutcome] = []
        for row, place in zip(rows, placed, strict=True):
            listed = row if place.trouble is None else self._apart(row)
            outcome = compare_by_digest(listed, place, self._asked_at)
            self._window.entries[listed.key].call_id = place.call_id
            if listed.user is not None:
                self._window.users.add(listed.user)
            if outcome is None:
                unread.append((listed, place))
            elif outcome is DiffOutcome.MISSING or (
                outcome is DiffOutcome.CONFLICTING and listed.key not in self._known_strays()
            ):
                fills.append(_RowWithOutcome(listed, place, outcome))
            else:
                self._window.note(listed, outcome, place.detail)
        for start in range(0, len(fills), ROWS_AT_ONCE):
            self._fill(fills[start : start + ROWS_AT_ONCE])
        for start in range(0, len(unread), ROWS_AT_ONCE):
            self._read(unread[start : start + ROWS_AT_ONCE])

    def _apart(self, listed: ListedRow) -> ListedRow:
        """The row with a key of its own, because it belongs to no call, or to two."""
        apart = replace(listed, key=stray_key(listed.arrival.payload, self._rules.origin.dialect))
        self._window.needs_comparing(apart)
        return apart

    def _places(self, rows: Sequence[ListedRow]) -> list[RowMatch]:
        """Where the rows belong, once all that had arrived has its verdict."""
        arrivals = [listed.arrival for listed in rows]
        placed = self._ledger.match_rows(self._rules.name, arrivals)
        if all(place.judged for place in placed):
            return placed
        self._host.catch_up()
        return self._ledger.match_rows(self._rules.name, arrivals)

    def _read(self, unread: Sequence[tuple[ListedRow, RowMatch]]) -> None:
        """Compare rows with the known states of their calls."""
        known = self._ledger.known_states([place.call_id for _, place in unread if place.call_id is not None])
        fills: list[_RowWithOutcome] = []
        seen: list[MatchedRow] = []
        for listed, place in unread:
            state = known.get(place.call_id or 0)
            if state is None:
                # The judge could not read the call's only record, which now waits in quarantine for a person.
                self._window.note(listed, DiffOutcome.CONFLICTING, "its record in the ledger cannot be read")
                continue
            compared = compare_by_meaning(listed, state, self._rules.reads, self._rules.origin)
            if compared.adds:
                fills.append(_RowWithOutcome(listed, place, compared.outcome))
            else:
                self._window.note(listed, compared.outcome)
                assert place.call_id is not None  # noqa: S101 -- only known calls are read
                stale = compared.outcome is DiffOutcome.STALE
                seen.append(MatchedRow(place.call_id, place.newest, stale, listed.digest))
        if not self._dry_run:
            self._ledger.remember_listed(seen)
        self._fill(fills)

    def _fill(self, fills: Sequence[_RowWithOutcome]) -> None:
        """File rows, by the ledger's one door, unless their calls have changed meanwhile."""
        if not fills:
            return
        filed: Sequence[Filed | RowMatch | None] = [place for _, place, _ in fills]
        if not self._dry_run:
            wanted = [
                RowToFile(listed.arrival, listed.digest, outcome is DiffOutcome.MISSING)
                for listed, _, outcome in fills
            ]
            filed = self._ledger.fill(self._rules.name, wanted, self._asked_at)
            self._host.filed()
        for (listed, place, outcome), done in zip(fills, filed, strict=True):
            if done is None:
                self._window.note(listed, DiffOutcome.DEFERRED)
                continue
            if done.trouble is not None and outcome is not DiffOutcome.CONFLICTING:
                apart = self._apart(listed)
                self._window.note(apart, DiffOutcome.CONFLICTING, f"quarantined as {done.trouble}")
                self._known_strays().add(apart.key)
                continue
            self._window.note(listed, outcome, place.detail or str(place.trouble or ""))
            entry = self._window.entries[listed.key]
            entry.call_id = done.call_id
            entry.filled = entry.filled or (outcome is DiffOutcome.MISSING and not self._dry_run)
            if outcome is DiffOutcome.CONFLICTING:
                self._known_strays().add(listed.key)

    def _known_strays(self) -> set[str]:
        """The keys of this source's records that are in quarantine already, read once for each run."""
        if self._strays is None:
            dialect, strays = self._rules.origin.dialect, self._ledger.quarantined_rows(self._rules.name)
            self._strays = {stray_key(body, dialect) for _, body in strays}
        return self._strays


def _state_of(listed: ListedRow) -> Hashable:
    """What tells the rows of one answer apart: the call and its stamp, or the text of a row without one."""
    arrival = listed.arrival
    if arrival.names or (arrival.sn and arrival.local_time and arrival.trouble is None):
        return listed.key, listed.edited_at
    return listed.digest
