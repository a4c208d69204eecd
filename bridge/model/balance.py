"""The balance of calls at one destination."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DestinationBalance:
    """Where the calls of some sources stand at one destination, all of one moment."""

    ledger: int = 0
    delivered: int = 0
    skipped: int = 0
    parked: int = 0
    under_way: int = 0

    def __add__(self, other: "DestinationBalance") -> "DestinationBalance":
        return DestinationBalance(
            self.ledger + other.ledger,
            self.delivered + other.delivered,
            self.skipped + other.skipped,
            self.parked + other.parked,
            self.under_way + other.under_way,
        )
