"""What delivers: the workers, what they share, and the operators' jobs, which free key locks."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Literal

import structlog

from bridge.config.load import Config
from bridge.daemon.loop import DeliveryWakeups, attempt, repeat
from bridge.daemon.operator_jobs import OperatorJobs
from bridge.daemon.wiring import new_operator_jobs, new_pipeline, origins_of, shared_accounts
from bridge.delivery.budget_store import BudgetStore
from bridge.delivery.destination import Destination, Routes
from bridge.delivery.locks import KeyLocks
from bridge.delivery.pipeline import DeliveryPipeline
from bridge.ledger import Ledger
from bridge.lib.clocks import Clocks
from bridge.lib.errors import LedgerError
from bridge.lib.memory import give_memory_back

log = structlog.get_logger("bridge.daemon")

# All in seconds.
JOBS_EVERY = 0.25
"""How often operators' jobs are looked for: a command waits for them."""
MEMORY_EVERY = 30.0
"""How often freed memory is given back to the system."""
ACCOUNTS_EVERY = 0.5
"""How often it is looked whether an account's limits or its breaker are to be saved."""
COMPLETED_EVERY = 0.5
"""After so long the completer looks whether the daemon stops."""
GATHERED_FOR = 0.01
"""How long ended attempts gather before they are settled. A commit costs nearly as much for one as for 16: at
600 calls/s it takes 12 in place of 4, and a call takes 0.77 ms of processor time in place of 0.94."""
WORKERS = 48
"""The most threads that deliver, where no larger number is configured."""
FIRST_WORKERS = 4
"""So many are started with the daemon; another one whenever all are busy. 44 without work take 3 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivering:
    """The stages that deliver. All share the ledger, the clocks and the wake-ups they were built with."""

    pipeline: DeliveryPipeline
    workers: int
    """The most that deliver at once."""
    locks: KeyLocks
    """What all workers lock before they deliver."""
    budget_store: BudgetStore
    operator_jobs: OperatorJobs
    ledger: Ledger


def build_delivering(
    config: Config,
    destinations: Mapping[str, Destination],
    ledger: Ledger,
    clocks: Clocks,
    wakeups: DeliveryWakeups,
) -> Delivering:
    """Build what delivers; `ledger.release_leases` has freed what a dead daemon held."""
    accounts, locks = shared_accounts(destinations, ledger, clocks.wall), KeyLocks()
    routes = Routes(origins_of(config), destinations, accounts)
    pipeline = new_pipeline(config, routes, ledger, locks, clocks, wakeups)
    return Delivering(
        pipeline=pipeline,
        workers=workers_for(config.delivery.workers, len(accounts)),
        locks=locks,
        budget_store=BudgetStore(ledger, {name: each.budget for name, each in accounts.items()}),
        operator_jobs=new_operator_jobs(
            config, ledger, wakeups.stop, destinations, locks, pipeline.dispatcher.withdraw
        ),
        ledger=ledger,
    )


def workers_for(configured: Literal["auto"] | int, accounts: int) -> int:
    """How many workers there are, where so many are `configured` for each account.

    One that hangs keeps as many, so that up to `WORKERS` the others have theirs.
    """
    if not accounts:
        return 0
    return WORKERS if configured == "auto" else max(configured, min(configured * accounts, WORKERS))


@dataclass(frozen=True, slots=True)
class DeliveringLoops:
    """The body of every thread that delivers; each returns once `wakeups.stop` is set."""

    stages: Delivering
    wakeups: DeliveryWakeups
    clock: Callable[[], datetime]
    start_more: Callable[[Mapping[str, Callable[[], None]]], None] = lambda _loops: None
    """Starts threads with more loops."""
    reserve: deque[tuple[str, Callable[[], None]]] = field(default_factory=deque)
    """The loops of the workers that are not started yet."""

    def all(self) -> dict[str, Callable[[], None]]:
        """Every loop that is started with the daemon, by its thread's name."""
        loops: dict[str, Callable[[], None]] = {
            "runs": self.operate,
            "accounts": self.keep_accounts,
            "memory": self.keep_small,
            "complete": self.complete,
        }
        workers = [(f"deliver-{number}", self.deliver) for number in range(self.stages.workers)]
        self.reserve.extend(workers[FIRST_WORKERS:])
        return loops | dict(workers[:FIRST_WORKERS])

    def lock_what_is_in_doubt(self) -> None:
        """Lock the keys of the deliveries in doubt, before the first worker starts."""
        for delivery_id, keys in self.stages.ledger.in_doubt().items():
            self.stages.locks.acquire(delivery_id, keys)
            self.stages.locks.hold_until(delivery_id, self.clock())

    def deliver(self) -> None:
        """Deliver what is due."""
        worker = self.stages.pipeline.new_worker()
        signal, dispatcher = self.wakeups.signal, self.stages.pipeline.dispatcher
        seen = 0

        def step() -> bool:
            nonlocal seen
            seen = signal.events
            return worker.deliver_one(self.clock())

        repeat(
            step,
            self.wakeups.stop,
            wait=lambda: signal.wait(seen, dispatcher.look_within),
            busy=self._busy,
        )
        attempt(lambda: self.stages.pipeline.end_worker(worker, self.clock()), self._busy)

    def complete(self) -> None:
        """Settle what has ended, after it has gathered for a moment; see that one worker is idle."""
        completer, stop = self.stages.pipeline.completer, self.wakeups.stop

        def step() -> None:
            completer.settle_ended()
            if self.reserve and not self.wakeups.signal.idle:
                self.start_more(dict([self.reserve.popleft()]))

        def gather() -> None:
            completer.wait(COMPLETED_EVERY)
            stop.wait(GATHERED_FOR)

        repeat(step, stop, wait=gather, busy=self._busy)

    @staticmethod
    def _busy(error: LedgerError) -> None:
        log.warning("delivery.ledger_busy", error=str(error))

    def operate(self) -> None:
        """Carry out the operators' jobs."""

        def step() -> bool:
            found = self.stages.operator_jobs.carry_out(self.clock())
            if found:
                self.wakeups.wake()
            return found

        repeat(
            step,
            self.wakeups.stop,
            wait=partial(self.wakeups.stop.wait, JOBS_EVERY),
            busy=lambda error: log.warning("runs.ledger_busy", error=str(error)),
        )

    def keep_small(self) -> None:
        """Give freed memory back every 30 s: answers of CRMs and batches are large."""
        while not self.wakeups.stop.wait(MEMORY_EVERY):
            give_memory_back()

    def keep_accounts(self) -> None:
        """Save what the CRM accounts allow, and once more at the end."""

        def step() -> None:
            self.stages.budget_store.save_changed(self.clock())

        def busy(error: LedgerError) -> None:
            log.warning("account.ledger_busy", error=str(error))

        wait = partial(self.wakeups.stop.wait, ACCOUNTS_EVERY)
        repeat(step, self.wakeups.stop, wait=wait, busy=busy)
        attempt(step, busy)
