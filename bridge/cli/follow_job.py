"""Asks for an operator job and waits for it: the daemon carries it out, or this process where none runs."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import click

from bridge.cli.ledger_ownership import owning
from bridge.cli.output import ledger_path, say
from bridge.config.load import Config
from bridge.daemon.wiring import new_operator_jobs
from bridge.ledger import open_ledger
from bridge.lib.clocks import now_utc
from bridge.lib.documents import Document
from bridge.lib.errors import CallbridgeError, LedgerLocked
from bridge.model.jobs import JobState

FOLLOW_EVERY = 0.1
"""Seconds between two looks at a job that somebody waits for."""
NOT_BEGUN = (
    "it is busy with another one, or cannot write (journalctl -u callbridge says why)."
    " It does it once it can; Ctrl-C ends only this wait"
)
TOLD_AFTER = 15.0
"""A daemon begins a run within a second, unless it is busy with another or cannot write."""
ID = click.IntRange(1, 2**63 - 1)


def follow(
    config: Config,
    kind: str,
    args: Mapping[str, Any],
    *,
    told_after: float = TOLD_AFTER,
    wait: Callable[[float], object] = time.sleep,
) -> Document:
    """Ask for a job and follow it to its end; without a living daemon carry it out here.

    `told_after`: seconds until it is said that the daemon has not begun; `wait` lets so many seconds pass.

    Raises:
        CallbridgeError: the job failed; the message says why.
    """
    path = ledger_path(config)
    ledger = open_ledger(path)
    try:
        job_id = ledger.request_job(kind, args, now_utc())
        until: float | None = time.monotonic() + told_after
        while (job := ledger.job(job_id)).is_open:
            try:
                # A daemon that starts waits for it: a part of this would be told as the whole.
                with owning(path, threading.Event()):
                    # Nobody lives who could still be at it: what was left running is asked for again.
                    ledger.release_leases()
                    new_operator_jobs(config, ledger, threading.Event()).carry_out(now_utc())
            except LedgerLocked:
                if until is not None and time.monotonic() > until and job.state == JobState.REQUESTED:
                    until = None
                    say(f"the daemon has not begun run {job_id} yet: {NOT_BEGUN}", err=True)
                wait(FOLLOW_EVERY)
    finally:
        ledger.close()
    if job.state == JobState.FAILED:
        raise CallbridgeError(job.result.get("error", "it failed"))
    return dict(job.result)
