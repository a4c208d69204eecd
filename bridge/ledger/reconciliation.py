"""What a walk through the platform's list asks of a ledger."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from bridge.model.calls import Arrival, Filed, Known
from bridge.model.listing import Coverage, MatchedRow, RowMatch, RowToFile, UnlistedCall, WindowStanding


class FinishedWindow(NamedTuple):
    """A part of the list that a walk has finished."""

    since: datetime
    until: datetime
    result: Mapping[str, Any]
    """What was counted in it, in the form of `reconcile.counts`."""


class ReconciliationLedger(Protocol):
    """Compares listed rows with the ledger, files what is missing, and keeps how far the list was walked."""

    def newest_receipt(self) -> int:
        """The highest receipt number; what arrives from now on has a higher one."""

    def match_rows(self, source: str, arrivals: Sequence[Arrival]) -> list[RowMatch]:
        """The call that the door would file each of these under now; nothing is written."""

    def known_states(self, call_ids: Sequence[int]) -> dict[int, Known]:
        """Call id → its known state; calls without a verdict yet are left out."""

    def fill(self, source: str, fills: Sequence[RowToFile], asked_at: int) -> list[Filed | None]:
        """File and remember listed rows in one commit; None where the call got a receipt after `asked_at`."""

    def remember_listed(self, seen: Sequence[MatchedRow]) -> None:
        """Remember rows that said nothing new, so that the next walk need not read them again."""

    def calls_between(self, source: str, since: datetime, until: datetime) -> set[int]:
        """The ids of the calls created from `since` on and before `until`."""

    def unlisted(self, call_ids: Iterable[int], fields: Collection[str]) -> list[UnlistedCall]:
        """What may explain that the list does not show these calls; `fields` are those told of each."""

    def quarantined_rows(self, source: str) -> list[tuple[str, bytes]]:
        """State and body of the records in quarantine that wait, or that a person dropped."""

    def window_standing(
        self,
        source: str,
        window: tuple[datetime, datetime],
        known: AbstractSet[int],
        unknown: Sequence[Arrival],
        destinations: Sequence[str],
    ) -> WindowStanding:
        """Count the calls of a window beside a list that showed the calls `known` and the rows `unknown`."""

    def coverage(self, source: str, since: datetime, until: datetime) -> Coverage:
        """How far the list was walked, and of the calls created in a window how many only it has told."""

    def finish_window(
        self,
        job_id: int,
        window: tuple[datetime, datetime],
        result: Mapping[str, Any],
        progress: Mapping[str, Any],
    ) -> None:
        """Keep a finished window, so that the walk goes on behind it after a crash."""

    def finished_windows(self, job_id: int) -> list[FinishedWindow]:
        """The windows that a walk has finished, with their results, the oldest first."""
