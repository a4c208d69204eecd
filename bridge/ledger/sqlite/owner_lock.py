"""The lock that one process holds while it does a daemon's work on the ledger."""

import fcntl
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from bridge.ledger.sqlite.connection import check_owner, usable
from bridge.ledger.sqlite.files import FileLock
from bridge.ledger.sqlite.write_turns import WriteTurns
from bridge.lib.errors import LedgerLocked

GIVES_WAY_WITHIN = 60.0
"""Seconds that a daemon waits at its start for a command to give way, which it does between two steps."""
GUEST_POLLED_EVERY = 0.05
DYING_LOOKS = 5
GUEST = "command"
"""What a guest writes into the lock's file behind its process number."""


class OwnerLock:
    """The lock of a ledger's owner, held by one living process.

    The kernel releases it when the process dies, however it dies. So whoever gets the lock knows that every
    lease in the ledger belongs to a dead process.
    """

    def __init__(
        self, ledger: Path, *, guest: bool = False, wait: Callable[[float], object] = time.sleep
    ) -> None:
        """Make a lock that nobody holds yet.

        Args:
            guest: a command that does a daemon's work while none lives; it gives way to one that starts.
            wait: waits so many seconds between two questions whether a guest has given way.
        """
        self._ledger = ledger
        self._guest = guest
        self._pause = wait
        self._path = ledger.with_name(ledger.name + ".lock")
        self._wanted = ledger.with_name(ledger.name + ".wanted")
        self._file: int | None = None
        self._of_the_file = FileLock()
        self._process = os.getpid()
        self.turns: WriteTurns | None = None
        """By which the owner and its forks write, once the lock is held."""

    @property
    def path(self) -> Path:
        """The lock's own file."""
        return self._path

    @property
    def is_inherited(self) -> bool:
        """Whether this process is a fork of the one that took the lock, which both hold now."""
        return os.getpid() != self._process

    def hold_file(self) -> None:
        """Lock the ledger's file itself too, where it is there by now.

        Raises:
            LedgerLocked: another living process has it, though not by this lock.
        """
        with usable(self._ledger):
            self._of_the_file.take(self._ledger)

    def acquire(self) -> None:
        """Take the lock; what a guest owns is waited for.

        Raises:
            LedgerLocked: another living process has it.
            LedgerUnusable: the ledger is another user's, or its folder cannot be written.
        """
        with usable(self._ledger):
            # Checked before anything is created, so that the wrong user leaves no file behind.
            if self._ledger.exists():
                check_owner(self._ledger)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._guest and self.is_wanted():
                raise LedgerLocked(f"a callbridge that starts wants {self._ledger}")
            self._file = _locked(self._path)
            if self._file is None and not self._guest:
                self._file = self._wait()
            if self._file is None:
                raise LedgerLocked(f"another callbridge (process {self._owner()[0]}) owns {self._ledger}")
            try:
                self._hold_file_soon()
            except LedgerLocked:
                self.release()
                raise
            self._process, self.turns = os.getpid(), WriteTurns()
            os.ftruncate(self._file, 0)
            os.write(self._file, f"{os.getpid()}{' ' + GUEST if self._guest else ''}\n".encode())

    def _hold_file_soon(self) -> None:
        """Lock the file; a process that is just dying lets go of its two locks one after the other."""
        for _ in range(DYING_LOOKS):
            with suppress(LedgerLocked):
                return self.hold_file()
            self._pause(GUEST_POLLED_EVERY)
        return self.hold_file()

    def is_wanted(self) -> bool:
        """Whether a daemon waits for a guest to give way."""
        if not self._wanted.exists():
            return False
        file = _locked(self._wanted)
        if file is not None:
            os.close(file)
        return file is None

    def _wait(self) -> int | None:
        """Wait for a guest to give way; returns the lock's file, or None: the owner is no guest, or stays."""
        claim: int | None = None
        try:
            until = time.monotonic() + GIVES_WAY_WITHIN
            while time.monotonic() < until and self._owner()[1]:
                # Tried each round: a guest that looks whether a daemon waits holds this lock for a moment.
                claim = _locked(self._wanted) if claim is None else claim
                self._pause(GUEST_POLLED_EVERY)
                if (file := _locked(self._path)) is not None:
                    return file
        finally:
            if claim is not None:
                os.close(claim)
        return None

    def _owner(self) -> tuple[str, bool]:
        """The process that owns it, and whether that is a guest, or one that is only just coming or going."""
        process, _, kind = self._path.read_text(errors="replace").strip().partition(" ")
        return process or "unknown", kind == GUEST or not _lives(process)

    def release(self) -> None:
        """Let go. The lock's file stays: removing it could let two processes in."""
        self.turns = None
        self._of_the_file.release()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _lives(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except PermissionError:
        return True
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    return True


def _locked(path: Path) -> int | None:
    """A file with its lock, until it is closed; None: another has it."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file
