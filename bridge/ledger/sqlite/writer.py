"""Group commit: one thread writes, and everything that is submitted during one commit shares the next.

An fsync costs the same for one row as for two hundred. Each piece of work runs in a savepoint of its own, so
that one that fails does not undo the others. Begin at `Writer`.
"""

import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from bridge.ledger.sqlite.files import Guard
from bridge.lib.errors import LedgerBusy

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]

LARGEST_GROUP = 256
"""Pieces of work that share a commit at most, so that the first of them does not wait for a whole burst."""


Item = tuple[Work, Future[Any]]
Outcome = tuple[Future[Any], Any, BaseException | None]
"""A future, and the result or the error that it ends with after the commit."""


class Writer:
    """Runs submitted work on one connection, in order; futures end after the commit."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        guard: Guard | None = None,
        turns: AbstractContextManager[object] | None = None,
    ) -> None:
        """`turns` is entered for each transaction, where another process of this daemon writes too."""
        self._connection = connection
        self._guard = guard
        self._turns = turns if turns is not None else nullcontext()
        self._queue: SimpleQueue[Item | None] = SimpleQueue()
        self._ends = False
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name="ledger-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Queue work; the future fails with `LedgerBusy` where it could not be committed."""
        future: Future[T] = Future()
        if self._closed:
            future.set_exception(LedgerBusy("the ledger is shutting down"))
        else:
            self._queue.put((work, future))
        return future

    def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Submit and wait for the commit."""
        return self.submit(work).result()

    def close(self) -> None:
        """Commit what was submitted, then close the connection."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            self._thread.join()

    def _loop(self) -> None:
        while group := self._next_group():
            commit_group(self._connection, group, self._guard, self._turns)
        if self._guard is None:
            self._connection.close()
        else:
            self._guard.close(self._connection)

    def _next_group(self) -> list[Item]:
        """Returns the work that waits, at most 256 pieces; nothing once the writer was closed."""
        if self._ends:
            return []
        first = self._queue.get()
        group = [] if first is None else [first]
        while group and len(group) < LARGEST_GROUP:
            try:
                item = self._queue.get_nowait()
            except Empty:
                break
            if item is None:
                self._ends = True
                break
            group.append(item)
        return group


def commit_group(
    connection: sqlite3.Connection,
    group: Sequence[Item],
    guard: Guard | None,
    turns: AbstractContextManager[object],
) -> None:
    """Run a group in one transaction, in a turn of its own, and end its futures after the commit."""
    works: list[tuple[Work, Future[Any]]] = []
    outcomes: list[Outcome] = []
    # From here on a future can no longer be cancelled.
    for work, future in group:
        if future.set_running_or_notify_cancel():
            works.append((work, future))
    try:
        with turns:
            outcomes.extend(_commit(connection, works, guard))
    except sqlite3.Error as error:
        busy = LedgerBusy(f"the ledger cannot commit: {error}")
        for _, future in works:
            future.set_exception(busy)
        return
    for future, result, failure in outcomes:
        if failure is None:
            future.set_result(result)
        else:
            future.set_exception(failure)


def _commit(connection: sqlite3.Connection, works: Sequence[Item], guard: Guard | None) -> list[Outcome]:
    """Run works in one transaction; a `sqlite3.Error` says that nothing of it may be acknowledged."""
    try:
        _refuse_moved(connection, guard)
        connection.execute("BEGIN IMMEDIATE")
        outcomes = [_run(connection, work, future) for work, future in works]
        connection.execute("COMMIT")
        # Checked once more after the commit: what went into a file that was moved away is not acknowledged.
        _refuse_moved(connection, guard)
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    if guard is not None:
        guard.committed(connection)
    return outcomes


def _refuse_moved(connection: sqlite3.Connection, guard: Guard | None) -> None:
    if guard is not None and (trouble := guard.trouble(connection)):
        raise sqlite3.OperationalError(trouble)


def _run(connection: sqlite3.Connection, work: Work, future: Future[Any]) -> Outcome:
    connection.execute("SAVEPOINT work")
    try:
        result = work(connection)
    except Exception as error:
        if not connection.in_transaction:
            # On a full disk SQLite rolls back the whole transaction, so all of the group failed.
            raise sqlite3.OperationalError(str(error)) from error
        connection.execute("ROLLBACK TO work")
        connection.execute("RELEASE work")
        failure = LedgerBusy(f"the ledger cannot write: {error}") if _is_storage(error) else error
        return future, None, failure
    connection.execute("RELEASE work")
    return future, result, None


def _is_storage(error: Exception) -> bool:
    return isinstance(error, sqlite3.OperationalError)


def heartbeat(connection: sqlite3.Connection) -> None:
    """Write one row: where that can be committed, callbacks can be too."""
    connection.execute("INSERT INTO heartbeat VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET beats = beats + 1")
