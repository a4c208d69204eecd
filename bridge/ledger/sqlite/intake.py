"""Taking records in: filing arrivals under calls, and writing verdicts."""

import json
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

from bridge.body import parse_object
from bridge.identity import is_uuid
from bridge.ledger import Destinations
from bridge.ledger.sqlite.payloads import pack, unpack
from bridge.model import (
    Arrival,
    DeliveryState,
    Filed,
    Judgment,
    Known,
    Pending,
    Quarantined,
    Verdict,
    Via,
    moment,
    stamp,
)

# Distinct bodies that could not be read are kept for a person, but not without end.
QUARANTINE_LIMIT = 10_000


def file_arrival(connection: sqlite3.Connection, arrival: Arrival) -> Filed:
    """File one arrival under its call, a new one or a known one; else quarantine it."""
    if arrival.trouble is not None:
        return quarantine(connection, arrival, arrival.trouble, arrival.detail)
    known = _calls_by_name(connection, arrival)
    calls = set(known.values())
    if len(calls) > 1:
        return quarantine(
            connection,
            arrival,
            Quarantined.IDENTITY_CONFLICT,
            "its names belong to two calls: " + ", ".join(sorted(known)),
        )
    if not calls:
        call_id, key = _new_call(connection, arrival), arrival.names[0]
    else:
        call_id = calls.pop()
        strangers = [name for name in arrival.names if name not in known]
        if other := _other_uuid(connection, call_id, strangers):
            detail = f"its names belong to call {other}, which has another UUID"
            return quarantine(connection, arrival, Quarantined.IDENTITY_CONFLICT, detail)
        _add_names(connection, arrival.source, strangers, call_id)
        key = connection.execute("SELECT key FROM calls WHERE id = ?", (call_id,)).fetchone()[0]
    receipt_id = connection.execute(
        "INSERT INTO receipts (call_id, via, received_at) VALUES (?, ?, ?)",
        (call_id, arrival.via, stamp(arrival.received_at)),
    ).lastrowid
    connection.execute("INSERT INTO payloads VALUES (?, ?, ?)", (receipt_id, *pack(arrival.payload)))
    return Filed(call_id, key)


def _calls_by_name(connection: sqlite3.Connection, arrival: Arrival) -> dict[str, int]:
    known = {}
    for name in arrival.names:
        row = connection.execute(
            "SELECT call_id FROM call_names WHERE source = ? AND name = ?", (arrival.source, name)
        ).fetchone()
        if row is not None:
            known[name] = row[0]
    return known


def _new_call(connection: sqlite3.Connection, arrival: Arrival) -> int:
    call_id = connection.execute(
        "INSERT INTO calls (source, key, revision, first_seen_at) VALUES (?, ?, 0, ?)",
        (arrival.source, arrival.names[0], stamp(arrival.received_at)),
    ).lastrowid
    assert call_id is not None  # noqa: S101 -- for the type checker: an INSERT has a row id
    _add_names(connection, arrival.source, arrival.names, call_id)
    return call_id


def _add_names(connection: sqlite3.Connection, source: str, names: Sequence[str], call_id: int) -> None:
    connection.executemany(
        "INSERT INTO call_names VALUES (?, ?, ?)", [(source, name, call_id) for name in names]
    )


def _other_uuid(connection: sqlite3.Connection, call_id: int, names: Sequence[str]) -> str | None:
    """The call's own UUID where one of `names` is another: different UUIDs are never one call."""
    if not any(is_uuid(name) for name in names):
        return None
    rows = connection.execute("SELECT name FROM call_names WHERE call_id = ?", (call_id,))
    return next((row[0] for row in rows if is_uuid(row[0])), None)


