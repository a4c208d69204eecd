"""Dictionaries that records are packed with: when a new one is due, its samples, which must be removed."""

import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from enum import IntEnum

import zstandard

from bridge.ledger.sqlite.id_extraction import take_ids_out
from bridge.ledger.sqlite.payloads import Payloads, shipped_dictionary
from bridge.ledger.sqlite.times import micros

SAMPLES = 2000
"""Records that a dictionary is made of: about 30 MB of text."""
FEWEST_CALLS = 1000
RETRAINED_AT_GROWTH = 10
"""A new dictionary is made when the ledger has so many times the calls that it had at the last one."""


class MadeOf(IntEnum):
    """What a dictionary was made of: the column `trained`."""

    THE_EXAMPLE = 0
    """The platform's documented record; it comes with the package."""
    WHOLE_RECORDS = 1
    """Records as they came, by callbridge before it removed people's values from them: it has to go."""
    SHARED_VALUES = 2
    """What the records of many people have in common."""


def training_due(connection: sqlite3.Connection) -> bool:
    """Whether the ledger has ten times the calls that it had at its last dictionary, or that one must go."""
    if newest_has_to_go(connection):
        return True
    known = connection.execute("SELECT max(calls) FROM dictionaries").fetchone()[0] or 0
    return calls_in(connection) >= max(FEWEST_CALLS, known * RETRAINED_AT_GROWTH)


def calls_in(connection: sqlite3.Connection) -> int:
    """How many calls the ledger has, told by the highest id: counting would read the whole table."""
    calls: int = connection.execute("SELECT coalesce(max(id), 0) FROM calls").fetchone()[0]
    return calls


def sample(connection: sqlite3.Connection, payloads: Payloads) -> Iterator[bytes]:
    """The newest records that can be read, as a dictionary meets them: without their ids."""
    rows = connection.execute(
        "SELECT codec, body FROM payloads ORDER BY receipt_id DESC LIMIT ?", (SAMPLES,)
    ).fetchall()
    for codec, body in rows:
        with suppress(zstandard.ZstdError):
            yield take_ids_out(payloads.unpack(codec, body))[0]


def add_trained(connection: sqlite3.Connection, body: bytes, now: datetime) -> None:
    """One more dictionary; records that were packed with older ones stay as they are."""
    _add(connection, MadeOf.SHARED_VALUES, calls_in(connection), body, now)


def add_shipped(connection: sqlite3.Connection, now: datetime) -> None:
    """The package's own dictionary once more, as the newest one: where nothing can be learnt yet."""
    _add(connection, MadeOf.THE_EXAMPLE, 0, shipped_dictionary(), now)


def _add(connection: sqlite3.Connection, made_of: MadeOf, calls: int, body: bytes, now: datetime) -> None:
    connection.execute(
        "INSERT INTO dictionaries (trained, created_at, calls, body) VALUES (?, ?, ?, ?)",
        (made_of, micros(now), calls, body),
    )


def newest_has_to_go(connection: sqlite3.Connection) -> bool:
    """Whether the dictionary that new records are packed with holds people's values."""
    newest = connection.execute("SELECT trained FROM dictionaries ORDER BY id DESC LIMIT 1").fetchone()
    return newest is not None and newest[0] == MadeOf.WHOLE_RECORDS


def that_have_to_go(connection: sqlite3.Connection) -> frozenset[int]:
    """The dictionaries that hold people's values, unless new records are still packed with one of them.

    The newest one is never among them: the number of a row that was deleted last would be given again.
    """
    if newest_has_to_go(connection):
        return frozenset()
    rows = connection.execute("SELECT id FROM dictionaries WHERE trained = ?", (MadeOf.WHOLE_RECORDS,))
    return frozenset(row[0] for row in rows)


def remove(connection: sqlite3.Connection, numbers: frozenset[int]) -> None:
    """Remove dictionaries that no record needs any more."""
    connection.executemany("DELETE FROM dictionaries WHERE id = ?", [(number,) for number in numbers])
