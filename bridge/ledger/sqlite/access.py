"""Access to one SQLite file: a writer with its own thread, and as many read-only connections as read at once.

A connection takes up to a megabyte: its copy of the schema, its statements, its pages. So a thread has one
only while it reads.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from bridge.ledger import Ownership
from bridge.ledger.sqlite import connection as opening
from bridge.ledger.sqlite import disk_space
from bridge.ledger.sqlite.files import Guard, HighWaterFile, OpenFiles, note_loss
from bridge.ledger.sqlite.owner_lock import OwnerLock
from bridge.ledger.sqlite.payloads import Payloads
from bridge.ledger.sqlite.schema import refuse_newer
from bridge.ledger.sqlite.writer import Writer
from bridge.lib.errors import LedgerBusy, LedgerUnusable

FORK_BUSY_TIMEOUT_MS = 300
"""A fork of the owner waits so long for a process that is not of this daemon: its turn holds up callbacks."""
SPACE_EVERY = 1.0
"""Seconds between two looks at the room that is left on the disk."""

P = ParamSpec("P")
T = TypeVar("T")
Part = TypeVar("Part", bound="Access")


def looks(method: Callable[Concatenate[Part, P], T]) -> Callable[Concatenate[Part, P], T]:
    """Decorates a method that reads: it has a connection of its own until it returns.

    SQLite's errors become `LedgerBusy` or `LedgerUnusable`.
    """

    @wraps(method)
    def looking(part: Part, /, *args: P.args, **named: P.kwargs) -> T:
        try:
            with part.reading():
                return method(part, *args, **named)
        except sqlite3.OperationalError as error:
            raise LedgerBusy(f"the ledger cannot be read now: {error}") from error
        except sqlite3.DatabaseError as error:
            raise LedgerUnusable(f"the ledger is damaged: {error}") from error

    return looking


class Access:
    """The connections that all parts of the ledger share."""

    _space_at = float("-inf")
    _low = ""

    def __init__(
        self,
        path: Path,
        *,
        create: bool = False,
        read_only: bool = False,
        min_free: int = 0,
        owner: Ownership | None = None,
    ) -> None:
        """`owner` is the lock that a daemon holds; with it, losses since the last commit are looked for."""
        self._path = path
        self._min_free = min_free
        self._local = threading.local()
        self._readers: list[sqlite3.Connection] = []
        """All that are open."""
        self._idle_readers: list[sqlite3.Connection] = []
        self._readers_lock = threading.Lock()
        self._closed = False
        self._writer: Writer | None = None
        self._payloads = Payloads(self._load_dictionaries)
        if read_only:
            self._check_readable()
        else:
            prepare_file(path, owner, create=create)
            with opening.usable(path):
                connection = opening.connect_writer(path)
                with opening.closed_on_failure(connection):
                    self._payloads.load(connection)
                    guard = _guard(path, connection, owner)
                self._writer = Writer(connection, guard, _turns(connection, owner))

    def _check_readable(self) -> None:
        with opening.usable(self._path):
            opening.check_owner(self._path)
            with self.reading():
                refuse_newer(self._reader, self._path)
                self._payloads.load(self._reader)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Gives the thread a read-only connection until the end of the block, unless it has one."""
        if getattr(self._local, "connection", None) is not None:
            yield
            return
        connection = self._local.connection = self._idle_or_new_reader()
        try:
            yield
        except BaseException:
            # A query that was broken off may still hold the moment that it reads.
            with self._readers_lock, suppress(ValueError):
                self._readers.remove(connection)
            connection.close()
            raise
        else:
            self._idle_readers.append(connection)
        finally:
            self._local.connection = None

    def _idle_or_new_reader(self) -> sqlite3.Connection:
        with self._readers_lock:
            if self._closed:
                raise LedgerBusy("the ledger is shutting down")
            if self._idle_readers:
                return self._idle_readers.pop()
            made = opening.connect(self._path, read_only=True)
            self._readers.append(made)
            return made

    @property
    def _reader(self) -> sqlite3.Connection:
        """The connection that `reading` has given to this thread."""
        connection: sqlite3.Connection = self._local.connection
        return connection

    def _load_dictionaries(self) -> None:
        with self.reading():
            self._payloads.load(self._reader)

    def _write(self) -> Writer:
        if self._writer is None:
            raise LedgerUnusable("this ledger was opened for looking only")
        return self._writer

    def _of_one_moment(self, look: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._reader
        connection.execute("BEGIN")
        try:
            return look(connection)
        finally:
            connection.execute("ROLLBACK")

    def _low_disk(self) -> str:
        """Why nothing is accepted, measured once a second; empty where there is room on the disk."""
        if time.monotonic() - self._space_at > SPACE_EVERY:
            self._space_at = time.monotonic()
            found = disk_space.space(self._path, self._min_free)
            left = f"only {found.free_bytes / 2**20:.0f} MiB are left on the ledger's disk"
            self._low = left if found.free_bytes < found.floor_bytes else ""
        return self._low

    def _forget_space(self) -> None:
        """Measure the disk again before the next record is accepted."""
        self._space_at = float("-inf")

    def close(self) -> None:
        """Finish what was submitted, then close."""
        # The writer's connection closes last: as the last one it copies the log into the file and removes it.
        with self._readers_lock:
            self._closed = True
            for reader in self._readers:
                reader.close()
            self._readers.clear()
            self._idle_readers.clear()
        if self._writer is not None:
            self._writer.close()


def prepare_file(path: Path, owner: Ownership | None, *, create: bool = True) -> None:
    """Bring the file to this program's version, and lock it for its owner; no connection stays open."""
    if isinstance(owner, OwnerLock) and owner.is_inherited:
        # The process that took the lock has done that, and a fork of it must start while the ledger is busy.
        return
    opening.prepare(path, create=create)
    if isinstance(owner, OwnerLock):
        owner.hold_file()


def _turns(connection: sqlite3.Connection, owner: Ownership | None) -> AbstractContextManager[object] | None:
    """By which turns a connection writes; None: no other process of this daemon does."""
    if not isinstance(owner, OwnerLock):
        return None
    if owner.is_inherited:
        connection.execute(f"PRAGMA busy_timeout = {FORK_BUSY_TIMEOUT_MS}")
    return owner.turns


def _guard(path: Path, connection: sqlite3.Connection, owner: Ownership | None) -> Guard:
    """The guard of the open files; for the ledger's owner it also records how far the ledger has come."""
    if not isinstance(owner, OwnerLock):
        return Guard(OpenFiles(path))
    high_water = HighWaterFile(path)
    if not owner.is_inherited:
        now = datetime.now(UTC)
        note_loss(connection, high_water.read(), now)
        high_water.write(connection, now)
    return Guard(OpenFiles(path, [owner.path]), high_water)