def quarantine(connection: sqlite3.Connection, arrival: Arrival, trouble: Quarantined, detail: str) -> Filed:
    """Keep a record that nobody could file, once per distinct body."""
    digest = blake2b(arrival.payload, digest_size=16).digest()
    at = stamp(arrival.received_at)
    known = connection.execute(
        "UPDATE quarantine SET arrivals = arrivals + 1, last_at = ? WHERE source = ? AND digest = ?",
        (at, arrival.source, digest),
    ).rowcount
    if not known and not _full(connection, trouble):
        connection.execute(
            "INSERT INTO quarantine (source, via, reason, detail, state, digest, arrivals,"
            " received_at, last_at, codec, body) VALUES (?, ?, ?, ?, 'waiting', ?, 1, ?, ?, ?, ?)",
            (arrival.source, arrival.via, trouble, detail, digest, at, at, *pack(arrival.payload)),
        )
    return Filed(None, trouble=trouble)


def _full(connection: sqlite3.Connection, trouble: Quarantined) -> bool:
    """Garbage is bounded; a record of the platform's is not, for it was acknowledged."""
    if trouble is not Quarantined.NOT_AN_OBJECT:
        return False
    sql = "SELECT count(*) FROM quarantine WHERE reason = ?"
    kept: int = connection.execute(sql, (trouble,)).fetchone()[0]
    return kept >= QUARANTINE_LIMIT


_WAITING = """
SELECT r.id, r.call_id, r.via, r.received_at, p.codec, p.body,
       c.key, c.source, c.revision, c.updated_at, c.via AS known_via, c.state, c.stamps,
       s.codec AS state_codec, s.body AS state_body
FROM receipts r
JOIN payloads p ON p.receipt_id = r.id
JOIN calls c ON c.id = r.call_id
LEFT JOIN payloads s ON s.receipt_id = c.state_receipt
WHERE r.verdict IS NULL ORDER BY r.id LIMIT ?
"""


def waiting(connection: sqlite3.Connection, limit: int) -> list[Pending]:
    """The oldest receipts without a verdict, each with its call's known state."""
    return [
        Pending(
            receipt_id=row["id"],
            call_id=row["call_id"],
            key=row["key"],
            source=row["source"],
            via=Via(row["via"]),
            received_at=moment(row["received_at"]),
            payload=unpack(row["codec"], row["body"]),
            known=_known(connection, row) if row["revision"] else None,
        )
        for row in connection.execute(_WAITING, (limit,)).fetchall()
    ]


def _known(connection: sqlite3.Connection, row: sqlite3.Row) -> Known:
    values = state_of(row)
    newest = None if row["updated_at"] is None else int(moment(row["updated_at"]).timestamp())
    stamps: dict[str, int | None] = dict.fromkeys(values, newest)
    if row["stamps"]:
        stamps.update(json.loads(row["stamps"]))
    digests = connection.execute(
        "SELECT digest FROM receipts WHERE call_id = ? AND digest IS NOT NULL", (row["call_id"],)
    )
    return Known(
        values=values,
        stamps=stamps,
        stamp=newest,
        via=Via(row["known_via"]),
        revision=row["revision"],
        history=frozenset(digest[0] for digest in digests),
    )


def state_of(row: sqlite3.Row) -> dict[str, Any]:
    """The known state from a row that carries `state` or the receipt's payload."""
    if row["state"] is not None:
        codec, body = row["state"][0], row["state"][1:]
        return parse_object(unpack(codec, body))
    if row["state_body"] is None:
        return {}
    return parse_object(unpack(row["state_codec"], row["state_body"]))


def write_judgment(
    connection: sqlite3.Connection, judgment: Judgment, destinations: Destinations, now: datetime
) -> None:
    """Write one verdict, the state that it makes, and what is owed because of it."""
    news = judgment.verdict in (Verdict.NEW, Verdict.REVISION)
    connection.execute(
        "UPDATE receipts SET verdict = ?, revision = ?, stamp = ?, digest = ?, flags = ? WHERE id = ?",
        (
            judgment.verdict,
            judgment.known.revision if news else None,
            judgment.stamp,
            judgment.digest if news else None,
            " ".join(judgment.flags) or None,
            judgment.receipt_id,
        ),
    )
    _write_state(connection, judgment)
    if judgment.verdict is Verdict.DUPLICATE:
        connection.execute("DELETE FROM payloads WHERE receipt_id = ?", (judgment.receipt_id,))
    if news:
        for destination in destinations.get(judgment.source, ()):
            owe(connection, judgment, destination, now)


