"""The ledger's tables: numbered migrations, and a refusal of those that this program does not know."""

import sqlite3
from importlib import resources
from pathlib import Path

from sqlite_utils import Database, Migrations

from bridge.lib.errors import LedgerUnusable


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
    """A file that a newer program has changed is not ours to touch."""
    ours = migration_scripts()
    newer = [done.name for done in migrations().applied(Database(connection)) if done.name not in ours]
    if newer:
        raise LedgerUnusable(
            f"the ledger at {path} was written by a newer callbridge ({', '.join(newer)}): upgrade this one"
        )
