"""Backups: where a copy of the ledger may be written, and the two processes that make it and check it."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bridge.ledger.sqlite import backup_check, backup_copy
from bridge.ledger.sqlite.disk_space import file_size
from bridge.lib.errors import LedgerBusy, LedgerUnusable

PROCESS_POLLED_EVERY = 0.2
"""Seconds between two questions whether the copy shall go on."""
STOPPED = "callbridge stops, and the copy was not done yet: ask for it again"
SQLITE_FILE = b"SQLite format 3\0"


def check_target(target: Path, ledger: Path) -> None:
    """Refuse a target that is anything but a new file or an SQLite file that nobody uses.

    Raises:
        LedgerUnusable: the target is the ledger, another kind of file, or in use.
    """
    own = [ledger.with_name(ledger.name + end) for end in ("", "-wal", "-shm", ".lock", ".wanted", ".last")]
    if target.resolve() in [path.resolve() for path in own] or _same_file(target, ledger):
        raise LedgerUnusable(f"{target} is the ledger itself: name another file for the copy")
    for path in (target, unfinished(target)):
        _refuse_other_file(path)
    for end in ("-wal", "-journal"):
        if file_size(target.with_name(target.name + end)):
            raise LedgerUnusable(
                f"{target} is in use ({target.name}{end} stands beside it): name another file for the copy"
            )


def unfinished(target: Path) -> Path:
    """Returns the name that a copy has until it is complete."""
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
    """Make a consistent copy, without CRM tokens and open jobs, in another process.

    Raises:
        LedgerUnusable: it could not be made.
        LedgerBusy: `go_on` said no.
    """
    _, problem = _done_aside(backup_copy.__file__, [ledger, target], go_on)
    if problem is not None:
        raise LedgerUnusable(f"no copy could be made: {problem}")


def check_copy(path: Path, go_on: Callable[[], bool]) -> int:
    """Open a copy and read it through in another process; returns how many calls it holds.

    Raises:
        LedgerUnusable: it is damaged.
        LedgerBusy: `go_on` said no.
    """
    calls, problem = _done_aside(backup_check.__file__, [path], go_on)
    if problem is not None:
        raise LedgerUnusable(f"the copy at {path} is damaged: {problem or 'it could not be checked'}")
    return int(calls)


def _done_aside(program: str, paths: Sequence[Path], go_on: Callable[[], bool]) -> tuple[str, str | None]:
    """Run a program in another process; returns its output, and what went wrong (None: nothing)."""
    command = [sys.executable, "-I", program, *(str(path.absolute()) for path in paths)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as other:  # noqa: S603
        while True:
            if not go_on():
                other.kill()
                raise LedgerBusy(STOPPED)
            try:
                said, problem = other.communicate(timeout=PROCESS_POLLED_EVERY)
            except subprocess.TimeoutExpired:
                continue
            return said, problem.strip() if other.returncode else None


def keep_name(path: Path) -> None:
    """Sync the folder of a file, so that a power cut does not lose its name."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
