"""`demo`: platform, CRM and daemon in one process, with nothing to set up."""

import signal
import sys
from pathlib import Path

import click

from bridge.cli.output import ExitCode, config_option, json_option, say, show


@click.command()
@click.option("--once", is_flag=True, help="Send one batch, print the balance, and exit (1: not balanced).")
@click.option("--spoil", is_flag=True, help="With --once: delete a call in the CRM before the count.")
@click.option("--count", type=click.IntRange(1, 10_000), default=220, help="Calls in the batch (220).")
@config_option
@json_option
def demo(once: bool, spoil: bool, count: int, config_path: Path | None, as_json: bool) -> None:
    """Platform, CRM and daemon on one screen, with nothing to set up."""
    from bridge.cli.audit import balance_lines  # noqa: PLC0415 -- a demo's start is not in a hurry
    from bridge.sandbox.demo import Demo, watch  # noqa: PLC0415

    del config_path  # accepted everywhere; the demo brings its own
    if as_json and not once:
        raise click.UsageError("without an end there is no document: add --once")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(ExitCode.DONE))
    with Demo() as running:
        if not once:
            watch(running, say)
            return
        balance = running.once(count, spoil=spoil)
    summary = (
        f"{balance['pushes']} pushes; {balance['reconciled']} calls were never pushed: the list showed them"
    )
    show(balance, as_json, [summary, *balance_lines(balance), *balance["findings"]])
    sys.exit(ExitCode.DONE if balance["balanced"] else ExitCode.FINDINGS)
