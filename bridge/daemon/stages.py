"""The parts of one daemon, built from its configuration: whose steps the threads repeat."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bridge.config.load import Config
from bridge.config.secrets import Secrets
from bridge.daemon.loop import Wakeups
from bridge.daemon.maintenance import Maintenance
from bridge.daemon.operator_jobs import OperatorJobs
from bridge.daemon.reconcile_wiring import daemon_reconcilers, timetables
from bridge.daemon.scheduler import Scheduler
from bridge.daemon.wiring import (
    destinations_by_source,
    load_destinations,
    new_operator_jobs,
    new_worker,
    origins_of,
    shared_accounts,
    source_doors,
    source_rules,
)
from bridge.delivery.budget_store import BudgetStore
from bridge.delivery.destination import Routes
from bridge.delivery.locks import KeyLocks
from bridge.delivery.worker import Worker
from bridge.intake.judge import Judge
from bridge.intake.receive import Door
from bridge.ledger import Ledger
from bridge.lib.clocks import Clocks
from bridge.reconcile.reconciler import Reconciler


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """The stages of one daemon. All share the ledger, the clock and the wake-ups they were built with."""

    door: Door
    judge: Judge
    workers: Sequence[Worker]
    locks: KeyLocks
    """What all workers lock before they deliver."""
    budget_store: BudgetStore
    reconcilers: Mapping[str, Reconciler]
    """By source; only those whose list can be asked."""
    scheduler: Scheduler
    operator_jobs: OperatorJobs
    maintenance: Maintenance
    ledger: Ledger


def build_stages(
    config: Config, secrets: Secrets, ledger: Ledger, clocks: Clocks, wakeups: Wakeups
) -> Stages:
    """Build every stage, each with its own section of the configuration.

    `wakeups.arrived` is set whenever records were filed.

    Raises:
        ConfigError: all problems of all mappings and connectors.
    """
    clock = clocks.wall
    destinations = load_destinations(config, secrets)
    ledger.start_destinations(destinations_by_source(config), clock())
    rules, locks = source_rules(config, destinations), KeyLocks()
    accounts = shared_accounts(destinations, ledger, clock)
    routes = Routes(origins_of(config), destinations, accounts)
    return Stages(
        door=Door(
            source_doors(config, secrets),
            ledger,
            max_body=config.server.max_body,
            trusted_proxies=config.server.trusted_proxies,
            clock=clock,
            filed=wakeups.arrived.set,
        ),
        judge=Judge(ledger, rules, destinations_since=ledger.skipped_before()),
        workers=[
            new_worker(config, routes, ledger, locks, clocks, wakeups.stop)
            for _ in range(config.delivery.workers if destinations else 0)
        ],
        locks=locks,
        budget_store=BudgetStore(ledger, {name: each.budget for name, each in accounts.items()}),
        reconcilers=daemon_reconcilers(config, secrets.api, rules, ledger, clock, wakeups),
        scheduler=Scheduler(timetables(config), ledger, clock),
        operator_jobs=new_operator_jobs(config, ledger, wakeups.stop, destinations, locks),
        maintenance=Maintenance(ledger, list(destinations), wakeups.stop),
        ledger=ledger,
    )
