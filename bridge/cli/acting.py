"""Commands that ask for work: one row for the daemon, or the work itself where none lives."""

import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from bridge.cli.output import ExitCode, config_option, json_option, ledger_path, read_config, show
from bridge.config import Config
from bridge.errors import LedgerLocked
from bridge.ledger import Row, open_ledger
from bridge.ledger.sqlite.connection import OwnerLock
from bridge.runs import carry_out

FOLLOW_EVERY = 0.1


def follow(config: Config, kind: str, args: Mapping[str, Any]) -> Row:
    """Ask for a run and follow it to its end; without a living daemon carry it out here."""
    path = ledger_path(config)
    ledger = open_ledger(path)
    try:
        run_id = ledger.request_run(kind, args, datetime.now(UTC))
        while (run := ledger.run(run_id))["state"] in ("requested", "running"):
            try:
                with OwnerLock(path):
                    carry_out(ledger, datetime.now(UTC))
            except LedgerLocked:
                time.sleep(FOLLOW_EVERY)
        return run
    finally:
        ledger.close()


@click.command("retry")
@click.argument("ids", nargs=-1, type=int)
@click.option("--all", "every", is_flag=True, help="All deliveries that are parked.")
@config_option
@json_option
def deliveries_retry(ids: tuple[int, ...], every: bool, config_path: Path | None, as_json: bool) -> None:
    """Try parked or waiting deliveries again now, by their ids or all that are parked."""
    if bool(ids) == every:
        raise click.UsageError("name deliveries by their ids (see `deliveries list`), or say --all")
    run = follow(read_config(config_path), "retry", {"ids": list(ids)})
    result = run["result"] or {}
    if run["state"] == "failed":
        click.echo(f"callbridge: {result.get('error')}", err=True)
        sys.exit(ExitCode.COULD_NOT)
    show(result, as_json, [f"{result['retried']} deliveries are due now"])
