"""The destinations: since when each exists, and which sources' calls go to it."""

import sqlite3
from datetime import datetime

from bridge.ledger import Destinations
from bridge.ledger.sqlite.times import IS_AHEAD, micros, moment_of
from bridge.model.skip_reasons import BEFORE_DESTINATION


def start_destinations(connection: sqlite3.Connection, destinations: Destinations, now: datetime) -> None:
    """Register what the configuration names; a destination added later skips the calls that are there."""
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
        # A call that still waits for a verdict is delivered or skipped by that verdict.
        " AND NOT EXISTS (SELECT 1 FROM receipts r WHERE r.call_id = c.id AND r.verdict IS NULL)",
        (name, at, source, name),
    )


def skipped_before(connection: sqlite3.Connection) -> dict[str, datetime]:
    """When each destination started that was added to a ledger with calls."""
    rows = connection.execute("SELECT name, since_at FROM destinations WHERE since_at IS NOT NULL")
    return {name: moment_of(since_at) for name, since_at in rows}
