"""How the ledger's calls stand beside the platform's list: those of a window, and each source as a whole."""

import sqlite3
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta

from bridge.ledger.queries import GapRate, LastReconciliation, ListStanding, Window
from bridge.ledger.sqlite import balances, listing
from bridge.ledger.sqlite.payloads import Payloads
from bridge.ledger.sqlite.times import at_or_none, micros, model_of
from bridge.model.calls import Arrival
from bridge.model.listing import WindowStanding

MATCHED_AT_ONCE = 1000
"""Rows that are looked for in one statement."""
GAPS_OF = timedelta(hours=24)
"""The gap rate is that of the calls created in the last 24 hours that are covered."""


def window_standing(
    connection: sqlite3.Connection,
    payloads: Payloads,
    source: str,
    window: tuple[datetime, datetime],
    known: AbstractSet[int],
    unknown: Sequence[Arrival],
    destinations: Sequence[str],
) -> WindowStanding:
    """Count both sides of a window; the caller's transaction makes all of it one moment."""
    come, left = _looked_for_again(connection, source, unknown)
    # `known` may hold a million ids, so it is copied only where there is something to add.
    found = come.union(known) if come else known
    listed, unlisted = 0, []
    for call_id in listing.calls_between(connection, source, *window):
        if call_id in found:
            listed += 1
        else:
            unlisted.append(call_id)
    elsewhere: list[int] = []
    if listed < len(found):
        # The list shows these in the window; the ledger has another creation time for them, or none.
        elsewhere = sorted(set(found).difference(listing.calls_between(connection, source, *window)))
    by_destination = {}
    for name in destinations:
        by_destination[name] = balances.balance(connection, name, [source], Window(*window))
        if elsewhere:
            by_destination[name] += balances.balance_of(connection, name, source, elsewhere)
    return WindowStanding(
        known=frozenset(come),
        unknown=left,
        quarantined=list(listing.quarantined_rows(connection, payloads, source)) if left else (),
        ledger=len(found) + len(unlisted),
        listed=listed,
        unlisted=unlisted,
        destinations=by_destination,
    )


_RESULTS = ("complete", "seen", "missing", "revised", "conflicting", "filled", "error")
_LISTS = f"""
SELECT v.source, v.covered_at, r.id, r.state, r.ended_at,
       {", ".join(f"json_extract(r.result, '$.{name}') AS {name}" for name in _RESULTS)}
FROM coverage v LEFT JOIN runs r ON r.id = v.run_id WHERE v.source <> '' ORDER BY v.source
"""


def lists(connection: sqlite3.Connection, now: datetime) -> dict[str, ListStanding]:
    """How far each source's list is covered, what came of the last reconciliation, and the gap rate."""
    found: dict[str, ListStanding] = {}
    for row in connection.execute(_LISTS).fetchall():
        covered_at = row["covered_at"]
        if covered_at is not None and covered_at > micros(now):
            # A coverage in the future was written while the clock was wrong; the next walk corrects it.
            covered_at = None
        until = at_or_none(covered_at)
        found[row["source"]] = ListStanding(
            last=None if row["id"] is None else _last(row),
            covered_until=until,
            gaps=None if until is None else _gaps(connection, row["source"], until),
        )
    return found


def _last(row: sqlite3.Row) -> LastReconciliation:
    complete = row["complete"]
    return model_of(LastReconciliation, row, complete=None if complete is None else bool(complete))


def _gaps(connection: sqlite3.Connection, source: str, until: datetime) -> GapRate:
    """Of the calls of the last covered day, how many came by the list alone."""
    coverage = listing.coverage(connection, source, until - GAPS_OF, until)
    rate = coverage.gaps / coverage.calls if coverage.calls else 0.0
    return GapRate(until - GAPS_OF, until, coverage.calls, coverage.gaps, round(rate, 6))


def _looked_for_again(
    connection: sqlite3.Connection, source: str, unknown: Sequence[Arrival]
) -> tuple[set[int], list[int]]:
    """The calls of rows that have arrived since, and the indexes of the rows whose calls have not."""
    come, left = set(), []
    for start in range(0, len(unknown), MATCHED_AT_ONCE):
        part = unknown[start : start + MATCHED_AT_ONCE]
        for place, found in enumerate(listing.match_rows(connection, source, part), start):
            if found.call_id is None:
                left.append(place)
            else:
                come.add(found.call_id)
    return come, left
