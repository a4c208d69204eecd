"""Makes a copy of the ledger in a process of its own, without tokens and without work that is still open.

It is run as a file, so that it starts within milliseconds: nothing of callbridge is imported. All tables are
copied row by row in one read transaction, so that the copy is of one moment. Copying pages would be simpler,
but pages hold deleted values in their free space, and what is left out must never reach the copy's disk.
What is wrong goes to stderr, with exit 1.
"""

import os
import sqlite3
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

SYNCED_BYTES = 8 << 20
"""The copy is synced every 8 MiB: one sync of 270 MiB at the end held up every commit for 150 ms and more."""
OPERATIONS_BETWEEN = 20_000
"""SQLite runs so many steps of its virtual machine between two looks at the clock."""
NICE = 10
"""Low priority, but not the lowest: as long as it reads, the write-ahead log cannot be cut back."""
CACHE_KIB = 16_384
BUSY_SECONDS = 30.0
"""How long the copy waits for a lock on the ledger."""

BLANKED_COLUMNS = {
    "accounts": {"token": "NULL"},
}
"""Columns that are replaced in the copy, by table: a backup holds no CRM tokens."""
KEPT_ROWS = {
    "runs": "state NOT IN ('requested', 'running')",
    "run_windows": "run_id NOT IN (SELECT id FROM ledger.runs WHERE state IN ('requested', 'running'))",
}
"""A daemon that started on the copy would carry out again what was open when it was made."""


def main(source: str, target: str) -> int:
    """Copy the ledger at `source` to `target`; returns the exit code."""
    # A sandbox may forbid it (systemd, by `~@resources`); then it goes on at the priority that it has.
    with suppress(PermissionError):
        os.nice(NICE)
    try:
        copy(Path(source), Path(target))
    except (sqlite3.Error, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def copy(source: Path, target: Path) -> None:
    """Copy all tables of a ledger into an empty file."""
    with (
        closing(_opened(target)) as connection,
        target.open("rb") as file,
    ):
        connection.execute("ATTACH ? AS ledger", (f"{source.absolute().as_uri()}?mode=ro",))
        # First, or a copy that is killed while these are written leaves a `-journal` file behind.
        connection.execute("PRAGMA main.journal_mode = OFF")
        for pragma in ("page_size", "auto_vacuum", "user_version", "application_id"):
            value = connection.execute(f"PRAGMA ledger.{pragma}").fetchone()[0]
            connection.execute(f"PRAGMA main.{pragma} = {value}")
        connection.execute("PRAGMA main.synchronous = OFF")
        connection.execute(f"PRAGMA main.cache_size = -{CACHE_KIB}")
        connection.execute("BEGIN")
        _synced_bit_by_bit(connection, file.fileno())
        _copy_all(connection)
        connection.set_progress_handler(None, 0)
        connection.execute("COMMIT")


def _opened(target: Path) -> sqlite3.Connection:
    uri = f"{target.absolute().as_uri()}?mode=rw"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_SECONDS)


def _synced_bit_by_bit(connection: sqlite3.Connection, file: int) -> None:
    parent, synced, looked = os.getppid(), 0, 0.0

    def look() -> int:
        nonlocal synced, looked
        if time.monotonic() - looked < 0.01:
            return 0
        looked = time.monotonic()
        if os.getppid() != parent:
            # The daemon is gone, so nobody waits for the copy: a value other than 0 makes SQLite stop.
            return 1
        size = os.fstat(file).st_size
        if size - synced >= SYNCED_BYTES:
            os.fdatasync(file)
            synced = size
        return 0

    connection.set_progress_handler(look, OPERATIONS_BETWEEN)


def _copy_all(connection: sqlite3.Connection) -> None:
    schema = connection.execute(
        "SELECT type, name, sql FROM ledger.sqlite_schema"
        " WHERE sql IS NOT NULL AND substr(name, 1, 7) <> 'sqlite_'"
    ).fetchall()
    tables = [name for kind, name, _ in schema if kind == "table"]
    # With their indexes, whole tables are copied page by page; triggers would count the rows again.
    for wanted in ("table", "index"):
        for kind, _, sql in schema:
            if kind == wanted:
                connection.execute(sql)
    for name in tables:
        _copy_table(connection, name)
    for kind, _, sql in schema:
        if kind not in ("table", "index"):
            connection.execute(sql)


def _copy_table(connection: sqlite3.Connection, name: str) -> None:
    left_out, kept = BLANKED_COLUMNS.get(name, {}), KEPT_ROWS.get(name)
    if not left_out and kept is None:
        try:
            connection.execute(f'INSERT INTO main."{name}" SELECT * FROM ledger."{name}"')
        except sqlite3.OperationalError as error:
            # SQLite refuses `SELECT *` into a table with generated columns, unless it can copy whole pages.
            if "columns" not in str(error):
                raise
        else:
            return
    columns = [
        row[1] for row in connection.execute(f'PRAGMA ledger.table_xinfo("{name}")').fetchall() if not row[6]
    ]
    quoted = ", ".join(f'"{column}"' for column in columns)
    values = ", ".join(left_out.get(column, f'"{column}"') for column in columns)
    where = f" WHERE {kept}" if kept is not None else ""
    connection.execute(f'INSERT INTO main."{name}" ({quoted}) SELECT {values} FROM ledger."{name}"{where}')


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
