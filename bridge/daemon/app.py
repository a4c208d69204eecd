"""The daemon on one screen: build the parts, start them, wait, stop them in reverse."""

import asyncio
import atexit
import gc
import resource
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial

import structlog
import uvloop

from bridge import __version__
from bridge.admin.metrics import admin_app
from bridge.config.load import Config, Secrets
from bridge.daemon import systemd
from bridge.daemon import wiring as assembly
from bridge.daemon.loop import Wakeups
from bridge.daemon.maintenance import Upkeep
from bridge.daemon.reconcile_wiring import daemon_reconcilers, timetables
from bridge.daemon.scheduler import Scheduler
from bridge.daemon.threads import Loops, Stages, Threads
from bridge.delivery.budget_store import BudgetStore
from bridge.delivery.destination import Routes
from bridge.delivery.locks import KeyLocks
from bridge.intake.http_server import Listener
from bridge.intake.judge import Judge
from bridge.intake.receive import Door
from bridge.ledger import Ledger
from bridge.lib.errors import CallbridgeError
from bridge.lib.log import hide
from bridge.lib.stored_times import Clocks, SteadyClock

log = structlog.get_logger("bridge.daemon")

# systemd's TimeoutStopSec is longer: what is under way ends before the process is killed.
STOP_WITHIN = 20.0
OPEN_FILES = 65_536
# The writer gives up the interpreter's lock at every statement; at Python's 5 ms it would wait
# for the door each time to win it back, and a commit would take that many times as long.
SWITCH_INTERVAL = 0.0005
# Records are large trees of plain values, without cycles: looking through them for any takes a tenth of
# the processor's time at Python's own 700.
COLLECT_AFTER = 5_000


def now_utc() -> datetime:
    """The daemon's clock."""
    return datetime.now(UTC)


