"""The files that a configuration names, compiled; and everything that is wrong with any of them.

What is looked at here is what the operator wrote, so that a mistake in one file hides none in another.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.config.exposure import IN_CLEAR, exposures, in_clear
from bridge.config.load import Config, is_file, load_config, read_draft, resolve_secrets, unreadable_secrets
from bridge.config.schema import DestinationSettings
from bridge.crm.connector import Connector, ObjectType, load_connector, shipped_connectors
from bridge.lib.errors import ConfigError, Problem, did_you_mean
from bridge.lib.toml_file import TomlFile, Written, load_toml
from bridge.lib.validation import in_order
from bridge.mapping import CompiledMapping
from bridge.model.plan import LOOKING, WritePolicy

# Policies that look at what the CRM holds before they write.


@dataclass(frozen=True, slots=True)
class Pair:
    """What a destination's files became; None where one cannot be used."""

    mapping: CompiledMapping | None
    connector: Connector | None
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Findings:
    """What is wrong, and what works but should not stay so."""

    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...] = ()
    short_tokens: tuple[Problem, ...] = ()
    """What `check` refuses, but what must not keep a daemon from starting."""


def find_problems(path: Path | None, environ: Mapping[str, str]) -> Findings:
    """All mistakes of a configuration and of every file that it names, secrets included."""
    warnings: list[Problem] = []
    short_tokens: tuple[Problem, ...] = ()
    config: Config | None = None
    try:
        config = load_config(path, environ)
        written = config.draft
        problems: list[Problem] = []
        warnings += [*config.warnings, *exposures(config)]
        try:
            secrets = resolve_secrets(config, environ)
            warnings += secrets.warnings
            short_tokens = secrets.short_tokens
        except ConfigError as error:
            problems += error.problems
    except ConfigError as error:
        try:
            written, _ = read_draft(path, environ)
        except ConfigError:
            # Not even TOML: there is no more to find.
            return Findings(error.problems)
        problems = [*error.problems, *unreadable_secrets(written, environ)]
    elsewhere: list[Problem] = []
    connectors: dict[str, Connector] = {}
    for name, settings in _table(written.data, "destinations").items():
        files = _files(written, settings)
        if files is not None:
            pair = load_pair(*files)
            elsewhere += pair.problems
            if pair.connector is not None:
                connectors[name] = pair.connector
                problems += unmet(written, name, pair.connector)
                warnings += _other_hosts(written, name, pair.connector)
                if not _table(settings).get("base_url") and in_clear(pair.connector.file.base_url):
                    warnings.append(written.problem(("destinations", name, "base_url"), *IN_CLEAR))
    if config is not None:
        warnings += _accounts_of_several(config, connectors)
    own = [one for one in problems if one.file == str(written.file.path)]
    others = [one for one in problems if one.file != str(written.file.path)]
    # A file that is named twice is told once.
    return Findings((*in_order(own), *dict.fromkeys([*others, *elsewhere])), tuple(warnings), short_tokens)


def account_name(settings: DestinationSettings, connector: Connector) -> str:
    """The CRM account of a destination: as it is called, else its connector and address."""
    return settings.account or f"{connector.name} {settings.base_url or connector.file.base_url}"


def _other_hosts(written: Written, name: str, connector: Connector) -> Iterator[Problem]:
    """Where a connector that does not come with callbridge sends to beside base_url's host."""
    if connector.file.origins and connector.path not in shipped_connectors().values():
        hosts = ", ".join(connector.file.origins)
        yield written.problem(
            ("destinations", name, "connector"),
            f"{connector.path.name} also sends to {hosts}, and may send the secrets there",
            "see that these are the CRM's own; docs/connectors.md, Where requests go",
        )


def _accounts_of_several(config: Config, connectors: Mapping[str, Connector]) -> Iterator[Problem]:
    """CRM accounts that take the calls of several sources, which may send one key for two calls."""
    accounts: dict[str, list[str]] = {}
    for name, connector in connectors.items():
        accounts.setdefault(account_name(config.destinations[name], connector), []).append(name)
    for account, names in accounts.items():
        sources = list(dict.fromkeys(source for name in names for source in config.sources_of(name)))
        if len(sources) > 1:
            yield config.written(
                ("destinations", names[-1]),
                f'the CRM account "{account}" takes the calls of several sources: {", ".join(sources)}',
                "a call that two of them send is delivered for the first alone, and parked where the two are"
                " different calls under one key; see docs/operations.md, Several sources",
            )


def _files(written: Written, settings: Any) -> tuple[Path, Path | None] | None:
    """A destination's mapping and its own connector; None where the configuration cannot tell."""
    mapping, connector = _table(settings).get("mapping"), _table(settings).get("connector")
    if not isinstance(mapping, str) or not is_file(written.base_dir / mapping):
        return None
    if connector is None:
        return written.base_dir / mapping, None
    if not isinstance(connector, str) or not is_file(written.base_dir / connector):
        return None
    return written.base_dir / mapping, written.base_dir / connector


