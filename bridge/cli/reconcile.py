"""`reconcile`: compares the platforms' lists with the ledger and fills the gaps."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from bridge.cli.follow_walks import ASK, ON_INTERRUPT, FollowedWalks, asked_times, chosen_sources, failures_of
from bridge.cli.output import ExitCode, config_option, json_option, ledger_path, read_config, show
from bridge.cli.times import When, WhenText
from bridge.ledger import open_ledger
from bridge.lib.clocks import now_utc
from bridge.lib.documents import Document
from bridge.lib.errors import CallbridgeError
from bridge.model.jobs import RECONCILE, Job, JobState

ALWAYS_SHOWN = ("seen", "matched", "missing", "revised", "stale", "conflicting", "filled")
SHOWN_IF_ANY = ("deferred", "unlisted", "ours_only")


@click.command()
@click.option("--source", help="Only this source.")
@click.option("--since", type=When(), help="Calls created from then (default: what is not covered yet).")
@click.option("--until", type=When(), help="Calls created before then (default: now less `settle`).")
@click.option("--dry-run", is_flag=True, help="Compare only; nothing is filed.")
@click.option(
    "--on-interrupt",
    type=ON_INTERRUPT,
    default=ASK,
    help="What Ctrl-C does: ask on a terminal, leave the run to go on, or cancel it.",
)
@config_option
@json_option
def reconcile(
    source: str | None,
    since: WhenText | None,
    until: WhenText | None,
    dry_run: bool,
    on_interrupt: str,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Compare the list with the ledger now, and fill the gaps (exit 1: conflicting or incomplete)."""
    config = read_config(config_path)
    sources, now = chosen_sources(config, source), now_utc()

    def asked(name: str) -> dict[str, Any]:
        zone = config.sources[name].timezone
        return {
            "source": name,
            "dry_run": dry_run,
            **asked_times({"since": since, "until": until}, now, zone),
        }

    ledger = open_ledger(ledger_path(config), min_free=config.ledger.min_free)
    try:
        walks = FollowedWalks(config, ledger, on_interrupt)
        walks.ask(RECONCILE, {name: asked(name) for name in sources})
        jobs = walks.to_the_end()
    finally:
        ledger.close()
    document = reconciled(jobs)
    if document["sources"]:
        show(document, as_json, reconciled_lines(document))
    if failed := failures_of(jobs):
        raise CallbridgeError(failed)
    found = document["conflicting"] or not document["complete"]
    sys.exit(ExitCode.FINDINGS if found else ExitCode.DONE)


def reconciled(jobs: Mapping[str, Job]) -> Document:
    """The JSON document: the results of all sources together, and of each."""
    done = {name: job.result for name, job in jobs.items() if job.state == JobState.DONE}
    return {
        "since": min((result["since"] for result in done.values()), default=None),
        "until": max((result["until"] for result in done.values()), default=None),
        **{name: sum(result[name] for result in done.values()) for name in (*ALWAYS_SHOWN, *SHOWN_IF_ANY)},
        "complete": bool(done)
        and len(done) == len(jobs)
        and all(result["complete"] for result in done.values()),
        "sources": done,
    }


def reconciled_lines(document: Document) -> Iterator[str]:
    """The document as lines for people."""
    for name, result in document["sources"].items():
        yield f"source {name}, calls created from {result['since']} until {result['until']}:"
        yield "  " + ", ".join(
            f"{result[count]} {count}"
            for count in (*ALWAYS_SHOWN, *SHOWN_IF_ANY)
            if result[count] or count in ALWAYS_SHOWN
        )
        yield from (f"  not complete: {reason}" for reason in result["reasons"])
        for key in result["ids"].get("conflicting", []):
            yield f"  conflicting: {key}: {result['explanations'].get(key, '')}"
        for user in result["users_unlisted"]:
            yield f"  user {user} has calls here, and no login's list shows them"
    yield "complete" if document["complete"] else "NOT complete"
