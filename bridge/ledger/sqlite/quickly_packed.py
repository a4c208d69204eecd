"""Packs records as small as they will be that were packed quickly when they were filed, 200 at a time.

They are a run at the end of `payloads`: a counter says up to which receipt all is done, and moves on in the
same commit. A step takes its rows out and puts them back, smaller, in their order: SQLite then fills pages
anew. Changed in place, rows would only leave their pages emptier, and the file would stay as large.
"""

import sqlite3
from collections.abc import Mapping

import zstandard

from bridge.ledger.sqlite.payloads import Packed, Payloads, insert_payloads

ROWS_IN_STEP = 200
"""200 records of 15 KB are unpacked and packed in about 20 ms, and written in 2 ms."""

_DONE = "(SELECT count FROM counters WHERE kind = 'packed')"
_NEXT = f"SELECT receipt_id, codec, body FROM payloads WHERE receipt_id > {_DONE} ORDER BY receipt_id LIMIT ?"
_THERE = "SELECT receipt_id, codec, body FROM payloads WHERE receipt_id BETWEEN ? AND ? ORDER BY receipt_id"

PackedRecords = Mapping[int, Packed]
"""Packed records by their receipts."""


def next_quickly_packed(connection: sqlite3.Connection) -> PackedRecords:
    """The next records to be packed smaller; empty once none is left."""
    return {
        row["receipt_id"]: (row["codec"], row["body"]) for row in connection.execute(_NEXT, (ROWS_IN_STEP,))
    }


def packed_smaller(packer: Payloads, records: PackedRecords) -> PackedRecords:
    """The same records, packed as small as they will be; a damaged one stays as it is."""
    texts: dict[int, bytes] = {}
    for receipt, packed in records.items():
        try:
            texts[receipt] = packer.unpack(*packed)
        except zstandard.ZstdError:
            continue
    return dict(zip(texts, packer.pack_all(list(texts.values())), strict=True))


def replace_packed(connection: sqlite3.Connection, read: PackedRecords, smaller: PackedRecords) -> int:
    """Put smaller records in the place of those that are still as they were read; returns how many."""
    span = (min(read), max(read))
    there = {row["receipt_id"]: (row["codec"], row["body"]) for row in connection.execute(_THERE, span)}
    replaced = {
        receipt: smaller[receipt]
        for receipt, packed in there.items()
        if read.get(receipt) == packed and receipt in smaller
    }
    connection.execute("DELETE FROM payloads WHERE receipt_id BETWEEN ? AND ?", span)
    insert_payloads(connection, [(receipt, *packed) for receipt, packed in (there | replaced).items()])
    connection.execute("UPDATE counters SET count = ? WHERE kind = 'packed'", (span[1],))
    return len(replaced)
