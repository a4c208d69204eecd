"""Asks for walks of the platforms' lists, one job for each source, and follows them to their end."""

import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime
from types import FrameType
from typing import Any
from zoneinfo import ZoneInfo

import click

from bridge.cli.follow_job import FOLLOW_EVERY
from bridge.cli.ledger_ownership import owned_ledger
from bridge.cli.output import ledger_path, say, say_over
from bridge.cli.times import WhenText, refuse_reversed
from bridge.config.load import Config
from bridge.daemon.reconcile_wiring import listed_sources, reconciler_here
from bridge.ledger import Ledger
from bridge.lib.clocks import now_utc
from bridge.lib.errors import CallbridgeError, LedgerLocked
from bridge.lib.iso_times import moment, stamp
from bridge.model.jobs import Job, JobState

BEGINS_WITHIN = 15.0
"""Seconds: a daemon begins a job within one second of the job before it, unless it hangs."""
LEAVE, CANCEL, ASK = "leave", "cancel", "ask"
ON_INTERRUPT = click.Choice([ASK, LEAVE, CANCEL])


def chosen_sources(config: Config, source: str | None) -> tuple[str, ...]:
    """The sources that a command works on: all that have a list, or the one that is named.

    Raises:
        click.UsageError: there is no such source, or it has no list to ask.
    """
    listed = listed_sources(config)
    if source is not None and source not in config.sources:
        raise click.UsageError(f'there is no source "{source}"')
    wanted = listed if source is None else (source,)
    missing = [name for name in wanted if name not in listed]
    if missing or not wanted:
        name = missing[0] if missing else next(iter(config.sources))
        raise click.UsageError(f"the list of source {name} cannot be asked: there is no [sources.{name}.api]")
    return wanted


