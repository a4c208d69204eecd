"""What keeps a ledger small, copied and able to commit, and its queue in order."""

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
    """With less free than this nothing is taken in."""


@dataclass(frozen=True, slots=True)
class BackupCopy:
    """A copy that was made and read through."""

    bytes: int
    calls: int


class UpkeepLedger(Protocol):
    """Prunes, copies and watches the ledger itself."""

    def demote(self, destinations: Sequence[str], before: datetime) -> int:
        """What has been owed since before then leaves the live lane; how many."""

    def prune(self, name: str, before: datetime, pause: Callable[[float], bool]) -> int:
        """Remove the old rows of a class of data in small steps.

        `pause` is given each step's seconds and says whether to go on.
        """

    def backup(self, target: Path, go_on: Callable[[], bool]) -> BackupCopy:
        """A consistent copy while all goes on, opened and read through.

        `go_on` is asked between the steps; once it says no, `LedgerBusy` is raised and nothing left.
        """

    def retrain(self, now: datetime) -> bool:
        """Learn from the ledger's own records how to pack the next ones, where it has grown enough."""

    def repack(self, pause: Callable[[float], bool]) -> int:
        """Pack records again, in small steps, whose packing holds values of other people; how many.

        Earlier versions learnt from whole records. `pause` is given each step's seconds and says whether to
        go on now; the next call goes on where this one stopped, and once all is done finds nothing to do.
        """

    def space(self) -> Space:
        """The room it takes and has left now."""

    def writable(self) -> bool:
        """Whether a commit would succeed now."""

    def close(self) -> None:
        """Finish what was submitted, then close."""
