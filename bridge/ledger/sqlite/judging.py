"""Receipts and their verdicts: reads the receipts that wait for one, and writes what the judge decides."""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from bridge.ledger import Destinations
from bridge.ledger.sqlite.binding import json_list, numbered
from bridge.ledger.sqlite.delivery_rows import (
    DeliveryRow,
    add_deliveries,
    change_deliveries,
    deliveries_of_calls,
)
from bridge.ledger.sqlite.filing import quarantine
from bridge.ledger.sqlite.payloads import Payloads, prefixed, without_prefix
from bridge.ledger.sqlite.times import micros, moment_of
from bridge.lib.iso_times import moment
from bridge.model.calls import Arrival, Judgment, Known, Pending, Quarantined, Verdict, Via, digests
from bridge.model.deliveries import Delivery
from bridge.model.delivery_rules import News, lane_of, makes_due, never_read, owed
from bridge.record.json_body import dump_object, parse_object
from bridge.record.verdict import is_repeat

# `verdict IS NULL` is the condition of a partial index: what waits is found at once among a million receipts.
_WAITING = """
SELECT r.id, r.call_id, r.via, r.received_at, p.codec, p.body,
       c.key, c.source, c.first_seen_at, c.revision, c.updated_at, c.via AS known_via, c.state, c.stamps,
       s.codec AS state_codec, s.body AS state_body
FROM receipts r
JOIN payloads p ON p.receipt_id = r.id
JOIN calls c ON c.id = r.call_id
LEFT JOIN payloads s ON s.receipt_id = c.state_receipt
WHERE r.verdict IS NULL AND (:1 IS NULL OR c.source IN (SELECT value FROM json_each(:1)))
ORDER BY r.id LIMIT :2
"""


def waiting(
    connection: sqlite3.Connection, payloads: Payloads, limit: int, sources: Sequence[str] | None
) -> list[Pending]:
    """The oldest receipts without a verdict, each with its call's known state."""
    of_sources = None if sources is None else json_list(sources)
    rows = connection.execute(_WAITING, numbered(of_sources, limit)).fetchall()
    return [_pending(connection, payloads, row) for row in rows]


def _pending(connection: sqlite3.Connection, payloads: Payloads, row: sqlite3.Row) -> Pending:
    payload = payloads.unpack(row["codec"], row["body"])
    repeats = (
        is_repeat(Via(row["via"]), Via(row["known_via"])) if _is_known(payloads, row, payload) else False
    )
    return Pending(
        receipt_id=row["id"],
        call_id=row["call_id"],
        key=row["key"],
        source=row["source"],
        via=Via(row["via"]),
        received_at=moment_of(row["received_at"]),
        first_seen_at=moment_of(row["first_seen_at"]),
        payload=payload,
        known=known_of(connection, payloads, row) if row["revision"] and not repeats else None,
        repeats=repeats,
    )


def _is_known(payloads: Payloads, row: sqlite3.Row, payload: bytes) -> bool:
    """Whether a record is byte for byte the known state: most repeated callbacks are, and are not parsed.

    The known one may have been packed again since, so their texts are compared.
    """
    if row["state_body"] is None:
        return False
    same_bytes = row["body"] == row["state_body"] and row["codec"] == row["state_codec"]
    return same_bytes or payload == payloads.unpack(row["state_codec"], row["state_body"])


def known_of(connection: sqlite3.Connection, payloads: Payloads, row: sqlite3.Row) -> Known:
    """A call's known state, from a row that holds its columns and its packed state."""
    values = state_of(payloads, row)
    newest = None if row["updated_at"] is None else int(moment_of(row["updated_at"]).timestamp())
    stamps: dict[str, int | None] = dict.fromkeys(values, newest)
    if row["stamps"]:
        stamps.update(json.loads(row["stamps"]))
    kept = connection.execute(
        "SELECT digest FROM receipts WHERE call_id = ? AND digest IS NOT NULL", (row["call_id"],)
    )
    return Known(
        values=values,
        stamps=stamps,
        stamp=newest,
        via=Via(row["known_via"]),
        revision=row["revision"],
        history=frozenset[bytes]().union(*(digests(joined) for (joined,) in kept)),
    )


