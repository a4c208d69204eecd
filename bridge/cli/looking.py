"""Commands that look: they open the ledger read-only and change nothing."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from bridge.cli.auditing import loss_line
from bridge.cli.delivering import cause_lines, with_command
from bridge.cli.output import (
    LIMIT,
    ExitCode,
    config_option,
    json_option,
    open_to_look,
    read_config,
    show,
    table,
)
from bridge.config.load import Config
from bridge.daemon.reconcile_wiring import listed_sources
from bridge.delivery.breaker import LONGEST_PAUSE
from bridge.ledger import Ledger, Row
from bridge.lib.iso_times import moment, stamp
from bridge.lib.phone import to_e164
from bridge.lib.stored_times import bounded
from bridge.model.crm_alterations import EXPLAINED
from bridge.model.deliveries import DeliveryState

# Of one customer, or of one key: more need not be told apart.
MOST_ALIKE = 100


@click.command()
@config_option
@json_option
def status(config_path: Path | None, as_json: bool) -> None:
    """Counts by state, how far behind, and what needs a person (exit 1 when something does)."""
    config = read_config(config_path)
    ledger = open_to_look(config)
    counts = ledger.counts()
    parked = sum(states[DeliveryState.PARKED] for states in counts["deliveries"].values())
    quarantined = sum(counts["quarantined"].values())
    losses = [loss for loss in ledger.losses() if loss["open"]]
    owed = counts.pop("oldest_owed_at")
    lag = max(0.0, (datetime.now(UTC) - moment(owed)).total_seconds()) if owed else 0.0
    for name in ("retrying", "parked"):
        counts[name] = [with_command(group) for group in counts[name]]
    document = counts | {
        "lag_seconds": round(lag, 3),
        **_lists(config, counts.pop("lists")),
        "accounts": accounts_now(ledger.load_budgets(), datetime.now(UTC)),
        "losses": losses,
        "needs_person": parked + quarantined + len(losses),
        "space": ledger.space(),
    }
    show(document, as_json, _status_lines(document))
    ledger.close()
    sys.exit(ExitCode.FINDINGS if document["needs_person"] else ExitCode.DONE)


def _lists(config: Config, lists: Mapping[str, Row]) -> Row:
    """How the sources stand with their lists; one that was never walked is there all the same."""
    known = {name: lists.get(name, {}) for name in dict.fromkeys([*listed_sources(config), *lists])}
    return {
        "last_reconciliation": {name: one.get("last") for name, one in known.items()},
        "covered_until": {name: one.get("covered_until") for name, one in known.items()},
        "gaps": {name: one.get("gaps") for name, one in known.items()},
    }


def _list_lines(document: Row) -> Iterator[str]:
    for source, last in document["last_reconciliation"].items():
        covered = document["covered_until"][source]
        yield f"list of {source}: " + (f"covered until {covered}" if covered else "not covered yet")
        if last is not None:
            yield f"  last reconciliation: {_came_to(last)}, ended at {last['ended_at']}"
        if gaps := document["gaps"][source]:
            share = f"{gaps['only_listed']} of {gaps['calls']} calls ({gaps['rate']:.2%})"
            yield f"  gap rate: {share} of the last day covered came by the list alone"


def _came_to(last: Row) -> str:
    if last["state"] != "done":
        return f"{last['state']}: {last['error']}"
    counts = ", ".join(f"{last[name]} {name}" for name in ("seen", "missing", "revised", "filled"))
    return counts + ("" if last["complete"] else ", NOT complete")


def _status_lines(document: Row) -> Iterator[str]:
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


def _altered_lines(altered: Sequence[Row]) -> Iterator[str]:
    for one in altered:
        yield (
            f"destination {one['destination']}: {one['object']}.{one['field']} is not kept as it is sent"
            f" ({one['count']} times, last at {one['last_at']}): {EXPLAINED[one['kind']]}"
        )


def accounts_now(budgets: Mapping[str, Row], now: datetime) -> list[Row]:
    """What CRM accounts allow: which are paused, why and until when; rates as they were learned."""
    found = []
    for name, kept in budgets.items():
        breaker, limits = kept["breaker"], []
        for limit, each in kept["classes"].items():
            paused = each["paused_until"]
            left = None if each["daily"] is None else max(0, each["daily"] - each["spent"])
            limits.append(
                {
                    "limit": limit,
                    "rates": each["rates"],
                    "learned_rate": each.get("learned_rate"),
                    "requests": each["requests"],
                }
                | {"daily_left": left, "day_ends_at": each["day_ends_at"]}
                | {"paused_until": paused if paused and is_ahead(moment(paused), now) else None}
            )
        open_until = breaker["open_until"]
        # Its time may be over: then the next delivery finds out.
        if open_until and bounded(moment(open_until), now, LONGEST_PAUSE) is None:
            # A clock that stood wrong has told this time.
            open_until = stamp(now)
        paused = {"until": open_until, "why": breaker["why"]} if open_until else None
        found.append({"account": name, "as_of": kept["at"], "paused": paused, "limits": limits})
    return found


def is_ahead(at: datetime, now: datetime) -> bool:
    """Whether a pause goes on; one of longer than any wait is over."""
    return at > now and bounded(at, now) is not None


def _account_lines(account: Row) -> Iterator[str]:
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


@click.command("list")
@click.argument("words", nargs=-1)
@click.option("--limit", type=LIMIT, default=50, show_default=True, help="The most calls to show.")
@config_option
@json_option
def calls_list(words: tuple[str, ...], limit: int, config_path: Path | None, as_json: bool) -> None:
    """Calls by uuid (its beginning is enough), phone or sn; without a word the newest ones."""
    config = read_config(config_path)
    ledger = open_to_look(config)
    found = ledger.list_calls(_spellings(config, words), limit)
    columns = ("key", "source", "created_at", "phone", "grade", "revision", "deliveries")
    rows = [row | {"deliveries": _states(row["deliveries"])} for row in found]
    show({"calls": found}, as_json, table(rows, columns))
    ledger.close()


def _mib(count: int) -> str:
    return f"{count / 2**20:.0f} MiB"


def _states(deliveries: Mapping[str, str]) -> str:
    return ", ".join(f"{name}: {state}" for name, state in deliveries.items())


def _spellings(config: Config, words: tuple[str, ...]) -> list[str]:
    """A word as it is, as a name (lower case), and as a phone number of each source's country."""
    countries = {settings.country for settings in config.sources.values()}
    numbers = (to_e164(word, country) for word in words for country in countries)
    return list(dict.fromkeys([*words, *(word.lower() for word in words), *(one for one in numbers if one)]))


