"""Finds the calls that an arrival may belong to, for `bridge.record.call_match` to choose from."""

import sqlite3
from collections.abc import Sequence

from bridge.ledger.sqlite.binding import numbered
from bridge.ledger.sqlite.times import micros
from bridge.model.calls import Arrival
from bridge.record.call_match import KnownCall, key_of_nameless
from bridge.record.identity import is_uuid

# `bridge.model.key_claims.same_call` in SQL.
_BY_SN_AND_TIME = """
SELECT id, key FROM calls WHERE source = :1 AND sn = :2 AND sn_end = substr(:2, -8)
AND CASE WHEN started_at IS NOT NULL AND :3 IS NOT NULL THEN started_at = :3 ELSE created_at = :4 END
"""


def names_sought(arrival: Arrival) -> Sequence[str]:
    """The names by which the arrival's call may be known."""
    return arrival.names or (key_of_nameless(arrival),)


def any_nameless(connection: sqlite3.Connection) -> bool:
    """Whether any call is known by its sn and time alone; as a rule there is none."""
    return bool(connection.execute("SELECT EXISTS (SELECT 1 FROM calls WHERE nameless = 1)").fetchone()[0])


def calls_by_sn_and_time(
    connection: sqlite3.Connection, arrival: Arrival, *, nameless: bool
) -> list[KnownCall]:
    """Calls of the same `sn` and `started_at`, or `created_at` where either side lacks the other."""
    if arrival.sn is None:
        return []
    rows = connection.execute(
        _BY_SN_AND_TIME + ("AND nameless = 1" if nameless else ""),
        numbered(arrival.source, arrival.sn, micros(arrival.started_at), micros(arrival.created_at)),
    )
    return [KnownCall(row["id"], row["key"]) for row in rows]


def uuid_of(connection: sqlite3.Connection, call_id: int) -> str | None:
    """The UUID among a call's names."""
    rows = connection.execute("SELECT name FROM call_names WHERE call_id = ?", (call_id,))
    return next((row["name"] for row in rows if is_uuid(row["name"])), None)
