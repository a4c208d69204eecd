"""From the configuration to what each stage is handed: its own section, and nothing else."""

import random
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from bridge.config import Config, Secrets
from bridge.connector import Connector, ObjectType, load_connector
from bridge.deliver import Destination, Origin, Schedule, Worker
from bridge.errors import ConfigError, Problem, did_you_mean
from bridge.judge import SourceRules
from bridge.ledger import Ledger
from bridge.mapping import CompiledMapping, load_mapping
from bridge.receive import SourceDoor
from bridge.runs import Operator
from bridge.tomlfile import load_toml


def load_destinations(config: Config, secrets: Secrets | None) -> dict[str, Destination]:
    """Compile every destination's mapping and connector; without secrets only to check them.

    Raises:
        ConfigError: all problems of all files.
    """
    problems: list[Problem] = []
    found: dict[str, Destination] = {}
    for name, settings in config.destinations.items():
        try:
            mapping = load_mapping(config.absolute(settings.mapping))
            connector = _connector(config, name, mapping)
        except ConfigError as error:
            problems += error.problems
            continue
        problems += [*_unmet(config, name, connector), *_mismatches(mapping, connector)]
        found[name] = Destination(
            name=name,
            mapping=mapping,
            connector=connector,
            base_url=settings.base_url,
            secrets=secrets.destinations[name] if secrets else {},
            timeout=settings.timeout.total_seconds(),
        )
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return found


def _connector(config: Config, destination: str, mapping: CompiledMapping) -> Connector:
    own = config.destinations[destination].connector
    if own is not None:
        return Connector(load_toml(config.absolute(own)))
    return load_connector(
        mapping.file.connector, lambda message, remedy: mapping.problem(("connector",), message, remedy)
    )


def _unmet(config: Config, name: str, connector: Connector) -> Iterator[Problem]:
    """What a connector needs of its destination and does not get."""
    settings = config.destinations[name]
    for secret in connector.secrets:
        if secret not in settings.secrets:
            message = f'the connector {connector.name} needs the secret "{secret}"'
            yield config.written(
                ("destinations", name, "secrets"), message, f'add {secret} = {{ env = "…" }}'
            )
    for secret in settings.secrets:
        if secret not in connector.secrets:
            message = f"the connector {connector.name} knows no such secret"
            remedy = did_you_mean(secret, connector.secrets)
            yield config.written(("destinations", name, "secrets", secret), message, remedy)
    if not settings.base_url:
        yield config.written(("destinations", name, "base_url"), "is required", "give the CRM's address")


def _mismatches(mapping: CompiledMapping, connector: Connector) -> Iterator[Problem]:
    """What a mapping asks of a connector that the connector does not have."""
    for name, section in mapping.file.objects.items():
        type_name = section.type or name
        found = connector.objects.get(type_name)
        if found is None:
            place = ("objects", name, "type") if section.type else ("objects", name)
            message = f'the connector {connector.name} has no object "{type_name}"'
            yield mapping.problem(place, message, did_you_mean(type_name, connector.objects))
            continue
        yield from _object_mismatches(mapping, name, found)


def _object_mismatches(mapping: CompiledMapping, name: str, found: ObjectType) -> Iterator[Problem]:
    section = mapping.file.objects[name]
    if set(section.key) != set(found.key):
        message = f"the connector's key for it is {', '.join(found.key)}"
        yield mapping.problem(("objects", name, "key"), message, "name exactly these parts")
    for link in section.link:
        if link not in found.link:
            message = f'the connector has no link "{link}" for it'
            yield mapping.problem(("objects", name, "link", link), message, did_you_mean(link, found.link))


def destinations_by_source(config: Config) -> dict[str, tuple[str, ...]]:
    """Which destinations the calls of each source go to."""
    return {
        source: tuple(name for name in config.destinations if source in config.sources_of(name))
        for source in config.sources
    }


def source_rules(config: Config, destinations: Mapping[str, Destination]) -> dict[str, SourceRules]:
    """What the judge is told of each source."""
    taken = destinations_by_source(config)
    return {
        source: SourceRules(
            zone=settings.timezone,
            country=settings.country,
            destinations=taken[source],
            reads=frozenset[str]().union(*(destinations[name].mapping.reads for name in taken[source])),
            start_at=settings.start,
        )
        for source, settings in config.sources.items()
    }


def source_doors(config: Config, secrets: Secrets) -> dict[str, SourceDoor]:
    """What the public listener is told of each source."""
    return {
        source: SourceDoor(
            name=source,
            tokens=tuple(token.encode() for token in secrets.callback_tokens[source]),
            zone=settings.timezone,
            allow=settings.allow,
            status=settings.ack.status,
            body=settings.ack.body.encode(),
        )
        for source, settings in config.sources.items()
    }


def new_operator(config: Config, ledger: Ledger, stop: threading.Event) -> Operator:
    """What carries out an operator's work."""
    zones = {source: settings.timezone for source, settings in config.sources.items()}
    retention = {name: getattr(config.retention, name) for name in type(config.retention).model_fields}
    return Operator(ledger, zones, retention, stop)


def new_worker(
    config: Config,
    destinations: Mapping[str, Destination],
    ledger: Ledger,
    clock: Callable[[], datetime],
    stop: threading.Event,
) -> Worker:
    """One delivery worker."""
    delivery = config.delivery
    return Worker(
        ledger,
        destinations,
        {
            source: Origin(settings.timezone, settings.country, settings.recording_url)
            for source, settings in config.sources.items()
        },
        Schedule(delivery.first_retry, delivery.longest_retry, delivery.retry_for),
        clock=clock,
        chance=random.Random(),  # noqa: S311 -- spreads retries, guards nothing
        stop=stop,
    )
