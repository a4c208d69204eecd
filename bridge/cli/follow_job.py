"""Asks for an operator job and waits for it: the daemon carries it out, or this process where none runs."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from bridge.cli.ledger_ownership import owned_ledger
from bridge.cli.output import ledger_path, say
from bridge.config.load import Config
from bridge.daemon.wiring import new_operator_jobs
from bridge.ledger import open_ledger
from bridge.lib.clocks import now_utc
from bridge.lib.documents import Document
from bridge.lib.errors import CallbridgeError, LedgerLocked
from bridge.model.jobs import JobState

FOLLOW_EVERY = 0.1
"""Seconds between two checks of a job that a command waits for."""
NOT_BEGUN = (
    "it is busy with another one, or cannot write (journalctl -u callbridge says why)."
    " It does it once it can; Ctrl-C ends only this wait"
)
WARN_AFTER = 15.0
"""Seconds: a daemon begins a job within one second, unless it is busy with another one or cannot write."""


def follow(
    config: Config,
    kind: str,
    args: Mapping[str, Any],
    *,
    warn_after: float = WARN_AFTER,
    wait: Callable[[float], object] = time.sleep,
) -> Document:
    """Ask for a job and wait for its result; where no daemon runs, carry it out in this process.

    After `warn_after` seconds without a start a warning is printed. `wait` sleeps for some seconds.

    Raises:
        CallbridgeError: the job failed; the message says why.
    """
    path = ledger_path(config)
    ledger = open_ledger(path)
    try:
        job_id = ledger.request_job(kind, args, now_utc())
        until: float | None = time.monotonic() + warn_after
        while (job := ledger.job(job_id)).is_open:
            try:
                # A daemon that starts now waits until the job is done: stopped halfway, it would look done.
                with owned_ledger(path, threading.Event()):
                    # We own the ledger, so no process works on a job that is marked as running: it is open
                    # again.
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
