"""What is owed to destinations: leasing, settling, trying again."""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from bridge.ledger import Destinations
from bridge.ledger.sqlite.crm_objects import progress_of, sent_at
from bridge.ledger.sqlite.delivery_rows import DeliveryRow, change_deliveries, read_deliveries
from bridge.ledger.sqlite.judging import state_of
from bridge.ledger.sqlite.payloads import Payloads
from bridge.ledger.sqlite.times import IS_AHEAD, IS_DUE, micros, moment_of
from bridge.model.deliveries import DeliveryState, Lane, Lease
from bridge.model.delivery_rules import BEFORE_DESTINATION, given_back, released, unreadable

Wish = tuple[tuple[str, ...], tuple[str, ...], datetime]
"""What a worker may take: of these destinations and sources, what is due by then."""


def marks(values: Sequence[Any]) -> str:
    """`?, ?, ?` for an IN list."""
    return ", ".join("?" * len(values))


def start_destinations(connection: sqlite3.Connection, destinations: Destinations, now: datetime) -> None:
    """Register destinations; the calls that were there before a later one are skipped for it."""
    at = micros(now)
    fresh = connection.execute("SELECT NOT EXISTS (SELECT 1 FROM calls)").fetchone()[0]
    routes = {(source, name) for source, names in destinations.items() for name in names}
    known = {(row[0], row[1]) for row in connection.execute("SELECT source, destination FROM routes")}
    for source, name in sorted(routes - known):
        connection.execute(
            "INSERT INTO destinations VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (name, at, None if fresh else at),
        )
        if not fresh:
            _skip_earlier_calls(connection, source, name, at)
    connection.execute("DELETE FROM routes")
    connection.executemany("INSERT INTO routes VALUES (?, ?)", sorted(routes))


def _skip_earlier_calls(connection: sqlite3.Connection, source: str, name: str, at: int) -> None:
    connection.execute(
        "INSERT INTO deliveries (call_id, destination, state, wanted, reason, called_at, changed_at)"
        f" SELECT id, ?, 'skipped', revision, '{BEFORE_DESTINATION}', iif({IS_AHEAD}, first_seen_at,"
        " coalesce(started_at, created_at)), ?"
        " FROM calls c"
        " WHERE source = ? AND NOT EXISTS"
        " (SELECT 1 FROM deliveries d WHERE d.call_id = c.id AND d.destination = ?)"
        # What still waits for its verdict is delivered or skipped by it.
        " AND NOT EXISTS (SELECT 1 FROM receipts r WHERE r.call_id = c.id AND r.verdict IS NULL)",
        (name, at, source, name),
    )


def release_leases(connection: sqlite3.Connection, now: datetime | None = None) -> int:
    """Leases of a daemon that is dead are simply due again, and its runs asked for again."""
    # Said twice, because a partial index is found by its own words only.
    leased_rows = read_deliveries(connection, "state = 'leased' AND state <> 'delivered'")
    changed = [replace(row, delivery=released(row.delivery)) for row in leased_rows]
    if now is not None:
        waiting = read_deliveries(connection, "state = 'due' AND progress IS NOT NULL")
        changed = [_sent_now(row, now) for row in (*changed, *waiting)]
    change_deliveries(connection, changed)
    # A copy that was cut short is not made later, and perhaps over another: its ledger may be that copy.
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
    """Whether a lease may find something."""
    sql = (
        "SELECT EXISTS (SELECT 1 FROM deliveries"
        f" WHERE state = 'due' AND destination IN ({marks(destinations)}) AND {IS_DUE.format('due_at', '?')})"
    )
    return bool(connection.execute(sql, (*destinations, micros(now), micros(now))).fetchone()[0])


# CROSS JOIN keeps SQLite from walking all calls of a source for the few that are due.
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


def beat(connection: sqlite3.Connection) -> None:
    """A commit that writes something, however little."""
    connection.execute("INSERT INTO heartbeat VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET beats = beats + 1")


def lease_each(connection: sqlite3.Connection, wishes: Sequence[Wish]) -> list[sqlite3.Row | None]:
    """For each who asks the first that is due: by lane, then by the call's own time."""
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
    """Take up to `limit` of one destination, in the order in which they would be taken alone."""
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
    """The lease that a row describes, its state decoded."""
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
    """A leased delivery that cannot even be attempted waits for a person."""
    rows = _still_leased(connection, delivery_id)
    change_deliveries(
        connection, [replace(row, delivery=unreadable(row.delivery, reason, now)) for row in rows]
    )


def give_back(connection: sqlite3.Connection, lease: Lease, due_at: datetime) -> bool:
    """A lease that nothing was done with, because another holds one of its lines; whether it is due again."""
    rows = [
        replace(row, delivery=given_back(row.delivery, due_at))
        for row in _still_leased(connection, lease.delivery_id)
    ]
    change_deliveries(connection, rows)
    return any(row.delivery.state is DeliveryState.DUE for row in rows)


def _still_leased(connection: sqlite3.Connection, delivery_id: int) -> list[DeliveryRow]:
    return read_deliveries(connection, "id = ? AND state = 'leased'", delivery_id)
