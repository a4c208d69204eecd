"""Builds reconcilers from the configuration: for the daemon, or for a command where no daemon lives."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from bridge.config.load import Config
from bridge.daemon.loop import ReceivingWakeups
from bridge.daemon.scheduler import DEEP, SHORT, WEEKLY, Timetable
from bridge.daemon.wiring import (
    compile_destinations,
    destinations_by_source,
    log_in_to,
    origin_of,
    rules_that_read,
)
from bridge.intake.judge import Judge
from bridge.intake.new_calls import SourceRules
from bridge.ledger import Ledger
from bridge.model.jobs import Job, JobResult
from bridge.reconcile.audit import AuditRules, SourceAudit
from bridge.reconcile.compare_pages import Host
from bridge.reconcile.coverage import ReconcileRules
from bridge.reconcile.reconciler import Audit, Reconciler
from bridge.source import Source

# Seconds. Pages are compared with known states, so records that have arrived must be judged first.
VERDICTS_WITHIN = 10.0
LOOK_FOR_VERDICTS_EVERY = 0.02


def listed_sources(config: Config) -> tuple[str, ...]:
    """The sources whose list can be asked."""
    return tuple(name for name, source in config.sources.items() if source.api)


def api_secrets(config: Config, source: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """The secrets of one source's logins; the others may be missing in a command's shell.

    Raises:
        ConfigError: one of them is missing.
    """
    key, file = f"sources.{source}.api.access_secret", str(config.path)
    return tuple(
        login.access_secret.resolve(environ, config.base_dir, key=key, file=file)
        for login in config.sources[source].api
    )


def rules_without_secrets(config: Config) -> dict[str, SourceRules]:
    """The judge's rules for each source, read from the mappings without any secret.

    Raises:
        ConfigError: a mapping is wrong.
    """
    mappings = {name: mapping for name, (mapping, _) in compile_destinations(config).items()}
    return rules_that_read(config, mappings)


def reconcile_rules(config: Config, source: str, rules: SourceRules) -> ReconcileRules:
    """The rules of a source's reconciler, from its configuration."""
    settings = config.sources[source]
    reconcile = settings.reconcile
    return ReconcileRules(
        origin=origin_of(config, source),
        reads=rules.reads,
        settle=reconcile.settle,
        lookbacks={
            SHORT: reconcile.lookback,
            DEEP: reconcile.deep_lookback,
            WEEKLY: reconcile.weekly_lookback,
        },
        start_at=settings.start,
        page_size=_page_size(config, source),
    )


def _page_size(config: Config, source: str) -> int:
    return max((login.page_size for login in config.sources[source].api), default=1000)


def timetables(config: Config) -> dict[str, Timetable]:
    """When each source that has a list is reconciled."""
    return {
        source: Timetable(
            source,
            config.sources[source].timezone,
            {
                SHORT: config.sources[source].reconcile.schedule,
                DEEP: config.sources[source].reconcile.deep_schedule,
                WEEKLY: config.sources[source].reconcile.weekly_schedule,
            },
        )
        for source in listed_sources(config)
    }


def wait_for_verdicts(ledger: Ledger, sources: Sequence[str], stop: threading.Event) -> None:
    """Wait, at most 10 s, until the judge on its own thread is done with all that has arrived by now."""
    newest, until = ledger.newest_receipt(), time.monotonic() + VERDICTS_WITHIN
    while (waiting := ledger.waiting(1, sources)) and waiting[0].receipt_id <= newest:
        if stop.wait(LOOK_FOR_VERDICTS_EVERY) or time.monotonic() > until:
            return


def judge_here(ledger: Ledger, rules: Mapping[str, SourceRules], clock: Callable[[], datetime]) -> None:
    """Judge everything that waits, where no daemon lives that would do it."""
    judge = Judge(ledger, rules, destinations_since=ledger.skipped_before())
    while judge.judge_waiting(clock()):
        pass


def auditor(config: Config, source: str, ledger: Ledger, clock: Callable[[], datetime]) -> Audit:
    """A function that carries out the audits of a source."""
    settings, page_size = config.sources[source], _page_size(config, source)
    rules = AuditRules(
        origin=origin_of(config, source),
        settle=settings.reconcile.settle,
        lookback=settings.reconcile.lookback,
        start_at=settings.start,
        page_size=page_size,
        destinations=destinations_by_source(config)[source],
    )

    def audit(job: Job, sources: Sequence[Source], go_on: Callable[[], None]) -> JobResult:
        return SourceAudit(rules, ledger, job, clock, go_on).carry_out(sources)

    return audit


def daemon_reconcilers(
    config: Config,
    secrets: Mapping[str, Sequence[str]],
    rules: Mapping[str, SourceRules],
    ledger: Ledger,
    clock: Callable[[], datetime],
    wakeups: ReceivingWakeups,
) -> dict[str, Reconciler]:
    """A reconciler for each source that has a list; each runs on its own thread."""
    sources = listed_sources(config)

    def catch_up() -> None:
        wakeups.arrived.set()
        wait_for_verdicts(ledger, tuple(config.sources), wakeups.stop)

    return {
        source: Reconciler(
            reconcile_rules(config, source, rules[source]),
            ledger,
            log_in_to(config, source, secrets[source], clock, wakeups.stop),
            Host(clock, wakeups.stop, catch_up, wakeups.arrived.set),
            sources=sources,
            audit=auditor(config, source, ledger, clock),
        )
        for source in sources
    }


def reconciler_here(
    config: Config,
    source: str,
    environ: Mapping[str, str],
    ledger: Ledger,
    clock: Callable[[], datetime],
    stop: threading.Event,
) -> Reconciler:
    """A reconciler for a command that does the work itself; it gives the verdicts as well.

    Raises:
        ConfigError: a secret of the source's logins is missing, or a mapping is wrong.
    """
    secrets, rules = api_secrets(config, source, environ), rules_without_secrets(config)
    return Reconciler(
        reconcile_rules(config, source, rules[source]),
        ledger,
        log_in_to(config, source, secrets, clock, stop),
        Host(clock, stop, catch_up=lambda: judge_here(ledger, rules, clock)),
        sources=listed_sources(config),
        audit=auditor(config, source, ledger, clock),
    )
