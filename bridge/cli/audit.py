"""`audit`: the balance between platform, ledger and CRMs."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from bridge.cli.follow_walks import ASK, ON_INTERRUPT, FollowedWalks, asked_times, chosen_sources, failures_of
from bridge.cli.output import (
    ExitCode,
    config_option,
    json_option,
    ledger_path,
    open_to_look,
    read_config,
    show,
)
from bridge.cli.times import When, WhenText, refuse_reversed
from bridge.config.load import Config
from bridge.daemon.reconcile_wiring import listed_sources
from bridge.ledger import InspectionLedger, Window, open_ledger
from bridge.lib.clocks import now_utc
from bridge.lib.documents import Document, document_of
from bridge.lib.errors import CallbridgeError
from bridge.lib.iso_times import moment, stamp
from bridge.model.jobs import AUDIT, JobState
from bridge.reconcile.balance import (
    SOURCE_HEADINGS,
    local_balance,
    local_counts,
    open_losses,
    source_balances,
    whole_balance,
)

SHOWN = 20
"""Ids under one heading that are printed for people; `--json` has all of them."""


@click.command()
@click.option("--source", help="Only this source.")
@click.option("--since", type=When(), help="Calls created from then on (default: the ledger's first call).")
@click.option("--until", type=When(), help="Calls created before then (default: now less `settle`).")
@click.option("--local", is_flag=True, help="Leave the platform out; judge the destinations only.")
@click.option("--on-interrupt", type=ON_INTERRUPT, default=ASK, help="What Ctrl-C does: as in `reconcile`.")
@config_option
@json_option
def audit(
    source: str | None,
    since: WhenText | None,
    until: WhenText | None,
    local: bool,
    on_interrupt: str,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """The balance: does every call stand under exactly one heading? (exit 1 when not).

    The platform's list is walked, by the daemon where one runs, and nothing is filed. Exit 3 when a
    platform cannot be asked.
    """
    config = read_config(config_path)
    if source is not None and source not in config.sources:
        raise click.UsageError(f'there is no source "{source}"')
    times = {"since": since, "until": until}
    if local:
        balance, failed = _local(config, source, times), ""
    else:
        balance, failed = _beside_the_platform(config, source, times, on_interrupt)
    if not failed or balance["sources"]:
        show(balance, as_json, balance_lines(balance))
    if failed:
        raise CallbridgeError(failed)
    sys.exit(ExitCode.DONE if balance["balanced"] else ExitCode.FINDINGS)


def _window(
    config: Config, source: str | None, times: Mapping[str, WhenText | None], now: datetime
) -> Window:
    zone = config.sources[source or next(iter(config.sources))].timezone
    window = Window(*(None if when is None else when.at(now, zone) for when in times.values()))
    refuse_reversed(window.since, window.until)
    return window


def _local(config: Config, source: str | None, times: Mapping[str, WhenText | None]) -> Document:
    ledger, now = open_to_look(config), now_utc()
    try:
        window = _window(config, source, times, now)
        # Without an end every call counts, also one whose platform's clock is ahead of ours.
        window = Window(window.since or ledger.first_call_at(source), window.until)
        sources = _counted_sources(config, source, ledger)
        taken = {
            name: [other for other in config.sources_of(name) if other in sources]
            for name in config.destinations
        }
        balance = local_balance(ledger, sources, taken, window)
    finally:
        ledger.close()
    balance["until"] = balance["until"] or stamp(now)
    return balance


def _counted_sources(config: Config, source: str | None, ledger: InspectionLedger) -> list[str]:
    # Sources that have left the configuration still have calls.
    return [source] if source else list(dict.fromkeys([*config.sources, *ledger.counts().calls]))


def _beside_the_platform(
    config: Config, source: str | None, times: Mapping[str, WhenText | None], on_interrupt: str
) -> tuple[Document, str]:
    """The balance, and which sources' platforms could not be asked and why."""
    if source is None and not listed_sources(config):
        tables = " and no ".join(f"[sources.{name}.api]" for name in config.sources)
        raise click.UsageError(
            f"no source has a list to ask: there is no {tables}; --local leaves the platform out"
        )
    asked, now = chosen_sources(config, source), now_utc()
    ledger = open_ledger(ledger_path(config), min_free=config.ledger.min_free)
    try:
        walks = FollowedWalks(config, ledger, on_interrupt)
        zones = {name: config.sources[name].timezone for name in asked}
        walks.ask(AUDIT, {name: {"source": name, **asked_times(times, now, zones[name])} for name in asked})
        jobs = walks.to_the_end()
        results = {name: dict(job.result) for name, job in jobs.items() if job.state == JobState.DONE}
        window = _window(config, source, times, now)
        others = [other for other in _counted_sources(config, source, ledger) if other not in asked]
        left_out = {name: _left_out(config, name, ledger, window, results) for name in others}
        losses = open_losses(ledger, others, window)
    finally:
        ledger.close()
    failed = failures_of(jobs)
    balance = whole_balance(results, left_out if results else {}, None, losses if results else ())
    return balance | {"balanced": balance["balanced"] and not failed}, failed


