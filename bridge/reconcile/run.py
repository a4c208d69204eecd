"""Reconcile: the platform's list beside the ledger, and what is missing here filed through the ledger's door.

Anybody may ask for one as a job; a source has one at a time, which is carried out window by window.
A window that is finished is durable, so that a job goes on where it was interrupted.
"""

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import structlog

from bridge.ledger import JobQueue, Ledger
from bridge.ledger.retrying import until_answered
from bridge.lib.errors import CallbridgeError, LedgerError
from bridge.lib.iso_times import moment, stamp
from bridge.model.jobs import AUDIT, Job, JobState, WalksOf
from bridge.model.listing import Fill, Place, Seen
from bridge.reconcile.counts import IDS_PER_HEADING, Result, RunCounts, WindowCounts
from bridge.reconcile.coverage import ReconcileRange, ReconcileRules, choose_range, range_as_json
from bridge.reconcile.diff import (
    ListedRow,
    Outcome,
    compare_by_digest,
    compare_by_meaning,
    explain,
    read_row,
    stray_key,
)
from bridge.reconcile.paging import ListWalker, RowIdentity
from bridge.reconcile.window import ListWindow, WalkResult, remaining_windows
from bridge.source import Source

log = structlog.get_logger("bridge.reconcile")

AT_ONCE = 100
"""So many rows are read by meaning, or filed in one commit, at a time: callbacks have their turn between."""
GUARDED = 20
"""With so many calls here, a window in which the list shows less than half of them is not believed."""


NOT_KNOWN = (
    "the daemon knows no list of that source: it runs by an older configuration than the file's."
    " Restart it: systemctl restart callbridge"
)


class Interrupted(Exception):
    """The daemon stops: the job is taken up again by the next one."""


class Cancelled(Exception):
    """Somebody wants the job to end."""


class Reconciler:
    """Carries out the reconciliations and audits of one source, one after the other."""

    def __init__(
        self,
        rules: ReconcileRules,
        ledger: Ledger,
        log_in: Callable[[], Sequence[Source]],
        *,
        sources: Sequence[str],
        clock: Callable[[], datetime],
        stop: threading.Event,
        catch_up: Callable[[], None],
        filed: Callable[[], None] = lambda: None,
        audit: "Callable[[Job, Sequence[Source], Callable[[], None]], Result] | None" = None,
    ) -> None:
        self.rules = rules
        self.ledger = ledger
        self.log_in = log_in
        self.catch_up = catch_up
        self.filed = filed
        self.clock = clock
        self._sources = sources
        self._stop = stop
        self._audit = audit

    def carry_out(self) -> bool:
        """One step: take the oldest job that is asked for to its end; whether there was one."""
        job = self.ledger.take_job(self.clock(), WalksOf(self.rules.name, self._sources))
        if job is None:
            return False
        covered_until = None
        try:
            (result, covered_until), state = self._result(job), JobState.DONE
        except Interrupted:
            log.info("reconcile.interrupted", source=self.rules.name, id=job.id)
            return False
        except Cancelled:
            result, state = {"error": "it was cancelled"}, JobState.CANCELLED
        except CallbridgeError as error:
            if self._stop.is_set():
                return False
            log.warning("reconcile.failed", source=job.source or None, id=job.id, error=str(error))
            result, state = {"error": str(error)}, JobState.FAILED
        except Exception as error:
            # One row that trips us must not stop the daemon, now and at every start.
            log.exception("reconcile.fault", source=self.rules.name, id=job.id)
            result, state = {"error": f"a fault in callbridge: {error!r}"}, JobState.FAILED
        self._end(job, state, result, covered_until)
        return True

    def _result(self, job: Job) -> tuple[Result, datetime | None]:
        """What came of a job, and how far the source is covered now."""
        if job.source != self.rules.name:
            raise CallbridgeError(NOT_KNOWN)
        if job.kind == AUDIT:
            if self._audit is None:
                raise CallbridgeError("this process carries out no audits")
            return self._audited(job, self._audit), None
        return _Reconciliation(self, job).carry_out()

    def _audited(
        self, job: Job, audit: Callable[[Job, Sequence[Source], Callable[[], None]], Result]
    ) -> Result:
        sources = self.log_in()
        try:
            return audit(job, sources, lambda: self.go_on(job.id))
        finally:
            for source in sources:
                source.close()

    def go_on(self, job_id: int) -> None:
        """Raises where the walk shall not."""
        if self._stop.is_set():
            raise Interrupted
        if self.ledger.is_cancelled(job_id):
            raise Cancelled

    def _end(self, job: Job, state: JobState, result: Result, covered_until: datetime | None) -> None:
        """Somebody waits for the end, so it is written however long the ledger is busy."""

        def end() -> None:
            self.ledger.end_job(job.id, state, result, self.clock(), covered_until=covered_until)

        def busy(error: LedgerError) -> None:
            log.warning("reconcile.ledger_busy", error=str(error))

        until_answered(end, self._stop, busy=busy)


