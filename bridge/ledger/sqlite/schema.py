"""The ledger's tables: numbered migrations, and which of them a program must know to open the file.

A rollback changes the program only: the release before this one opens a ledger that this one has migrated.
The file therefore notes each migration in one of two sets. Every release refuses a file whose `NEEDED` set
has a migration that it does not know. Migrations after `OLDEST_NEEDED` only add and are noted in `ADDED`,
of which the release before this one knows nothing. The next release moves them to `NEEDED`, so that programs
older than this one refuse its ledgers.
"""

import sqlite3
from importlib import resources
from pathlib import Path

from sqlite_utils import Database, Migrations

from bridge.lib.errors import LedgerUnusable

OLDEST_NEEDED = "0006_unfiled"
"""The newest migration of the release before this one; a test holds that those after it only add."""

NEEDED = "callbridge"
"""The only set that releases up to `0006_unfiled` look at."""

ADDED = "callbridge, added"


def pending_migrations(connection: sqlite3.Connection) -> list[Migrations]:
    """What this program has to do to a file: sqlite-utils migration sets, to be applied in this order."""
    done = _applied(connection, NEEDED) | _applied(connection, ADDED)
    found = []
    for name_of_set in (NEEDED, ADDED):
        missing = {
            name: sql
            for name, sql in migration_scripts().items()
            if name not in done and _set_of(name) == name_of_set
        }
        if missing:
            pending = Migrations(name_of_set)
            for name, sql in missing.items():
                _register(pending, name, sql)
            found.append(pending)
    return found


def migration_scripts() -> dict[str, str]:
    """The SQL of every migration by its name, in the order in which they are applied."""
    folder = resources.files("bridge.ledger.sqlite") / "migrations"
    files = sorted(folder.iterdir(), key=lambda entry: entry.name)
    return {
        file.name.removesuffix(".sql"): file.read_text("utf-8")
        for file in files
        if file.name.endswith(".sql")
    }


def _register(known: Migrations, name: str, sql: str) -> None:
    @known(name=name)
    def migrate(database: Database) -> None:
        # executescript() would commit the transaction that holds the version's row.
        for statement in statements(sql):
            database.conn.execute(statement)


def statements(sql: str) -> list[str]:
    """Split a script at the semicolons that end a statement."""
    found: list[str] = []
    current = ""
    for line in sql.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            found.append(current.strip())
            current = ""
    return found


def refuse_newer(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a file that a program newer than the next release has changed.

    Raises:
        LedgerUnusable: it needs migrations that this program does not know.
    """
    newer = sorted(_applied(connection, NEEDED) - migration_scripts().keys())
    if newer:
        raise LedgerUnusable(
            f"the ledger at {path} was written by a newer callbridge ({', '.join(newer)}): upgrade this one"
        )


def note_needed(connection: sqlite3.Connection) -> None:
    """Note which migrations a program must know to open the file, unless a newer program has done so."""
    needed, added = _applied(connection, NEEDED), _applied(connection, ADDED)
    if (needed | added) - migration_scripts().keys():
        return
    for name in needed | added:
        if name not in (needed if _set_of(name) == NEEDED else added):
            connection.execute(
                "UPDATE _sqlite_migrations SET migration_set = ? WHERE name = ? AND migration_set IN (?, ?)",
                (_set_of(name), name, NEEDED, ADDED),
            )


def _set_of(name: str) -> str:
    return NEEDED if name <= OLDEST_NEEDED else ADDED


def _applied(connection: sqlite3.Connection, name_of_set: str) -> set[str]:
    return {done.name for done in Migrations(name_of_set).applied(Database(connection))}
