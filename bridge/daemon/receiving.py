"""What receives: the door, its judge, reconciliations and their schedule, and the ledger's maintenance."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import structlog

from bridge.config.load import Config
from bridge.config.secrets import Secrets
from bridge.daemon.loop import GiveWay, ReceivingWakeups, repeat
from bridge.daemon.maintenance import Maintenance
from bridge.daemon.reconcile_wiring import daemon_reconcilers, timetables
from bridge.daemon.scheduler import Scheduler
from bridge.daemon.wiring import destinations_by_source, source_doors, source_rules
from bridge.delivery.destination import Destination
from bridge.intake.judge import GROUP, Judge
from bridge.intake.receive import Door
from bridge.ledger import Ledger
from bridge.reconcile.reconciler import Reconciler, refuse_walk

log = structlog.get_logger("bridge.daemon")

# All in seconds.
REQUESTS_EVERY = 0.25
"""How often it is looked whether somebody asked for a reconciliation: a command waits for it."""
MAINTENANCE_EVERY = 30.0
SCHEDULE_EVERY = 30.0
"""How often the schedule's times are corrected, in case the clock was set."""
IDLE = 0.5
"""After so long the judge looks for receipts though nothing has woken it."""
JUDGE_WAITS = 2.0
"""How long verdicts give way to callbacks at the door; then they catch up even while more arrive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiving:
    """The stages that receive. All share the ledger, the clock and the wake-ups they were built with."""

    door: Door
    judge: Judge
    reconcilers: Mapping[str, Reconciler]
    """By source; only those whose list can be asked."""
    scheduler: Scheduler
    maintenance: Maintenance
    ledger: Ledger


def build_receiving(
    config: Config,
    secrets: Secrets,
    destinations: Mapping[str, Destination],
    ledger: Ledger,
    clock: Callable[[], datetime],
    wakeups: ReceivingWakeups,
) -> Receiving:
    """Build what receives, each stage with its own section of the configuration.

    `wakeups` wakes the judge or the deliveries whenever records were filed.
    """
    ledger.start_destinations(destinations_by_source(config), clock())
    rules, since = source_rules(config, destinations), ledger.skipped_before()
    door = Door(
        source_doors(config, secrets, rules, since),
        ledger,
        max_body=config.server.max_body,
        trusted_proxies=config.server.trusted_proxies,
        clock=clock,
        filed=wakeups.wake_after_filing,
    )
    return Receiving(
        door=door,
        judge=Judge(ledger, rules, destinations_since=since),
        reconcilers=daemon_reconcilers(config, secrets.api, rules, ledger, clock, wakeups),
        scheduler=Scheduler(timetables(config), ledger, clock),
        maintenance=Maintenance(ledger, list(destinations), wakeups.stop, lambda: door.pressed),
        ledger=ledger,
    )


@dataclass(frozen=True, slots=True)
class ReceivingLoops:
    """The body of every thread that receives; each returns once `wakeups.stop` is set."""

    stages: Receiving
    wakeups: ReceivingWakeups
    clock: Callable[[], datetime]

    def all(self) -> dict[str, Callable[[], None]]:
        """Every loop by its thread's name."""
        loops: dict[str, Callable[[], None]] = {
            "judge": self.judge,
            "schedule": self.keep_times,
            "upkeep": self.maintain,
        }
        for source, reconciler in self.stages.reconcilers.items():
            loops[f"reconcile-{source}"] = partial(self.reconcile, reconciler.carry_out)
        if not self.stages.reconcilers:
            refuse = partial(refuse_walk, self.stages.ledger)
            loops["reconcile"] = partial(self.reconcile, lambda: refuse(self.clock()))
        return loops

    def judge(self) -> None:
        """Judge receipts, woken by arrivals; callbacks at the door go first, for 2 s at most."""
        give_way = GiveWay(lambda: self.stages.door.pressed, self.wakeups.stop, JUDGE_WAITS)

        def step() -> bool:
            give_way.wait()
            if self.wakeups.stop.is_set():
                return False
            self.wakeups.arrived.clear()
            count = 0
            try:
                count = self.stages.judge.judge_waiting(self.clock())
            finally:
                if count < GROUP:
                    give_way.restart()
            if count:
                self.wakeups.wake_deliveries()
            return count > 0

        repeat(
            step,
            self.wakeups.stop,
            wait=partial(self.wakeups.arrived.wait, IDLE),
            busy=lambda error: log.warning("judge.ledger_busy", error=str(error)),
        )

    def reconcile(self, step: Callable[[], bool]) -> None:
        """Carry out the reconciliations and audits that somebody asked for."""
        repeat(
            step,
            self.wakeups.stop,
            wait=partial(self.wakeups.stop.wait, REQUESTS_EVERY),
            busy=lambda error: log.warning("reconcile.ledger_busy", error=str(error)),
        )

    def keep_times(self) -> None:
        """Correct the schedule's times every 30 s, in case the clock was set."""
        while not self.wakeups.stop.wait(SCHEDULE_EVERY):
            self.stages.scheduler.correct_times(self.clock())

    def maintain(self) -> None:
        """Maintain the ledger, for the first time 30 s after the start, so that the start is quick."""

        def step() -> None:
            self.stages.maintenance.maintain(self.clock())

        wait = partial(self.wakeups.stop.wait, MAINTENANCE_EVERY)
        wait()
        repeat(
            step,
            self.wakeups.stop,
            wait=wait,
            busy=lambda error: log.warning("upkeep.ledger_busy", error=str(error)),
        )