_STATE = """
UPDATE calls SET revision = ?, via = ?, updated_at = ?, stamps = ?, sn = ?, phone = ?, name = ?, grade = ?,
    created_at = ?, started_at = ?, talk_seconds = ?, from_type = ?, task = ?, state_receipt = ?, state = ?
WHERE id = ?
"""


def _write_state(connection: sqlite3.Connection, judgment: Judgment) -> None:
    known = judgment.known
    updated_at = None if known.stamp is None else stamp(datetime.fromtimestamp(known.stamp, UTC))
    # A field that was said to be empty may be in the stamps alone; its word counts all the same.
    older = {name: at for name, at in known.stamps.items() if at != known.stamp or name not in known.values}
    stamps = json.dumps(older, separators=(",", ":")) if older else None
    if judgment.unchanged:
        connection.execute(
            "UPDATE calls SET updated_at = ?, stamps = ? WHERE id = ?", (updated_at, stamps, judgment.call_id)
        )
        return
    columns = judgment.columns
    state = None
    if not judgment.kept:
        text = json.dumps(known.values, separators=(",", ":")).encode()
        codec, body = pack(text)
        state = bytes([codec]) + body
    connection.execute(
        _STATE,
        (
            known.revision,
            known.via,
            updated_at,
            stamps,
            columns.sn,
            columns.phone,
            columns.name,
            columns.grade,
            columns.created_at,
            columns.started_at,
            columns.talk_seconds,
            columns.from_type,
            columns.task,
            judgment.receipt_id if judgment.kept else None,
            state,
            judgment.call_id,
        ),
    )


def owe(connection: sqlite3.Connection, judgment: Judgment, destination: str, now: datetime) -> None:
    """A revision makes the call's delivery due; one that is leased hears of it when it settles."""
    rule = judgment.skip.get(destination)
    at = stamp(now)
    state = DeliveryState.DUE if rule is None else DeliveryState.SKIPPED
    connection.execute(
        "INSERT INTO deliveries (call_id, destination, state, wanted, owed_at, due_at, reason, changed_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (call_id, destination) DO UPDATE SET wanted = excluded.wanted,"
        " owed_at = excluded.owed_at, state = CASE state WHEN 'leased' THEN 'leased' ELSE excluded.state END,"
        " due_at = CASE state WHEN 'leased' THEN due_at ELSE excluded.due_at END,"
        " reason = CASE state WHEN 'leased' THEN reason ELSE excluded.reason END,"
        " cause = NULL, tries = 0, changed_at = excluded.changed_at",
        (
            judgment.call_id,
            destination,
            state,
            judgment.known.revision,
            at,
            at if rule is None else None,
            rule,
            at,
        ),
    )


def set_aside(
    connection: sqlite3.Connection, pending: Pending, reason: str, destinations: Destinations, now: datetime
) -> None:
    """A record that cannot be judged: quarantined; a call of which nothing else is known is parked."""
    at = stamp(now)
    connection.execute(
        "UPDATE receipts SET verdict = ?, flags = 'unreadable' WHERE id = ?",
        (Verdict.QUARANTINED, pending.receipt_id),
    )
    connection.execute("DELETE FROM payloads WHERE receipt_id = ?", (pending.receipt_id,))
    arrival = Arrival(pending.source, pending.via, pending.received_at, pending.payload)
    quarantine(connection, arrival, Quarantined.UNREADABLE, reason)
    if connection.execute("SELECT revision FROM calls WHERE id = ?", (pending.call_id,)).fetchone()[0]:
        return
    for destination in destinations.get(pending.source, ()):
        connection.execute(
            "INSERT INTO deliveries (call_id, destination, state, wanted, reason, cause, changed_at)"
            " VALUES (?, ?, 'parked', 0, ?, 'unreadable record', ?) ON CONFLICT DO NOTHING",
            (pending.call_id, destination, reason, at),
        )
