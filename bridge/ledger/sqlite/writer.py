"""The one thread that writes, and commits in groups what arrives together.

An fsync costs the same for one row as for two hundred: what is submitted while a commit
is under way shares the next one. Each piece of work stands in a savepoint of its own, so
that a failing one takes nothing else with it.
"""

import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from bridge.errors import LedgerBusy

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]

LARGEST_GROUP = 256


class Writer:
    """Runs submitted work on one connection, in order; futures end after the commit."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._queue: SimpleQueue[tuple[Work, Future[Any]] | None] = SimpleQueue()
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
            commit_group(self._connection, group)
        self._connection.close()

    def _next_group(self) -> list[tuple[Work, Future[Any]]]:
        first = self._queue.get()
        group = [] if first is None else [first]
        while group and len(group) < LARGEST_GROUP:
            try:
                item = self._queue.get_nowait()
            except Empty:
                break
            if item is None:
                # The end was announced behind this work: find it again after the commit.
                self._queue.put(None)
                break
            group.append(item)
        return group


def commit_group(connection: sqlite3.Connection, group: list[tuple[Work, Future[Any]]]) -> None:
    """Run a group in one transaction and end its futures after the commit."""
    outcomes: list[tuple[Future[Any], Any, BaseException | None]] = []
    # From here on nobody can take the work back, so that its future can be ended.
    group = [(work, future) for work, future in group if future.set_running_or_notify_cancel()]
    try:
        connection.execute("BEGIN IMMEDIATE")
        outcomes.extend(_run(connection, work, future) for work, future in group)
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        busy = LedgerBusy(f"the ledger cannot commit: {error}")
        for _, future in group:
            future.set_exception(busy)
        return
    for future, result, failure in outcomes:
        if failure is None:
            future.set_result(result)
        else:
            future.set_exception(failure)


def _run(
    connection: sqlite3.Connection, work: Work, future: Future[Any]
) -> tuple[Future[Any], Any, BaseException | None]:
    connection.execute("SAVEPOINT work")
    try:
        result = work(connection)
    except Exception as error:
        if not connection.in_transaction:
            # A full disk made SQLite roll the whole transaction back: nobody's work stands.
            raise sqlite3.OperationalError(str(error)) from error
        connection.execute("ROLLBACK TO work")
        connection.execute("RELEASE work")
        failure = LedgerBusy(f"the ledger cannot write: {error}") if _is_storage(error) else error
        return future, None, failure
    connection.execute("RELEASE work")
    return future, result, None


def _is_storage(error: Exception) -> bool:
    return isinstance(error, sqlite3.OperationalError)
