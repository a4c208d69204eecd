"""Asks for reconciliations when their time comes; the reconcilers' threads carry them out.

APScheduler keeps the times. What it calls only adds a row to the ledger, so its threads and its shutdown do
not matter. It remembers nothing over a restart: the jobs in the ledger tell what was missed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import structlog

from bridge.ledger import JobQueue
from bridge.lib.crontab import Crontab, to_trigger
from bridge.lib.errors import LedgerError
from bridge.lib.stored_times import past
from bridge.model.jobs import RECONCILE, Job, JobState

if TYPE_CHECKING:
    from apscheduler.schedulers.background import BackgroundScheduler

log = structlog.get_logger("bridge.schedule")

SHORT, DEEP, WEEKLY = "short", "deep", "weekly"
WIDTH = {SHORT: 0, DEEP: 1, WEEKLY: 2}
"""A wider reconciliation covers everything that a narrower one would."""


@dataclass(frozen=True, slots=True)
class Timetable:
    """When one source is reconciled, in its own zone."""

    source: str
    zone: ZoneInfo
    times: Mapping[str, Crontab]
    """By trigger: `short`, `deep`, `weekly`."""


class Scheduler:
    """Asks for the reconciliations of all sources."""

    def __init__(
        self, timetables: Mapping[str, Timetable], ledger: JobQueue, clock: Callable[[], datetime]
    ) -> None:
        self._timetables = timetables
        self._ledger = ledger
        self._clock = clock
        self._scheduler: BackgroundScheduler | None = None

    def start(self) -> None:
        """Start the schedule and ask for the first reconciliations at once."""
        if not self._timetables:
            return
        # Loading it takes 95 ms, which only a daemon that reconciles should spend.
        from apscheduler.schedulers.background import BackgroundScheduler  # noqa: PLC0415

        scheduler = BackgroundScheduler(
            timezone=UTC,
            # A job that was missed runs late, and once, however often it was missed.
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )
        for timetable in self._timetables.values():
            for trigger, crontab in timetable.times.items():
                times = to_trigger(crontab, timetable.zone)
                scheduler.add_job(self.ask, times, args=(timetable.source, trigger))
            self.ask(timetable.source, self.first(timetable))
        scheduler.start()
        self._scheduler = scheduler

    def stop(self) -> None:
        """Ask for no more jobs, and wait for one that is being asked for: the ledger is closed next."""
        if self._scheduler is not None:
            self._scheduler.shutdown(wait=True)
            self._scheduler = None

    def correct_times(self, now: datetime) -> None:
        """Compute anew when jobs are due that wait for a time which a wrong clock has given."""
        for job in self._scheduler.get_jobs() if self._scheduler is not None else ():
            due = job.trigger.get_next_fire_time(None, now)
            if due is not None and job.next_run_time > due:
                log.warning("schedule.put_right", next=f"{job.next_run_time:%Y-%m-%d %H:%M}")
                job.modify(next_run_time=due)

    def first(self, timetable: Timetable) -> str:
        """The trigger of the widest reconciliation missed while no daemon lived; `short` when none was."""
        now, missed = self._clock(), SHORT
        for trigger in (DEEP, WEEKLY):
            last = past(self._asked_at(timetable.source, trigger), now)
            if last is not None and trigger in timetable.times:
                fired = to_trigger(timetable.times[trigger], timetable.zone).get_next_fire_time(None, last)
                if fired is not None and last < fired <= now:
                    missed = trigger
        return missed

    def _asked_at(self, source: str, trigger: str) -> datetime | None:
        return self._ledger.last_requested_at(RECONCILE, source=source, trigger=trigger)

    def ask(self, source: str, trigger: str) -> None:
        """Ask for a reconciliation, unless one that covers as much is already requested."""
        try:
            waiting = [job for job in self._ledger.open_walks(source) if job.state == JobState.REQUESTED]
            if any(_covers(job, trigger) for job in waiting):
                log.info("schedule.skipped", source=source, trigger=trigger)
                return
            self._ledger.request_job(RECONCILE, {"source": source, "trigger": trigger}, self._clock())
        except LedgerError as error:
            log.warning("schedule.ledger_busy", source=source, trigger=trigger, error=str(error))


def _covers(job: Job, trigger: str) -> bool:
    other = (job.args or {}).get("trigger") if job.kind == RECONCILE else None
    return other in WIDTH and WIDTH[other] >= WIDTH[trigger]
