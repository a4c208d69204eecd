"""The daemon's threads: which step each repeats, what it waits for, and what happens when one dies."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import structlog

from bridge.daemon.loop import GiveWay, Wakeups, attempt, repeat
from bridge.daemon.stages import Stages
from bridge.delivery.worker import Worker
from bridge.intake.judge import GROUP
from bridge.lib.errors import LedgerError
from bridge.reconcile.reconciler import refuse_walk

log = structlog.get_logger("bridge.daemon")

# All in seconds.
REQUESTS_EVERY = 0.25
"""How often operators' jobs and reconciliations are looked for: a command waits for them."""
ACCOUNTS_EVERY = 0.5
"""How often it is looked whether an account's limits or its breaker are to be saved."""
MAINTENANCE_EVERY = 30.0
SCHEDULE_EVERY = 30.0
"""How often the schedule's times are corrected, in case the clock was set."""
IDLE = 0.5
"""After so long the judge and the workers look for work though nothing has woken them."""
JUDGE_WAITS = 2.0
"""How long verdicts give way to callbacks at the door; then they catch up even while more arrive."""
DELIVERY_WAITS = 0.2
"""How long each delivery gives way to callbacks at the door: without it the daemon takes 114 MB, not 104."""


@dataclass(frozen=True, slots=True)
class Loops:
    """The body of every thread; each returns once `wakeups.stop` is set."""

    stages: Stages
    wakeups: Wakeups
    clock: Callable[[], datetime]
    pressed: Callable[[], bool]
    """Whether callbacks wait at the door."""

    def all(self) -> dict[str, Callable[[], None]]:
        """Every loop by its thread's name."""
        loops: dict[str, Callable[[], None]] = {
            "judge": self.judge,
            "runs": self.operate,
            "schedule": self.keep_times,
            "upkeep": self.maintain,
            "accounts": self.keep_accounts,
        }
        for number, worker in enumerate(self.stages.workers):
            loops[f"deliver-{number}"] = partial(self.deliver, worker)
        for source, reconciler in self.stages.reconcilers.items():
            loops[f"reconcile-{source}"] = partial(self.reconcile, reconciler.carry_out)
        if not self.stages.reconcilers:
            refuse = partial(refuse_walk, self.stages.ledger)
            loops["reconcile"] = partial(self.reconcile, lambda: refuse(self.clock()))
        return loops

    def judge(self) -> None:
        """Judge receipts, woken by arrivals; callbacks at the door go first, for 2 s at most."""
        give_way = GiveWay(self.pressed, self.wakeups.stop, JUDGE_WAITS)

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
                self.wakeups.wake_workers()
            return count > 0

        repeat(
            step,
            self.wakeups.stop,
            wait=partial(self.wakeups.arrived.wait, IDLE),
            busy=lambda error: log.warning("judge.ledger_busy", error=str(error)),
        )

    def deliver(self, worker: Worker) -> None:
        """Deliver what is due; each delivery gives way to callbacks at the door, for 0.2 s at most."""
        give_way = GiveWay(self.pressed, self.wakeups.stop, DELIVERY_WAITS)

        def step() -> bool:
            give_way.restart()
            give_way.wait()
            return worker.deliver_one(self.clock())

        repeat(
            step,
            self.wakeups.stop,
            wait=partial(self.wakeups.wait_for_deliveries, IDLE),
            busy=lambda error: log.warning("delivery.ledger_busy", error=str(error)),
        )
        worker.finish()
        worker.close()

    def reconcile(self, step: Callable[[], bool]) -> None:
        """Carry out the reconciliations and audits that somebody asked for."""
        repeat(
            step,
            self.wakeups.stop,
            wait=partial(self.wakeups.stop.wait, REQUESTS_EVERY),
            busy=lambda error: log.warning("reconcile.ledger_busy", error=str(error)),
        )

    def operate(self) -> None:
        """Carry out the operators' jobs."""

        def step() -> bool:
            found = self.stages.operator_jobs.carry_out(self.clock())
            if found:
                self.wakeups.wake_workers()
            return found

        repeat(
            step,
            self.wakeups.stop,
            wait=partial(self.wakeups.stop.wait, REQUESTS_EVERY),
            busy=lambda error: log.warning("runs.ledger_busy", error=str(error)),
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

    def keep_accounts(self) -> None:
        """Save what the CRM accounts allow, and once more at the end."""

        def step() -> None:
            self.stages.budget_store.save_changed(self.clock())

        def busy(error: LedgerError) -> None:
            log.warning("account.ledger_busy", error=str(error))

        wait = partial(self.wakeups.stop.wait, ACCOUNTS_EVERY)
        repeat(step, self.wakeups.stop, wait=wait, busy=busy)
        attempt(step, busy)


class Threads:
    """Runs each loop on its own thread. If one dies, the daemon ends: otherwise it would only look alive."""

    def __init__(self, loops: Mapping[str, Callable[[], None]], give_up: Callable[[], None]) -> None:
        """`give_up` is called, from its thread, when a loop has died."""
        self._give_up = give_up
        self._hurried = threading.Event()
        self._threads = [
            threading.Thread(target=self._guarded, args=(name, loop), name=name, daemon=True)
            for name, loop in loops.items()
        ]
        self.failed = ""
        """The name of a loop that died."""

    def start(self) -> None:
        """Start them all."""
        for thread in self._threads:
            thread.start()

    def _guarded(self, name: str, loop: Callable[[], None]) -> None:
        try:
            loop()
        except Exception:
            log.exception("daemon.part_failed", part=name)
            self.failed = name
            self._give_up()

    def hurry(self) -> None:
        """Let `join` wait no longer."""
        self._hurried.set()

    def join(self, within: float) -> None:
        """Wait up to `within` seconds for all threads; what is unfinished is due again at the next start."""
        deadline = time.monotonic() + within
        threads = self._threads
        while threads := [thread for thread in threads if thread.is_alive()]:
            if self._hurried.is_set() or time.monotonic() > deadline:
                log.warning("daemon.stopped_late", under_way=len(threads))
                return
            threads[0].join(0.1)
