"""How attempts end: many deliveries in a few statements, because each statement costs the writer a turn."""

import sqlite3
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from bridge.ledger import Settled
from bridge.ledger.sqlite.objects import packed_progress, remember_all, rows_of
from bridge.ledger.sqlite.times import micros
from bridge.model.deliveries import DeliveryState, Lane, Lease, ParkKind, Settlement
from bridge.model.failures import BY_A_PERSON

Ended = tuple[Sequence[Settled], datetime]
"""What a worker has brought to its end, and when."""
# SQLite takes 32,766 values in a statement.
AT_ONCE = 200

_UPDATE = """
WITH ended (id, state, due_at, reason, cause, delivered, afresh, unsent, progress, lane, waits,
    park_kind) AS (VALUES {})
UPDATE deliveries SET state = ended.state, due_at = ended.due_at,
    reason = iif(person IS NULL, ended.reason, deliveries.reason),
    cause = ended.cause, changed_at = ?, delivered = coalesce(ended.delivered, deliveries.delivered),
    tries = iif(ended.afresh, 0, tries - ended.unsent), progress = ended.progress,
    lane = iif(ended.state = 'due', max(deliveries.lane, ended.lane), deliveries.lane),
    person = iif(person = 'skipped' OR ended.waits, person, NULL), park_kind = ended.park_kind
FROM ended WHERE deliveries.id = ended.id
"""
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


def settle_each(connection: sqlite3.Connection, ended: Sequence[Ended]) -> list[None]:
    """`settle_all` for several workers."""
    settle_all(connection, [each for settled, _ in ended for each in settled], max(now for _, now in ended))
    return [None] * len(ended)


def settle_all(connection: sqlite3.Connection, settled: Sequence[Settled], now: datetime) -> None:
    """End attempts; only the worker that holds a lease may."""
    for start in range(0, len(settled), AT_ONCE):
        _settle_some(connection, settled[start : start + AT_ONCE], micros(now))


def _settle_some(connection: sqlite3.Connection, settled: Sequence[Settled], at: int) -> None:
    ids = [lease.delivery_id for lease, _, _ in settled]
    held = {
        row[0]: (row[1], row[2])
        for row in connection.execute(
            "SELECT id, wanted, person FROM deliveries"
            f" WHERE id IN ({', '.join('?' * len(ids))}) AND state = 'leased'",
            ids,
        )
    }
    mine = [each for each in settled if each[0].delivery_id in held]
    if not mine:
        return
    rows = [_row(lease, settlement, *held[lease.delivery_id], at) for lease, settlement, _ in mine]
    connection.execute(
        _UPDATE.format(rows_of(12, len(rows))), [*(value for row in rows for value in row), at]
    )
    remember_all(connection, [(lease, settlement.account, settlement.done) for lease, settlement, _ in mine])
    _count_altered(connection, mine, at)
    tried = [each for each in mine if not each[1].unsent]
    if not tried:
        return
    connection.execute(
        _ATTEMPTS.format(rows_of(6, len(tried))),
        [
            value
            for lease, settlement, started_at in tried
            for value in (
                lease.delivery_id,
                lease.revision,
                micros(started_at),
                at,
                settlement.state,
                settlement.reason or None,
            )
        ],
    )
    _count(connection, tried)


def _row(lease: Lease, settlement: Settlement, wanted: int, person: str | None, at: int) -> tuple[Any, ...]:
    """What becomes of a delivery; a revision that came meanwhile makes it due again."""
    outdated = wanted > lease.revision
    state: str = settlement.state
    kind = settlement.park_kind
    due_at, cause = micros(settlement.due_at), settlement.cause or None
    delivered = settlement.state is DeliveryState.DELIVERED
    if outdated:
        state, due_at, cause = DeliveryState.DUE, at, None
    # Its lines stay held until nothing is in doubt any more; only then it is a person's.
    waits = bool(settlement.lines)
    if waits and person is not None:
        due_at = micros(settlement.due_at) or at
    # Of what is delivered there is nothing left to hold back, unless a person wants no revision either.
    elif person == DeliveryState.SKIPPED or (person is not None and (outdated or not delivered)):
        state, due_at = person, None
        cause = BY_A_PERSON if person == DeliveryState.PARKED else None
        kind = ParkKind.HELD
    return (
        lease.delivery_id,
        state,
        due_at,
        None if outdated else settlement.reason or None,
        cause,
        lease.revision if delivered else None,
        outdated,
        settlement.unsent,
        packed_progress(settlement.account, settlement.progress, settlement.lines),
        # One that is in doubt keeps others from their lines: it stays where it was.
        Lane.LIVE if outdated or waits or settlement.unsent else Lane.RETRY,
        waits,
        kind if state == DeliveryState.PARKED else None,
    )


def _count_altered(connection: sqlite3.Connection, settled: Sequence[Settled], at: int) -> None:
    """What CRMs made of fields on writing: how often, and when last."""
    found = Counter(
        (lease.destination, f"{done.object}.{field}", kind)
        for lease, settlement, _ in settled
        for done in settlement.done
        for field, kind in done.altered.items()
    )
    for (destination, field, kind), count in found.items():
        connection.execute(_ALTERED, (destination, field, kind, count, at))


def _count(connection: sqlite3.Connection, settled: Sequence[Settled]) -> None:
    """Outcomes for the metrics, and what to do about the causes of those that failed."""
    outcomes = Counter((lease.destination, str(settlement.state)) for lease, settlement, _ in settled)
    for (destination, state), count in outcomes.items():
        connection.execute(_COUNTED, (destination, state, count))
    remedies = {
        (lease.destination, settlement.cause): settlement.remedy
        for lease, settlement, _ in settled
        if settlement.cause and settlement.remedy
    }
    for (destination, cause), remedy in remedies.items():
        connection.execute(_REMEDY, (destination, cause, remedy))
