"""Carries out the jobs of one source: reconciliations and audits, one after the other.

A job is walked window by window, and each finished window is durable, so that an interrupted job goes on
where it was.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial

import structlog

from bridge.ledger import JobQueue
from bridge.ledger.retrying import until_answered
from bridge.lib.errors import CallbridgeError, LedgerError
from bridge.model.jobs import AUDIT, Job, JobResult, JobState, WalksOf
from bridge.reconcile.compare_pages import Host, PageComparer
from bridge.reconcile.coverage import ReconcileRules
from bridge.reconcile.reconciliation import Reconciliation, WalkLedger, is_dry_run
from bridge.source import Source

log = structlog.get_logger("bridge.reconcile")

Audit = Callable[[Job, Sequence[Source], Callable[[], None]], JobResult]
"""Carries out an audit job over these logins; calls the last argument before each page, which may raise."""

NOT_KNOWN = (
    "the daemon knows no list of that source: it runs by an older configuration than the file's."
    " Restart it: systemctl restart callbridge"
)


class Interrupted(Exception):
    """The daemon stops: the job is taken up again by the next one."""


class Cancelled(Exception):
    """The job was cancelled."""


class Reconciler:
    """Carries out the reconciliations and audits of one source, one after the other."""

    def __init__(
        self,
        rules: ReconcileRules,
        ledger: WalkLedger,
        log_in: Callable[[], Sequence[Source]],
        host: Host,
        *,
        sources: Sequence[str],
        audit: Audit | None = None,
    ) -> None:
        """`sources`: all that have a list, each with a reconciler of its own."""
        self._rules = rules
        self._ledger = ledger
        self._log_in = log_in
        self._host = host
        self._sources = sources
        self._audit = audit

    def catch_up(self) -> None:
        """Return once all that has arrived has its verdict."""
        self._host.catch_up()

    def carry_out(self) -> bool:
        """One step: take the oldest job that is asked for to its end. Returns False when there was none."""
        job = self._ledger.take_job(self._host.clock(), WalksOf(self._rules.name, self._sources))
        if job is None:
            return False
        covered_until = None
        try:
            (result, covered_until), state = self._result(job), JobState.DONE
        except Interrupted:
            log.info("reconcile.interrupted", source=self._rules.name, id=job.id)
            return False
        except Cancelled:
            result, state = {"error": "it was cancelled"}, JobState.CANCELLED
        except CallbridgeError as error:
            if self._host.stop.is_set():
                return False
            log.warning("reconcile.failed", source=job.source or None, id=job.id, error=str(error))
            result, state = {"error": str(error)}, JobState.FAILED
        except Exception as error:
            # A row that raises an unexpected error must not stop the daemon, now and at every start.
            log.exception("reconcile.fault", source=self._rules.name, id=job.id)
            result, state = {"error": f"a fault in callbridge: {error!r}"}, JobState.FAILED
        self._end(job, state, result, covered_until)
        return True

    def _result(self, job: Job) -> tuple[JobResult, datetime | None]:
        """What came of a job, and how far the source is covered now."""
        if job.source != self._rules.name:
            raise CallbridgeError(NOT_KNOWN)
        go_on = partial(self._go_on, job.id)
        if job.kind != AUDIT:
            comparer = PageComparer(self._rules, self._ledger, self._host, go_on, dry_run=is_dry_run(job))
            reconciliation = Reconciliation(self._rules, self._ledger, job, self._host.clock(), comparer)
            with self._logged_in() as sources:
                return reconciliation.carry_out(sources)
        if self._audit is None:
            raise CallbridgeError("this process carries out no audits")
        with self._logged_in() as sources:
            return self._audit(job, sources, go_on), None

    @contextmanager
    def _logged_in(self) -> Iterator[Sequence[Source]]:
        sources = self._log_in()
        try:
            yield sources
        finally:
            for source in sources:
                source.close()

    def _go_on(self, job_id: int) -> None:
        """Raise where the walk must end: the daemon stops, or the job was cancelled."""
        if self._host.stop.is_set():
            raise Interrupted
        if self._ledger.is_cancelled(job_id):
            raise Cancelled

    def _end(self, job: Job, state: JobState, result: JobResult, covered_until: datetime | None) -> None:
        """Write the job's end however long the ledger is busy, because somebody waits for it."""

        def end() -> None:
            self._ledger.end_job(job.id, state, result, self._host.clock(), covered_until=covered_until)

        def busy(error: LedgerError) -> None:
            log.warning("reconcile.ledger_busy", error=str(error))

        until_answered(end, self._host.stop, busy=busy)


def refuse_walk(ledger: JobQueue, now: datetime) -> bool:
    """One step of a daemon without a list: refuse a requested walk. Returns False when there was none."""
    job = ledger.take_job(now, WalksOf("", ()))
    if job is None:
        return False
    log.warning("reconcile.failed", source=job.source or None, id=job.id, error=NOT_KNOWN)
    ledger.end_job(job.id, JobState.FAILED, {"error": NOT_KNOWN}, now)
    return True
