"""The queue of jobs that operators and the schedule ask for.

One table for all kinds. A job is `requested` by any process; a daemon (or a command, where no daemon lives)
takes it, which makes it `running`, and ends it. `DeliveryLedger.release_leases` requests again what a dead
daemon left running.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from bridge.model.jobs import Job, JobState, WalksOf


class JobQueue(Protocol):
    """Jobs, asked for by one process and carried out by another."""

    def request_job(self, kind: str, args: Mapping[str, Any], now: datetime) -> int:
        """Add a job; its id."""

    def take_job(self, now: datetime, walks: WalksOf | None = None) -> Job | None:
        """Take the oldest requested job and make it `running`; None where there is none.

        Without `walks` only jobs that walk no list are taken, with `walks` only those that do. While a walk
        of a source runs, no other walk of it is taken.
        """

    def note_progress(self, job_id: int, progress: Mapping[str, Any]) -> None:
        """Replace the progress of a running job."""

    def end_job(
        self,
        job_id: int,
        state: JobState,
        result: Mapping[str, Any],
        now: datetime,
        *,
        covered_until: datetime | None = None,
    ) -> None:
        """Write a job's result; its state is `state` from now on.

        A reconciliation that was no dry run becomes the last one of its source. With `covered_until` its list
        was walked without a hole up to then: the source's coverage moves there, forward only.
        """

    def cancel_job(self, job_id: int, now: datetime) -> None:
        """End a job that was not taken yet as `cancelled`; tell a running one to end."""

    def is_cancelled(self, job_id: int) -> bool:
        """Whether a running job was told to end."""

    def job(self, job_id: int) -> Job:
        """One job as it stands."""

    def open_walks(self, source: str) -> list[Job]:
        """The walks of a source that are requested or running, the oldest first."""

    def last_requested_at(
        self, kind: str, *, source: str | None = None, trigger: str | None = None
    ) -> datetime | None:
        """When a job of this kind (of a source, by a trigger) was last asked for."""

    def last_done(self, kind: str) -> Job | None:
        """The job of this kind that was requested last, of those that are done."""
