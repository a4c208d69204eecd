"""The rows of `dictionaries`: when a new one is due, what it is made of, and adding it."""

import sqlite3
from collections.abc import Iterator
from datetime import datetime

from bridge.ledger.sqlite.id_extraction import fold
from bridge.ledger.sqlite.payloads import Payloads
from bridge.ledger.sqlite.times import micros

SAMPLES = 2000


def training_due(connection: sqlite3.Connection) -> bool:
    """Whether the ledger has ten times the calls that its newest dictionary was made of."""
    known = connection.execute("SELECT max(calls) FROM dictionaries").fetchone()[0] or 0
    calls: int = connection.execute("SELECT coalesce(max(id), 0) FROM calls").fetchone()[0]
    return calls >= max(1000, known * 10)


def sample(connection: sqlite3.Connection, payloads: Payloads) -> Iterator[bytes]:
    """Records to learn from, spread over the newest ones."""
    rows = connection.execute(
        "SELECT codec, body FROM payloads ORDER BY receipt_id DESC LIMIT ?", (SAMPLES,)
    ).fetchall()
    # As they are when a dictionary meets them.
    return (fold(payloads.unpack(codec, body))[0] for codec, body in rows)


def add_dictionary(connection: sqlite3.Connection, body: bytes, now: datetime) -> None:
    """One more dictionary; records that were packed with older ones stay as they are."""
    connection.execute(
        "INSERT INTO dictionaries (trained, created_at, calls, body)"
        " SELECT 1, ?, coalesce(max(id), 0), ? FROM calls",
        (micros(now), body),
    )
