"""The files that an open ledger stands on: whether they are still those that were opened."""

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
    """Which file a name stands for; None: for none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


class FileLock:
    """A lock on the ledger's file itself: it holds whatever the file is called and became of `.lock`."""

    def __init__(self) -> None:
        self._file: int | None = None

    def take(self, path: Path) -> None:
        """Lock the file of this name, where there is one; again is nothing.

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
    """Looks whether the names of a ledger's files still stand for the files that are open."""

    def __init__(self, ledger: Path, others: Sequence[Path] = ()) -> None:
        """`others` are files beside it that must stay too."""
        self._ledger = ledger
        self._log = ledger.with_name(ledger.name + "-wal")
        self._paths = [ledger, self._log, ledger.with_name(ledger.name + "-shm"), *others]
        self._names = [str(path) for path in self._paths]
        self._opened = [inode_of(path) for path in self._paths]
        self._told = ""

    def trouble(self, connection: sqlite3.Connection) -> str:
        """Why nothing may be acknowledged; empty: all is as it was. What the log held is saved."""
        for name, opened in zip(self._names, self._opened, strict=True):
            try:
                found = os.stat(name)  # noqa: PTH116 -- asked at every commit, and a third of the time
                same = opened is None or (found.st_dev, found.st_ino) == opened
            except OSError:
                same = opened is None
            if not same:
                return self._of(Path(name), connection)
        self._told = ""
        return ""

    def _of(self, path: Path, connection: sqlite3.Connection) -> str:
        there = "replaced" if path.exists() else "moved or deleted"
        remedy = "stop callbridge, put back what was there, and start it"
        if inode_of(self._ledger) == self._opened[0]:
            remedy = "restart callbridge" if self._made_whole(connection) else remedy
        said = f"{path} was {there} while callbridge had it open: {remedy}"
        if said != self._told:
            self._told = said
            log.error("ledger.moved", file=str(path), what=there, remedy=remedy)
        return said

    @staticmethod
    def _made_whole(connection: sqlite3.Connection) -> bool:
        """Whether all that stands in the open log is in the ledger itself, where a new process finds it."""
        with suppress(sqlite3.Error):
            busy, logged, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            return not busy and logged == copied
        return False


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a ledger had come, by the highest numbers of its receipts and of its quarantine."""

    receipts: int
    quarantine: int
    at: datetime

    @classmethod
    def by(cls, connection: sqlite3.Connection, at: datetime) -> "Reached":
        """How far it has come now."""
        receipts, quarantine = connection.execute(_HIGHEST).fetchone()
        return cls(receipts, quarantine, at)


_HIGHEST = "SELECT (SELECT coalesce(max(id), 0) FROM receipts), (SELECT coalesce(max(id), 0) FROM quarantine)"


class Witness:
    """How far the ledger had come, told beside it after each commit: one that lost its log is found out.

    It is not synced: a power cut may leave an older word, which accuses nobody. It is written by the ledger's
    owner alone.
    """

    def __init__(self, ledger: Path) -> None:
        path = ledger.with_name(ledger.name + ".last")
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._last = (-1, -1)

    def told(self) -> Reached | None:
        """What it says; None: nothing that can be read."""
        try:
            receipts, quarantine, at = os.pread(self._file, 100, 0).split()
            return Reached(int(receipts), int(quarantine), moment_of(int(at)))
        except (ValueError, OverflowError):
            return None

    def tell(self, connection: sqlite3.Connection, now: datetime) -> None:
        """After a commit: how far it is now."""
        receipts, quarantine = connection.execute(_HIGHEST).fetchone()
        if (receipts, quarantine) != self._last:
            self._last = receipts, quarantine
            os.pwrite(self._file, b"%020d %020d %020d\n" % (receipts, quarantine, micros(now)), 0)

    def close(self) -> None:
        """No more of it."""
        os.close(self._file)


def note_loss(connection: sqlite3.Connection, told: Reached | None, now: datetime) -> None:
    """Note what the ledger lacks of what its witness tells, if it lacks anything."""
    here = Reached.by(connection, now)
    if told is None or (here.receipts >= told.receipts and here.quarantine >= told.quarantine):
        return
    since = connection.execute("SELECT received_at FROM receipts ORDER BY id DESC LIMIT 1").fetchone()
    missing = max(0, told.receipts - here.receipts), max(0, told.quarantine - here.quarantine)
    connection.execute(
        "INSERT INTO losses (found_at, since_at, until_at, receipts, quarantine) VALUES (?, ?, ?, ?, ?)",
        (micros(now), None if since is None else since[0], micros(told.at), *missing),
    )
    log.error(
        "ledger.lost",
        receipts=missing[0],
        quarantine=missing[1],
        since=None if since is None else stamp_of(since[0]),
        until=stamp_of(micros(told.at)),
    )


class Guard:
    """What the thread that writes asks around each commit."""

    def __init__(self, files: OpenFiles, witness: Witness | None = None) -> None:
        self._files = files
        self._witness = witness

    def trouble(self, connection: sqlite3.Connection) -> str:
        """Why nothing may be acknowledged."""
        return self._files.trouble(connection)

    def committed(self, connection: sqlite3.Connection) -> None:
        """After a commit that may be acknowledged."""
        if self._witness is not None:
            with suppress(OSError):
                self._witness.tell(connection, datetime.now(UTC))

    def close(self, connection: sqlite3.Connection) -> None:
        """Close the connection that writes, unless SQLite would remove the log of another file."""
        if self._witness is not None:
            self._witness.close()
        if self.trouble(connection):
            # The last one to close removes what is called `-wal`, whose ever it is by now.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
        else:
            connection.close()
