"""Calls and deliveries for people: lists of them, and one call with everything that happened to it."""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from bridge.ledger.queries import (
    CallAttempt,
    CallDelivery,
    CallHistory,
    CrmObject,
    ListedCall,
    ListedDelivery,
    Receipt,
)
from bridge.ledger.sqlite.balances import CREATED, OPEN, SOURCES
from bridge.ledger.sqlite.binding import marks
from bridge.ledger.sqlite.judging import state_of
from bridge.ledger.sqlite.object_packing import names_of, unpack_memory
from bridge.ledger.sqlite.payloads import Payloads
from bridge.ledger.sqlite.progress_packing import is_in_doubt
from bridge.ledger.sqlite.times import model_of
from bridge.model.crm_alterations import WORDS
from bridge.model.deliveries import DeliveryState
from bridge.model.field_digests import alteration_of

# A beginning of fewer than 4 characters would find too many calls to be of use.
SHORTEST_BEGINNING = 4

_CALL = """
SELECT c.id, c.source, c.key, c.revision, c.sn, c.phone, c.name, c.grade, c.created_at,
       c.started_at, c.updated_at, c.talk_seconds, c.task, c.first_seen_at FROM calls c
"""


def list_calls(connection: sqlite3.Connection, words: Sequence[str], limit: int) -> list[ListedCall]:
    """Calls by name, phone or sn, newest first."""
    newest = f"ORDER BY {CREATED} DESC, c.id DESC LIMIT ?"
    if words:
        found, ends = marks(words), ", ".join(["substr(?, -8)"] * len(words))
        # UNION, because each part has its own index, where OR would read every call. The index of `sn` holds
        # only its last 8 characters.
        condition = (
            f"c.id IN (SELECT call_id FROM call_names WHERE source IN ({SOURCES}) AND name IN ({found})"
            f" UNION SELECT id FROM calls WHERE phone IN ({found})"
            f" UNION SELECT id FROM calls WHERE sn IN ({found}) AND sn_end IN ({ends}))"
        )
        values = (*words, *words, *words, *words, limit)
        rows = connection.execute(f"{_CALL} WHERE {condition} {newest}", values).fetchall()
        rows = rows or _by_beginning(connection, words, newest, limit)
    else:
        rows = _newest(connection, f"{_CALL} WHERE c.source = ? {newest}", limit)
    deliveries = "SELECT destination, state FROM deliveries WHERE call_id = ?"
    return [
        model_of(ListedCall, row, deliveries=dict(connection.execute(deliveries, (row["id"],)).fetchall()))
        for row in rows
    ]


def _by_beginning(
    connection: sqlite3.Connection, words: Sequence[str], newest: str, limit: int
) -> list[sqlite3.Row]:
    """Calls with a name that begins with one of the words: people often copy only the beginning of an id."""
    beginnings = [word for word in words if len(word) >= SHORTEST_BEGINNING]
    if not beginnings:
        return []
    named = " OR ".join(["name >= ? AND name < ?"] * len(beginnings))
    condition = f"c.id IN (SELECT call_id FROM call_names WHERE source IN ({SOURCES}) AND ({named}))"
    ends = [end for word in beginnings for end in (word, f"{word}\U0010ffff")]
    return connection.execute(f"{_CALL} WHERE {condition} {newest}", (*ends, limit)).fetchall()


def _newest(connection: sqlite3.Connection, sql: str, limit: int) -> list[sqlite3.Row]:
    """The newest calls of all sources; the index is by source, so each source is asked for its newest."""
    sources = connection.execute(SOURCES).fetchall()
    rows = [row for (source,) in sources for row in connection.execute(sql, (source, limit))]

    def age(row: sqlite3.Row) -> tuple[int, int]:
        created = row["created_at"]
        return row["first_seen_at"] if created is None else created, row["id"]

    return sorted(rows, key=age, reverse=True)[:limit]


