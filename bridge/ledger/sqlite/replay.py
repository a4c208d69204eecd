"""Reads the calls of a window page by page, and makes their deliveries due for a replay."""

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from bridge.ledger import SentObject, StoredCall, Window
from bridge.ledger.sqlite.balances import CREATED, within
from bridge.ledger.sqlite.binding import marks
from bridge.ledger.sqlite.delivery_rows import DeliveryRow, change_deliveries, deliveries_by_id
from bridge.ledger.sqlite.judging import state_of
from bridge.ledger.sqlite.object_packing import forgotten
from bridge.ledger.sqlite.park_kinds import park_kind_column
from bridge.ledger.sqlite.payloads import Payloads
from bridge.ledger.sqlite.progress_packing import packed_progress, progress_of
from bridge.model.deliveries import ParkKind
from bridge.model.delivery_rules import forgotten_progress, may_replay, replayed

# INDEXED BY: by any other index, or by none, SQLite would sort all calls of the source for each page.
_PAGE = f"""
SELECT c.id AS call_id, c.key, c.source, c.state, s.codec AS state_codec, s.body AS state_body,
       d.id AS delivery_id, d.state AS delivery_state, d.reason, {{}} AS park_kind, d.person, {CREATED} AS at
FROM calls c INDEXED BY calls_created
LEFT JOIN deliveries d ON d.call_id = c.id AND d.destination = ?
LEFT JOIN payloads s ON s.receipt_id = c.state_receipt
WHERE c.source = ? AND c.revision > 0 AND ({CREATED}, c.id) > (?, ?){{}}
ORDER BY {CREATED}, c.id LIMIT ?
"""


def page_of_calls(
    connection: sqlite3.Connection,
    payloads: Payloads,
    destination: str,
    source: str,
    window: Window,
    after: tuple[int, int] | None,
    limit: int,
) -> list[StoredCall]:
    """The next calls of a source in the order of creation, each with its delivery and what that last sent."""
    condition, values = within(window)
    # For the first page a cursor before every time.
    cursor = after or (-(2**62), 0)
    rows = connection.execute(
        _PAGE.format(park_kind_column(connection, "d"), condition),
        (destination, source, *cursor, *values, limit),
    ).fetchall()
    sent = _sent(connection, {row["delivery_id"]: row["key"] for row in rows if row["delivery_id"]})
    return [_stored_call(payloads, row, sent.get(row["delivery_id"], {})) for row in rows]


def _stored_call(payloads: Payloads, row: sqlite3.Row, sent: dict[str, SentObject]) -> StoredCall:
    try:
        values: dict[str, Any] | None = state_of(payloads, row)
    except Exception:  # noqa: BLE001 -- a damaged row must not end the walk
        values = None
    return StoredCall(
        call_id=row["call_id"],
        key=row["key"],
        source=row["source"],
        delivery_id=row["delivery_id"],
        state=row["delivery_state"],
        reason=row["reason"] or "",
        held=row["person"] is not None,
        gone=row["park_kind"] == ParkKind.GONE,
        values=values,
        sent=sent,
        cursor=(row["at"], row["call_id"]),
    )


def _sent(connection: sqlite3.Connection, keys: dict[int, str]) -> dict[int, dict[str, SentObject]]:
    found: dict[int, dict[str, SentObject]] = {}
    for delivery_id, name, kind, key, crm_id, digest in connection.execute(
        "SELECT delivery_id, object, coalesce(type, object), key, crm_id, coalesce(told, digest)"
        f" FROM delivery_objects WHERE delivery_id IN ({marks(list(keys))})",
        list(keys),
    ):
        sent = SentObject(kind, keys[delivery_id] if key is None else key, crm_id, digest or b"")
        found.setdefault(delivery_id, {})[name] = sent
    return found


def replay(
    connection: sqlite3.Connection, ids: Sequence[int], account: str, now: datetime, *, forget: bool
) -> int:
    """Make settled deliveries due in the backfill lane; with `forget` as if nothing had been sent."""
    rows = [row for row in deliveries_by_id(connection, ids) if may_replay(row.delivery, forget=forget)]
    if forget:
        rows = _with_progress_forgotten(connection, rows, account)
        _forget_objects(connection, [row.id for row in rows], account)
    change_deliveries(connection, [replace(row, delivery=replayed(row.delivery, now)) for row in rows])
    return len(rows)


def _with_progress_forgotten(
    connection: sqlite3.Connection, rows: Sequence[DeliveryRow], account: str
) -> list[DeliveryRow]:
    objects: dict[int, list[str]] = {row.id: [] for row in rows}
    for delivery_id, name in connection.execute(
        f"SELECT delivery_id, object FROM delivery_objects WHERE delivery_id IN ({marks(rows)})",
        [row.id for row in rows],
    ):
        objects[delivery_id].append(name)
    return [
        replace(
            row,
            progress=packed_progress(
                account, forgotten_progress(progress_of(row.progress), objects[row.id]), ()
            ),
        )
        for row in rows
    ]


def _forget_objects(connection: sqlite3.Connection, ids: Sequence[int], account: str) -> None:
    """Forget what was sent; which call wrote which field is kept, so that no older call overwrites it."""
    fed = connection.execute(
        "SELECT o.account_id, o.type, o.key, o.memory FROM delivery_objects d JOIN crm_objects o"
        " ON o.type = coalesce(d.type, d.object) AND o.key = d.key"
        f" WHERE d.delivery_id IN ({marks(ids)}) AND d.digest IS NULL"
        " AND o.account_id = (SELECT id FROM accounts WHERE name = ?)",
        (*ids, account),
    ).fetchall()
    connection.executemany(
        "UPDATE crm_objects SET crm_id = '', digest = x'', memory = ?"
        " WHERE account_id = ? AND type = ? AND key = ?",
        [(forgotten(row["memory"]), row["account_id"], row["type"], row["key"]) for row in fed],
    )
    connection.execute(
        "UPDATE delivery_objects SET crm_id = '', digest = iif(digest IS NULL, NULL, x''), told = NULL,"
        f" memory = NULL WHERE delivery_id IN ({marks(ids)})",
        ids,
    )