def _left_out(
    config: Config, source: str, ledger: InspectionLedger, window: Window, audited: Mapping[str, Document]
) -> Document:
    """A source without a list, beside the others."""
    ends = [moment(other["until"]) for other in audited.values()]
    window = Window(window.since or ledger.first_call_at(source), window.until or max(ends, default=None))
    takers = [name for name in config.destinations if source in config.sources_of(name)]
    balances = {name: document_of(ledger.balance(name, [source], window)) for name in takers}
    return local_counts(ledger, source, window) | {"destinations": balances}


# -- to read ----------------------------------------------------------------------------
def balance_lines(balance: Document) -> Iterator[str]:
    """The balance as lines for people."""
    yield f"calls created from {balance['since'] or 'the first'} until {balance['until'] or 'now'}"
    for source, counts in balance["sources"].items():
        yield f"source {source}: " + ", ".join(f"{name} {_count(counts[name])}" for name in SOURCE_HEADINGS)
        yield from _source_lines(counts)
    for destination, counts in balance["destinations"].items():
        parts = " + ".join(f"{counts[name]} {name}" for name in counts if name != "ledger")
        yield f"destination {destination}: {counts['ledger']} in the ledger = {parts}"
    yield from map(loss_line, balance["losses"])
    yield "balanced" if balance["balanced"] else "NOT balanced"


def loss_line(loss: Document) -> str:
    """One line about records that the ledger has lost, with the command that gets them back."""
    count, since = loss["receipts"] + loss["quarantine"], loss["since_at"] or "the beginning"
    return (
        f"source {', '.join(loss['open'])}: at least {count} records that were acknowledged between"
        f" {since} and {loss['until_at']} are not in this ledger (its -wal was lost, or an older file put in"
        " its place):"
        " callbridge reconcile" + (f" --since {since}" if loss["since_at"] else " --since 35d")
    )


def _source_lines(counts: Document) -> Iterator[str]:
    why = counts.get("explanations", {})
    for heading, ids in counts["ids"].items():
        yield from _some_ids(heading, ids, counts.get(heading, len(ids)), why)
    if because := counts.get("ledger_only_because"):
        reasons = ", ".join(f"{count} {why}" for why, count in because.items())
        yield f"  ledger_only, by why the list may not show them: {reasons}"
    for warning in counts.get("warnings", ()):
        yield f"  warning: {warning}: is a right or a filter of the login changed?"
    if counts.get("unlisted"):
        yield f"  the list's totals count {counts['unlisted']} rows that no page shows"
    for user in counts.get("users_unlisted", ()):
        yield f"  user {user} has calls here, and no login's list shows them"
    yield from (f"  not complete: {reason}" for reason in counts.get("reasons", ()))
    if not source_balances(counts) and counts["platform_only"]:
        yield f"  {counts['platform_only']} calls are only at the platform: callbridge reconcile files them"


def _some_ids(heading: str, ids: Sequence[str], count: int, why: Mapping[str, str]) -> Iterator[str]:
    for key in ids[:SHOWN]:
        explanation = why.get(key, "")
        yield f"  {heading}: {key}" + (f": {explanation}" if explanation else "")
    if count > SHOWN and ids:
        yield f"  {heading}: {count - SHOWN} more (--json lists them)"


def _count(value: Any) -> str:
    return "-" if value is None else str(value)
