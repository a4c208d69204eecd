"""The contract of every ledger, on a SQLite file."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from bridge.ledger import Ledger, Ownership, open_ledger, ownership_of
from tests.ledger.contract.place import LedgerPlace
from tests.ledger.contract.suite import LedgerContract


@dataclass(frozen=True)
class SqlitePlace:
    """A file."""

    path: Path

    def open(self) -> Ledger:
        return open_ledger(self.path, create=True)

    def open_to_read(self) -> Ledger:
        return open_ledger(self.path, read_only=True)

    def ownership(self, *, guest: bool = False) -> Ownership:
        return ownership_of(self.path, guest=guest)

    def damage(self, call_id: int) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(
                "UPDATE payloads SET body = x'00' WHERE receipt_id ="
                " (SELECT state_receipt FROM calls WHERE id = ?)",
                (call_id,),
            )


class TestSqliteLedger(LedgerContract):
    def new_place(self, folder: Path) -> LedgerPlace:
        return SqlitePlace(folder / "ledger.db")
