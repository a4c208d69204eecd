"""`quarantine list`, `show`, `retry` and `drop`: records that could not be identified or parsed."""

from pathlib import Path

import click

from bridge.cli.follow_job import follow
from bridge.cli.output import (
    LIMIT,
    ROW_ID,
    config_option,
    json_option,
    open_to_look,
    read_config,
    show,
    table,
)
from bridge.lib.documents import document_of
from bridge.lib.errors import CallbridgeError

NONE_WAITING = "none of these records waits: see `quarantine list`"


@click.command("list")
@click.option("--state", type=click.Choice(["waiting", "released", "dropped"]), default="waiting")
@click.option("--limit", type=LIMIT, default=50, show_default=True, help="The most records to show.")
@config_option
@json_option
def quarantine_list(state: str, limit: int, config_path: Path | None, as_json: bool) -> None:
    """Records that could not be identified or parsed, the newest first."""
    ledger = open_to_look(read_config(config_path))
    rows = document_of(ledger.list_quarantine(state, limit))
    columns = ("id", "source", "reason", "detail", "arrivals", "received_at", "last_at")
    show({"quarantine": rows}, as_json, table(rows, columns))
    ledger.close()


@click.command("show")
@click.argument("entry", type=ROW_ID)
@config_option
@json_option
def quarantine_show(entry: int, config_path: Path | None, as_json: bool) -> None:
    """One quarantined record with its body."""
    ledger = open_to_look(read_config(config_path))
    rows = ledger.show_quarantine(entry)
    ledger.close()
    if rows is None:
        raise click.UsageError(f"there is no quarantined record {entry}")
    document = document_of(rows) | {"body": rows.body.decode("utf-8", "backslashreplace")}
    show(document, as_json, [f"{name}: {value}" for name, value in document.items()])


@click.command("retry")
@click.argument("ids", nargs=-1, type=ROW_ID)
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
            *(f"    {row['id']}: {row['reason']}: {row['detail']}" for row in reasons),
            *(["    …"] if result["waiting"] > len(reasons) else []),
        ],
    )
    if ids and not result["released"] and not result["waiting"]:
        raise CallbridgeError(NONE_WAITING)


@click.command("drop")
@click.argument("ids", nargs=-1, type=ROW_ID, required=True)
@config_option
@json_option
def quarantine_drop(ids: tuple[int, ...], config_path: Path | None, as_json: bool) -> None:
    """Take quarantined records as worth nothing; they are kept until `prune` removes them."""
    result = follow(read_config(config_path), "quarantine_drop", {"ids": list(ids)})
    show(result, as_json, [f"{result['dropped']} dropped"])
    if not result["dropped"]:
        raise CallbridgeError(NONE_WAITING)
