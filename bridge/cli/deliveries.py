"""`deliveries list`, `retry`, `park` and `skip`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from bridge.admin.status import with_retry_command
from bridge.cli.follow_job import follow
from bridge.cli.output import (
    LIMIT,
    ROW_ID,
    config_option,
    json_option,
    open_to_look,
    read_config,
    say,
    show,
    table,
)
from bridge.config.load import Config
from bridge.ledger.operators import RetriableGroup
from bridge.lib.documents import Document, document_of
from bridge.lib.errors import CallbridgeError
from bridge.model.deliveries import DeliveryState

NOT_HELD = "none of these deliveries is parked or waits: see `deliveries list`"

NOT_BY_CAUSE = "see `deliveries list`. What is in doubt is retried by its id, or by its whole cause"


@click.command("list")
@click.option(
    "--state",
    type=click.Choice([state.value for state in DeliveryState]),
    help="Only deliveries in this state.",
)
@click.option("--destination", help="Only deliveries to this destination.")
@click.option("--cause", default="", help="Only those that failed so: words of the cause or of the reason.")
@click.option("--limit", type=LIMIT, default=50, show_default=True, help="The most deliveries to show.")
@config_option
@json_option
def deliveries_list(
    state: str | None,
    destination: str | None,
    cause: str,
    limit: int,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Failures by cause, with what to do; then deliveries, those changed last first."""
    config = read_config(config_path)
    ledger = open_to_look(config)
    found = document_of(ledger.list_deliveries(state, destination, limit, cause))
    counts = ledger.counts()
    ledger.close()
    if destination not in counts.deliveries:
        refuse_unknown(config, destination or "")
    of_found = {row["cause"] for row in found} if cause else set()
    causes = [
        with_retry_command(group)
        for group in (*counts.parked, *counts.retrying)
        if state in (None, group.state)
        and destination in (None, group.destination)
        and (cause.casefold() in (group.cause or "").casefold() or group.cause in of_found)
    ]
    columns = ("id", "destination", "state", "key", "wanted", "delivered", "due_at", "reason")
    lines = [*(line for group in causes for line in cause_lines(group)), *table(found, columns)]
    show({"causes": causes, "deliveries": found}, as_json, lines)


def cause_lines(group: Document) -> Iterator[str]:
    """One cause of failures: how many, since when, an example, and what to do."""
    verb = "parked" if group["state"] == DeliveryState.PARKED else "trying again"
    example = (
        f", such as delivery {group['example']} (call {group['example_call']})" if "example" in group else ""
    )
    following = f", next at {group['next_at']}" if group.get("next_at") else ""
    yield (
        f"{verb} for {group['destination']}: {group['count']} calls: {group['cause'] or 'no cause'},"
        f" since {group['since_at']}{example}{following}"
    )
    if group["remedy"]:
        yield f"    {group['remedy']}"


