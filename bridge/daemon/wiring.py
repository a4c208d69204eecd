"""Builds what each stage is handed from the configuration: its own section, and nothing else."""

import random
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from bridge.config.destination_files import account_name, load_pair, unmet
from bridge.config.load import Config
from bridge.config.schema import ApiSettings
from bridge.config.secrets import Secrets
from bridge.crm.account import Account
from bridge.crm.connector import Connector
from bridge.crm.tokens import Tokens
from bridge.daemon.loop import DeliveryWakeups
from bridge.daemon.operator_jobs import OperatorJobs
from bridge.delivery.budget import Budget
from bridge.delivery.call_comparison import ReplayTarget
from bridge.delivery.destination import Destination, Routes, SharedAccount
from bridge.delivery.dispatcher import DispatchSettings
from bridge.delivery.locks import KeyLocks
from bridge.delivery.pipeline import DeliveryPipeline, PipelineSettings, Surroundings
from bridge.delivery.retry import RetryPolicy
from bridge.intake.new_calls import NewCallReader, SourceRules
from bridge.intake.receive import SourceDoor
from bridge.ledger import Ledger
from bridge.lib.clocks import Clocks
from bridge.lib.errors import ConfigError, Problem
from bridge.mapping import CompiledMapping
from bridge.record.origin import Origin
from bridge.source import Source
from bridge.source.list_api import ListApi, ListNames

# Seconds that a call which can share a request waits for others: longer than a burst takes to arrive, and too
# short for anybody to notice.
BATCH_WAIT = 0.1
LEASED_AHEAD = 2
"""Deliveries leased ahead for each that is under way: many share a commit, and no worker waits for one."""
LOOK_EVERY = 0.5
"""After so many seconds it is looked for what is due though nothing was told: a retry's time has come."""
MOST_BLOCKED = 100
"""Deliveries that wait, leased and mapped, for keys that others hold."""


def load_destinations(config: Config, secrets: Secrets) -> dict[str, Destination]:
    """Compile every destination's mapping and connector.

    Raises:
        ConfigError: all problems of all files.
    """

    def unmet_by(name: str, connector: Connector) -> Iterable[Problem]:
        return unmet(config.draft, name, connector)

    return {
        name: Destination(
            name, mapping, connector, account_of(config, name, connector, secrets.destinations[name])
        )
        for name, (mapping, connector) in compile_destinations(config, unmet_by).items()
    }


def compile_destinations(
    config: Config, check: Callable[[str, Connector], Iterable[Problem]] = lambda _name, _connector: ()
) -> dict[str, tuple[CompiledMapping, Connector]]:
    """The mapping and the connector of every destination; `check` may find more problems of a connector.

    Raises:
        ConfigError: all problems of all files.
    """
    problems: list[Problem] = []
    found: dict[str, tuple[CompiledMapping, Connector]] = {}
    for name, settings in config.destinations.items():
        own = None if settings.connector is None else config.absolute(settings.connector)
        pair = load_pair(config.absolute(settings.mapping), own)
        problems += pair.problems
        if pair.connector is None:
            continue
        problems += check(name, pair.connector)
        if pair.mapping is not None:
            found[name] = pair.mapping, pair.connector
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return found


def account_of(config: Config, destination: str, connector: Connector, secrets: Mapping[str, str]) -> Account:
    """A destination's CRM account; `secrets` are empty where nothing is sent."""
    settings = config.destinations[destination]
    base_url = settings.base_url or connector.file.base_url
    return Account(
        name=account_name(settings, connector),
        base_url=base_url,
        secrets=secrets,
        settings={
            name: settings.settings.get(name, written.default or "")
            for name, written in connector.file.settings.items()
        },
        timeout=settings.timeout.total_seconds(),
    )


def destinations_by_source(config: Config) -> dict[str, tuple[str, ...]]:
    """Which destinations the calls of each source go to."""
    return {
        source: tuple(name for name in config.destinations if source in config.sources_of(name))
        for source in config.sources
    }


def source_rules(config: Config, destinations: Mapping[str, Destination]) -> dict[str, SourceRules]:
    """The judge's rules for each source."""
    return rules_that_read(config, {name: each.mapping for name, each in destinations.items()})


def rules_that_read(config: Config, mappings: Mapping[str, CompiledMapping]) -> dict[str, SourceRules]:
    """The judge's rules for each source; `mappings` are those of all destinations, by name."""
    taken, origins = destinations_by_source(config), origins_of(config)
    return {
        source: SourceRules(
            origin=origins[source],
            destinations=taken[source],
            reads=frozenset[str]().union(
                *(mappings[name].fields_read(origins[source].dialect) for name in taken[source])
            ),
            start_at=settings.start,
        )
        for source, settings in config.sources.items()
    }


def source_doors(
    config: Config,
    secrets: Secrets,
    rules: Mapping[str, SourceRules],
    destinations_since: Mapping[str, datetime],
) -> dict[str, SourceDoor]:
    """What the door knows of each source: tokens, networks, acknowledgement, and how new calls are read."""
    return {
        source: SourceDoor(
            origin=origin_of(config, source),
            tokens=tuple(token.encode() for token in secrets.callback_tokens[source]),
            allow=settings.allow,
            status=settings.ack.status,
            body=settings.ack.body.encode(),
            content_type=settings.ack.content_type.encode(),
            new_calls=NewCallReader(rules[source], destinations_since),
        )
        for source, settings in config.sources.items()
    }