def state_text(payloads: Payloads, row: sqlite3.Row) -> bytes:
    """The known state, as JSON, from a row that carries `state` or the receipt's payload."""
    if row["state"] is not None:
        return payloads.unpack(*without_prefix(row["state"]))
    if row["state_body"] is None:
        return b"{}"
    return payloads.unpack(row["state_codec"], row["state_body"])


def state_of(payloads: Payloads, row: sqlite3.Row) -> dict[str, Any]:
    """The known state, decoded."""
    return parse_object(state_text(payloads, row))


def write_judgments(
    connection: sqlite3.Connection,
    payloads: Payloads,
    judgments: Sequence[Judgment],
    destinations: Destinations,
    now: datetime,
) -> None:
    """Write verdicts and the deliveries that they make due; new calls take one statement for each table."""
    news: list[Judgment] = []
    repeats: list[int] = []
    for judgment in judgments:
        if judgment.repeats:
            repeats.append(judgment.receipt_id)
        elif judgment.verdict is Verdict.NEW and judgment.kept:
            news.append(judgment)
        else:
            write_new_calls(connection, news)
            news.clear()
            write_judgment(connection, payloads, judgment)
    write_new_calls(connection, news)
    owe(connection, [one for one in judgments if makes_due(one.verdict)], destinations, now)
    if repeats:
        ids = json_list(repeats)
        connection.execute(
            "UPDATE receipts SET verdict = 'duplicate' WHERE id IN (SELECT value FROM json_each(?))", (ids,)
        )
        connection.execute(
            "DELETE FROM payloads WHERE receipt_id IN (SELECT value FROM json_each(?))", (ids,)
        )


# What a new state changes of its call: these columns take the values of `_call_values`, in this order.
_COLUMNS = (
    "revision",
    "via",
    "updated_at",
    "stamps",
    "sn",
    "phone",
    "name",
    "grade",
    "created_at",
    "started_at",
    "talk_seconds",
    "from_type",
    "task",
    "state_receipt",
)
_FROM_JSON = ", ".join(
    f"{name} = json_extract(j.value, '$[{place}]')" for place, name in enumerate(_COLUMNS, 1)
)
_NEW_CALLS = f"""
UPDATE calls SET {_FROM_JSON}
FROM json_each(?) j WHERE calls.id = json_extract(j.value, '$[0]')
"""
_NEW_STATE = f"UPDATE calls SET {', '.join(f'{name} = ?' for name in _COLUMNS)}, state = ? WHERE id = ?"


def _call_values(judgment: Judgment) -> tuple[str | int | None, ...]:
    known, columns = judgment.known, judgment.columns
    return (
        known.revision,
        known.via,
        _updated_at(known),
        _stamps(known),
        columns.sn,
        columns.phone,
        columns.name,
        columns.grade,
        micros(columns.created_at),
        micros(columns.started_at),
        columns.talk_seconds,
        columns.from_type,
        columns.task,
        judgment.receipt_id if judgment.kept else None,
    )


_NEW_RECEIPTS = """
UPDATE receipts SET verdict = 'new', revision = 1, stamp = json_extract(j.value, '$[1]'),
    flags = json_extract(j.value, '$[2]')
FROM json_each(?) j WHERE receipts.id = json_extract(j.value, '$[0]')
"""


def write_new_calls(connection: sqlite3.Connection, new: Sequence[Judgment]) -> None:
    """Keep the verdicts on calls of which one record is all that is known: a statement a table."""
    if not new:
        return
    receipts = [(one.receipt_id, one.stamp, " ".join(one.flags) or None) for one in new]
    connection.execute(_NEW_RECEIPTS, (json_list(receipts),))
    connection.execute(_NEW_CALLS, (json_list((one.call_id, *_call_values(one)) for one in new),))