@click.command("retry")
@click.argument("ids", nargs=-1, type=ROW_ID)
@click.option("--all", "every", is_flag=True, help="All deliveries that are parked.")
@click.option("--cause", default="", help="All that failed so: words of the cause or of the reason.")
@click.option("--destination", default="", help="With --all or --cause: only to this destination.")
@click.option("--dry-run", is_flag=True, help="Tell what would be tried again, and do nothing.")
@config_option
@json_option
def deliveries_retry(
    ids: tuple[int, ...],
    every: bool,
    cause: str,
    destination: str,
    dry_run: bool,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Try deliveries again now: by their ids, by the cause of their failure, or all that are parked.

    What a person parked or skipped is taken up again by its id. Who retries what is parked in doubt, by
    its id or its whole cause, says that it is not in the CRM: it is sent again.
    """
    if sum((bool(ids), every, bool(cause))) != 1:
        raise click.UsageError(
            "name deliveries by their ids (see `deliveries list`), or say --all or --cause"
        )
    if ids and destination:
        raise click.UsageError("ids need no --destination")
    config = read_config(config_path)
    refuse_unknown(config, destination)
    if dry_run:
        ledger = open_to_look(config)
        groups = ledger.retriable(ids, cause, destination)
        left = ledger.parked_in_doubt(destination) if every else 0
        ledger.close()
        retried = sum(group.count for group in groups)
        causes = [_cause_document(group) for group in groups]
        document: dict[str, Any] = {"retried": retried, "in_doubt": left, "causes": causes}
        lines = [_would_retry(group) for group in groups]
        show(document, as_json, [*lines, f"{retried} deliveries would be due now", *_left_in_doubt(left)])
        return
    args = {"ids": list(ids), "cause": cause, "destination": destination}
    result = follow(config, "retry", args)
    lines = [f"{result['retried']} deliveries are due now", *_left_in_doubt(result["in_doubt"])]
    show(result, as_json, lines)
    if not result["retried"] and (ids or cause):
        raise CallbridgeError(NOT_HELD if ids else f'nothing failed by "{cause}": {NOT_BY_CAUSE}')
    _warn_of_left_out(result["retried"], ids)


def _cause_document(group: RetriableGroup) -> Document:
    return {name: value for name, value in document_of(group).items() if name != "in_doubt"}


def _would_retry(group: RetriableGroup) -> str:
    again = ": would be sent again, so look first" if group.in_doubt else ""
    return f"{group.count} for {group.destination}: {group.cause or '-'}{again}"


def _left_in_doubt(count: int) -> list[str]:
    return [f"{count} in doubt stay parked: look them up, then retry or skip them by id"] if count else []


def refuse_unknown(config: Config, destination: str, source: str = "") -> None:
    """Check the names of a destination and a source.

    Raises:
        click.UsageError: the configuration has none of that name.
    """
    if destination and destination not in config.destinations:
        raise click.UsageError(f'there is no destination "{destination}"')
    if source and source not in config.sources:
        raise click.UsageError(f'there is no source "{source}"')


@click.command("park")
@click.argument("ids", nargs=-1, type=ROW_ID, required=True)
@click.option("--reason", default="", help="Why, for whoever reads it later.")
@config_option
@json_option
def deliveries_park(ids: tuple[int, ...], reason: str, config_path: Path | None, as_json: bool) -> None:
    """Hold back what is due until `retry`, or until the call changes; on its way: once that has ended."""
    result = follow(read_config(config_path), "park", {"ids": list(ids), "reason": reason})
    _show_held(
        result, "parked", ids, as_json, "none of these deliveries is due: there is nothing to hold back"
    )


@click.command("skip")
@click.argument("ids", nargs=-1, type=ROW_ID, required=True)
@click.option("--reason", default="", help="Why, for whoever reads it later.")
@config_option
@json_option
def deliveries_skip(ids: tuple[int, ...], reason: str, config_path: Path | None, as_json: bool) -> None:
    """Never deliver these, however their calls change, until `retry`; what the CRM has stays there."""
    result = follow(read_config(config_path), "skip", {"ids": list(ids), "reason": reason})
    _show_held(result, "skipped", ids, as_json, "none of these is a delivery that is not skipped yet")


def _show_held(result: Document, done: str, ids: Sequence[int], as_json: bool, nothing: str) -> None:
    later = f", {result['later']} once their attempt or their doubt has ended" if result["later"] else ""
    show(result, as_json, [f"{result[done]} {done}{later}"])
    if not result[done] and not result["later"]:
        raise CallbridgeError(nothing)
    _warn_of_left_out(result[done] + result["later"], ids)


def _warn_of_left_out(meant: int, ids: Sequence[int]) -> None:
    """Warn of ids that were left alone: one of several may be mistyped."""
    if meant < len(set(ids)):
        say(f"{len(set(ids)) - meant} of these ids were left alone: see `deliveries list`", err=True)
