"""What operators do to deliveries (retry, park, skip), and which ones they mean by a cause or its words."""

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from bridge.ledger.operators import HeldDeliveries, RetriableGroup
from bridge.ledger.sqlite.binding import marks, numbered
from bridge.ledger.sqlite.delivery_rows import DeliveryRow, change_deliveries, deliveries_by_id
from bridge.ledger.sqlite.park_kinds import park_kind_column
from bridge.ledger.sqlite.progress_packing import said_absent
from bridge.ledger.sqlite.times import micros
from bridge.model.deliveries import DeliveryState, Lane, ParkKind
from bridge.model.delivery_rules import (
    RetryScope,
    held,
    is_busy,
    may_hold,
    may_retry,
    retried,
    retry_says_absent,
)

# Rows changed in one commit, which takes about 10 ms: callbacks are committed in between.
ROWS_IN_COMMIT = 500


def retriable(
    connection: sqlite3.Connection, ids: Sequence[int], cause: str, destination: str
) -> list[tuple[RetriableGroup, list[int]]]:
    """What a retry would make due, in groups with the ids of their deliveries; the largest group first."""
    groups: dict[tuple[str, str, str | None, str | None], list[int]] = {}
    for delivery_id, *group in connection.execute(*_meant(connection, ids, cause, destination)):
        at, state, why, kind = group
        groups.setdefault((at, state, why, kind), []).append(delivery_id)
    found = [
        (RetriableGroup(at, state, why, kind == ParkKind.IN_DOUBT, len(each)), each)
        for (at, state, why, kind), each in groups.items()
    ]
    return sorted(found, key=lambda one: -one[0].count)


def _meant(
    connection: sqlite3.Connection, ids: Sequence[int], cause: str, destination: str
) -> tuple[str, list[Any]]:
    """The query for what `delivery_rules.may_retry` takes: by ids, by a cause or its words, or all parked."""
    kind = park_kind_column(connection)
    select = f"SELECT id, destination, state, cause, {kind} FROM deliveries WHERE wanted > 0"
    if ids:
        return (
            f"{select} AND id IN ({marks(ids)}) AND (state IN ('parked', 'due') OR person IS NOT NULL)",
            list(ids),
        )
    unnamed = f"coalesce({kind}, '') NOT IN ('in_doubt', 'held')"
    values: list[Any] = []
    if destination:
        select += " AND destination = ?"
        values.append(destination)
    if not cause:
        return f"{select} AND state = 'parked' AND state <> 'delivered' AND {unnamed}", values
    causes = matching_causes(connection, cause)
    failed = "state IN ('parked', 'due') AND state <> 'delivered' AND person IS NULL"
    of_reason, words = by_reason(cause, causes)
    named = f"(cause = ? OR ((cause IN ({marks(causes)}) OR {of_reason}) AND {unnamed}))"
    return f"{select} AND {failed} AND {named}", [*values, cause, *causes, *words]


def by_reason(words: str, causes: Sequence[str]) -> tuple[str, list[str]]:
    """A condition, with its values, on deliveries whose reason contains these words.

    People see the reason in the list, so they look for its words. Where the words are a whole cause, that
    cause alone is meant, and the condition is false.
    """
    if words in causes:
        return "0", []
    plain = words.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    # A delivery that was retried keeps its reason for people to read; it has no cause until it fails again.
    return "(cause IS NOT NULL AND reason LIKE ? ESCAPE '\\')", [f"%{plain}%"]


def matching_causes(connection: sqlite3.Connection, words: str) -> list[str]:
    """The cause that is exactly these words, or else all present causes that contain them, in any case."""
    known = [
        row[0]
        for row in connection.execute(
            "SELECT DISTINCT cause FROM counters WHERE kind = 'deliveries' AND cause <> '' AND count > 0"
        )
    ]
    return [words] if words in known else [cause for cause in known if words.casefold() in cause.casefold()]


def retry(connection: sqlite3.Connection, ids: Sequence[int], now: datetime) -> int:
    """Make these deliveries due now; returns how many. One parked in doubt then counts as not sent."""
    found = deliveries_by_id(connection, ids)
    changed = [_retried(row, now) for row in found if may_retry(row.delivery, RetryScope.ID)]
    change_deliveries(connection, changed)
    return len(changed)


def _retried(row: DeliveryRow, now: datetime) -> DeliveryRow:
    progress = row.progress
    if progress is not None and retry_says_absent(row.delivery):
        progress = said_absent(progress)
    return DeliveryRow(row.id, retried(row.delivery, now), progress)


def parked_in_doubt(connection: sqlite3.Connection, destination: str) -> int:
    """How many deliveries are parked in doubt; `destination` empty: to all destinations."""
    kind = park_kind_column(connection)
    found: int = connection.execute(
        f"SELECT count(*) FROM deliveries WHERE {kind} = 'in_doubt' AND state <> 'delivered'"
        " AND (:1 = '' OR destination = :1)",
        numbered(destination),
    ).fetchone()[0]
    return found


def hold(
    connection: sqlite3.Connection, ids: Sequence[int], held_as: DeliveryState, why: str, now: datetime
) -> HeldDeliveries:
    """Park or skip deliveries; tells which are held now, and which once their attempt or doubt ends."""
    rows = [row for row in deliveries_by_id(connection, ids) if may_hold(row.delivery, held_as)]
    change_deliveries(
        connection, [replace(row, delivery=held(row.delivery, held_as, why, now)) for row in rows]
    )
    return HeldDeliveries(
        now=[row.id for row in rows if not is_busy(row.delivery)],
        later=[row.id for row in rows if is_busy(row.delivery)],
    )


_DEMOTED = """
UPDATE deliveries SET lane = :1 WHERE id IN (
    SELECT id FROM deliveries WHERE state = 'due' AND destination = :2 AND lane = :3 AND owed_at < :4
    LIMIT :5)
"""


def demote(connection: sqlite3.Connection, destination: str, before: datetime) -> int:
    """Move up to `ROWS_IN_COMMIT` live deliveries, owed since before then, into the retry lane; how many."""
    values = numbered(Lane.RETRY, destination, Lane.LIVE, micros(before), ROWS_IN_COMMIT)
    return connection.execute(_DEMOTED, values).rowcount
