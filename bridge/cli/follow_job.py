"""Commands that ask for work: one row for the daemon, or the work itself where none lives."""

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from bridge.cli.ledger_ownership import owning
from bridge.cli.output import config_option, json_option, ledger_path, read_config, say, show
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
NONE_WAITS = "none of these records waits: see `quarantine list`"
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


@click.command("retry")
@click.argument("ids", nargs=-1, type=ID)
@click.option("--all", "every", is_flag=True, help="All records that wait.")
@config_option
@json_option
def quarantine_retry(ids: tuple[int, ...], every: bool, config_path: Path | None, as_json: bool) -> None:
    """File quarantined records again, by the rules and the calls of today."""
    if bool(ids) == every:
        raise click.UsageError("name records by their ids (see `quarantine list`), or say --all")
    result = follow(read_config(config_path), "quarantine_retry", {"ids": list(ids)})
    reasons = result.get("reasons", [])
    show(
        result,
        as_json,
        [
            f"{result['released']} released, {result['waiting']} wait on",
            *(f"    {one['id']}: {one['reason']}: {one['detail']}" for one in reasons),
            *(["    …"] if result["waiting"] > len(reasons) else []),
        ],
    )
    if ids and not result["released"] and not result["waiting"]:
        raise CallbridgeError(NONE_WAITS)


@click.command("drop")
@click.argument("ids", nargs=-1, type=ID, required=True)
@config_option
@json_option
def quarantine_drop(ids: tuple[int, ...], config_path: Path | None, as_json: bool) -> None:
    """Take quarantined records as worth nothing; they are kept until `prune` removes them."""
    result = follow(read_config(config_path), "quarantine_drop", {"ids": list(ids)})
    show(result, as_json, [f"{result['dropped']} dropped"])
    if not result["dropped"]:
        raise CallbridgeError(NONE_WAITS)


@click.command()
@config_option
@json_option
def prune(config_path: Path | None, as_json: bool) -> None:
    """Remove what is older than `[retention]` keeps it; the daemon does so daily by itself."""
    result = follow(read_config(config_path), "prune", {})
    show(result, as_json, [f"{name}: {count} removed" for name, count in result["removed"].items()])


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@config_option
@json_option
def backup(file: Path, config_path: Path | None, as_json: bool) -> None:
    """A consistent copy of the ledger while all goes on, opened and checked."""
    result = follow(read_config(config_path), "backup", {"file": str(file.absolute())})
    show(result, as_json, [f"{result['file']}: {result['calls']} calls, {result['bytes']} bytes, checked"])
