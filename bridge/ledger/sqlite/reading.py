"""Looking at the ledger: counts, balances, calls and deliveries, for people."""

import sqlite3
from collections.abc import Sequence
from datetime import datetime

from bridge.ledger import Row, Window
from bridge.ledger.sqlite.deliveries import marks
from bridge.ledger.sqlite.judging import state_of
from bridge.ledger.sqlite.payloads import Payloads
from bridge.model import DeliveryState, moment, stamp

# A call whose creation is not known counts from when it was first seen.
CREATED = "coalesce(c.created_at, c.first_seen_at)"


def within(window: Window) -> tuple[str, list[str]]:
    """A condition on `c`, and its values."""
    sql, values = "", []
    if window.since is not None:
        sql += f" AND {CREATED} >= ?"
        values.append(stamp(window.since))
    if window.until is not None:
        sql += f" AND {CREATED} < ?"
        values.append(stamp(window.until))
    return sql, values


def counts(connection: sqlite3.Connection) -> Row:
    """Everything `status` and the metrics tell, of one moment."""

    def by(sql: str) -> dict[str, int]:
        return {row[0]: row[1] for row in connection.execute(sql)}

    deliveries: dict[str, dict[str, int]] = {}
    for row in connection.execute("SELECT name FROM destinations ORDER BY name"):
        deliveries[row[0]] = dict.fromkeys(DeliveryState, 0)
    for row in connection.execute("SELECT destination, state, count(*) FROM deliveries GROUP BY 1, 2"):
        deliveries.setdefault(row[0], dict.fromkeys(DeliveryState, 0))[row[1]] = row[2]
    oldest = connection.execute(
        "SELECT min(at) FROM (SELECT min(owed_at) AS at FROM deliveries WHERE state IN ('due', 'leased')"
        " UNION ALL SELECT min(received_at) FROM receipts WHERE verdict IS NULL)"
    ).fetchone()[0]
    return {
        "calls": by("SELECT source, count(*) FROM calls GROUP BY 1"),
        "receipts": by("SELECT coalesce(verdict, 'waiting'), count(*) FROM receipts GROUP BY 1"),
        "quarantined": by("SELECT reason, count(*) FROM quarantine WHERE state = 'waiting' GROUP BY 1"),
        "deliveries": deliveries,
        "parked": [
            dict(row)
            for row in connection.execute(
                "SELECT destination, cause, count(*) AS count, min(id) AS example FROM deliveries"
                " WHERE state = 'parked' GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 20"
            )
        ],
        "retrying": [
            dict(row)
            for row in connection.execute(
                "SELECT destination, cause, count(*) AS count, min(due_at) AS next_at FROM deliveries"
                " WHERE state = 'due' AND cause IS NOT NULL GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 20"
            )
        ],
        "shared_sn": connection.execute(
            "SELECT count(*) FROM (SELECT 1 FROM calls WHERE sn IS NOT NULL"
            " GROUP BY sn, source HAVING count(*) > 1)"
        ).fetchone()[0],
        "oldest_owed_at": oldest,
        "last_received_at": connection.execute(
            "SELECT max(received_at) FROM (SELECT received_at FROM receipts ORDER BY id DESC LIMIT 1)"
        ).fetchone()[0],
    }


def balance(
    connection: sqlite3.Connection, destination: str, sources: Sequence[str], window: Window
) -> dict[str, int]:
    """Every call of the sources under exactly one heading, in one statement."""
    condition, values = within(window)
    row = connection.execute(
        "SELECT count(*) AS ledger,"
        " count(*) FILTER (WHERE state = 'delivered' AND NOT waits) AS delivered,"
        " count(*) FILTER (WHERE state = 'skipped' AND NOT waits) AS skipped,"
        " count(*) FILTER (WHERE state = 'parked' AND NOT waits) AS parked,"
        " count(*) FILTER (WHERE waits OR state IS NULL OR state IN ('due', 'leased')) AS under_way"
        " FROM (SELECT d.state, EXISTS"
        " (SELECT 1 FROM receipts r WHERE r.call_id = c.id AND r.verdict IS NULL) AS waits FROM calls c"
        " LEFT JOIN deliveries d ON d.call_id = c.id AND d.destination = ?"
        f" WHERE c.source IN ({marks(sources)}){condition})",
        (destination, *sources, *values),
    ).fetchone()
    return dict(row)