def load_targets(config: Config) -> dict[str, ReplayTarget]:
    """What comparing calls needs to know of each destination, without secrets.

    Raises:
        ConfigError: all problems of all files.
    """
    return _with_those_of_its_account(
        {
            name: target_of(config, name, mapping, connector, account_of(config, name, connector, {}))
            for name, (mapping, connector) in compile_destinations(config).items()
        }
    )


def target_of(
    config: Config, name: str, mapping: CompiledMapping, connector: Connector, account: Account
) -> ReplayTarget:
    """One destination with this mapping."""
    return ReplayTarget(name, mapping, connector.objects, account.name, tuple(config.sources_of(name)))


def _with_those_of_its_account(targets: Mapping[str, ReplayTarget]) -> dict[str, ReplayTarget]:
    return {
        name: replace(
            target, together=[other for other, one in targets.items() if one.account == target.account]
        )
        for name, target in targets.items()
    }


def origins_of(config: Config) -> dict[str, Origin]:
    """How to read the calls of each source."""
    return {source: origin_of(config, source) for source in config.sources}


def origin_of(config: Config, source: str) -> Origin:
    """How to read the calls of one source."""
    settings = config.sources[source]
    return Origin(
        source,
        config.platform_of(source).dialect,
        settings.timezone,
        settings.country,
        settings.recording_url,
    )


def new_operator_jobs(
    config: Config,
    ledger: Ledger,
    stop: threading.Event,
    destinations: Mapping[str, Destination] | None = None,
    locks: KeyLocks | None = None,
    withdraw: Callable[[Sequence[int], datetime], None] = lambda _ids, _now: None,
) -> OperatorJobs:
    """The stage for operators' jobs; without `destinations` it loads them when a job needs them.

    `withdraw` has deliveries given back that are leased and not begun.
    """
    retention = {name: getattr(config.retention, name) for name in type(config.retention).model_fields}

    def targets() -> Mapping[str, ReplayTarget]:
        if destinations is None:
            return load_targets(config)
        return _with_those_of_its_account(
            {
                name: target_of(config, name, each.mapping, each.connector, each.account)
                for name, each in destinations.items()
            }
        )

    free = locks.release if locks is not None else lambda _: None
    return OperatorJobs(ledger, retention, stop, origins_of(config), targets, free, withdraw)


def shared_accounts(
    destinations: Mapping[str, Destination], ledger: Ledger, clock: Callable[[], datetime]
) -> dict[str, SharedAccount]:
    """What all workers share of every CRM account: its tokens and its budget."""
    saved = {name: kept.saved for name, kept in ledger.load_budgets().items()}
    return {
        each.account.name: SharedAccount(
            Tokens(each.account.name, each.connector.auth.tokens, each.account.secrets, ledger, clock),
            Budget(each.connector.file.limits, clock, saved.get(each.account.name)),
        )
        for each in destinations.values()
    }


def new_pipeline(
    config: Config,
    routes: Routes,
    ledger: Ledger,
    locks: KeyLocks,
    clocks: Clocks,
    wakeups: DeliveryWakeups,
) -> DeliveryPipeline:
    """What all delivery workers share."""
    delivery = config.delivery
    dispatch = DispatchSettings(
        ahead=LEASED_AHEAD,
        batch_wait=BATCH_WAIT,
        look_every=LOOK_EVERY,
        most_blocked=MOST_BLOCKED,
        workers=None if delivery.workers == "auto" else delivery.workers,
    )
    retry = RetryPolicy(delivery.first_retry, delivery.longest_retry, delivery.retry_for)
    rng = random.Random()  # noqa: S311 -- spreads retries, guards nothing
    return DeliveryPipeline(
        ledger,
        routes,
        locks,
        PipelineSettings(retry, dispatch, settles_itself=False),
        Surroundings(clocks, rng, wakeups.stop, signal=wakeups.signal),
    )


def log_in_to(
    config: Config,
    source: str,
    secrets: Sequence[str],
    clock: Callable[[], datetime],
    stop: threading.Event,
) -> Callable[[], Sequence[Source]]:
    """A function that makes all logins of a source, each with its own session; its caller closes them."""
    settings = config.sources[source]

    def api(login: ApiSettings, secret: str) -> ListApi:
        return ListApi(
            base_url=login.base_url,
            access_id=login.access_id,
            access_secret=secret,
            zone=settings.timezone,
            names=ListNames(**login.names.model_dump()),
            login=login.login,
            login_path=login.login_path,
            list_path=login.list_path,
            first_page=login.first_page,
            time_format=login.time_format,
            filters=login.filters,
            timeout=login.timeout.total_seconds(),
            requests_per_second=login.requests_per_second,
        )

    apis = [api(login, secret) for login, secret in zip(settings.api, secrets, strict=True)]
    open_list = config.platform_of(source).open_list
    rng = random.Random()  # noqa: S311 -- spreads retries, guards nothing
    return lambda: [open_list(one, clock=clock, rng=rng, stop=stop) for one in apis]
