"""Records that belong to no call: shown, filed again, or dropped."""

import sqlite3
from collections.abc import Sequence

from bridge.ledger.quarantine import QuarantinedBody, QuarantineEntry
from bridge.ledger.sqlite.access import Access, looks
from bridge.ledger.sqlite.binding import marks
from bridge.ledger.sqlite.filing import file_arrivals
from bridge.ledger.sqlite.payloads import Payloads
from bridge.ledger.sqlite.times import model_of
from bridge.model.calls import Arrival


class QuarantinePart(Access):
    """See `bridge.ledger.QuarantineLedger`, which says what each method promises."""

    @looks
    def list_quarantine(self, state: str | None, limit: int) -> list[QuarantineEntry]:
        """Read entries, the newest first."""
        return list_quarantine(self._reader, state, limit)

    @looks
    def show_quarantine(self, entry: int) -> QuarantinedBody | None:
        """Read and unpack one entry."""
        return show_quarantine(self._reader, self._payloads, entry)

    def refile(self, entry: int, arrivals: Sequence[Arrival]) -> bool:
        """File an entry again in one commit, which is undone where no call takes a record of it."""

        def write(connection: sqlite3.Connection) -> bool:
            # Another process may have added a dictionary, and may remove the one that this one knows.
            self._payloads.load(connection)
            return refile(connection, self._payloads, entry, arrivals)

        return self._write().run(write)

    def drop(self, entries: Sequence[int]) -> int:
        """Mark waiting entries as dropped in one commit."""
        return self._write().run(lambda c: drop(c, entries))


_ENTRY = "SELECT id, source, via, reason, detail, state, arrivals, received_at, last_at FROM quarantine"


def list_quarantine(connection: sqlite3.Connection, state: str | None, limit: int) -> list[QuarantineEntry]:
    """Entries in this state (all of them without one), the newest first."""
    condition, values = ("WHERE state = ?", [state]) if state else ("", [])
    order = "ORDER BY last_at DESC, id DESC LIMIT ?"
    rows = connection.execute(f"{_ENTRY} {condition} {order}", (*values, limit))
    return [model_of(QuarantineEntry, row) for row in rows]


def show_quarantine(connection: sqlite3.Connection, payloads: Payloads, entry: int) -> QuarantinedBody | None:
    """One entry with its body; None where there is none of this id."""
    row = connection.execute(f"{_ENTRY} WHERE id = ?", (entry,)).fetchone()
    if row is None:
        return None
    codec, body = connection.execute("SELECT codec, body FROM quarantine WHERE id = ?", (entry,)).fetchone()
    return model_of(QuarantinedBody, row, body=payloads.unpack(codec, body))


def refile(
    connection: sqlite3.Connection, payloads: Payloads, entry: int, arrivals: Sequence[Arrival]
) -> bool:
    """File a quarantined body again; whether it is released, which it is where a call takes a record of it.

    Of several records those that no call takes wait on by themselves.
    """
    connection.execute("SAVEPOINT refile")
    filed = file_arrivals(connection, payloads, arrivals)
    released = any(one.call_id is not None for one in filed)
    if released:
        connection.execute("UPDATE quarantine SET state = 'released' WHERE id = ?", (entry,))
    else:
        connection.execute("ROLLBACK TO refile")
    connection.execute("RELEASE refile")
    return released


def drop(connection: sqlite3.Connection, entries: Sequence[int]) -> int:
    """Mark waiting entries as dropped; returns how many there were."""
    return connection.execute(
        f"UPDATE quarantine SET state = 'dropped' WHERE state = 'waiting' AND id IN ({marks(entries)})",
        entries,
    ).rowcount