def source_counts(connection: sqlite3.Connection, source: str, window: Window) -> dict[str, int]:
    """Call keys known, and what waits in quarantine."""
    condition, values = within(window)
    calls = connection.execute(
        f"SELECT count(*) FROM calls c WHERE c.source = ?{condition}",
        (source, *values),
    ).fetchone()[0]
    waiting = connection.execute(
        "SELECT count(*) FROM quarantine"
        " WHERE source = ? AND state = 'waiting' AND reason NOT IN ('not_an_object', 'unreadable')",
        (source,),
    ).fetchone()[0]
    return {"ledger": calls, "quarantined": waiting, "erased": 0}


def first_call_at(connection: sqlite3.Connection, source: str | None) -> datetime | None:
    """When the first call was created."""
    which = "" if source is None else "WHERE source = ?"
    values = () if source is None else (source,)
    first = connection.execute(
        f"SELECT min(coalesce(created_at, first_seen_at)) FROM calls {which}",
        values,
    ).fetchone()[0]
    return None if first is None else moment(first)


_CALL = """
SELECT c.id, c.source, c.key, c.revision, c.sn, c.phone, c.name, c.grade, c.created_at,
       c.started_at, c.updated_at, c.talk_seconds, c.task, c.first_seen_at FROM calls c
"""


def list_calls(connection: sqlite3.Connection, words: Sequence[str], limit: int) -> list[Row]:
    """Calls by name, phone or sn, newest first."""
    condition, values = "", []
    if words:
        found = marks(words)
        condition = (
            f"WHERE c.id IN (SELECT call_id FROM call_names WHERE name IN ({found})"
            f" UNION SELECT id FROM calls WHERE phone IN ({found})"
            f" UNION SELECT id FROM calls WHERE sn IN ({found}))"
        )
        values = [*words, *words, *words]
    rows = connection.execute(
        f"{_CALL} {condition} ORDER BY coalesce(c.created_at, c.first_seen_at) DESC, c.id DESC LIMIT ?",
        (*values, limit),
    ).fetchall()
    deliveries = "SELECT destination, state FROM deliveries WHERE call_id = ?"
    return [dict(row) | {"deliveries": dict(connection.execute(deliveries, (row["id"],)))} for row in rows]


def show_call(connection: sqlite3.Connection, payloads: Payloads, call_id: int) -> Row:
    """One call's whole history."""

    def rows(sql: str) -> list[Row]:
        return [dict(row) for row in connection.execute(sql, (call_id,))]

    call = rows(f"{_CALL} WHERE c.id = ?")[0]
    state = connection.execute(
        "SELECT c.state, s.codec AS state_codec, s.body AS state_body FROM calls c"
        " LEFT JOIN payloads s ON s.receipt_id = c.state_receipt WHERE c.id = ?",
        (call_id,),
    ).fetchone()
    attempts = (
        "SELECT a.*, d.destination FROM attempts a JOIN deliveries d ON d.id = a.delivery_id"
        " WHERE d.call_id = ? ORDER BY a.id"
    )
    objects = (
        "SELECT d.destination, o.object, o.type, o.key, o.crm_id FROM delivery_objects o"
        " JOIN deliveries d ON d.id = o.delivery_id WHERE d.call_id = ? ORDER BY 1, 2"
    )
    return call | {
        "names": [row["name"] for row in rows("SELECT name FROM call_names WHERE call_id = ?")],
        "receipts": rows(
            "SELECT id, via, received_at, verdict, revision, flags FROM receipts"
            " WHERE call_id = ? ORDER BY id"
        ),
        "deliveries": rows("SELECT * FROM deliveries WHERE call_id = ? ORDER BY destination"),
        "attempts": rows(attempts),
        "crm_objects": rows(objects),
        "record": state_of(payloads, state),
    }


def list_deliveries(
    connection: sqlite3.Connection, state: str | None, destination: str | None, limit: int
) -> list[Row]:
    """Deliveries with their calls, those changed last first."""
    condition, values = "", []
    if state is not None:
        condition += " AND d.state = ?"
        values.append(state)
    if destination is not None:
        condition += " AND d.destination = ?"
        values.append(destination)
    return [
        dict(row)
        for row in connection.execute(
            "SELECT d.id, d.destination, d.state, d.wanted, d.delivered, d.due_at, d.tries, d.reason,"
            " d.changed_at, c.source, c.key, c.phone FROM deliveries d JOIN calls c ON c.id = d.call_id"
            f" WHERE 1 = 1{condition} ORDER BY d.changed_at DESC, d.id DESC LIMIT ?",
            (*values, limit),
        )
    ]
