"""Compiles a destination's mapping and connector, and checks that they fit together.

Begin at `load_pair()`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.config.schema import DestinationSettings
from bridge.crm.connector import Connector, ObjectType, load_connector
from bridge.lib.errors import ConfigError, Problem, did_you_mean, suggest_nearest
from bridge.lib.toml_file import TomlFile, Written, load_toml
from bridge.lib.validation import in_order
from bridge.mapping import CompiledMapping
from bridge.model.field_policies import policy_named


@dataclass(frozen=True, slots=True)
class DestinationFiles:
    """The compiled files of a destination; None where one cannot be used."""

    mapping: CompiledMapping | None
    connector: Connector | None
    problems: tuple[Problem, ...]


def account_name(settings: DestinationSettings, connector: Connector) -> str:
    """The name of a destination's CRM account: as configured, else its connector and address."""
    return settings.account or f"{connector.name} {settings.base_url or connector.file.base_url}"


def load_pair(mapping: Path, connector: Path | None) -> DestinationFiles:
    """Compile a mapping and its connector, which is the file given or the one that the mapping names."""
    problems: list[Problem] = []
    compiled_mapping: CompiledMapping | None = None
    try:
        file = load_toml(mapping)
    except ConfigError as error:
        return DestinationFiles(None, None, error.problems)
    compiled_connector: Connector | None = None
    of_connector: Sequence[Problem] = ()
    try:
        compiled_connector = _named(file) if connector is None else Connector(load_toml(connector))
    except ConfigError as error:
        of_connector = error.problems
    try:
        compiled_mapping = (
            CompiledMapping(file)
            if compiled_connector is None
            else CompiledMapping(file, compiled_connector.file.length_unit)
        )
    except ConfigError as error:
        problems += error.problems
    problems += of_connector
    if compiled_connector is not None:
        problems = in_order([*problems, *_mismatches(file, compiled_connector)])
    return DestinationFiles(compiled_mapping, compiled_connector, tuple(problems))


def _named(file: TomlFile) -> Connector | None:
    name = file.data.get("connector")
    if not isinstance(name, str):
        # Told with the mapping's own mistakes.
        return None
    written = Written(file, file.data, {})
    return load_connector(name, lambda message, remedy: written.problem(("connector",), message, remedy))


def unmet(written: Written, name: str, connector: Connector) -> Iterator[Problem]:
    """Secrets and settings that a destination lacks, and those that its connector does not know."""
    key_path = ("destinations", name)
    destination = table_at(written.data, *key_path)
    secrets, settings = table_at(destination, "secrets"), table_at(destination, "settings")
    for secret in connector.secrets:
        if secret not in secrets:
            message = f'the connector {connector.name} needs the secret "{secret}"'
            yield written.problem((*key_path, "secrets"), message, f'add {secret} = {{ env = "…" }}')
    for secret in secrets:
        if secret not in connector.secrets:
            message = f"the connector {connector.name} knows no such secret"
            remedy = did_you_mean(secret, connector.secrets)
            yield written.problem((*key_path, "secrets", secret), message, remedy)
    for setting, section in connector.file.settings.items():
        if section.default is None and setting not in settings:
            message = f'the connector {connector.name} needs the setting "{setting}"'
            remedy = f'add {setting} = "…"' + (f": {section.description}" if section.description else "")
            yield written.problem((*key_path, "settings"), message, remedy)
    for setting in settings:
        if setting not in connector.file.settings:
            message = f"the connector {connector.name} knows no such setting"
            remedy = did_you_mean(setting, connector.file.settings)
            yield written.problem((*key_path, "settings", setting), message, remedy)
    if not destination.get("base_url") and not connector.file.base_url:
        yield written.problem((*key_path, "base_url"), "is required", "give the CRM's address")


def _mismatches(file: TomlFile, connector: Connector) -> Iterator[Problem]:
    """What a mapping asks of a connector that the connector does not have."""
    written = Written(file, file.data, {})
    for name, section in table_at(file.data, "objects").items():
        if not isinstance(section, dict):
            continue
        type_name = section.get("type", name)
        compiled_mapping = connector.objects.get(type_name) if isinstance(type_name, str) else None
        if compiled_mapping is not None:
            yield from _object_mismatches(written, name, section, compiled_mapping)
        elif isinstance(type_name, str):
            key_path = ("objects", name, "type") if "type" in section else ("objects", name)
            message = f'the connector {connector.name} has no object "{type_name}"'
            yield written.problem(key_path, message, did_you_mean(type_name, connector.objects))


def _object_mismatches(
    written: Written, name: str, section: Mapping[str, Any], compiled_mapping: ObjectType
) -> Iterator[Problem]:
    key = table_at(section, "key")
    wrong = [part for part in key if part not in compiled_mapping.key]
    missing = [part for part in compiled_mapping.key if part not in key]
    for part in wrong:
        message = (
            f'"{part}" is no part of the connector\'s key for it, which is {", ".join(compiled_mapping.key)}'
        )
        remedy = suggest_nearest(part, missing) or "name exactly these parts"
        yield written.problem(("objects", name, "key", part), message, remedy)
    if missing and not wrong and key:
        message = f"the connector's key for it is {', '.join(compiled_mapping.key)}"
        yield written.problem(("objects", name, "key"), message, "name exactly these parts")
    for link in table_at(section, "link"):
        if link not in compiled_mapping.link:
            message = f'the connector has no link "{link}" for it'
            yield written.problem(
                ("objects", name, "link", link), message, did_you_mean(link, compiled_mapping.link)
            )
    if compiled_mapping.readable:
        return
    for field, content in table_at(section, "fields").items():
        write = table_at(content).get("write")
        policy = policy_named(write)
        if policy is not None and policy.needs_lookup(upserts=bool(compiled_mapping.upsert)):
            message = f'write = "{write}" has to read the object, and the connector tells no way to'
            remedy = 'use write = "always", or give the connector a find or a read for it'
            yield written.problem(("objects", name, "fields", field, "write"), message, remedy)


def table_at(data: Any, *keys: str) -> dict[str, Any]:
    """The table at these keys of what an operator wrote; empty where there is none."""
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data if isinstance(data, dict) else {}