class Daemon:
    """All parts of one running callbridge, joined here and nowhere else."""

    def __init__(
        self, config: Config, secrets: Secrets, ledger: Ledger, clock: Callable[[], datetime] = now_utc
    ) -> None:
        hide(secrets.values())
        self._config = config
        self._ledger = ledger
        self._clock = clock
        # One for all workers, or what one of them has sent would be of another age for the next.
        self._steady = SteadyClock(clock)
        self._wakeups = Wakeups()
        destinations = assembly.load_destinations(config, secrets)
        ledger.start_destinations(assembly.destinations_by_source(config), clock())
        rules = assembly.source_rules(config, destinations)
        self._judge = Judge(ledger, rules, destinations_since=ledger.skipped_before())
        self._reconcilers = daemon_reconcilers(
            config, secrets.api, rules, ledger, clock, self._wakeups.stop, self._wakeups.arrived.set
        )
        self._scheduler = Scheduler(timetables(config), ledger, clock)
        count = config.delivery.workers if destinations else 0
        self._locks = KeyLocks()
        self._operator = assembly.new_operator(config, ledger, self._wakeups.stop, destinations, self._locks)
        shared = assembly.shared_accounts(destinations, ledger, clock)
        self._budget_store = BudgetStore(ledger, {name: each.budget for name, each in shared.items()})
        routes = Routes(assembly.origins_of(config), destinations, shared)
        clocks = Clocks(clock, self._steady)
        self._upkeep = Upkeep(ledger, list(destinations))
        self._workers = [
            assembly.new_worker(config, routes, ledger, self._locks, clocks, self._wakeups.stop)
            for _ in range(count)
        ]
        self._door = Door(
            assembly.source_doors(config, secrets),
            ledger,
            max_body=config.server.max_body,
            trusted_proxies=config.server.trusted_proxies,
            clock=clock,
            filed=self._wakeups.arrived.set,
        )
        # Bound here, so that a port in use stops the start, and port 0 is known before serving.
        self._public, self._admin = self._listeners(secrets.metrics_token)
        self.url, self.admin_url = self._public.url, self._admin.url

    def _listeners(self, metrics_token: str | None) -> tuple[Listener, Listener]:
        """Where callbacks arrive, and where health and metrics are."""
        config = self._config
        admin = admin_app(
            self._ledger,
            accepting=lambda: not self._door.closed,
            answers=lambda: self._door.answers,
            hosts=config.admin.hosts,
            metrics_token=metrics_token,
            trusted_proxies=config.admin.trusted_proxies,
        )
        timeout = config.server.body_timeout.total_seconds()
        return (
            Listener(
                self._door,
                config.server.listen,
                request_timeout=timeout,
                trusted_proxies=config.server.trusted_proxies,
                refused=self._door.count_refused,
            ),
            Listener(
                admin,
                config.admin.listen,
                request_timeout=timeout,
                trusted_proxies=config.admin.trusted_proxies,
            ),
        )

    def run(self, until: Callable[[Callable[[], None], Callable[[], None]], None]) -> None:
        """Serve; `until(stop, hurry)` is told how to end it, from any thread or signal."""
        sys.setswitchinterval(SWITCH_INTERVAL)
        gc.freeze()
        gc.set_threshold(COLLECT_AFTER, 10, 10)
        # Connections at the door share this with the ledger and the CRMs.
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, OPEN_FILES)), hard))
        uvloop.run(self._run(until))

    async def _run(self, until: Callable[[Callable[[], None], Callable[[], None]], None]) -> None:
        loop, stopping = asyncio.get_running_loop(), asyncio.Event()
        released = self._ledger.release_leases(self._steady())
        for delivery_id, lines in self._ledger.in_doubt().items():
            self._locks.acquire(delivery_id, lines, 0)
            self._locks.hold_until(delivery_id, self._clock())
        threads = self._threads(give_up=partial(_set_from_anywhere, loop, stopping))
        threads.start()
        self._scheduler.start()
        serving = [asyncio.create_task(listener.serve()) for listener in (self._public, self._admin)]
        try:
            await asyncio.gather(self._public.started.wait(), self._admin.started.wait())
            until(partial(_set_from_anywhere, loop, stopping), partial(self._hurry, threads))
            systemd.notify("READY=1")
            log.info(
                "daemon.ready",
                callbacks=self.url,
                admin=self.admin_url,
                version=__version__,
                config=str(self._config.path.absolute()),
                sources=",".join(self._config.sources),
                destinations=",".join(self._config.destinations),
                leases_released=released,
            )
            await _until_set(stopping, self._sign_of_life)
        finally:
            systemd.notify("STOPPING=1")
            log.info("daemon.stopping")
            self._door.close()
            self._scheduler.stop()
            for listener in (self._public, self._admin):
                listener.stop()
            await asyncio.gather(*serving)
            self._wakeups.stop_all()
            await asyncio.to_thread(threads.join, STOP_WITHIN)
            log.info("daemon.stopped")
        if threads.failed:
            raise CallbridgeError(f"{threads.failed} failed; its trace is in the log")

    def _threads(self, give_up: Callable[[], None]) -> Threads:
        stages = Stages(
            judge=self._judge,
            workers=self._workers,
            reconcilers=self._reconcilers,
            operator=self._operator,
            scheduler=self._scheduler,
            upkeep=self._upkeep,
            budget_store=self._budget_store,
            ledger=self._ledger,
        )
        loops = Loops(stages, self._wakeups, self._clock, pressed=lambda: self._door.pressed)
        return Threads(loops.all(), give_up)

    def _hurry(self, threads: Threads) -> None:
        """A second signal: do not wait for what is under way; it is due again at the next start."""
        threads.hurry()
        self._wakeups.stop.set()
        for listener in (self._public, self._admin):
            listener.hurry()

    def _sign_of_life(self) -> None:
        # A full disk is no reason to be restarted; a writer that does not answer is.
        self._ledger.writable()
        systemd.notify("WATCHDOG=1")


def _set_from_anywhere(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    loop.call_soon_threadsafe(event.set)


async def _until_set(stopping: asyncio.Event, sign_of_life: Callable[[], None]) -> None:
    """Wait for the end, with systemd's watchdog tied to a ledger that can be written."""
    interval = systemd.watchdog_interval()
    while not stopping.is_set():
        try:
            await asyncio.wait_for(stopping.wait(), interval)
        except TimeoutError:
            await asyncio.to_thread(sign_of_life)


def on_signals(stop: Callable[[], None], hurry: Callable[[], None]) -> None:
    """SIGTERM and SIGINT stop the daemon; a second one hurries it, down to the process's last moment.

    The loop's own handlers would end with the loop, and from there on a signal would kill the process.
    """
    loop, told = asyncio.get_running_loop(), threading.Event()

    def handle() -> None:
        (hurry if told.is_set() else stop)()
        told.set()

    def pass_on(*_: object) -> None:
        # Without a loop there is nothing left to stop or to hurry.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(handle)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
        # Handlers end with the interpreter, shortly before the process; only ignoring outlives it.
        atexit.register(signal.signal, number, signal.SIG_IGN)
