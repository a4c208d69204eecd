"""The ledger's tables: numbered migrations, and which of them a program must know to open the file.

A rollback changes the program only: the release before this one opens a ledger that this one has migrated,
because every migration after `OLDEST_NEEDED` only adds. Older programs refuse it.
"""

import sqlite3
from importlib import resources
from pathlib import Path

from sqlite_utils import Database, Migrations

from bridge.lib.errors import LedgerUnusable

OLDEST_NEEDED = "0008_compatibility"
"""The newest migration of the release before this one; a test holds that those after it only add.

No release before this one reads the table, so it names itself.
"""


def migrations() -> Migrations:
    """The numbered SQL files, as a sqlite-utils migration set."""
    known = Migrations("callbridge")
    for name, sql in migration_scripts().items():
        _register(known, name, sql)
    return known


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
        LedgerUnusable: it has migrations that this program does not know, and needs one of them.
    """
    newer = _unknown_migrations(connection)
    if newer and _oldest_needed(connection) not in migration_scripts():
        raise LedgerUnusable(
            f"the ledger at {path} was written by a newer callbridge ({', '.join(newer)}): upgrade this one"
        )


def note_compatibility(connection: sqlite3.Connection) -> None:
    """Write down which programs may open the file from now on, unless a newer one has said so."""
    if _unknown_migrations(connection) or _oldest_needed(connection) == OLDEST_NEEDED:
        return
    connection.execute("INSERT OR REPLACE INTO compatibility VALUES (1, ?)", (OLDEST_NEEDED,))


def _unknown_migrations(connection: sqlite3.Connection) -> list[str]:
    ours = migration_scripts()
    return [done.name for done in migrations().applied(Database(connection)) if done.name not in ours]


def _oldest_needed(connection: sqlite3.Connection) -> str | None:
    """The migration that a program must know; None in a ledger that says nothing of it."""
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'compatibility'").fetchone():
        return None
    row = connection.execute("SELECT oldest_needed FROM compatibility").fetchone()
    return None if row is None else str(row[0])