class _Reconciliation:
    """One reconciliation of one source."""

    def __init__(self, reconciler: Reconciler, job: Job) -> None:
        self._reconciler = reconciler
        self._rules = reconciler.rules
        self._ledger = reconciler.ledger
        self._id = job.id
        self._args = job.args or {}
        self._dry = bool(self._args.get("dry_run"))
        self._plan = self._decided(job.progress)
        self._asked_at = 0
        self._strays: set[str] | None = None
        self._undated: dict[str, str] = {}
        """Rows that do not say when they were created, and in which window they were seen first."""
        self._window = WindowCounts()
        self._total = RunCounts()

    def _decided(self, decided: Mapping[str, Any]) -> ReconcileRange:
        """What the job looks at: decided once, so that it is the same after an interruption."""
        if "since" in decided:
            cover_until = decided["cover_until"]
            whole = ListWindow(moment(decided["since"]), moment(decided["until"]))
            return ReconcileRange(whole, moment(cover_until) if cover_until else None)
        now = self._reconciler.clock()
        covered = self._ledger.coverage(self._rules.name, now, now).covered_until
        plan = choose_range(self._args, self._rules, covered, now)
        self._ledger.note_progress(self._id, range_as_json(plan))
        return plan

    def carry_out(self) -> tuple[Result, datetime | None]:
        """Walk what is not walked yet; the result, and how far the source is covered now."""
        total, whole = self._total, self._plan.whole
        done = self._ledger.finished_windows(self._id)
        for _, _, result in done:
            total.add(result)
        sources = self._reconciler.log_in()
        try:
            walk = ListWalker(sources, self._rules.page_size, self)
            for window, walked in walk.windows(
                remaining_windows(whole, (ListWindow(*times) for *times, _ in done))
            ):
                result = self._finish(window, walked)
                total.add(result)
                progress = range_as_json(self._plan) | {"at": stamp(window.until), **total.counts}
                if result["complete"]:
                    times = (window.since, window.until)
                    self._ledger.finish_window(self._id, times, result, progress)
                else:
                    self._ledger.note_progress(self._id, progress)
        finally:
            for source in sources:
                source.close()
        return self._told()

    def _told(self) -> tuple[Result, datetime | None]:
        total, source = self._total, self._rules.name
        strangers = sorted(total.ours_users - total.users)
        if strangers:
            log.warning("reconcile.users_unlisted", source=source, users=", ".join(strangers))
        if not total.complete:
            log.warning("reconcile.incomplete", source=source, id=self._id, reasons="; ".join(total.reasons))
        whole = self._plan.whole
        result = {
            "since": stamp(whole.since),
            "until": stamp(whole.until),
            **total.shown(),
            "dry_run": self._dry,
            "users_unlisted": strangers,
        }
        log.info("reconcile.ended", source=source, id=self._id, complete=total.complete, **total.counts)
        return result, self._plan.cover_until if total.complete else None

    # -- what the walk wants of us -----------------------------------------------------
    def ask(self) -> None:
        """A page is about to be asked for: what arrives from now on may be newer than it."""
        self._reconciler.go_on(self._id)
        self._asked_at = self._ledger.newest_receipt()

    def take(self, window: ListWindow, rows: Sequence[bytes]) -> Sequence[RowIdentity]:
        """Compare the rows of a page with the ledger, and file what it lacks."""
        now, rules = self._reconciler.clock(), self._rules
        shown: list[RowIdentity] = []
        fresh: dict[Any, ListedRow] = {}
        since, until = stamp(window.since), stamp(window.until)
        for row in rows:
            listed = read_row(rules.origin, row, now)
            created_at = listed.arrival.created_at
            shown.append(RowIdentity(listed.key, created_at))
            if created_at is None:
                # A list that shows it in every window does not have it so many times.
                inside = self._undated.setdefault(listed.key, since) == since
            else:
                inside = since <= created_at < until
            if inside and self._window.needs_comparing(listed):
                one = fresh.setdefault(_state_of(listed), listed)
                # An answer is of one moment: of two states of one stamp the same one counts each time,
                # for else every run would find the other one to be news.
                fresh[_state_of(listed)] = min(one, listed, key=lambda row: row.digest)
        if fresh:
            self._compare(list(fresh.values()))
        return shown

    def _compare(self, rows: Sequence[ListedRow]) -> None:
        placed = self._places(rows)
        unread: list[tuple[ListedRow, Place]] = []
        fills: list[tuple[ListedRow, Place, Outcome]] = []
        for row, place in zip(rows, placed, strict=True):
            listed = row if place.trouble is None else self._apart(row)
            outcome = compare_by_digest(listed, place, self._asked_at)
            self._window.entries[listed.key].call_id = place.call_id
            if listed.user is not None:
                self._window.users.add(listed.user)
            if outcome is None:
                unread.append((listed, place))
            elif outcome is Outcome.MISSING or (
                outcome is Outcome.CONFLICTING and listed.key not in self._known_strays()
            ):
                fills.append((listed, place, outcome))
            else:
                self._window.note(listed, outcome, place.detail)
        for start in range(0, len(fills), AT_ONCE):
            self._fill(fills[start : start + AT_ONCE])
        for start in range(0, len(unread), AT_ONCE):
            self._read(unread[start : start + AT_ONCE])

    def _apart(self, listed: ListedRow) -> ListedRow:
        """A row that belongs to no call, or to two, is none of them: it has a key of its own."""
        apart = replace(listed, key=stray_key(listed.arrival.payload))
        self._window.needs_comparing(apart)
        return apart

    def _places(self, rows: Sequence[ListedRow]) -> list[Place]:
        """Where the rows belong, once all that had arrived has its verdict."""
        arrivals = [listed.arrival for listed in rows]
        placed = self._ledger.places(self._rules.name, arrivals)
        if all(place.judged for place in placed):
            return placed
        self._reconciler.catch_up()
        return self._ledger.places(self._rules.name, arrivals)

    def _read(self, unread: Sequence[tuple[ListedRow, Place]]) -> None:
        """Compare by meaning."""
        known = self._ledger.known_states([place.call_id for _, place in unread if place.call_id is not None])
        fills: list[tuple[ListedRow, Place, Outcome]] = []
        seen: list[Seen] = []
        for listed, place in unread:
            state = known.get(place.call_id or 0)
            if state is None:
                # It was set aside by the judge: a person has it in quarantine.
                self._window.note(listed, Outcome.CONFLICTING, "its record in the ledger cannot be read")
                continue
            compared = compare_by_meaning(listed, state, self._rules.reads, self._rules.origin)
            if compared.adds:
                fills.append((listed, place, compared.outcome))
            else:
                self._window.note(listed, compared.outcome)
                assert place.call_id is not None  # noqa: S101 -- only known calls are read
                stale = compared.outcome is Outcome.STALE
                seen.append(Seen(place.call_id, place.newest, stale, listed.digest))
        if not self._dry:
            self._ledger.remember_listed(seen)
        self._fill(fills)

    def _fill(self, fills: Sequence[tuple[ListedRow, Place, Outcome]]) -> None:
        """File rows, by the ledger's one door, unless their calls have changed meanwhile."""
        if not fills:
            return
        filed: Sequence[Any] = [place for _, place, _ in fills]
        if not self._dry:
            wanted = [
                Fill(listed.arrival, listed.digest, outcome is Outcome.MISSING)
                for listed, _, outcome in fills
            ]
            filed = self._ledger.fill(self._rules.name, wanted, self._asked_at)
            self._reconciler.filed()
        for (listed, place, outcome), done in zip(fills, filed, strict=True):
            if done is None:
                self._window.note(listed, Outcome.DEFERRED)
                continue
            if done.trouble is not None and outcome is not Outcome.CONFLICTING:
                apart = self._apart(listed)
                self._window.note(apart, Outcome.CONFLICTING, f"quarantined as {done.trouble}")
                self._known_strays().add(apart.key)
                continue
            self._window.note(listed, outcome, place.detail or str(place.trouble or ""))
            entry = self._window.entries[listed.key]
            entry.call_id = done.call_id
            entry.filled = entry.filled or (outcome is Outcome.MISSING and not self._dry)
            if outcome is Outcome.CONFLICTING:
                self._known_strays().add(listed.key)

    def _known_strays(self) -> set[str]:
        """What is in quarantine already, in whatever spelling."""
        if self._strays is None:
            self._strays = {stray_key(body) for _, body in self._ledger.strays(self._rules.name)}
        return self._strays

    # -- the end of a window -----------------------------------------------------------
    def _finish(self, window: ListWindow, walked: WalkResult) -> Result:
        """What a window has come to, with the calls that only the ledger has."""
        seen, self._window = self._window.until(stamp(window.until))
        ours = self._ledger.calls_between(self._rules.name, window.since, window.until)
        listed, missed = seen.calls() & ours, ours - seen.calls()
        filled = seen.calls(filled=True)
        reasons = [walked.reason] if walked.reason else []
        if short := self._short(window, len(ours - filled), len(listed - filled)):
            reasons.append(short)
        calls = self._ledger.unlisted(sorted(missed)[:IDS_PER_HEADING]) if missed else []
        result = seen.result()
        return {
            **result,
            "complete": not reasons,
            "unlisted": walked.unlisted,
            "ours_only": len(missed),
            "reasons": reasons,
            "users": sorted(seen.users),
            "ours_users": sorted({call.user for call in calls if call.user}),
            "explanations": result["explanations"] | {call.key: explain(call, seen.users) for call in calls},
            "ids": result["ids"] | {"ours_only": [call.key for call in calls]},
        }

    def _short(self, window: ListWindow, ledger: int, listed: int) -> str:
        """Why a window is not believed whose list is suddenly short; empty where it is believed."""
        if ledger < GUARDED or 2 * listed >= ledger:
            return ""
        since, until = stamp(window.since), stamp(window.until)
        log.warning(
            "reconcile.short_list",
            source=self._rules.name,
            since=since,
            until=until,
            ledger=ledger,
            listed=listed,
        )
        return f"{since} to {until}: the list shows {listed} of the {ledger} calls that the ledger has"


def _state_of(listed: ListedRow) -> Hashable:
    """What the rows of one answer are told apart by: the call and its stamp; what names none, by its text."""
    arrival = listed.arrival
    if arrival.names or (arrival.sn and arrival.local_time and arrival.trouble is None):
        return listed.key, listed.edited_at
    return listed.digest


def refuse_walk(ledger: JobQueue, now: datetime) -> bool:
    """One step of a daemon that knows no list at all: somebody waits for an answer; whether there was one."""
    job = ledger.take_job(now, WalksOf("", ()))
    if job is None:
        return False
    log.warning("reconcile.failed", source=job.source or None, id=job.id, error=NOT_KNOWN)
    ledger.end_job(job.id, JobState.FAILED, {"error": NOT_KNOWN}, now)
    return True
