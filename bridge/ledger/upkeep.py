"""Upkeep of a ledger: prune old rows, copy it, pack it smaller, watch its disk."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Space:
    """How much room a ledger takes, and how much is left, in bytes."""

    ledger_bytes: int
    log_bytes: int
    """What is committed and not in the ledger's own file yet."""
    free_bytes: int
    floor_bytes: int
    """With less free than this, callbacks are refused."""


@dataclass(frozen=True, slots=True)
class BackupCopy:
    """A copy that was made and read through."""

    bytes: int
    calls: int


class UpkeepLedger(Protocol):
    """Prunes, copies and watches the ledger itself."""

    def demote(self, destinations: Sequence[str], before: datetime) -> int:
        """Move deliveries that have been owed since before then out of the live lane; returns how many."""

    def prune(self, name: str, before: datetime, pause: Callable[[float], bool]) -> int:
        """Remove the rows of a class of data that are older than `before`, in small steps; returns how many.

        `pause` is called with each step's seconds, and returns whether to go on.
        """

    def backup(self, target: Path, go_on: Callable[[], bool]) -> BackupCopy:
        """Make a consistent copy while everything goes on, and read it through.

        `go_on` is asked between the steps. Once it says no, `LedgerBusy` is raised and no file is left.
        """

    def retrain(self, now: datetime) -> bool:
        """Learn from the ledger's own records how to pack the next ones smaller; True where that was done.

        Does nothing until the ledger has grown tenfold since the last time.
        """

    def repack(self, pause: Callable[[float], bool]) -> int:
        """Pack records again, in small steps, whose dictionary holds other people's values; returns how many.

        Earlier releases made dictionaries of whole records. `pause` is called with each step's seconds, and
        returns whether to go on; the next call goes on where this one stopped.
        """

    def pack_smaller(self, pause: Callable[[float], bool]) -> int:
        """Pack records small, in small steps, that were packed quickly when filed; returns how many.

        Until then each takes about 15 % more. After a call that `pause` let end, all are as small as they
        will be. `pause` is as in `repack`.
        """

    def space(self) -> Space:
        """The room it takes and has left now."""

    def writable(self) -> bool:
        """Whether a commit would succeed now."""

    def close(self) -> None:
        """Finish what was submitted, then close."""