def write_judgment(connection: sqlite3.Connection, payloads: Payloads, judgment: Judgment) -> None:
    """Keep one verdict, and the known state that it leaves."""
    news = makes_due(judgment.verdict)
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
    if judgment.previous_digest:
        # The first record's digest is written only now: few calls ever get a second record.
        connection.execute(
            "UPDATE receipts SET digest = ? WHERE call_id = ? AND revision = 1 AND digest IS NULL",
            (judgment.previous_digest, judgment.call_id),
        )
    _write_state(connection, payloads, judgment)
    if judgment.verdict is Verdict.DUPLICATE:
        connection.execute("DELETE FROM payloads WHERE receipt_id = ?", (judgment.receipt_id,))


def _updated_at(known: Known) -> int | None:
    return None if known.stamp is None else micros(datetime.fromtimestamp(known.stamp, UTC))


def _stamps(known: Known) -> str | None:
    """The fields whose stamp is not the newest one, as JSON.

    A field that a record said to be empty has a stamp and no value: it counts as said.
    """
    other = {name: at for name, at in known.stamps.items() if at != known.stamp or name not in known.values}
    return json.dumps(other, separators=(",", ":")) if other else None


def _write_state(connection: sqlite3.Connection, payloads: Payloads, judgment: Judgment) -> None:
    known = judgment.known
    updated_at, stamps = _updated_at(known), _stamps(known)
    if judgment.unchanged:
        connection.execute(
            "UPDATE calls SET updated_at = ?, stamps = ? WHERE id = ?", (updated_at, stamps, judgment.call_id)
        )
        return
    state = None if judgment.kept else prefixed(*payloads.pack(dump_object(known.values)))
    connection.execute(_NEW_STATE, (*_call_values(judgment), state, judgment.call_id))


def owe(
    connection: sqlite3.Connection, news: Sequence[Judgment], destinations: Destinations, now: datetime
) -> None:
    """Make deliveries of new calls and revisions due, in the order of the verdicts."""
    there = deliveries_of_calls(connection, [judgment.call_id for judgment in news])
    changed: dict[int, DeliveryRow] = {}
    added: dict[tuple[int, str], Delivery] = {}
    for judgment in news:
        for name in destinations.get(judgment.source, ()):
            place, told = (judgment.call_id, name), _news(judgment, name)
            if (row := there.get(place)) is None:
                added[place] = owed(added.get(place), told, now)
            else:
                before = changed.get(row.id, row)
                changed[row.id] = replace(before, delivery=owed(before.delivery, told, now))
    add_deliveries(connection, [(*place, delivery) for place, delivery in added.items()])
    change_deliveries(connection, list(changed.values()))


def _news(judgment: Judgment, destination: str) -> News:
    return News(
        judgment.known.revision,
        lane_of(judgment.known.via),
        None if judgment.called_at is None else moment(judgment.called_at),
        judgment.skip.get(destination),
    )


def set_aside(
    connection: sqlite3.Connection,
    payloads: Payloads,
    pending: Pending,
    reason: str,
    destinations: Destinations,
    now: datetime,
) -> None:
    """Quarantine a record that cannot be judged; its call is parked where no other record of it is known."""
    connection.execute(
        "UPDATE receipts SET verdict = ?, flags = 'unreadable' WHERE id = ?",
        (Verdict.QUARANTINED, pending.receipt_id),
    )
    connection.execute("DELETE FROM payloads WHERE receipt_id = ?", (pending.receipt_id,))
    arrival = Arrival(pending.source, pending.via, pending.received_at, pending.payload)
    quarantine(connection, payloads, arrival, Quarantined.UNREADABLE, reason, acknowledged=True)
    if connection.execute("SELECT revision FROM calls WHERE id = ?", (pending.call_id,)).fetchone()[0]:
        return
    there = deliveries_of_calls(connection, [pending.call_id])
    add_deliveries(
        connection,
        [
            (pending.call_id, name, never_read(reason, now))
            for name in destinations.get(pending.source, ())
            if (pending.call_id, name) not in there
        ],
    )