class FollowedWalks:
    """The walks that one command has asked for, one job for each source."""

    def __init__(self, config: Config, ledger: Ledger, on_interrupt: str) -> None:
        """Follow no job yet; `on_interrupt` is what Ctrl-C does: `ask`, `leave` or `cancel`."""
        self._config = config
        self._ledger = ledger
        self._on_interrupt = on_interrupt
        self._stop = threading.Event()
        self._interrupted = False
        self._reported: set[int] = set()
        self._waiting_since: dict[str, float] = {}
        self.jobs: dict[str, int] = {}

    def ask(self, kind: str, args: Mapping[str, Mapping[str, Any]]) -> None:
        """Ask for one job for each source; an open job with the same arguments is followed instead."""
        with suppress(LedgerLocked), owned_ledger(ledger_path(self._config), self._stop):
            self._ledger.release_leases()
        for source, own in args.items():
            waiting = [
                job.id
                for job in self._ledger.open_walks(source)
                if job.kind == kind and job.state == JobState.REQUESTED and _words(job.args) == _words(own)
            ]
            self.jobs[source] = waiting[0] if waiting else self._ledger.request_job(kind, own, now_utc())

    def to_the_end(self) -> dict[str, Job]:
        """Wait until all jobs have ended, carrying them out here where no daemon runs; return the jobs.

        Raises:
            CallbridgeError: the daemon does not begin, or Ctrl-C has left or cancelled the jobs.
        """
        before = signal.signal(signal.SIGINT, self._on_signal)
        try:
            while open_jobs := [source for source, job in self._jobs_now().items() if job.is_open]:
                if self._interrupted:
                    self._leave_or_cancel(open_jobs)
                try:
                    with owned_ledger(ledger_path(self._config), self._stop):
                        # We own the ledger, so no process works on a job that is marked as running: it is
                        # open again.
                        self._ledger.release_leases()
                        self._carry_out(open_jobs)
                except LedgerLocked:
                    self._report(open_jobs)
                    self._stop.wait(FOLLOW_EVERY)
                if not self._interrupted:
                    # `stop` was set because a daemon starts: it goes on with the jobs.
                    self._stop.clear()
        finally:
            signal.signal(signal.SIGINT, before)
        self._end_line()
        return self._jobs_now()

    def _jobs_now(self) -> dict[str, Job]:
        return {source: self._ledger.job(job_id) for source, job_id in self.jobs.items()}

    def _carry_out(self, sources: Sequence[str]) -> None:
        for source in sources:
            reconciler = reconciler_here(self._config, source, os.environ, self._ledger, now_utc, self._stop)
            reconciler.catch_up()
            self._report_jobs_before(source)
            with ExitStack() as stack:
                if sys.stderr.isatty():
                    ended = threading.Event()
                    teller = threading.Thread(
                        target=self._show_progress_until, args=(source, ended), daemon=True
                    )
                    teller.start()
                    stack.callback(teller.join)
                    stack.callback(ended.set)
                while self._ledger.job(self.jobs[source]).is_open and not self._stop.is_set():
                    if not reconciler.carry_out():
                        break
            reconciler.catch_up()
            if self._stop.is_set():
                return

    # -- Ctrl-C ----------------------------------------------------------------------
    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._interrupted:
            raise KeyboardInterrupt
        self._interrupted = True
        # A walk in this process ends after its page; one in the daemon goes on.
        self._stop.set()

    def _leave_or_cancel(self, sources: Sequence[str]) -> None:
        choice = self._on_interrupt
        if choice == ASK and sys.stdin.isatty():
            self._end_line()
            choice = click.prompt(
                "Leave it running (the daemon, or the same command, goes on with it), or cancel it?",
                type=click.Choice([LEAVE, CANCEL]),
                default=LEAVE,
                err=True,
            )
        ids = ", ".join(str(self.jobs[source]) for source in sources)
        if choice != CANCEL:
            raise CallbridgeError(f"run {ids} is left: the daemon, or the same command, goes on with it")
        if self._no_daemon_runs():
            self._ledger.release_leases()
        for source in sources:
            self._ledger.cancel_job(self.jobs[source], now_utc())
        raise CallbridgeError(f"run {ids} is cancelled; what was filed stays")

    def _no_daemon_runs(self) -> bool:
        try:
            with owned_ledger(ledger_path(self._config), threading.Event()):
                return True
        except LedgerLocked:
            return False

    # -- progress --------------------------------------------------------------------
    def _report(self, sources: Sequence[str]) -> None:
        for source in sources:
            if self._report_jobs_before(source):
                self._waiting_since[source] = time.monotonic()
                continue
            job = self._ledger.job(self.jobs[source])
            if job.state != JobState.REQUESTED:
                self._waiting_since.pop(source, None)
            elif time.monotonic() - self._waiting_since.setdefault(source, time.monotonic()) > BEGINS_WITHIN:
                raise CallbridgeError(
                    f"source {source}: the daemon has not begun run {job.id} within {BEGINS_WITHIN:.0f} s:"
                    " see its log. It goes on with it once it can, or after a restart"
                )
            if sys.stderr.isatty():
                self._line(source, job)

    def _report_jobs_before(self, source: str) -> bool:
        """Whether other jobs of the source come first; printed once for each job."""
        job = self._ledger.job(self.jobs[source])
        others = [other for other in self._ledger.open_walks(source) if other.id < job.id]
        if job.state != JobState.REQUESTED or not others:
            return False
        if job.id not in self._reported:
            self._reported.add(job.id)
            first = others[0]
            said = f"run {first.id} ({first.kind}, asked for at {stamp(first.requested_at)})"
            say(f"source {source}: {said} comes first", err=True)
        return True

    def _show_progress_until(self, source: str, ended: threading.Event) -> None:
        while not ended.wait(0.5):
            self._line(source, self._ledger.job(self.jobs[source]))

    def _line(self, source: str, job: Job) -> None:
        progress = job.progress
        if "at" not in progress:
            return
        since, at, until = (moment(progress[name]) for name in ("since", "at", "until"))
        share = (at - since) / (until - since) if until > since else 1.0
        text = f"{source}: {share:4.0%}, {progress['seen']} seen, {progress['missing']} missing"
        say_over(text)
        self._reported.add(-1)

    def _end_line(self) -> None:
        if -1 in self._reported:
            say(err=True)
            self._reported.discard(-1)


def asked_times(times: Mapping[str, WhenText | None], now: datetime, zone: ZoneInfo) -> dict[str, Any]:
    """The times of a job's arguments: as UTC moments, and in the words of the command line."""
    given = {name: when for name, when in times.items() if when is not None}
    moments = {name: when.at(now, zone) for name, when in given.items()}
    refuse_reversed(moments.get("since"), moments.get("until"))
    return {name: stamp(at) for name, at in moments.items()} | {
        "words": {name: when.text for name, when in given.items()}
    }


def _words(args: Any) -> Any:
    """A job's arguments without its moments, which differ each time that the same is asked for."""
    if not isinstance(args, dict):
        return None
    return {name: value for name, value in args.items() if name not in ("since", "until")}


def failures_of(jobs: Mapping[str, Job]) -> str:
    """A message about the jobs that failed; empty where none did."""
    return "; ".join(
        f"source {name}: {job.result.get('error', str(job.state))}"
        for name, job in jobs.items()
        if job.state != JobState.DONE
    )
