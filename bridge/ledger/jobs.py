"""The queue of work that an operator or the schedule asks for."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

Row = dict[str, Any]


class JobQueue(Protocol):
    """Jobs are asked for by one process and carried out by the ledger's owner."""

    def request_run(self, kind: str, args: Mapping[str, Any], now: datetime) -> int:
        """Add one row of work for the daemon; its id."""

    def take_run(self, now: datetime) -> Row | None:
        """The oldest requested run, now running; its `args` are None where they are no JSON."""

    def end_run(self, run_id: int, state: str, result: Mapping[str, Any], now: datetime) -> None:
        """Write what came of a run: `done` or `failed`."""

    def last_prune(self) -> datetime | None:
        """As of when was last removed what is old; of a prune before that was told, when it was asked for."""

    def last_run(self, kind: str) -> datetime | None:
        """When a run of this kind was last asked for."""

    def run(self, run_id: int) -> Row:
        """One run as it stands."""

    def take_walk(self, source: str, sources: Sequence[str], now: datetime) -> Row | None:
        """The oldest requested walk of this source, or of none of `sources`; now it is running."""

    def end_walk(
        self,
        run_id: int,
        state: str,
        result: Mapping[str, Any],
        source: str,
        covered_until: datetime | None,
        now: datetime,
    ) -> None:
        """Write what came of a walk; `covered_until` moves the source's coverage, forward only."""

    def open_walks(self, source: str) -> list[Row]:
        """Walks of a source that are asked for or under way, the oldest first."""

    def last_walk(self, source: str, trigger: str) -> datetime | None:
        """When a reconciliation by this trigger was last asked for."""

    def note_run(self, run_id: int, progress: Mapping[str, Any]) -> None:
        """What a run decided when it began, and how far it is; `run()` shows it as `progress`, in JSON."""

    def cancel_run(self, run_id: int, now: datetime) -> None:
        """A run that has not begun ends as `cancelled`; one that is under way is told to."""

    def is_cancelled(self, run_id: int) -> bool:
        """Whether a run under way shall end."""
