"""The jobs that operators ask for: a command adds a row to the ledger, the daemon carries it out."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from bridge.delivery.call_comparison import ReplayTarget
from bridge.delivery.replay import replay
from bridge.ledger import Ledger, Window
from bridge.ledger.retrying import until_answered
from bridge.lib.errors import CallbridgeError, LedgerError
from bridge.lib.iso_times import moment, stamp
from bridge.model.calls import Via
from bridge.model.jobs import PRUNE, Job, JobResult, JobState
from bridge.record.arrival import arrivals_of
from bridge.record.json_body import NotAnObject
from bridge.record.origin import Origin
from bridge.record.unwrap_body import TooMany

log = structlog.get_logger("bridge.runs")

PRUNE_STEP = timedelta(days=3)
"""A prune believes the clock only so far beyond the last prune: one a year ahead must not cost a year."""
SHOWN_REASONS = 20
"""For so many records that stay in quarantine the result says why."""


@dataclass(frozen=True, slots=True)
class OperatorJobs:
    """Carries out operators' jobs, each kind by the method of its name."""

    ledger: Ledger
    retention: Mapping[str, timedelta | None]
    """How long each class of data is kept; None: for ever."""
    stop: threading.Event
    origins: Mapping[str, Origin]
    targets: Callable[[], Mapping[str, ReplayTarget]]
    """The destinations with the mappings that are in force."""
    release_locks: Callable[[int], None]
    """Releases the key locks that a delivery in doubt holds."""
    withdraw: Callable[[Sequence[int], datetime], None]
    """Has deliveries given back that are leased and not begun, because a person holds them."""

    def retry(self, args: Mapping[str, Any], now: datetime) -> JobResult:
        """`deliveries retry`: make parked deliveries due; with `--all`, those in doubt are left parked."""
        cause, destination = args.get("cause", ""), args.get("destination", "")
        retried = self.ledger.retry(args["ids"], now, cause=cause, destination=destination)
        left = 0 if args["ids"] or cause else self.ledger.parked_in_doubt(destination)
        return {"retried": retried, "in_doubt": left}

    def park(self, args: Mapping[str, Any], now: datetime) -> JobResult:
        """`deliveries park`: hold due deliveries back until a person retries them."""
        return self._hold(args, now, "parked", skip=False)

    def skip(self, args: Mapping[str, Any], now: datetime) -> JobResult:
        """`deliveries skip`: never deliver these, whatever revisions come."""
        return self._hold(args, now, "skipped", skip=True)

    def _hold(self, args: Mapping[str, Any], now: datetime, done: str, *, skip: bool) -> JobResult:
        held = self.ledger.hold(args["ids"], args.get("reason", ""), now, skip=skip)
        for delivery_id in held.now:
            self.release_locks(delivery_id)
        self.withdraw(held.later, now)
        return {done: len(held.now), "later": len(held.later)}

    def replay(self, args: Mapping[str, Any], now: datetime) -> JobResult:
        """`replay`: deliver again what differs from what was last sent."""
        window = Window(*(None if args.get(end) is None else moment(args[end]) for end in ("since", "until")))
        found = {}
        for name, target in self.targets().items():
            if args.get("destination", name) != name:
                continue
            sources = [one for one in target.sources if args.get("source", one) == one]
            found[name] = replay(
                self.ledger,
                replace(target, sources=sources),
                self.origins,
                window,
                now,
                force=bool(args.get("force")),
                dry_run=bool(args.get("dry_run")),
                go_on=lambda: not self.stop.is_set(),
            )
        return {"due": sum(each["due"] for each in found.values()), "destinations": found}

    def quarantine_retry(self, args: Mapping[str, Any], now: datetime) -> JobResult:
        """`quarantine retry`: file records again, by the rules and the calls of today."""
        del now
        # In the order of arrival, which decides between records with equal stamps.
        waiting = sorted(entry.id for entry in self.ledger.list_quarantine("waiting", -1))
        ids = [entry for entry in waiting if not args["ids"] or entry in args["ids"]]
        left = [entry for entry in ids if not self._refile(entry)]
        return {
            "released": len(ids) - len(left),
            "waiting": len(left),
            "reasons": [self._why_waiting(entry) for entry in left[:SHOWN_REASONS]],
        }

    def _why_waiting(self, entry: int) -> JobResult:
        found = self.ledger.show_quarantine(entry)
        if found is None:
            return {"id": entry, "reason": "", "detail": "it is not there any more"}
        detail = found.detail
        if found.source not in self.origins:
            detail = f"there is no source {found.source} in the daemon's configuration"
        return {"id": entry, "reason": found.reason, "detail": detail}

    def _refile(self, entry: int) -> bool:
        found = self.ledger.show_quarantine(entry)
        if found is None or found.state != "waiting" or found.source not in self.origins:
            return False
        origin, via, at = self.origins[found.source], Via(found.via), found.received_at
        try:
            arrivals = arrivals_of(origin, via, found.body, at)
        except (NotAnObject, TooMany):
            return False
        return self.ledger.refile(entry, arrivals)

    def quarantine_drop(self, args: Mapping[str, Any], now: datetime) -> JobResult:
        """`quarantine drop`: mark records as worthless; `prune` removes them later."""
        del now
        return {"dropped": self.ledger.drop(args["ids"])}

    def prune(self, args: Mapping[str, Any], now: datetime) -> JobResult:
        """`prune`: remove data that is older than its class is kept."""
        del args
        removed = {}
        as_of = self._as_of(now)
        for name, kept in self.retention.items():
            if kept is not None and not self.stop.is_set():
                # It pauses as long as each step took, so that half of the writer's time stays free.
                removed[name] = self.ledger.prune(name, as_of - kept, self._pause)
        return {"removed": removed, "as_of": stamp(as_of)}

    def _as_of(self, now: datetime) -> datetime:
        """Now, but at most 3 days after the last prune.

        What is removed does not come back, so a clock that is a year ahead must not remove what is young.
        """
        last = self.ledger.last_done(PRUNE)
        if last is None:
            return now
        as_of = last.result.get("as_of")
        return min(now, (last.requested_at if as_of is None else moment(as_of)) + PRUNE_STEP)

    def _pause(self, seconds: float) -> bool:
        """Pause for so many seconds, so that others can write. Returns False where the daemon stops."""
        return not self.stop.wait(seconds)

    def backup(self, args: Mapping[str, Any], now: datetime) -> JobResult:
        """`backup`: copy the ledger consistently while everything goes on."""
        del now
        copied = self.ledger.backup(Path(args["file"]), lambda: not self.stop.is_set())
        return {"file": args["file"], "bytes": copied.bytes, "calls": copied.calls}

    def carry_out(self, now: datetime) -> bool:
        """One step: take the oldest requested job to its end. Returns False when there was none."""
        job = self.ledger.take_job(now)
        if job is None:
            return False
        try:
            result, state = self._result(job, now), JobState.DONE
        except CallbridgeError as error:
            result, state = {"error": str(error)}, JobState.FAILED
        except Exception as error:
            # A job with an unexpected error must not stop the daemon, now and at every start.
            log.exception("run.fault", kind=job.kind, id=job.id)
            result, state = {"error": f"a fault in callbridge: {error!r}"}, JobState.FAILED
        self._end(job.id, state, result, now)
        told = {"state": str(state), "kind": job.kind, "id": job.id}
        if state == JobState.DONE:
            log.info("run.ended", **told)
        else:
            log.warning("run.ended", **told, error=result["error"])
        return True

    def _result(self, job: Job, now: datetime) -> JobResult:
        """Carry out a job; its row may have been written by hand or by a later release."""
        if job.kind not in JOB_KINDS:
            raise CallbridgeError(f'there is no such kind of run: "{job.kind}"')
        if job.args is None:
            raise CallbridgeError("its args are no JSON object")
        return JOB_KINDS[job.kind](self, job.args, now)

    def _end(self, job_id: int, state: JobState, result: JobResult, now: datetime) -> None:
        """Write the job's end however long the ledger is busy, because somebody waits for it."""

        def busy(error: LedgerError) -> None:
            log.warning("runs.ledger_busy", error=str(error))

        until_answered(lambda: self.ledger.end_job(job_id, state, result, now), self.stop, busy=busy)


JOB_KINDS: dict[str, Callable[[OperatorJobs, Mapping[str, Any], datetime], JobResult]] = {
    "retry": OperatorJobs.retry,
    "park": OperatorJobs.park,
    "skip": OperatorJobs.skip,
    "replay": OperatorJobs.replay,
    "quarantine_retry": OperatorJobs.quarantine_retry,
    "quarantine_drop": OperatorJobs.quarantine_drop,
    PRUNE: OperatorJobs.prune,
    "backup": OperatorJobs.backup,
}