def load_pair(mapping: Path, connector: Path | None) -> Pair:
    """Compile a mapping and its connector, which is the file given or the one that the mapping names."""
    problems: list[Problem] = []
    found: CompiledMapping | None = None
    try:
        file = load_toml(mapping)
    except ConfigError as error:
        return Pair(None, None, error.problems)
    compiled: Connector | None = None
    of_connector: Sequence[Problem] = ()
    try:
        compiled = _named(file) if connector is None else Connector(load_toml(connector))
    except ConfigError as error:
        of_connector = error.problems
    try:
        found = (
            CompiledMapping(file) if compiled is None else CompiledMapping(file, compiled.file.length_unit)
        )
    except ConfigError as error:
        problems += error.problems
    problems += of_connector
    if compiled is not None:
        problems = in_order([*problems, *_mismatches(file, compiled)])
    return Pair(found, compiled, tuple(problems))


def _named(file: TomlFile) -> Connector | None:
    name = file.data.get("connector")
    if not isinstance(name, str):
        # Told with the mapping's own mistakes.
        return None
    written = Written(file, file.data, {})
    return load_connector(name, lambda message, remedy: written.problem(("connector",), message, remedy))


def unmet(written: Written, name: str, connector: Connector) -> Iterator[Problem]:
    """What a connector needs of its destination and does not get, and what it is given and does not know."""
    place = ("destinations", name)
    destination = _table(written.data, *place)
    secrets, settings = _table(destination, "secrets"), _table(destination, "settings")
    for secret in connector.secrets:
        if secret not in secrets:
            message = f'the connector {connector.name} needs the secret "{secret}"'
            yield written.problem((*place, "secrets"), message, f'add {secret} = {{ env = "…" }}')
    for secret in secrets:
        if secret not in connector.secrets:
            message = f"the connector {connector.name} knows no such secret"
            remedy = did_you_mean(secret, connector.secrets)
            yield written.problem((*place, "secrets", secret), message, remedy)
    for setting, section in connector.file.settings.items():
        if section.default is None and setting not in settings:
            message = f'the connector {connector.name} needs the setting "{setting}"'
            remedy = f'add {setting} = "…"' + (f": {section.description}" if section.description else "")
            yield written.problem((*place, "settings"), message, remedy)
    for setting in settings:
        if setting not in connector.file.settings:
            message = f"the connector {connector.name} knows no such setting"
            remedy = did_you_mean(setting, connector.file.settings)
            yield written.problem((*place, "settings", setting), message, remedy)
    if not destination.get("base_url") and not connector.file.base_url:
        yield written.problem((*place, "base_url"), "is required", "give the CRM's address")


def _mismatches(file: TomlFile, connector: Connector) -> Iterator[Problem]:
    """What a mapping asks of a connector that the connector does not have."""
    written = Written(file, file.data, {})
    for name, section in _table(file.data, "objects").items():
        if not isinstance(section, dict):
            continue
        type_name = section.get("type", name)
        found = connector.objects.get(type_name) if isinstance(type_name, str) else None
        if found is not None:
            yield from _object_mismatches(written, name, section, found)
        elif isinstance(type_name, str):
            place = ("objects", name, "type") if "type" in section else ("objects", name)
            message = f'the connector {connector.name} has no object "{type_name}"'
            yield written.problem(place, message, did_you_mean(type_name, connector.objects))


def _object_mismatches(
    written: Written, name: str, section: Mapping[str, Any], found: ObjectType
) -> Iterator[Problem]:
    key = _table(section, "key")
    wrong = [part for part in key if part not in found.key]
    missing = [part for part in found.key if part not in key]
    for part in wrong:
        message = f'"{part}" is no part of the connector\'s key for it, which is {", ".join(found.key)}'
        remedy = _near(part, missing) or "name exactly these parts"
        yield written.problem(("objects", name, "key", part), message, remedy)
    if missing and not wrong and key:
        message = f"the connector's key for it is {', '.join(found.key)}"
        yield written.problem(("objects", name, "key"), message, "name exactly these parts")
    for link in _table(section, "link"):
        if link not in found.link:
            message = f'the connector has no link "{link}" for it'
            yield written.problem(("objects", name, "link", link), message, did_you_mean(link, found.link))
    if found.readable:
        return
    for field, content in _table(section, "fields").items():
        write = _table(content).get("write")
        if write in LOOKING or (write == WritePolicy.CREATE and found.upsert):
            message = f'write = "{write}" has to read the object, and the connector tells no way to'
            remedy = 'use write = "always", or give the connector a find or a read for it'
            yield written.problem(("objects", name, "fields", field, "write"), message, remedy)


def _near(name: str, options: Sequence[str]) -> str:
    near = did_you_mean(name, options)
    return near if near.startswith("did") else ""


def _table(data: Any, *keys: str) -> dict[str, Any]:
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data if isinstance(data, dict) else {}
