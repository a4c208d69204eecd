"""Packs records again whose dictionary must be removed, 200 at a time.

Three tables hold packed records: `payloads`, `quarantine`, and `calls` with its merged states. They are
walked by their ids; what is packed again is written only where the row is still as it was read. A walk
from end to end that finds nothing more proves that no row needs the dictionary. After a crash the walk
begins anew and passes quickly over what is done.
"""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import zstandard

from bridge.ledger.sqlite.payloads import Packed, Payloads, prefixed, without_prefix

LOOKED_AT_ONCE = 200
"""Rows of one step: 200 records of 15 KB are packed in about 30 ms, and written in 5 ms."""


@dataclass(frozen=True, slots=True)
class PackedColumn:
    """A column with packed records: the SQL that reads its rows, and the SQL that replaces one."""

    select: str
    """The next rows behind an id: the id, the codec and the body; or the id and a body behind its codec."""
    update: str
    """Replaces a row's record; what was read is compared, so that a newer one is never overwritten."""
    is_prefixed: bool = False

    def packed(self, row: Sequence[object]) -> Packed | None:
        """The packed record of a row; None: it holds none."""
        if not self.is_prefixed:
            codec, body = row[1], row[2]
            return (codec, body) if isinstance(codec, int) and isinstance(body, bytes) else None
        return without_prefix(row[1]) if isinstance(row[1], bytes) else None

    def values(self, row: Sequence[object], new: Packed) -> tuple[object, ...]:
        """The values of `update`."""
        if self.is_prefixed:
            return (prefixed(*new), row[0], row[1])
        return (*new, row[0], row[1])


PACKED_COLUMNS = (
    PackedColumn(
        "SELECT receipt_id, codec, body FROM payloads WHERE receipt_id > ? ORDER BY receipt_id LIMIT ?",
        "UPDATE payloads SET codec = ?, body = ? WHERE receipt_id = ? AND codec = ?",
    ),
    PackedColumn(
        "SELECT id, codec, body FROM quarantine WHERE id > ? ORDER BY id LIMIT ?",
        "UPDATE quarantine SET codec = ?, body = ? WHERE id = ? AND codec = ?",
    ),
    PackedColumn(
        "SELECT id, state FROM calls WHERE id > ? ORDER BY id LIMIT ?",
        "UPDATE calls SET state = ? WHERE id = ? AND state = ?",
        is_prefixed=True,
    ),
)


@dataclass(slots=True)
class Repacking:
    """Walks through all packed records again and again, until no record needs a dictionary of `outdated`."""

    outdated: frozenset[int]
    packer: Payloads
    """Packs with the newest dictionary, for this thread alone."""
    is_done: bool = False
    _column: int = 0
    _after: int = 0
    _found: int = 0

    def step(self, reader: sqlite3.Connection, write: Callable[[str, list[tuple[object, ...]]], None]) -> int:
        """Look at the next rows, and hand an UPDATE with its values to `write`; how many are packed again."""
        column = PACKED_COLUMNS[self._column]
        rows = reader.execute(column.select, (self._after, LOOKED_AT_ONCE)).fetchall()
        changes = [
            column.values(row, new)
            for row in rows
            if (packed := column.packed(row)) is not None and packed[0] in self.outdated
            if (new := self._packed_again(packed)) is not None
        ]
        if changes:
            write(column.update, changes)
        self._found += len(changes)
        if len(rows) == LOOKED_AT_ONCE:
            self._after = rows[-1][0]
        else:
            self._go_to_next_column()
        return len(changes)

    def _packed_again(self, packed: Packed) -> Packed | None:
        """The record packed with the newest dictionary; None: it is damaged, so it stays as it is."""
        try:
            return self.packer.pack(self.packer.unpack(*packed))
        except zstandard.ZstdError:
            return None

    def _go_to_next_column(self) -> None:
        self._after = 0
        self._column += 1
        if self._column == len(PACKED_COLUMNS):
            self.is_done = not self._found
            self._column = self._found = 0
