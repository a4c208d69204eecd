"""Notices when the files of an open ledger were moved or replaced, or when its log was lost."""

import ctypes
import fcntl
import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog

from bridge.ledger.sqlite.times import micros, moment_of, stamp_of
from bridge.lib.errors import LedgerLocked

log = structlog.get_logger("bridge.ledger")

Inode = tuple[int, int]

_KEPT: Final[dict[Inode, int]] = {}
"""Descriptors of ledgers, one for each. Closing one would end all locks that SQLite holds on that file in
this process, so they stay open to its end."""


def inode_of(path: Path) -> Inode | None:
    """Returns the device and inode of a file; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


class FileLock:
    """Locks the ledger's file itself, so that a second name or a removed `.lock` lets nobody in."""

    def __init__(self) -> None:
        self._file: int | None = None

    def take(self, path: Path) -> None:
        """Lock the file, where there is one. Does nothing where it is locked by this object already.

        Raises:
            LedgerLocked: another process has it.
        """
        if self._file is not None:
            return
        inode = inode_of(path)
        if inode is None:
            return
        if inode not in _KEPT:
            _KEPT[inode] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        file = _KEPT[inode]
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LedgerLocked(
                f"another callbridge has the file {path} open, under another name or after its .lock was"
                " removed: stop that one first"
            ) from None
        self._file = file

    def release(self) -> None:
        """Let go."""
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)
            self._file = None


class OpenFiles:
    """Checks that the names of a ledger's files still lead to the files that are open."""

    def __init__(self, ledger: Path, others: Sequence[Path] = ()) -> None:
        """`others` are files beside it that must stay too."""
        self._ledger = ledger
        self._log = ledger.with_name(ledger.name + "-wal")
        self._paths = [ledger, self._log, ledger.with_name(ledger.name + "-shm"), *others]
        self._names = [str(path) for path in self._paths]
        self._opened = [inode_of(path) for path in self._paths]
        self._said = ""

    def trouble(self, connection: sqlite3.Connection) -> str:
        """Returns why nothing may be acknowledged; empty where all is well.

        Where only the log was moved away, its content is copied into the ledger's file first.
        """
        for name, opened in zip(self._names, self._opened, strict=True):
            try:
                found = os.stat(name)  # noqa: PTH116 -- asked at every commit, and a third of the time
                same = opened is None or (found.st_dev, found.st_ino) == opened
            except OSError:
                same = opened is None
            if not same:
                return self._of(Path(name), connection)
        self._said = ""
        return ""

    def _of(self, path: Path, connection: sqlite3.Connection) -> str:
        there = "replaced" if path.exists() else "moved or deleted"
        remedy = "stop callbridge, put back what was there, and start it"
        if inode_of(self._ledger) == self._opened[0]:
            remedy = "restart callbridge" if self._made_whole(connection) else remedy
        said = f"{path} was {there} while callbridge had it open: {remedy}"
        if said != self._said:
            self._said = said
            log.error("ledger.moved", file=str(path), what=there, remedy=remedy)
        return said

    @staticmethod
    def _made_whole(connection: sqlite3.Connection) -> bool:
        """Copies the open log into the ledger, where a new process finds it; returns whether all is there."""
        with suppress(sqlite3.Error):
            busy, logged, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            return not busy and logged == copied
        return False


@dataclass(frozen=True, slots=True)
class HighWaterMark:
    """How far a ledger had come: the highest ids of its receipts and of its quarantine."""

    receipts: int
    quarantine: int
    at: datetime

    @classmethod
    def by(cls, connection: sqlite3.Connection, at: datetime) -> "HighWaterMark":
        """Returns how far the ledger has come now."""
        receipts, quarantine = connection.execute(_HIGHEST).fetchone()
        return cls(receipts, quarantine, at)


_HIGHEST = "SELECT (SELECT coalesce(max(id), 0) FROM receipts), (SELECT coalesce(max(id), 0) FROM quarantine)"


class HighWaterFile:
    """The file `.last` beside the ledger, which says how far it had come at its last commit.

    A ledger that is behind it at its next start has lost its log, or is an older copy. The file is not
    synced: after a power cut it may be older than the ledger, which raises no false alarm. Only the owner
    writes it.
    """

    def __init__(self, ledger: Path) -> None:
        path = ledger.with_name(ledger.name + ".last")
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._last = (-1, -1)

    def read(self) -> HighWaterMark | None:
        """Returns what the file says; None where it is empty or damaged."""
        try:
            receipts, quarantine, at = os.pread(self._file, 100, 0).split()
            return HighWaterMark(int(receipts), int(quarantine), moment_of(int(at)))
        except (ValueError, OverflowError):
            return None

    def write(self, connection: sqlite3.Connection, now: datetime) -> None:
        """Write down, after a commit, how far the ledger is."""
        receipts, quarantine = connection.execute(_HIGHEST).fetchone()
        if (receipts, quarantine) != self._last:
            self._last = receipts, quarantine
            os.pwrite(self._file, b"%020d %020d %020d\n" % (receipts, quarantine, micros(now)), 0)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def note_loss(connection: sqlite3.Connection, expected: HighWaterMark | None, now: datetime) -> None:
    """Add a row to `losses` where the ledger is behind what its `.last` file says."""
    here = HighWaterMark.by(connection, now)
    if expected is None or (here.receipts >= expected.receipts and here.quarantine >= expected.quarantine):
        return
    since = connection.execute("SELECT received_at FROM receipts ORDER BY id DESC LIMIT 1").fetchone()
    missing = max(0, expected.receipts - here.receipts), max(0, expected.quarantine - here.quarantine)
    connection.execute(
        "INSERT INTO losses (found_at, since_at, until_at, receipts, quarantine) VALUES (?, ?, ?, ?, ?)",
        (micros(now), None if since is None else since[0], micros(expected.at), *missing),
    )
    log.error(
        "ledger.lost",
        receipts=missing[0],
        quarantine=missing[1],
        since=None if since is None else stamp_of(since[0]),
        until=stamp_of(micros(expected.at)),
    )


class Guard:
    """What the writing thread asks before and after each commit."""

    def __init__(self, files: OpenFiles, high_water: HighWaterFile | None = None) -> None:
        self._files = files
        self._high_water = high_water

    def trouble(self, connection: sqlite3.Connection) -> str:
        """Returns why nothing may be acknowledged; empty where all is well."""
        return self._files.trouble(connection)

    def committed(self, connection: sqlite3.Connection) -> None:
        """Called after a commit that may be acknowledged."""
        if self._high_water is not None:
            with suppress(OSError):
                self._high_water.write(connection, datetime.now(UTC))

    def close(self, connection: sqlite3.Connection) -> None:
        """Close the connection that writes, unless SQLite would remove the log of another file."""
        if self._high_water is not None:
            self._high_water.close()
        if self.trouble(connection):
            # The last connection to close removes the file called `-wal`, even one of another ledger; this
            # one is kept open by a reference that is never given back.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
        else:
            connection.close()
