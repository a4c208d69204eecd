"""What CRMs hold because of us: objects as they were left, how far deliveries came, tokens."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from bridge.ledger import Held, Note
from bridge.ledger.sqlite.times import micros, moment_of
from bridge.memory import Done, Mark, Progress, Remembered
from bridge.model import Lease
from bridge.plan import PlannedObject


def account_id(connection: sqlite3.Connection, name: str) -> int:
    """The row of a CRM account, made where there is none."""
    connection.execute("INSERT INTO accounts (name) VALUES (?) ON CONFLICT DO NOTHING", (name,))
    found: int = connection.execute("SELECT id FROM accounts WHERE name = ?", (name,)).fetchone()[0]
    return found


def recall(
    connection: sqlite3.Connection, lease: Lease, account: str, planned: Sequence[PlannedObject]
) -> dict[str, Remembered]:
    """The objects of a plan as they were last left, by the mapping's names."""
    found = {}
    for each in planned:
        row = _shared(connection, account, each) if each.shared else _own(connection, lease, each)
        if row is not None:
            found[each.name] = _remembered(*row)
    return found


def _shared(connection: sqlite3.Connection, account: str, planned: PlannedObject) -> Any:
    return connection.execute(
        "SELECT o.crm_id, o.digest, o.memory FROM crm_objects o JOIN accounts a ON a.id = o.account_id"
        " WHERE a.name = ? AND o.type = ? AND o.key = ?",
        (account, planned.type, planned.key_text),
    ).fetchone()


def _own(connection: sqlite3.Connection, lease: Lease, planned: PlannedObject) -> Any:
    return connection.execute(
        "SELECT crm_id, digest, memory FROM delivery_objects WHERE delivery_id = ? AND object = ?"
        " AND coalesce(type, object) = ? AND coalesce(key, ?) = ? AND digest IS NOT NULL",
        (lease.delivery_id, planned.name, planned.type, lease.key, planned.key_text),
    ).fetchone()


def remember(connection: sqlite3.Connection, lease: Lease, account: str, done: Sequence[Done]) -> None:
    """Note objects as a delivery left them."""
    for each in done:
        memory = _packed(each.remembered)
        # Most objects are named after their type, and one has the call's key: neither is kept twice.
        kind = None if each.type == each.object else each.type
        key = None if each.key == lease.key else each.key
        own = not each.shared
        connection.execute(
            "INSERT INTO delivery_objects VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (delivery_id, object) DO UPDATE SET type = excluded.type, key = excluded.key,"
            " crm_id = excluded.crm_id, digest = excluded.digest, memory = excluded.memory",
            (
                lease.delivery_id,
                each.object,
                kind,
                key,
                each.remembered.crm_id,
                each.remembered.digest if own else None,
                memory if own else None,
            ),
        )
        if each.shared:
            connection.execute(
                "INSERT INTO crm_objects VALUES (?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (account_id, type, key) DO UPDATE SET crm_id = excluded.crm_id,"
                " digest = excluded.digest, memory = excluded.memory",
                (
                    account_id(connection, account),
                    each.type,
                    each.key,
                    each.remembered.crm_id,
                    each.remembered.digest,
                    memory,
                ),
            )


def _packed(remembered: Remembered) -> bytes | None:
    """Links and marks; fields that one call wrote stand together."""
    if not remembered.links and not remembered.marks:
        return None
    by_event: dict[str, dict[str, bytes]] = {}
    for name, mark in remembered.marks.items():
        by_event.setdefault(mark.event, {})[name] = mark.digest
    return msgspec.msgpack.encode([dict(remembered.links), by_event])


def _remembered(crm_id: str, digest: bytes, memory: bytes | None) -> Remembered:
    if memory is None:
        return Remembered(crm_id, digest)
    links, by_event = msgspec.msgpack.decode(memory, type=tuple[dict[str, str], dict[str, dict[str, bytes]]])
    marks = {name: Mark(event, told) for event, fields in by_event.items() for name, told in fields.items()}
    return Remembered(crm_id, digest, links, marks)


def note(connection: sqlite3.Connection, noted: Note) -> None:
    """How far a leased delivery is, before it sends what must not be sent twice."""
    connection.execute(
        "UPDATE deliveries SET progress = ? WHERE id = ? AND state = 'leased'",
        (packed_progress(noted.account, noted.progress, noted.lines), noted.lease.delivery_id),
    )


def packed_progress(account: str, progress: Mapping[str, Progress], lines: Sequence[Held]) -> bytes | None:
    """Progress as the file keeps it; None for none."""
    if not progress and not lines:
        return None
    objects = {
        name: [
            each.way,
            each.step,
            dict(each.captured),
            each.crm_id,
            each.told,
            micros(each.sent_at),
            list(each.appended),
        ]
        for name, each in progress.items()
    }
    return msgspec.msgpack.encode([account, objects, list(lines)])


def progress_of(packed: bytes | None) -> dict[str, Progress]:
    """The inverse of `packed_progress`, without the lines."""
    if packed is None:
        return {}
    _, objects, _ = msgspec.msgpack.decode(packed)
    return {
        name: Progress(
            way,
            step,
            captured,
            crm_id,
            told,
            None if sent_at is None else moment_of(sent_at),
            tuple(appended),
        )
        for name, (way, step, captured, crm_id, told, sent_at, appended) in objects.items()
    }


def load_token(connection: sqlite3.Connection, account: str) -> dict[str, Any] | None:
    """What was saved of an account's token."""
    row = connection.execute("SELECT token FROM accounts WHERE name = ?", (account,)).fetchone()
    return json.loads(row[0]) if row is not None and row[0] is not None else None


def save_token(connection: sqlite3.Connection, account: str, saved: Mapping[str, Any]) -> None:
    """Keep an account's token."""
    connection.execute(
        "UPDATE accounts SET token = ? WHERE id = ?", (json.dumps(saved), account_id(connection, account))
    )


def previous_lines(connection: sqlite3.Connection, lease_row: sqlite3.Row) -> list[tuple[str, str]]:
    """Type and key of the objects that a delivery feeds so far: a changed key takes the old line too."""
    return [
        (row[0], row[1])
        for row in connection.execute(
            "SELECT coalesce(type, object), coalesce(key, ?) FROM delivery_objects WHERE delivery_id = ?",
            (lease_row["key"], lease_row["id"]),
        )
    ]


def in_doubt(connection: sqlite3.Connection) -> dict[int, list[Held]]:
    """Deliveries that wait for a look-up, with the lines that they hold."""
    found = {}
    for delivery_id, packed in connection.execute(
        "SELECT id, progress FROM deliveries WHERE progress IS NOT NULL AND state IN ('due', 'leased')"
    ):
        _, objects, lines = msgspec.msgpack.decode(packed)
        if any(each[5] is not None for each in objects.values()):
            found[delivery_id] = [tuple(line) for line in lines]
    return found
