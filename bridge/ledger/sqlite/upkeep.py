"""Keeping the file in shape: retention, space, copies, dictionaries; and the way out of quarantine."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bridge.ledger import Row
from bridge.ledger.sqlite import backup_check, backup_copy
from bridge.ledger.sqlite.deliveries import marks
from bridge.ledger.sqlite.filing import file_arrivals
from bridge.ledger.sqlite.id_extraction import fold
from bridge.ledger.sqlite.payloads import Payloads
from bridge.ledger.sqlite.times import micros, row_of
from bridge.lib.errors import LedgerBusy, LedgerUnusable
from bridge.model.calls import Arrival

# A step of a long job takes the writer for a few milliseconds, then callbacks have their turn.
PRUNED_AT_ONCE = 500
FREED_PAGES = 64
# How often a copy that is being made asks whether it shall go on, in seconds.
ASKED_EVERY = 0.2
STOPPED = "callbridge stops, and the copy was not done yet: ask for it again"

SAMPLES = 2000


# -- retention ------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class DataClass:
    """One class of data: its table, when a row is from, and which rows may go."""

    table: str
    at: str
    goes: str
    in_order: bool = True
    """Whether ids grow with `at`, so that the first young row ends the search."""


DATA_CLASSES = {
    "duplicates": DataClass("receipts", "received_at", "verdict IN ('duplicate', 'stale', 'quarantined')"),
    "history": DataClass(
        "receipts",
        "received_at",
        "verdict IN ('new', 'revision', 'stale') AND EXISTS (SELECT 1 FROM calls c WHERE c.id = call_id"
        " AND (c.state_receipt IS NULL OR c.state_receipt <> receipts.id))",
    ),
    "attempts": DataClass("attempts", "ended_at", "1 = 1"),
    "quarantine": DataClass(
        "quarantine", "last_at", "state <> 'waiting' OR reason = 'not_an_object'", in_order=False
    ),
    "runs": DataClass("runs", "ended_at", "state IN ('done', 'failed')", in_order=False),
}
"""What `prune` may remove. Calls, their names and their known states are not among it."""


def prune_step(
    connection: sqlite3.Connection, name: str, before: datetime, after_id: int
) -> tuple[int | None, int]:
    """Remove old rows of a class among the next ids; where to go on (None: done), and how many went."""
    kind = DATA_CLASSES[name]
    ids = connection.execute(
        f"SELECT id, {kind.at} FROM {kind.table} WHERE id > ? ORDER BY id LIMIT ?", (after_id, PRUNED_AT_ONCE)
    ).fetchall()
    if not ids:
        return None, 0
    # The newest one stays: its number tells how far the ledger has come.
    newest = None
    if kind.table in ("receipts", "quarantine"):
        newest = connection.execute(f"SELECT max(id) FROM {kind.table}").fetchone()[0]
    old = [row[0] for row in ids if row[1] is not None and row[1] < micros(before) and row[0] != newest]
    ends = len(ids) < PRUNED_AT_ONCE or (kind.in_order and len(old) < len(ids))
    further = None if ends else ids[-1][0]
    if not old:
        return further, 0
    span = (old[0], old[-1])
    where = f"id BETWEEN ? AND ? AND {kind.at} < ? AND ({kind.goes})"
    if kind.table == "receipts":
        connection.execute(
            f"DELETE FROM payloads WHERE receipt_id IN (SELECT id FROM receipts WHERE {where})",
            (*span, micros(before)),
        )
    if name == "history":
        removed = connection.execute("SELECT changes()").fetchone()[0]
    else:
        removed = connection.execute(
            f"DELETE FROM {kind.table} WHERE {where}", (*span, micros(before))
        ).rowcount
    return further, removed


def free_step(connection: sqlite3.Connection) -> int:
    """Give some free pages back to the file system; how many are left."""
    connection.execute(f"PRAGMA incremental_vacuum({FREED_PAGES})").fetchall()
    left: int = connection.execute("PRAGMA freelist_count").fetchone()[0]
    return left


# -- copies ---------------------------------------------------------------------------
SQLITE_FILE = b"SQLite format 3\0"


def check_target(target: Path, ledger: Path) -> None:
    """A copy may replace a file that SQLite made and nobody uses, and nothing else.

    Raises:
        LedgerUnusable: there is another file of that name.
    """
    own = [ledger.with_name(ledger.name + end) for end in ("", "-wal", "-shm", ".lock", ".wanted", ".last")]
    if target.resolve() in [path.resolve() for path in own] or _same_file(target, ledger):
        raise LedgerUnusable(f"{target} is the ledger itself: name another file for the copy")
    for path in (target, unfinished(target)):
        _refuse_other_file(path)
    for end in ("-wal", "-journal"):
        if _size(target.with_name(target.name + end)):
            raise LedgerUnusable(
                f"{target} is in use ({target.name}{end} stands beside it): name another file for the copy"
            )


def unfinished(target: Path) -> Path:
    """The name of a copy until it is done."""
    return target.with_name(target.name + ".unfinished")


def _refuse_other_file(path: Path) -> None:
    try:
        with path.open("rb") as file:
            begins = file.read(len(SQLITE_FILE))
    except FileNotFoundError:
        return
    if begins not in (b"", SQLITE_FILE):
        raise LedgerUnusable(
            f"{path} is there already and no SQLite file: name another file, or move it away"
        )


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except FileNotFoundError:
        return False


def copy_to(target: Path, ledger: Path, go_on: Callable[[], bool]) -> None:
    """A consistent copy without tokens and open work, made by another process.

    Raises:
        LedgerUnusable: it could not be made.
        LedgerBusy: it shall not go on.
    """
    _, problem = _done_aside(backup_copy.__file__, [ledger, target], go_on)
    if problem is not None:
        raise LedgerUnusable(f"no copy could be made: {problem}")


def check_copy(path: Path, go_on: Callable[[], bool]) -> int:
    """Open a copy and read it through, in another process; how many calls it holds.

    Raises:
        LedgerUnusable: it is damaged.
        LedgerBusy: it shall not go on.
    """
    calls, problem = _done_aside(backup_check.__file__, [path], go_on)
    if problem is not None:
        raise LedgerUnusable(f"the copy at {path} is damaged: {problem or 'it could not be checked'}")
    return int(calls)


def _done_aside(program: str, paths: Sequence[Path], go_on: Callable[[], bool]) -> tuple[str, str | None]:
    """What another process said, and what went wrong there; None: nothing."""
    command = [sys.executable, "-I", program, *(str(path.absolute()) for path in paths)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as other:  # noqa: S603
        while True:
            if not go_on():
                other.kill()
                raise LedgerBusy(STOPPED)
            try:
                said, problem = other.communicate(timeout=ASKED_EVERY)
            except subprocess.TimeoutExpired:
                continue
            return said, problem.strip() if other.returncode else None


def keep_name(path: Path) -> None:
    """Put a file's name on the disk, where its content is already."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