@click.command("show")
@click.argument("word")
@click.option("--source", help="Of this source, where several have sent the call.")
@config_option
@json_option
def calls_show(word: str, source: str | None, config_path: Path | None, as_json: bool) -> None:
    """One call's whole history, by uuid (its beginning is enough), phone or sn."""
    config = read_config(config_path)
    ledger = open_to_look(config)
    call = find_call(config, ledger, word, source)
    show(call, as_json, _call_lines(call))
    ledger.close()


def find_call(config: Config, ledger: Ledger, word: str, source: str | None = None) -> Row:
    """The one call of this uuid, phone or sn; `source` tells apart what several sources have sent."""
    calls = ledger.list_calls(_spellings(config, (word,)), MOST_ALIKE)
    found = [call for call in calls if source in (None, call["source"])]
    if not found:
        of = "" if source is None else f" of source {source}"
        raise click.UsageError(f"no call{of} is named {word}, and none has this phone or sn")
    if len(found) > 1:
        if len({call["key"] for call in found}) == 1:
            names = " or ".join(f"--source {call['source']}" for call in found)
            raise click.UsageError(
                f"several sources have the call {word}: `callbridge calls show` takes {names}"
            )
        raise click.UsageError(
            f"several calls match {word}: see `callbridge calls list {word}`, or give more of it"
        )
    return ledger.show_call(found[0]["id"])


def _call_lines(call: Row) -> Iterator[str]:
    for name in ("key", "source", "revision", "phone", "grade", "created_at", "updated_at", "talk_seconds"):
        yield f"{name}: {call[name] if call[name] is not None else '-'}"
    for part, columns in (
        ("receipts", ("received_at", "via", "verdict", "revision", "flags")),
        ("deliveries", ("id", "destination", "state", "wanted", "delivered", "due_at", "reason")),
        ("attempts", ("started_at", "destination", "revision", "outcome", "detail")),
        ("crm_objects", ("destination", "object", "key", "crm_id")),
    ):
        yield ""
        yield f"{part}:"
        yield from (f"  {line}" for line in table(call[part], columns))
    for one in call["crm_objects"]:
        for field, kind in one["altered"].items():
            yield f"  {one['destination']}: {one['object']}.{field}: {EXPLAINED[kind]}"


@click.command("list")
@click.option("--state", type=click.Choice(["waiting", "released", "dropped"]), default="waiting")
@click.option("--limit", type=LIMIT, default=50, show_default=True, help="The most records to show.")
@config_option
@json_option
def quarantine_list(state: str, limit: int, config_path: Path | None, as_json: bool) -> None:
    """Records that could not be identified or parsed, the newest first."""
    ledger = open_to_look(read_config(config_path))
    found = ledger.list_quarantine(state, limit)
    columns = ("id", "source", "reason", "detail", "arrivals", "received_at", "last_at")
    show({"quarantine": found}, as_json, table(found, columns))
    ledger.close()


@click.command("show")
@click.argument("entry", type=click.IntRange(1, 2**63 - 1))
@config_option
@json_option
def quarantine_show(entry: int, config_path: Path | None, as_json: bool) -> None:
    """One quarantined record with its body."""
    ledger = open_to_look(read_config(config_path))
    found = ledger.show_quarantine(entry)
    ledger.close()
    if found is None:
        raise click.UsageError(f"there is no quarantined record {entry}")
    found["body"] = found["body"].decode("utf-8", "backslashreplace")
    show(found, as_json, [f"{name}: {value}" for name, value in found.items()])
