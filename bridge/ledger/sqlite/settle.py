"""Writes how attempts ended, up to 200 in a few statements.

Each statement makes the writer's thread wait for the interpreter's lock, which other threads want as well.
"""

import sqlite3
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from bridge.ledger import EndedAttempt
from bridge.ledger.sqlite.binding import rows_of
from bridge.ledger.sqlite.crm_objects import remember_all
from bridge.ledger.sqlite.delivery_rows import (
    ROWS_IN_STATEMENT,
    DeliveryRow,
    change_deliveries,
    deliveries_by_id,
)
from bridge.ledger.sqlite.progress_packing import packed_progress
from bridge.ledger.sqlite.times import micros
from bridge.model.deliveries import DeliveryState, Lease, Settlement
from bridge.model.delivery_rules import settled

_ATTEMPTS = """
INSERT INTO attempts (delivery_id, revision, started_at, ended_at, outcome, detail) VALUES {}
"""
_COUNTED = """
INSERT INTO counters VALUES ('attempts', ?, ?, '', ?, NULL)
    ON CONFLICT DO UPDATE SET count = count + excluded.count
"""
_ALTERED = """
INSERT INTO counters VALUES ('altered', ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET count = count + excluded.count, since_at = excluded.since_at
"""
_REMEDY = """
INSERT INTO causes VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET remedy = excluded.remedy
    WHERE remedy <> excluded.remedy
"""


def settle_all(connection: sqlite3.Connection, ended: Sequence[EndedAttempt], now: datetime) -> None:
    """Write how attempts ended; one whose delivery is no longer leased is left out."""
    for start in range(0, len(ended), ROWS_IN_STATEMENT):
        _settle_some(connection, ended[start : start + ROWS_IN_STATEMENT], now)


def _settle_some(connection: sqlite3.Connection, ended: Sequence[EndedAttempt], now: datetime) -> None:
    rows = {row.id: row for row in deliveries_by_id(connection, (each.lease.delivery_id for each in ended))}
    held = {
        delivery_id: row for delivery_id, row in rows.items() if row.delivery.state is DeliveryState.LEASED
    }
    mine = [each for each in ended if each.lease.delivery_id in held]
    if not mine:
        return
    change_deliveries(
        connection, [_row(held[lease.delivery_id], lease, settlement, now) for lease, settlement, _ in mine]
    )
    remember_all(connection, [(lease, settlement.account, settlement.done) for lease, settlement, _ in mine])
    at = micros(now)
    _count_altered(connection, mine, at)
    tried = [each for each in mine if not each.settlement.unsent]
    if tried:
        _note_attempts(connection, tried, at)
        _count(connection, tried)


def _row(row: DeliveryRow, lease: Lease, settlement: Settlement, now: datetime) -> DeliveryRow:
    return DeliveryRow(
        row.id,
        settled(row.delivery, lease.revision, settlement, now),
        packed_progress(settlement.account, settlement.progress, settlement.held_keys),
    )


def _note_attempts(connection: sqlite3.Connection, tried: Sequence[EndedAttempt], at: int) -> None:
    rows = [
        (
            lease.delivery_id,
            lease.revision,
            micros(started_at),
            at,
            settlement.state,
            settlement.reason or None,
        )
        for lease, settlement, started_at in tried
    ]
    connection.execute(_ATTEMPTS.format(rows_of(6, len(rows))), [value for row in rows for value in row])


def _count_altered(connection: sqlite3.Connection, ended: Sequence[EndedAttempt], at: int) -> None:
    """Count the fields that a CRM changed on writing: how often, and when last."""
    found = Counter(
        (lease.destination, f"{done.object}.{field}", kind)
        for lease, settlement, _ in ended
        for done in settlement.done
        for field, kind in done.altered.items()
    )
    for (destination, field, kind), count in found.items():
        connection.execute(_ALTERED, (destination, field, kind, count, at))


def _count(connection: sqlite3.Connection, ended: Sequence[EndedAttempt]) -> None:
    """Count outcomes for the metrics, and keep the remedy of each cause."""
    outcomes = Counter((lease.destination, str(settlement.state)) for lease, settlement, _ in ended)
    for (destination, state), count in outcomes.items():
        connection.execute(_COUNTED, (destination, state, count))
    remedies = {
        (lease.destination, settlement.cause): settlement.remedy
        for lease, settlement, _ in ended
        if settlement.cause and settlement.remedy
    }
    for (destination, cause), remedy in remedies.items():
        connection.execute(_REMEDY, (destination, cause, remedy))
