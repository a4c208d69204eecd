"""Deliveries as rows: the only module that knows what columns there are.

A new column is a migration, a field of `Delivery`, and a line in `_delivery_of` and in `_columns_of`.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bridge.ledger.sqlite.binding import json_list, rows_of
from bridge.ledger.sqlite.progress_packing import is_in_doubt
from bridge.ledger.sqlite.times import micros, moment_of
from bridge.model.deliveries import Delivery, DeliveryState, Lane, ParkKind

# SQLite takes 32,766 values in a statement; here each row has 15.
ROWS_IN_STATEMENT = 200


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """A delivery with its id, and how far it is as the file packs that."""

    id: int
    delivery: Delivery
    progress: bytes | None = None


NewDelivery = tuple[int, str, Delivery]
"""A call's id, the destination, and the delivery."""


def _delivery_of(row: sqlite3.Row) -> Delivery:
    return Delivery(
        state=DeliveryState(row["state"]),
        wanted=row["wanted"],
        changed_at=moment_of(row["changed_at"]),
        delivered=row["delivered"],
        owed_at=_moment(row["owed_at"]),
        due_at=_moment(row["due_at"]),
        tries=row["tries"],
        reason=row["reason"],
        cause=row["cause"],
        park_kind=None if row["park_kind"] is None else ParkKind(row["park_kind"]),
        held_as=None if row["person"] is None else DeliveryState(row["person"]),
        lane=Lane(row["lane"]),
        called_at=_moment(row["called_at"]),
        in_doubt=is_in_doubt(row["progress"]),
    )


def _columns_of(delivery: Delivery) -> dict[str, Any]:
    return {
        "state": delivery.state,
        "wanted": delivery.wanted,
        "changed_at": micros(delivery.changed_at),
        "delivered": delivery.delivered,
        "owed_at": micros(delivery.owed_at),
        "due_at": micros(delivery.due_at),
        "tries": delivery.tries,
        "reason": delivery.reason,
        "cause": delivery.cause,
        "park_kind": delivery.park_kind,
        "person": delivery.held_as,
        "lane": delivery.lane,
        "called_at": micros(delivery.called_at),
    }


def _moment(kept: int | None) -> datetime | None:
    return None if kept is None else moment_of(kept)


DELIVERY_COLUMNS = tuple(_columns_of(Delivery(DeliveryState.DUE, 0, moment_of(0))))
_NAMES = ", ".join(DELIVERY_COLUMNS)
# One UPDATE for many rows: a statement for each would wait for the interpreter's lock each time.
_FROM_CHANGED = ", ".join(f"{name} = changed.{name}" for name in DELIVERY_COLUMNS)
_CHANGE = f"""
WITH changed (id, progress, {_NAMES}) AS (VALUES {{}})
UPDATE deliveries SET progress = changed.progress, {_FROM_CHANGED}
FROM changed WHERE deliveries.id = changed.id
"""


def read_deliveries(connection: sqlite3.Connection, condition: str, *values: object) -> list[DeliveryRow]:
    """The deliveries that meet a condition, by their ids."""
    rows = connection.execute(
        f"SELECT id, progress, {_NAMES} FROM deliveries WHERE {condition} ORDER BY id", values
    )
    return [DeliveryRow(row["id"], _delivery_of(row), row["progress"]) for row in rows]


def deliveries_by_id(connection: sqlite3.Connection, ids: Iterable[int]) -> list[DeliveryRow]:
    """The deliveries with these ids; one that is not there is left out."""
    return read_deliveries(connection, "id IN (SELECT value FROM json_each(?))", json_list(ids))


def deliveries_of_calls(
    connection: sqlite3.Connection, call_ids: Iterable[int]
) -> dict[tuple[int, str], DeliveryRow]:
    """The deliveries of calls, by call and destination."""
    rows = connection.execute(
        f"SELECT call_id, destination, d.id, progress, {_NAMES} FROM json_each(?) j"
        " CROSS JOIN deliveries d ON d.call_id = j.value",
        (json_list(call_ids),),
    )
    return {
        (row["call_id"], row["destination"]): DeliveryRow(row["id"], _delivery_of(row), row["progress"])
        for row in rows
    }


def change_deliveries(connection: sqlite3.Connection, rows: Sequence[DeliveryRow]) -> None:
    """Keep what has become of deliveries that were read in this transaction."""
    for start in range(0, len(rows), ROWS_IN_STATEMENT):
        values = [
            (row.id, row.progress, *_columns_of(row.delivery).values())
            for row in rows[start : start + ROWS_IN_STATEMENT]
        ]
        sql = _CHANGE.format(rows_of(len(DELIVERY_COLUMNS) + 2, len(values)))
        connection.execute(sql, [value for row in values for value in row])


def add_deliveries(connection: sqlite3.Connection, added: Sequence[NewDelivery]) -> None:
    """Keep deliveries of calls that had none to these destinations; their ids follow this order."""
    if not added:
        return
    rows = [
        {"call_id": call_id, "destination": name, **_columns_of(delivery)}
        for call_id, name, delivery in added
    ]
    # Most columns of a new delivery are empty: what is in no row takes no time.
    names = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    places = ", ".join(f"json_extract(value, '$[{place}]')" for place in range(len(names)))
    connection.execute(
        f"INSERT INTO deliveries ({', '.join(names)}) SELECT {places} FROM json_each(?)",
        (json_list([[row[name] for name in names] for row in rows]),),
    )
