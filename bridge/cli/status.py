"""`status`: counts, how far behind, and what needs a person."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from bridge.admin.status import status_document
from bridge.cli.audit import loss_line
from bridge.cli.deliveries import cause_lines
from bridge.cli.output import ExitCode, config_option, json_option, open_to_look, read_config, show
from bridge.daemon.reconcile_wiring import listed_sources
from bridge.lib.clocks import now_utc
from bridge.lib.documents import Document
from bridge.model.crm_alterations import EXPLAINED


@click.command()
@config_option
@json_option
def status(config_path: Path | None, as_json: bool) -> None:
    """Counts by state, how far behind, and what needs a person (exit 1 when something does)."""
    config = read_config(config_path)
    ledger = open_to_look(config)
    document = status_document(ledger, listed_sources(config), now_utc())
    show(document, as_json, _status_lines(document))
    ledger.close()
    sys.exit(ExitCode.FINDINGS if document["needs_person"] else ExitCode.DONE)


def _status_lines(document: Document) -> Iterator[str]:
    for source, count in document["calls"].items():
        yield f"source {source}: {count} calls"
    yield from _list_lines(document)
    receipts = ", ".join(f"{count} {verdict}" for verdict, count in document["receipts"].items())
    yield f"receipts: {receipts or 'none'}; the last one at {document['last_received_at'] or '-'}"
    for destination, states in document["deliveries"].items():
        yield f"destination {destination}: " + ", ".join(
            f"{count} {state}" for state, count in states.items()
        )
    yield f"behind: {document['lag_seconds']:.0f} s"
    for name, owed in document["owed"].items():
        lanes = ", ".join(f"{count} {lane}" for lane, count in owed["lanes"].items() if count)
        done = f"done at {owed['done_at']}" if owed["done_at"] else "nobody knows when"
        yield f"owed to {name}: {owed['count']} ({lanes}); {owed['rate']:.1f}/s in the last minutes: {done}"
    for account in document["accounts"]:
        yield from _account_lines(account)
    for group in (*document["retrying"], *document["parked"]):
        yield from cause_lines(group)
    yield from _altered_lines(document["altered"])
    yield from map(loss_line, document["losses"])
    for reason, count in document["quarantined"].items():
        yield f"quarantined: {count} × {reason} (see: callbridge quarantine list)"
    if ahead := document["ahead"]["count"]:
        newest = document["ahead"]["ids"][0]
        yield f"{ahead} calls say that they began more than a day after they came (calls show {newest})"
    if document["shared_sn"]:
        yield f"{document['shared_sn']} sn belong to several calls"
    space = document["space"]
    yield f"ledger: {_mib(space['ledger_bytes'])}, free on its disk: {_mib(space['free_bytes'])}"
    if not document["needs_person"]:
        yield "nothing needs a person"


def _list_lines(document: Document) -> Iterator[str]:
    for source, last in document["last_reconciliation"].items():
        covered = document["covered_until"][source]
        yield f"list of {source}: " + (f"covered until {covered}" if covered else "not covered yet")
        if last is not None:
            yield f"  last reconciliation: {_came_to(last)}, ended at {last['ended_at']}"
        if gaps := document["gaps"][source]:
            share = f"{gaps['only_listed']} of {gaps['calls']} calls ({gaps['rate']:.2%})"
            yield f"  gap rate: {share} of the last day covered came by the list alone"


def _came_to(last: Document) -> str:
    if last["state"] != "done":
        return f"{last['state']}: {last['error']}"
    counts = ", ".join(f"{last[name]} {name}" for name in ("seen", "missing", "revised", "filled"))
    return counts + ("" if last["complete"] else ", NOT complete")


def _account_lines(account: Document) -> Iterator[str]:
    name = account["account"]
    if account["paused"]:
        paused = account["paused"]
        yield f"account {name} is paused, next asked at {paused['until']}: {paused['why']}"
    for limit in account["limits"]:
        if limit["paused_until"]:
            spent = ": the day's quota is used up" if limit["daily_left"] == 0 else ""
            yield f"account {name}, limit {limit['limit']}: paused until {limit['paused_until']}{spent}"
        if limit["learned_rate"]:
            rates = ", ".join(limit["rates"]) or "no rate"
            learned = f"{limit['learned_rate']:g} requests/s, as learned from refusals; {rates} declared"
            yield f"account {name}, limit {limit['limit']}: {learned}"


def _altered_lines(altered: Sequence[Document]) -> Iterator[str]:
    for one in altered:
        yield (
            f"destination {one['destination']}: {one['object']}.{one['field']} is not kept as it is sent"
            f" ({one['count']} times, last at {one['last_at']}): {EXPLAINED[one['kind']]}"
        )


def _mib(count: int) -> str:
    return f"{count / 2**20:.0f} MiB"
