"""Removes old rows, class by class of data and a few at a time."""

import sqlite3
from dataclasses import dataclass
from datetime import datetime

from bridge.ledger.sqlite.times import micros

PRUNED_AT_ONCE = 500
"""Rows looked at in one step, which holds the writer for a few milliseconds; callbacks go in between."""
FREED_PAGES = 64
"""Pages of 16 KiB that go back to the file system in one step."""


@dataclass(frozen=True, slots=True)
class DataClass:
    """One class of data: its table, the column with a row's age, and the condition for removal."""

    table: str
    at: str
    goes: str
    in_order: bool = True
    """Ids grow with `at`, so the search can stop at the first young row."""


DATA_CLASSES = {
    "duplicates": DataClass("receipts", "received_at", "verdict IN ('duplicate', 'stale', 'quarantined')"),
    "history": DataClass(
        "receipts",
        "received_at",
        "verdict IN ('new', 'revision', 'stale') AND EXISTS (SELECT 1 FROM calls c WHERE c.id = call_id"
        " AND (c.state_receipt IS NULL OR c.state_receipt <> receipts.id))",
    ),
    "attempts": DataClass("attempts", "ended_at", "1 = 1"),
    "quarantine": DataClass(
        "quarantine", "last_at", "state <> 'waiting' OR reason = 'not_an_object'", in_order=False
    ),
    "runs": DataClass("runs", "ended_at", "state IN ('done', 'failed')", in_order=False),
}
"""What `prune` may remove, as `bridge.model.retention_rules` has it: a test compares the two row by row."""


def prune_step(
    connection: sqlite3.Connection, name: str, before: datetime, after_id: int
) -> tuple[int | None, int]:
    """Remove the old rows among the next ids.

    Returns:
        the id after which the next step begins (None: done), and how many rows were removed.
    """
    kind = DATA_CLASSES[name]
    ids = connection.execute(
        f"SELECT id, {kind.at} FROM {kind.table} WHERE id > ? ORDER BY id LIMIT ?", (after_id, PRUNED_AT_ONCE)
    ).fetchall()
    if not ids:
        return None, 0
    # The newest row stays: its id tells how far the ledger had come, should its log be lost.
    newest = None
    if kind.table in ("receipts", "quarantine"):
        newest = connection.execute(f"SELECT max(id) FROM {kind.table}").fetchone()[0]
    old = [row[0] for row in ids if row[1] is not None and row[1] < micros(before) and row[0] != newest]
    ends = len(ids) < PRUNED_AT_ONCE or (kind.in_order and len(old) < len(ids))
    further = None if ends else ids[-1][0]
    if not old:
        return further, 0
    span = (old[0], old[-1])
    where = f"id BETWEEN ? AND ? AND {kind.at} < ? AND ({kind.goes})"
    if kind.table == "receipts":
        connection.execute(
            f"DELETE FROM payloads WHERE receipt_id IN (SELECT id FROM receipts WHERE {where})",
            (*span, micros(before)),
        )
    if name == "history":
        removed = connection.execute("SELECT changes()").fetchone()[0]
    else:
        removed = connection.execute(
            f"DELETE FROM {kind.table} WHERE {where}", (*span, micros(before))
        ).rowcount
    return further, removed


def free_step(connection: sqlite3.Connection) -> int:
    """Give free pages back to the file system; returns how many are left."""
    connection.execute(f"PRAGMA incremental_vacuum({FREED_PAGES})").fetchall()
    left: int = connection.execute("PRAGMA freelist_count").fetchone()[0]
    return left
