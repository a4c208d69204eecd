"""`calls list` and `calls show`: they open the ledger read-only."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from bridge.admin.call_spellings import spellings
from bridge.cli.output import LIMIT, config_option, json_option, open_to_look, read_config, show, table
from bridge.config.load import Config
from bridge.ledger import InspectionLedger
from bridge.ledger.queries import CallHistory
from bridge.lib.documents import Document, document_of
from bridge.model.crm_alterations import EXPLAINED

# Calls of one phone or key that are compared: with more than 100, the word is not exact enough anyway.
MOST_ALIKE = 100


@click.command("list")
@click.argument("words", nargs=-1)
@click.option("--limit", type=LIMIT, default=50, show_default=True, help="The most calls to show.")
@config_option
@json_option
def calls_list(words: tuple[str, ...], limit: int, config_path: Path | None, as_json: bool) -> None:
    """Calls by uuid (its beginning is enough), phone or sn; without a word the newest ones."""
    config = read_config(config_path)
    ledger = open_to_look(config)
    found = ledger.list_calls(spellings(words, countries_of(config)), limit)
    columns = ("key", "source", "created_at", "phone", "grade", "revision", "deliveries")
    rows = [document_of(call) | {"deliveries": _states(call.deliveries)} for call in found]
    show({"calls": document_of(found)}, as_json, table(rows, columns))
    ledger.close()


def _states(deliveries: Mapping[str, str]) -> str:
    return ", ".join(f"{name}: {state}" for name, state in deliveries.items())


@click.command("show")
@click.argument("word")
@click.option("--source", help="Of this source, where several have sent the call.")
@config_option
@json_option
def calls_show(word: str, source: str | None, config_path: Path | None, as_json: bool) -> None:
    """One call's whole history, by uuid (its beginning is enough), phone or sn."""
    config = read_config(config_path)
    ledger = open_to_look(config)
    call = document_of(find_call(config, ledger, word, source))
    show(call, as_json, _call_lines(call))
    ledger.close()


def countries_of(config: Config) -> set[str]:
    """The countries that phone numbers without a country code may belong to."""
    return {settings.country for settings in config.sources.values()}


def find_call(config: Config, ledger: InspectionLedger, word: str, source: str | None = None) -> CallHistory:
    """The one call with this uuid, phone or sn, of this source if one is named.

    Raises:
        click.UsageError: there is none, or there are several.
    """
    calls = ledger.list_calls(spellings((word,), countries_of(config)), MOST_ALIKE)
    found = [call for call in calls if source in (None, call.source)]
    if not found:
        of = "" if source is None else f" of source {source}"
        raise click.UsageError(f"no call{of} is named {word}, and none has this phone or sn")
    if len(found) > 1:
        if len({call.key for call in found}) == 1:
            names = " or ".join(f"--source {call.source}" for call in found)
            raise click.UsageError(
                f"several sources have the call {word}: `callbridge calls show` takes {names}"
            )
        raise click.UsageError(
            f"several calls match {word}: see `callbridge calls list {word}`, or give more of it"
        )
    return ledger.show_call(found[0].id)


def _call_lines(call: Document) -> Iterator[str]:
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
