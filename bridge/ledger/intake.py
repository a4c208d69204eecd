"""What the door and the judge ask of a ledger: keep every record, then its verdict."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import Protocol

from bridge.model.calls import Arrival, Filed, Judgment, Pending

Destinations = Mapping[str, Sequence[str]]
"""Which destinations a source's calls go to: source → destination names."""


class IntakeLedger(Protocol):
    """Files what arrives, hands out what waits for a verdict, and keeps the verdicts."""

    def submit(self, arrivals: Sequence[Arrival]) -> Future[list[Filed]]:
        """File arrivals in one commit; the future ends after it. Order is kept."""

    def waiting(self, limit: int, sources: Sequence[str] | None = None) -> list[Pending]:
        """Up to `limit` of the oldest receipts without a verdict, each with its call's known state."""

    def judge(self, judgments: Sequence[Judgment], destinations: Destinations, now: datetime) -> None:
        """Write verdicts in one commit; a new call or a revision makes the call's deliveries due."""

    def set_aside(self, pending: Pending, reason: str, destinations: Destinations, now: datetime) -> None:
        """Quarantine a receipt whose record cannot be judged, and park its deliveries with the reason."""
