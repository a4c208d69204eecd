"""Where the contract opens its ledgers."""

from typing import Protocol

from bridge.ledger import Ledger, Ownership


class LedgerPlace(Protocol):
    """The place of one ledger, which the first `open` makes."""

    def open(self) -> Ledger:
        """The ledger, to read and to write."""

    def open_to_read(self) -> Ledger:
        """The ledger, beside the one that writes, for looking only.

        Raises:
            LedgerUnusable: there is none.
        """

    def ownership(self, *, guest: bool = False) -> Ownership:
        """The right to do a daemon's work there, not acquired yet."""

    def damage(self, call_id: int) -> None:
        """Makes what is stored of a call's known state unreadable."""