# -- space ----------------------------------------------------------------------------
def space(path: Path, min_free: int) -> Row:
    """Bytes of the file and its log, what is left on the disk, and the floor below which nothing is taken."""
    disk = os.statvfs(path.parent)
    log = path.with_name(path.name + "-wal")
    # On a small disk a floor in bytes would never let anything in.
    floor = min(min_free, disk.f_blocks * disk.f_frsize // 20)
    return {
        "ledger_bytes": _size(path),
        "wal_bytes": _size(log),
        "free_bytes": disk.f_bavail * disk.f_frsize,
        "floor_bytes": floor,
    }


def _size(path: Path) -> int:
    """Bytes of a file; the log goes while one looks, where the ledger is being closed."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


# -- dictionaries ---------------------------------------------------------------------
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


# -- quarantine -----------------------------------------------------------------------
_ENTRY = "SELECT id, source, via, reason, detail, state, arrivals, received_at, last_at FROM quarantine"


def list_quarantine(connection: sqlite3.Connection, state: str | None, limit: int) -> list[Row]:
    """Entries, the newest first."""
    condition, values = ("WHERE state = ?", [state]) if state else ("", [])
    order = "ORDER BY last_at DESC, id DESC LIMIT ?"
    rows = connection.execute(f"{_ENTRY} {condition} {order}", (*values, limit))
    return [row_of(row) for row in rows]


def show_quarantine(connection: sqlite3.Connection, payloads: Payloads, entry: int) -> Row | None:
    """One entry with its body, as text where it is text."""
    row = connection.execute(f"{_ENTRY} WHERE id = ?", (entry,)).fetchone()
    if row is None:
        return None
    codec, body = connection.execute("SELECT codec, body FROM quarantine WHERE id = ?", (entry,)).fetchone()
    return row_of(row) | {"body": payloads.unpack(codec, body)}


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
    """A person says that these are worth nothing."""
    return connection.execute(
        f"UPDATE quarantine SET state = 'dropped' WHERE state = 'waiting' AND id IN ({marks(entries)})",
        entries,
    ).rowcount
