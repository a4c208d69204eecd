"""Who may do a daemon's work on a ledger."""

from types import TracebackType
from typing import Protocol, Self


class Ownership(Protocol):
    """The right to do a daemon's work on a ledger, from `acquire` until `release` or the process's death.

    One process has it at a time, so what it finds leased or running was left by a dead one. A ledger that
    serves several daemons gives each of them its own.
    """

    def acquire(self) -> None:
        """Take it. A daemon waits for a guest to give way.

        Raises:
            LedgerLocked: another living process has it; for a guest also where a daemon waits for it.
            LedgerUnusable: the ledger is another user's, or nothing can be written beside it.
        """

    def is_wanted(self) -> bool:
        """Whether a daemon waits for this guest to give way."""

    def release(self) -> None:
        """Let go, so that another process can take it."""

    def __enter__(self) -> Self:
        """`acquire`, until the end of the block."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """`release`."""
