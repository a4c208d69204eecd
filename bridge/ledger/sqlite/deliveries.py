"""What is owed to destinations: leasing, settling, trying again; and operators' runs."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from bridge.ledger import Destinations, Row
from bridge.ledger.sqlite.judging import state_of
from bridge.ledger.sqlite.objects import packed_progress, progress_of, remember
from bridge.ledger.sqlite.payloads import Payloads
from bridge.ledger.sqlite.times import micros, moment_of, row_of
from bridge.model import DeliveryState, Lane, Lease, Settlement


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
        " SELECT id, ?, 'skipped', revision, 'before this destination', coalesce(started_at, created_at), ?"
        " FROM calls c"
        " WHERE source = ? AND NOT EXISTS"
        " (SELECT 1 FROM deliveries d WHERE d.call_id = c.id AND d.destination = ?)"
        # What still waits for its verdict is delivered or skipped by it.
        " AND NOT EXISTS (SELECT 1 FROM receipts r WHERE r.call_id = c.id AND r.verdict IS NULL)",
        (name, at, source, name),
    )


def release_leases(connection: sqlite3.Connection) -> int:
    """Leases of a daemon that is dead are simply due again, and its runs asked for again."""
    connection.execute("UPDATE runs SET state = 'requested' WHERE state = 'running'")
    return connection.execute(
        # Said twice, because a partial index is found by its own words only.
        "UPDATE deliveries SET state = 'due', due_at = changed_at"
        " WHERE state = 'leased' AND state <> 'delivered'"
    ).rowcount


def any_due(connection: sqlite3.Connection, destinations: Sequence[str], now: datetime) -> bool:
    """Whether a lease may find something."""
    sql = (
        "SELECT EXISTS (SELECT 1 FROM deliveries"
        f" WHERE state = 'due' AND destination IN ({marks(destinations)}) AND due_at <= ?)"
    )
    return bool(connection.execute(sql, (*destinations, micros(now))).fetchone()[0])


# CROSS JOIN keeps SQLite from walking all calls of a source for the few that are due.
_DUE = """
SELECT d.id, d.call_id, d.destination, d.wanted, d.tries, d.owed_at, d.progress, d.lane, d.called_at,
       c.key, c.source, c.state, s.codec AS state_codec, s.body AS state_body
FROM deliveries d
CROSS JOIN calls c ON c.id = d.call_id
LEFT JOIN payloads s ON s.receipt_id = c.state_receipt
WHERE d.state = 'due' AND d.due_at <= ? AND d.destination = ? AND c.source IN ({})
ORDER BY d.lane, d.called_at LIMIT ?
"""


def beat(connection: sqlite3.Connection) -> None:
    """A commit that writes something, however little."""
    connection.execute("INSERT INTO heartbeat VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET beats = beats + 1")


def lease(
    connection: sqlite3.Connection, destinations: Sequence[str], sources: Sequence[str], now: datetime
) -> sqlite3.Row | None:
    """Take the first that is due: by lane, then by the call's own time."""
    at = micros(now)
    rows = [
        connection.execute(_DUE.format(marks(sources)), (at, destination, *sources, 1)).fetchone()
        for destination in destinations
    ]
    due = [row for row in rows if row is not None]
    if not due:
        return None
    row: sqlite3.Row = min(due, key=lambda row: (row["lane"], row["called_at"] or 0))
    connection.execute(
        "UPDATE deliveries SET state = 'leased', tries = tries + 1, changed_at = ? WHERE id = ?",
        (at, row["id"]),
    )
    return row


def lease_more(
    connection: sqlite3.Connection, destination: str, sources: Sequence[str], now: datetime, limit: int
) -> list[sqlite3.Row]:
    """Take up to `limit` of one destination, in the order in which they would be taken alone."""
    at = micros(now)
    rows = connection.execute(_DUE.format(marks(sources)), (at, destination, *sources, limit)).fetchall()
    connection.executemany(
        "UPDATE deliveries SET state = 'leased', tries = tries + 1, changed_at = ? WHERE id = ?",
        [(at, row["id"]) for row in rows],
    )
    return rows


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
        values=state_of(payloads, row),
        progress=progress_of(row["progress"]),
        previous=tuple(previous),
        lane=Lane(row["lane"]),
    )


def park(connection: sqlite3.Connection, delivery_id: int, reason: str, now: datetime) -> None:
    """A leased delivery that cannot even be attempted waits for a person."""
    connection.execute(
        "UPDATE deliveries SET state = 'parked', due_at = NULL, reason = ?, cause = 'unreadable record',"
        " changed_at = ? WHERE id = ? AND state = 'leased'",
        (reason, micros(now), delivery_id),
    )


