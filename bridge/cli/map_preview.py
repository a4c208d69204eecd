"""`map preview`: the exact requests that a record would cause, step by step. Nothing is sent."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import click

from bridge.check.preview import ObjectPreview, Preview, key_of, preview
from bridge.check.redact import RedactedRequest
from bridge.check.rehearsal import PreviewedRequest
from bridge.cli.calls import find_call
from bridge.cli.map_test import UNCONFIGURED, config_if_any
from bridge.cli.output import ExitCode, config_option, json_option, open_to_look, show
from bridge.config.destination_files import load_pair, unmet
from bridge.config.load import Config
from bridge.crm.account import Account
from bridge.crm.connector import Connector
from bridge.daemon.wiring import account_of, origin_of
from bridge.lib import escape_invisible
from bridge.lib.clocks import now_utc
from bridge.lib.errors import ConfigError, did_you_mean
from bridge.lib.values import SettingError, known_country
from bridge.mapping import CompiledMapping
from bridge.model.field_policies import POLICIES
from bridge.model.write_policy import WritePolicy
from bridge.record.call import Call
from bridge.record.json_body import NotAnObject, parse_object
from bridge.record.origin import Origin
from bridge.record.unwrap_body import read_record


def _zone(_ctx: click.Context, _param: click.Parameter, value: str | None) -> ZoneInfo | None:
    try:
        return None if value is None else ZoneInfo(value)
    except (KeyError, OSError, ValueError):
        remedy = did_you_mean(value or "", available_timezones())
        raise click.BadParameter(f"there is no zone {value} ({remedy})") from None


def _country(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    try:
        return None if value is None else known_country(value)
    except SettingError as error:
        raise click.BadParameter(f"{value} {error} ({error.remedy})") from None


@click.command("preview")
@click.argument("mapping", type=click.Path(path_type=Path))
@click.argument("record")
@click.option(
    "--connector", type=click.Path(path_type=Path), help="A connector file in place of the named one."
)
@click.option("--destination", help="Which destination it is for, where several use the mapping.")
@click.option("--zone", callback=_zone, help="The zone of its times (the source's, or Asia/Shanghai).")
@click.option("--country", callback=_country, help="The country of its numbers (the source's, or CN).")
@config_option
@json_option
def map_preview(
    mapping: Path,
    record: str,
    connector: Path | None,
    destination: str | None,
    zone: ZoneInfo | None,
    country: str | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """The exact requests that RECORD would cause: a JSON file, - for stdin, or a call of the ledger.

    A call of the ledger is named by its uuid, phone or sn. Nothing is asked and nothing is sent. Exit 1
    when the call would be parked or quarantined.
    """
    config = config_if_any(config_path)
    name = _destination(config, mapping, destination)
    compiled, crm, account = _files(config, name, mapping, connector)
    origin, key, values, refused = _read(config, name, record, zone)
    origin = replace(origin, zone=zone or origin.zone, country=country or origin.country)
    result = Preview(key, "quarantined", refused)
    if not refused:
        result = preview(compiled, crm, account, Call.of(values, key, origin), now_utc())
    about = {"mapping": str(mapping), "connector": crm.name, "destination": name, "source": origin.source}
    show(about | result.document(), as_json, [*_heading(about, result), *_lines(result)])
    sys.exit(ExitCode.FINDINGS if result.outcome in ("parked", "quarantined") else ExitCode.DONE)


# Arguments


def _destination(config: Config | None, mapping: Path, wanted: str | None) -> str | None:
    """The destination that uses the mapping, if any does."""
    if config is None:
        if wanted is not None:
            raise click.UsageError("--destination needs a configuration: name it with -c")
        return None
    if wanted is not None:
        if wanted not in config.destinations:
            raise click.UsageError(f'there is no destination "{wanted}"')
        return wanted
    users = [
        name
        for name, settings in config.destinations.items()
        if config.absolute(settings.mapping).resolve() == mapping.resolve()
    ]
    if len(users) > 1:
        raise click.UsageError(f"several destinations use it: add --destination, one of {', '.join(users)}")
    return users[0] if users else None


def _files(
    config: Config | None, name: str | None, mapping: Path, connector: Path | None
) -> tuple[CompiledMapping, Connector, Account]:
    """Mapping, connector, and the account that they write to, without its secrets."""
    if config is not None and name is not None and connector is None:
        own = config.destinations[name].connector
        connector = None if own is None else config.absolute(own)
    pair = load_pair(mapping, connector)
    problems = list(pair.problems)
    if config is not None and name is not None and pair.connector is not None:
        problems += unmet(config.draft, name, pair.connector)
    if problems or pair.mapping is None or pair.connector is None:
        raise ConfigError(list(dict.fromkeys(problems)))
    if config is not None and name is not None:
        return pair.mapping, pair.connector, account_of(config, name, pair.connector, {})
    file = pair.connector.file
    settings = {setting: written.default or "" for setting, written in file.settings.items()}
    account = Account(f"{file.name} {file.base_url or '<base_url>'}", file.base_url, {}, settings, 0.0)
    return pair.mapping, pair.connector, account


def _read(
    config: Config | None, name: str | None, word: str, zone: ZoneInfo | None
) -> tuple[Origin, str, Mapping[str, Any], str]:
    """The record's origin, its call's key, the record, and why it would not be filed (or nothing)."""
    path = Path(word)
    if word != "-" and not path.exists():
        if config is None or "/" in word or path.suffix == ".json":
            raise click.UsageError(f"there is no file {word} (a call of the ledger needs a configuration)")
        return _from_ledger(config, word)
    origin = UNCONFIGURED
    if config is not None and name is not None and (sources := config.sources_of(name)):
        origin = origin_of(config, sources[0])
    body = sys.stdin.buffer.read() if word == "-" else path.read_bytes()
    try:
        key, refused = key_of(body, replace(origin, zone=zone or origin.zone), now_utc())
        return origin, key, parse_object(read_record(body, origin.dialect)), refused
    except NotAnObject as error:
        raise click.UsageError(f"{'stdin' if word == '-' else word}: {error}") from error


def _from_ledger(config: Config, word: str) -> tuple[Origin, str, Mapping[str, Any], str]:
    ledger = open_to_look(config)
    try:
        call = find_call(config, ledger, word)
    finally:
        ledger.close()
    source = call.source
    known = source in config.sources
    origin = origin_of(config, source) if known else replace(UNCONFIGURED, source=source)
    return origin, call.key, call.record, ""


# Lines for people


def _heading(about: Mapping[str, str | None], result: Preview) -> Iterator[str]:
    where = f", destination {about['destination']}" if about["destination"] else ""
    yield f"mapping {about['mapping']}, connector {about['connector']}{where}"
    yield f"call {_clean(result.call) or '-'} of source {about['source']}"
    if result.outcome == "delivered":
        yield f"would be delivered as {', '.join(item.planned.name for item in result.objects)}"
    else:
        yield f"would be {result.outcome}: {_clean(result.reason)}"
    yield "Nothing is asked or sent; *** stands for secrets, <…> for what only the CRM can tell."


def _lines(result: Preview) -> Iterator[str]:
    for request in result.token:
        yield from ("", "first, where no token is kept:", *_request(request))
    for shown_object in result.objects:
        yield ""
        yield from _object(shown_object)
    for name, reason in result.left_out.items():
        yield from ("", f"object {name}: left out: {_clean(reason)}")


def _object(shown_object: ObjectPreview) -> Iterator[str]:
    planned = shown_object.planned
    typed = f" ({planned.type})" if planned.type != planned.name else ""
    yield f"object {planned.name}{typed}"
    yield f"  line: {' / '.join(map(_clean, shown_object.line))}"
    fed = "other calls feed it too: of them the newest wins" if planned.shared else "it is this call's own"
    yield f"  {fed}"
    for name, item in planned.fields.items():
        when = (
            "" if item.write is WritePolicy.ALWAYS else f"   [{item.write}: {POLICIES[item.write].written}]"
        )
        yield f"  {name} = {_json(item.value)}{when}"
    for name, reason in planned.absent.items():
        yield f"  {name}: not sent: {_clean(reason)}"
    yield from _step("is looked up", shown_object.look_up, "if that finds nothing")
    if shown_object.look_up_known is not None:
        title = "instead, once its id is known from an earlier delivery"
        if shown_object.look_up_known:
            yield from _step(title, shown_object.look_up_known)
        elif shown_object.look_up:
            yield f"  {title}: nothing is looked up"
    if shown_object.either_way is not None:
        yield from _step("is sent, whether it is there or not", shown_object.either_way, nothing=True)
    else:
        yield from _step("is sent if it is not there", shown_object.if_new, nothing=True)
        yield from _step("is sent if it is there", shown_object.if_there, nothing=True)
    yield from _step("links it", shown_object.links)


def _step(
    title: str, asked: Sequence[PreviewedRequest], more: str = "then", *, nothing: bool = False
) -> Iterator[str]:
    if nothing and not asked:
        yield f"  {title}: nothing"
    for number, item in enumerate(asked):
        yield f"  {more if number else title} ({item.what}):"
        if item.only_if is not None:
            yield f"    only if {_clean(item.only_if)}"
        yield from _request(item.request)


def _request(request: RedactedRequest) -> Iterator[str]:
    yield f"    {request.method} {_clean(request.url)}"
    for name, value in request.query.items():
        yield f"      ? {_clean(name)} = {_value(value)}"
    for name, value in request.headers.items():
        yield f"      {_clean(name)}: {_clean(value)}"
    if request.body is not None:
        text = request.body if isinstance(request.body, str) else _json(request.body, indent=2)
        yield from (f"      {_clean(line)}" for line in text.split("\n"))


def _value(value: Any) -> str:
    return _clean(value) if isinstance(value, str) else _json(value)


def _json(value: Any, indent: int | None = None) -> str:
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return text if indent else _clean(text)


def _clean(text: str) -> str:
    """Escape a text, so that nothing from outside moves the cursor."""
    return escape_invisible.line(text)