def show_call(connection: sqlite3.Connection, payloads: Payloads, call_id: int) -> CallHistory:
    """One call's whole history."""

    def rows(sql: str) -> list[sqlite3.Row]:
        return connection.execute(sql, (call_id,)).fetchall()

    fields = names_of(connection)
    return model_of(
        CallHistory,
        rows(f"{_CALL} WHERE c.id = ?")[0],
        names=[row["name"] for row in rows("SELECT name FROM call_names WHERE call_id = ?")],
        receipts=[model_of(Receipt, row) for row in rows(_RECEIPTS)],
        deliveries=[_delivery(row) for row in rows(_DELIVERIES)],
        attempts=[model_of(CallAttempt, row) for row in rows(_ATTEMPTS)],
        crm_objects=[_crm_object(row, fields) for row in rows(_OBJECTS)],
        record=state_of(payloads, rows(_STATE)[0]),
    )


_RECEIPTS = (
    "SELECT id, via, received_at, verdict, revision, flags FROM receipts WHERE call_id = ? ORDER BY id"
)
_DELIVERIES = "SELECT * FROM deliveries WHERE call_id = ? ORDER BY destination"
_ATTEMPTS = (
    "SELECT a.*, d.destination FROM attempts a JOIN deliveries d ON d.id = a.delivery_id"
    " WHERE d.call_id = ? ORDER BY a.id"
)
_OBJECTS = (
    "SELECT d.destination, o.object, coalesce(o.type, o.object) AS type, coalesce(o.key, c.key) AS key,"
    " o.crm_id, coalesce(o.memory, (SELECT s.memory FROM accounts a CROSS JOIN crm_objects s"
    " ON s.account_id = a.id AND s.type = coalesce(o.type, o.object) AND s.key = coalesce(o.key, c.key)"
    " WHERE o.digest IS NULL AND s.crm_id = o.crm_id LIMIT 1)) AS memory"
    " FROM delivery_objects o JOIN deliveries d ON d.id = o.delivery_id"
    " JOIN calls c ON c.id = d.call_id WHERE d.call_id = ? ORDER BY 1, 2"
)
_STATE = (
    "SELECT c.state, s.codec AS state_codec, s.body AS state_body FROM calls c"
    " LEFT JOIN payloads s ON s.receipt_id = c.state_receipt WHERE c.id = ?"
)


def _delivery(row: sqlite3.Row) -> CallDelivery:
    """A delivery without its packed progress, of which people see only whether it is in doubt."""
    progress = row["progress"]
    return model_of(CallDelivery, row, in_doubt=progress is not None and is_in_doubt(progress))


def _crm_object(row: sqlite3.Row, names: Mapping[int, str]) -> CrmObject:
    marks = unpack_memory("", b"", row["memory"], names).last_writes
    kinds = {name: WORDS.get(alteration_of(mark.digest)) for name, mark in marks.items()}
    return model_of(CrmObject, row, altered={name: kind for name, kind in kinds.items() if kind})


def list_deliveries(
    connection: sqlite3.Connection,
    state: str | None,
    destination: str | None,
    limit: int,
    failed: tuple[Sequence[str], tuple[str, Sequence[str]]] | None = None,
) -> list[ListedDelivery]:
    """Deliveries with their calls, those changed last first.

    With `failed` those of these causes, and those whose reason meets a condition with its values.
    """
    condition, values = "", list[Any]()
    if state is not None:
        condition += " AND d.state = ?" + (f" AND d.{OPEN}" if state != DeliveryState.DELIVERED else "")
        values.append(state)
    if destination is not None:
        condition += " AND d.destination = ?"
        values.append(destination)
    if failed is not None:
        causes, (of_reason, words) = failed
        condition += f" AND d.{OPEN} AND (d.cause IN ({marks(causes)}) OR {of_reason})"
        values += [*causes, *words]
    return [
        model_of(ListedDelivery, row)
        for row in connection.execute(
            "SELECT d.id, d.destination, d.state, d.wanted, d.delivered, d.due_at, d.tries, d.lane, d.cause,"
            " d.reason, d.person, d.changed_at, c.source, c.key, c.phone"
            " FROM deliveries d JOIN calls c ON c.id = d.call_id"
            f" WHERE 1 = 1{condition} ORDER BY d.changed_at DESC, d.id DESC LIMIT ?",
            (*values, limit),
        )
    ]
