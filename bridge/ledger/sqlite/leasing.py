"""Leases: which delivery a worker gets next, and what becomes of a lease with which nothing was done."""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from bridge.ledger.sqlite.binding import marks
from bridge.ledger.sqlite.delivery_rows import DeliveryRow, change_deliveries, read_deliveries
from bridge.ledger.sqlite.judging import state_of
from bridge.ledger.sqlite.payloads import Payloads
from bridge.ledger.sqlite.progress_packing import progress_of, sent_at
from bridge.ledger.sqlite.times import IS_DUE, micros, moment_of
from bridge.model.deliveries import DeliveryState, Lane, Lease
from bridge.model.delivery_rules import given_back, released, unreadable

Wish = tuple[tuple[str, ...], tuple[str, ...], datetime]
"""What a worker asks for: any delivery to these destinations, from these sources, that is due by then."""


def release_leases(connection: sqlite3.Connection, now: datetime | None = None) -> int:
    """Make a dead daemon's leases due again, and its jobs requested again; returns how many leases."""
    # `deliveries_open` is a partial index: SQLite uses it only where the query repeats its condition.
    leased_rows = read_deliveries(connection, "state = 'leased' AND state <> 'delivered'")
    changed = [replace(row, delivery=released(row.delivery)) for row in leased_rows]
    if now is not None:
        waiting = read_deliveries(connection, "state = 'due' AND progress IS NOT NULL")
        changed = [_sent_now(row, now) for row in (*changed, *waiting)]
    change_deliveries(connection, changed)
    # A backup that was interrupted is not made later: this file may be that very backup, put back in place.
    connection.execute(
        "UPDATE runs SET state = 'failed', result = ?, ended_at = started_at"
        " WHERE state = 'running' AND kind = 'backup'",
        (json.dumps({"error": "callbridge stopped, and the copy was not done yet: ask for it again"}),),
    )
    connection.execute("UPDATE runs SET state = 'requested' WHERE state = 'running'")
    return len(leased_rows)


def _sent_now(row: DeliveryRow, now: datetime) -> DeliveryRow:
    if row.progress is None or not row.delivery.in_doubt:
        return row
    return replace(row, progress=sent_at(row.progress, now))


def any_due(connection: sqlite3.Connection, destinations: Sequence[str], now: datetime) -> bool:
    """Whether `lease_each` would find a delivery to one of these destinations."""
    sql = (
        "SELECT EXISTS (SELECT 1 FROM deliveries"
        f" WHERE state = 'due' AND destination IN ({marks(destinations)}) AND {IS_DUE.format('due_at', '?')})"
    )
    return bool(connection.execute(sql, (*destinations, micros(now), micros(now))).fetchone()[0])


# CROSS JOIN makes SQLite begin with the deliveries that are due. Left to choose, it walks all calls of the
# source: with 1,000,000 calls a lease took 2.6 s instead of 2 ms.
_DUE = f"""
SELECT d.id, d.call_id, d.destination, d.wanted, d.tries, d.owed_at, d.progress, d.lane, d.called_at,
       d.person,
       c.key, c.source, c.first_seen_at, c.state, s.codec AS state_codec, s.body AS state_body,
       EXISTS (SELECT 1 FROM delivery_objects o WHERE o.delivery_id = d.id) AS feeds
FROM deliveries d
CROSS JOIN calls c ON c.id = d.call_id
LEFT JOIN payloads s ON s.receipt_id = c.state_receipt
WHERE d.state = 'due' AND {IS_DUE.format("d.due_at", "?")} AND d.destination = ? AND c.source IN ({{}})
ORDER BY d.lane, d.called_at LIMIT ?
"""


def lease_each(connection: sqlite3.Connection, wishes: Sequence[Wish]) -> list[sqlite3.Row | None]:
    """Lease the next due delivery to each worker that asks; None for those for whom there is none.

    One query for all workers with the same wish: sixteen queries would each wait for the interpreter's lock.
    """
    asked: dict[tuple[tuple[str, ...], tuple[str, ...]], list[int]] = {}
    for place, (destinations, sources, _) in enumerate(wishes):
        asked.setdefault((destinations, sources), []).append(place)
    given: list[sqlite3.Row | None] = [None] * len(wishes)
    for (destinations, sources), places in asked.items():
        now = max(wishes[place][2] for place in places)
        due = [
            row
            for destination in destinations
            for row in _first_due(connection, destination, sources, now, len(places))
        ]
        due.sort(key=lambda row: (row["lane"], row["called_at"] or 0))
        taken = due[: len(places)]
        _mark_leased(connection, taken, now)
        for place, row in zip(places, taken, strict=False):
            given[place] = row
    return given


def lease_more(
    connection: sqlite3.Connection, destination: str, sources: Sequence[str], now: datetime, limit: int
) -> list[sqlite3.Row]:
    """Lease up to `limit` deliveries to one destination, in the same order as single leases."""
    rows = _first_due(connection, destination, sources, now, limit)
    _mark_leased(connection, rows, now)
    return rows


def _first_due(
    connection: sqlite3.Connection, destination: str, sources: Sequence[str], now: datetime, limit: int
) -> list[sqlite3.Row]:
    return connection.execute(
        _DUE.format(marks(sources)), (micros(now), micros(now), destination, *sources, limit)
    ).fetchall()


def _mark_leased(connection: sqlite3.Connection, rows: Sequence[sqlite3.Row], now: datetime) -> None:
    if rows:
        connection.execute(
            "UPDATE deliveries SET state = 'leased', tries = tries + 1, changed_at = ?"
            f" WHERE id IN ({marks(rows)})",
            (micros(now), *(row["id"] for row in rows)),
        )


def lease_of(payloads: Payloads, row: sqlite3.Row, previous: Sequence[tuple[str, str]] = ()) -> Lease:
    """The lease that a row of `lease_each` describes, with its call's known state decoded."""
    return Lease(
        delivery_id=row["id"],
        call_id=row["call_id"],
        key=row["key"],
        source=row["source"],
        destination=row["destination"],
        revision=row["wanted"],
        attempt=row["tries"] + 1,
        owed_at=moment_of(row["owed_at"]),
        first_seen_at=moment_of(row["first_seen_at"]),
        values=state_of(payloads, row),
        progress=progress_of(row["progress"]),
        previous=tuple(previous),
        lane=Lane(row["lane"]),
        held=row["person"] is not None,
    )


def park(connection: sqlite3.Connection, delivery_id: int, reason: str, now: datetime) -> None:
    """Park a leased delivery whose record cannot be read."""
    rows = _if_leased(connection, delivery_id)
    change_deliveries(
        connection, [replace(row, delivery=unreadable(row.delivery, reason, now)) for row in rows]
    )


def give_back(connection: sqlite3.Connection, lease: Lease, due_at: datetime) -> bool:
    """End a lease with which nothing was done; True: the delivery is due again."""
    rows = [
        replace(row, delivery=given_back(row.delivery, due_at))
        for row in _if_leased(connection, lease.delivery_id)
    ]
    change_deliveries(connection, rows)
    return any(row.delivery.state is DeliveryState.DUE for row in rows)


def _if_leased(connection: sqlite3.Connection, delivery_id: int) -> list[DeliveryRow]:
    return read_deliveries(connection, "id = ? AND state = 'leased'", delivery_id)
