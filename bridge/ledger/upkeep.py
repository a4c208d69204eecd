"""What keeps a ledger small, copied and able to commit, and its queue in order."""

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

Row = dict[str, Any]


class UpkeepLedger(Protocol):
    """Prunes, copies and watches the ledger itself."""

    def demote(self, destinations: Sequence[str], before: datetime) -> int:
        """What has been owed since before then leaves the live lane; how many."""

    def prune(self, name: str, before: datetime, pause: Callable[[float], bool]) -> int:
        """Remove the old rows of a class of data in small steps.

        `pause` is given each step's seconds and says whether to go on.
        """

    def backup(self, target: Path, go_on: Callable[[], bool]) -> Row:
        """A consistent copy while all goes on, opened and read through: `bytes` and `calls`.

        `go_on` is asked between the steps; once it says no, `LedgerBusy` is raised and nothing left.
        """

    def retrain(self, now: datetime) -> bool:
        """Make a new dictionary of the ledger's own records, where it has grown enough."""

    def space(self) -> Row:
        """`ledger_bytes`, `wal_bytes`, `free_bytes`, and `floor_bytes`, below which nothing is taken."""

    def writable(self) -> bool:
        """Whether a commit would succeed now."""

    def close(self) -> None:
        """Finish what was submitted, then close."""
