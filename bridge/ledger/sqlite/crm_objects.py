"""CRM objects as deliveries left them: what was last sent to each, and which deliveries are in doubt."""

import sqlite3
from collections.abc import Sequence
from typing import Any

from bridge.ledger import PlannedDelivery, ProgressNote
from bridge.ledger.sqlite.accounts import account_id
from bridge.ledger.sqlite.binding import marks, rows_of
from bridge.ledger.sqlite.delivery_rows import ROWS_IN_STATEMENT
from bridge.ledger.sqlite.object_packing import (
    believed,
    names_in,
    names_of,
    numbers_of,
    pack_memory,
    unpack_memory,
)
from bridge.ledger.sqlite.progress_packing import held_keys_of, is_in_doubt, packed_progress
from bridge.model.crm_objects import KnownObject, SyncedObject
from bridge.model.deliveries import Lease, LockKey


def recall(
    connection: sqlite3.Connection, account: str, wanted: Sequence[PlannedDelivery]
) -> list[dict[str, KnownObject]]:
    """What is known of each plan's objects, by the mapping's names; in the order of `wanted`."""
    keys = {(each.type, each.key_text) for _, _, planned in wanted for each in planned if each.shared}
    own = [delivery_id for delivery_id, _, planned in wanted if not all(each.shared for each in planned)]
    shared = _shared(connection, account, list(keys)) if keys else {}
    owned = _own(connection, own) if own else {}
    found: list[dict[str, KnownObject]] = []
    for delivery_id, call_key, planned in wanted:
        known: dict[str, KnownObject] = {}
        for each in planned:
            if each.shared:
                left = shared.get((each.type, each.key_text))
            else:
                kind, key, left = owned.get((delivery_id, each.name), ("", None, None))
                if (kind, call_key if key is None else key) != (each.type, each.key_text):
                    left = None
            if left is not None:
                known[each.name] = left
        found.append(known)
    return found


# CROSS JOIN keeps the order account, key, object: one look-up by primary key for each object that is wanted.
def _shared(
    connection: sqlite3.Connection, account: str, keys: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], KnownObject]:
    rows = connection.execute(
        f"WITH wanted (type, key) AS (VALUES {', '.join(['(?, ?)'] * len(keys))})"
        " SELECT o.type, o.key, o.crm_id, o.digest, o.memory FROM accounts a CROSS JOIN wanted w"
        " CROSS JOIN crm_objects o ON o.account_id = a.id AND o.type = w.type AND o.key = w.key"
        " WHERE a.name = ?",
        [*(part for key in keys for part in key), account],
    ).fetchall()
    names = names_of(connection) if rows else {}
    return believed(
        connection, {(row[0], row[1]): unpack_memory(row[2], row[3], row[4], names) for row in rows}
    )


def _own(
    connection: sqlite3.Connection, ids: Sequence[int]
) -> dict[tuple[int, str], tuple[str, str | None, KnownObject | None]]:
    rows = connection.execute(
        "SELECT delivery_id, object, coalesce(type, object), key, crm_id, digest, memory"
        f" FROM delivery_objects WHERE delivery_id IN ({marks(ids)}) AND digest IS NOT NULL",
        ids,
    ).fetchall()
    names = names_of(connection) if rows else {}
    return {(row[0], row[1]): (row[2], row[3], unpack_memory(row[4], row[5], row[6], names)) for row in rows}


_OBJECTS = """
INSERT INTO delivery_objects VALUES {}
ON CONFLICT (delivery_id, object) DO UPDATE SET type = excluded.type, key = excluded.key,
    crm_id = excluded.crm_id, digest = excluded.digest, memory = excluded.memory, told = excluded.told
"""
_SHARED = """
INSERT INTO crm_objects VALUES {}
ON CONFLICT (account_id, type, key) DO UPDATE SET crm_id = excluded.crm_id, digest = excluded.digest,
    memory = excluded.memory
"""


def remember_all(
    connection: sqlite3.Connection, settled: Sequence[tuple[Lease, str, Sequence[SyncedObject]]]
) -> None:
    """Keep objects as deliveries left them: shared ones once for the account, others with their delivery."""
    known = [each.known for _, _, done in settled for each in done]
    if not known:
        return
    numbers = numbers_of(connection, names_in(known))
    accounts = {name: account_id(connection, name) for name in {name for _, name, done in settled if done}}
    objects: list[Any] = []
    shared: dict[tuple[int, str, str], tuple[Any, ...]] = {}
    for lease, account, done in settled:
        for each in done:
            left, memory = each.known, pack_memory(each.known, numbers)
            # Most objects are named after their type, and one has the call's key: neither is kept twice.
            kind = None if each.type == each.object else each.type
            key = None if each.key == lease.key else each.key
            objects += (lease.delivery_id, each.object, kind, key, left.crm_id)
            if each.shared:
                objects += (None, None, left.digest)
                place = accounts[account], each.type, each.key
                # Where several calls of a batch fed one object, the last of them counts.
                shared[place] = (*place, left.crm_id, left.digest, memory)
            else:
                objects += (left.digest, memory, None)
    connection.execute(_OBJECTS.format(rows_of(8, len(objects) // 8)), objects)
    if shared:
        values = [value for row in shared.values() for value in row]
        connection.execute(_SHARED.format(rows_of(6, len(shared))), values)


_PROGRESS = """
WITH noted (id, progress) AS (VALUES {})
UPDATE deliveries SET progress = noted.progress FROM noted
WHERE deliveries.id = noted.id AND deliveries.state = 'leased'
"""


def note(connection: sqlite3.Connection, notes: Sequence[ProgressNote]) -> None:
    """Keep how far leased deliveries have come, before they send what must not be sent twice."""
    for start in range(0, len(notes), ROWS_IN_STATEMENT):
        some = notes[start : start + ROWS_IN_STATEMENT]
        # Where one delivery occurs twice, the last note of it counts.
        packed = {
            each.lease.delivery_id: packed_progress(each.account, each.progress, each.held_keys)
            for each in some
        }
        values = [value for row in packed.items() for value in row]
        connection.execute(_PROGRESS.format(rows_of(2, len(packed))), values)
        remember_all(connection, [(each.lease, each.account, each.objects) for each in some])


def previous_lines(
    connection: sqlite3.Connection, rows: Sequence[sqlite3.Row]
) -> dict[int, list[tuple[str, str]]]:
    """Delivery id → type and key of the objects that it feeds so far; with a changed key both are locked."""
    keys = {row["id"]: row["key"] for row in rows if row["feeds"]}
    found: dict[int, list[tuple[str, str]]] = {}
    if not keys:
        return found
    for delivery_id, kind, key in connection.execute(
        "SELECT delivery_id, coalesce(type, object), key FROM delivery_objects"
        f" WHERE delivery_id IN ({marks(list(keys))})",
        list(keys),
    ):
        found.setdefault(delivery_id, []).append((kind, keys[delivery_id] if key is None else key))
    return found


def in_doubt(connection: sqlite3.Connection) -> dict[int, list[LockKey]]:
    """Deliveries that wait for a look-up, with the keys that they have locked."""
    rows = connection.execute(
        "SELECT id, progress FROM deliveries WHERE progress IS NOT NULL AND state IN ('due', 'leased')"
    )
    return {row["id"]: held_keys_of(row["progress"]) for row in rows if is_in_doubt(row["progress"])}