def give_back(connection: sqlite3.Connection, lease: Lease, due_at: datetime) -> None:
    """A lease that nothing was done with: another delivery holds one of its lines."""
    connection.execute(
        "UPDATE deliveries SET state = 'due', due_at = ?, tries = tries - 1"
        " WHERE id = ? AND state = 'leased'",
        (micros(due_at), lease.delivery_id),
    )


def settle(
    connection: sqlite3.Connection,
    lease: Lease,
    settlement: Settlement,
    started_at: datetime,
    now: datetime,
) -> None:
    """End an attempt; only the worker that holds the lease may."""
    row = connection.execute(
        "SELECT wanted FROM deliveries WHERE id = ? AND state = 'leased'", (lease.delivery_id,)
    ).fetchone()
    if row is None:
        return
    at = micros(now)
    outdated = row["wanted"] > lease.revision
    state, due_at = settlement.state, micros(settlement.due_at)
    if outdated:
        state, due_at = DeliveryState.DUE, at
    connection.execute(
        "UPDATE deliveries SET state = ?, due_at = ?, reason = ?, cause = ?, changed_at = ?,"
        " delivered = coalesce(?, delivered), tries = CASE WHEN ? THEN 0 ELSE tries END, progress = ?,"
        " lane = CASE WHEN ? = 'due' THEN max(lane, ?) ELSE lane END WHERE id = ?",
        (
            state,
            due_at,
            None if outdated else settlement.reason or None,
            None if outdated else settlement.cause or None,
            at,
            lease.revision if settlement.state is DeliveryState.DELIVERED else None,
            outdated,
            packed_progress(settlement.account, settlement.progress, settlement.lines),
            state,
            Lane.LIVE if outdated else Lane.RETRY,
            lease.delivery_id,
        ),
    )
    remember(connection, lease, settlement.account, settlement.done)
    _write_attempt(connection, lease, settlement, micros(started_at), at)


def _write_attempt(
    connection: sqlite3.Connection, lease: Lease, settlement: Settlement, started_at: int, at: int
) -> None:
    connection.execute(
        "INSERT INTO attempts (delivery_id, revision, started_at, ended_at, outcome, detail)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (lease.delivery_id, lease.revision, started_at, at, settlement.state, settlement.reason or None),
    )


def retry(connection: sqlite3.Connection, ids: Sequence[int], now: datetime) -> int:
    """Parked or waiting deliveries become due now; without ids all that are parked."""
    at = micros(now)
    which = f"id IN ({marks(ids)}) AND state IN ('parked', 'due')" if ids else "state = 'parked'"
    return connection.execute(
        "UPDATE deliveries SET state = 'due', due_at = ?, owed_at = ?, tries = 0, lane = max(lane, 1),"
        f" changed_at = ? WHERE {which} AND wanted > 0",
        (at, at, at, *ids),
    ).rowcount


def request_run(connection: sqlite3.Connection, kind: str, args: Mapping[str, Any], now: datetime) -> int:
    """One row of work for the daemon."""
    run_id = connection.execute(
        "INSERT INTO runs (kind, args, state, requested_at) VALUES (?, ?, 'requested', ?)",
        (kind, json.dumps(args), micros(now)),
    ).lastrowid
    assert run_id is not None  # noqa: S101 -- for the type checker: an INSERT has a row id
    return run_id


def take_run(connection: sqlite3.Connection, now: datetime) -> Row | None:
    """The oldest requested run, now running."""
    row = connection.execute(
        "UPDATE runs SET state = 'running', started_at = ? WHERE id ="
        " (SELECT min(id) FROM runs WHERE state = 'requested') RETURNING *",
        (micros(now),),
    ).fetchone()
    return None if row is None else run_row(row)


def end_run(
    connection: sqlite3.Connection, run_id: int, state: str, result: Mapping[str, Any], now: datetime
) -> None:
    """What came of a run."""
    connection.execute(
        "UPDATE runs SET state = ?, result = ?, ended_at = ? WHERE id = ?",
        (state, json.dumps(result), micros(now), run_id),
    )


def run_row(row: sqlite3.Row) -> Row:
    """A run with its JSON read; its args are None where they are no JSON."""
    run = row_of(row)
    try:
        run["args"] = json.loads(run["args"])
    except ValueError:
        run["args"] = None
    run["result"] = json.loads(run["result"]) if run["result"] else None
    return run
