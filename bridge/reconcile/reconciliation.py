"""One reconciliation of one source: which windows it walks, and what came of them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

import structlog

from bridge.ledger import JobQueue, ReconciliationLedger
from bridge.lib.iso_times import moment, stamp
from bridge.model.jobs import Job, JobResult
from bridge.reconcile.compare_pages import PageComparer
from bridge.reconcile.counts import IDS_PER_HEADING, RunCounts, is_suspiciously_short
from bridge.reconcile.coverage import ReconcileRange, ReconcileRules, choose_range, range_as_json
from bridge.reconcile.diff import explain, explaining_fields, user_of
from bridge.reconcile.paging import ListWalker
from bridge.reconcile.window import ListWindow, WalkResult, remaining_windows
from bridge.source import Source

log = structlog.get_logger("bridge.reconcile")


def is_dry_run(job: Job) -> bool:
    """Whether a job compares only, and files nothing."""
    return bool((job.args or {}).get("dry_run"))


class WalkLedger(ReconciliationLedger, JobQueue, Protocol):
    """What a walk through the list asks of a ledger."""


class Reconciliation:
    """Walks the list of one source, window by window, and keeps each window that is complete."""

    def __init__(
        self, rules: ReconcileRules, ledger: WalkLedger, job: Job, now: datetime, comparer: PageComparer
    ) -> None:
        self._rules = rules
        self._ledger = ledger
        self._job_id = job.id
        self._dry_run = is_dry_run(job)
        self._comparer = comparer
        self._range = self._chosen_range(job, now)
        self._total = RunCounts()

    def _chosen_range(self, job: Job, now: datetime) -> ReconcileRange:
        """What the job looks at: chosen once, so that it is the same after an interruption."""
        chosen: Mapping[str, Any] = job.progress
        if "since" in chosen:
            cover_until = chosen["cover_until"]
            whole = ListWindow(moment(chosen["since"]), moment(chosen["until"]))
            return ReconcileRange(whole, moment(cover_until) if cover_until else None)
        covered = self._ledger.coverage(self._rules.name, now, now).covered_until
        found = choose_range(job.args or {}, self._rules, covered, now)
        self._ledger.note_progress(self._job_id, range_as_json(found))
        return found

    def carry_out(self, sources: Sequence[Source]) -> tuple[JobResult, datetime | None]:
        """Walk what is not walked yet. Returns the result, and how far the source is covered now."""
        done = self._ledger.finished_windows(self._job_id)
        for finished in done:
            self._total.add(finished.result)
        walker = ListWalker(sources, self._rules.page_size, self._comparer)
        left = remaining_windows(self._range.whole, (ListWindow(one.since, one.until) for one in done))
        for window, walked in walker.windows(left):
            self._keep(window, self._window_result(window, walked))
        return self._result()

    def _keep(self, window: ListWindow, result: JobResult) -> None:
        self._total.add(result)
        progress = range_as_json(self._range) | {"at": stamp(window.until), **self._total.counts}
        if result["complete"]:
            self._ledger.finish_window(self._job_id, (window.since, window.until), result, progress)
        else:
            self._ledger.note_progress(self._job_id, progress)

    def _window_result(self, window: ListWindow, walked: WalkResult) -> JobResult:
        """What a window has come to, with the calls that only the ledger has."""
        seen = self._comparer.end_window(window)
        ours = self._ledger.calls_between(self._rules.name, window.since, window.until)
        listed, missed = seen.calls() & ours, ours - seen.calls()
        filled = seen.calls(filled=True)
        reasons = [walked.reason] if walked.reason else []
        if short := self._short(window, len(ours - filled), len(listed - filled)):
            reasons.append(short)
        origin, asked = self._rules.origin, sorted(missed)[:IDS_PER_HEADING]
        calls = self._ledger.unlisted(asked, explaining_fields(origin.dialect)) if asked else []
        explained = {call.key: explain(call, seen.users, origin) for call in calls}
        result = seen.result()
        return {
            **result,
            "complete": not reasons,
            "unlisted": walked.unlisted,
            "ours_only": len(missed),
            "reasons": reasons,
            "users": sorted(seen.users),
            "ours_users": sorted({user for call in calls if (user := user_of(call, origin)) is not None}),
            "explanations": result["explanations"] | explained,
            "ids": result["ids"] | {"ours_only": [call.key for call in calls]},
        }

    def _short(self, window: ListWindow, ours: int, listed: int) -> str:
        """Why a window is not believed whose list is suddenly short; empty where it is believed."""
        if not is_suspiciously_short(ours, listed):
            return ""
        since, until = stamp(window.since), stamp(window.until)
        log.warning(
            "reconcile.short_list",
            source=self._rules.name,
            since=since,
            until=until,
            ledger=ours,
            listed=listed,
        )
        return f"{since} to {until}: the list shows {listed} of the {ours} calls that the ledger has"

    def _result(self) -> tuple[JobResult, datetime | None]:
        total, source = self._total, self._rules.name
        strangers = sorted(total.ours_users - total.users)
        if strangers:
            log.warning("reconcile.users_unlisted", source=source, users=", ".join(strangers))
        if not total.complete:
            reasons = "; ".join(total.reasons)
            log.warning("reconcile.incomplete", source=source, id=self._job_id, reasons=reasons)
        whole = self._range.whole
        result = {
            "since": stamp(whole.since),
            "until": stamp(whole.until),
            **total.shown(),
            "dry_run": self._dry_run,
            "users_unlisted": strangers,
        }
        log.info("reconcile.ended", source=source, id=self._job_id, complete=total.complete, **total.counts)
        return result, self._range.cover_until if total.complete else None
