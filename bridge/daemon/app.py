"""The daemon on one screen: it starts its parts, waits, and stops them in reverse."""

import asyncio
import gc
import resource
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

import structlog
import uvloop

from bridge import __version__
from bridge.config.load import Config
from bridge.config.secrets import Secrets
from bridge.daemon import systemd
from bridge.daemon.delivering import DeliveringLoops, build_delivering
from bridge.daemon.listeners import admin_listener, public_listener
from bridge.daemon.loop import DeliveryWakeups, ReceivingWakeups
from bridge.daemon.receiving import ReceivingLoops, build_receiving
from bridge.daemon.threads import Threads
from bridge.daemon.wiring import load_destinations
from bridge.ledger import Ledger
from bridge.lib.clocks import Clocks, SteadyClock, now_utc
from bridge.lib.errors import CallbridgeError
from bridge.lib.log import hide

log = structlog.get_logger("bridge.daemon")

STOP_WITHIN = 20.0
"""Seconds. systemd's TimeoutStopSec is longer: what is under way ends before the process is killed."""
OPEN_FILES = 65_536
"""Wanted as the limit of open files, where the system allows so many: each of 2,000 connections takes one."""
SWITCH_INTERVAL = 0.0005
"""Seconds. The ledger's writer gives up the interpreter's lock at every statement. With Python's default it
would wait up to 5 ms for the door's thread each time to get it back, and a commit has many statements."""
COLLECT_AFTER = 5_000
"""New objects between two runs of the garbage collector. Records are large trees of plain values without
cycles: looking for cycles at every 700 objects, as Python does, takes a tenth of the processor's time."""


ToldHowToStop = Callable[[Callable[[], None], Callable[[], None]], None]
"""Takes `stop` and `hurry`, either of which may be called from any thread or signal handler."""


class Daemon:
    """One running callbridge: starts the stages' threads and the two listeners, and stops them in reverse."""

    def __init__(
        self, config: Config, secrets: Secrets, ledger: Ledger, clock: Callable[[], datetime] = now_utc
    ) -> None:
        """Build every part and bind both addresses; nothing is served yet.

        Raises:
            ConfigError: all problems of all mappings and connectors.
            CallbridgeError: an address to listen on is taken or not ours.
        """
        hide(secrets.values())
        self._config = config
        self._ledger = ledger
        self._delivery_wakeups = DeliveryWakeups()
        self._receiving_wakeups = ReceivingWakeups(wake_deliveries=self._delivery_wakeups.wake)
        # One steady clock for all workers, so that all agree on the age of a request in doubt.
        self._clocks = Clocks(clock, SteadyClock(clock))
        destinations = load_destinations(config, secrets)
        self._receiving = build_receiving(
            config, secrets, destinations, ledger, clock, self._receiving_wakeups
        )
        self._delivering = build_delivering(
            config, destinations, ledger, self._clocks, self._delivery_wakeups
        )
        # Bound here, so that a port in use stops the start, and port 0 is known before serving.
        self._public = public_listener(config, self._receiving.door)
        self._admin = admin_listener(config, secrets.metrics_token, self._receiving.door, ledger)
        self.url, self.admin_url = self._public.url, self._admin.url

    def run(self, until: ToldHowToStop) -> None:
        """Serve until stopped; `until` is told how once both listeners accept.

        Raises:
            CallbridgeError: a part died of a fault.
        """
        tune_process()
        uvloop.run(self._run(until))

    async def _run(self, until: ToldHowToStop) -> None:
        loop, stopping = asyncio.get_running_loop(), asyncio.Event()

        def stop() -> None:
            loop.call_soon_threadsafe(stopping.set)

        released = self._ledger.release_leases(self._clocks.steady())
        threads = Threads(self._loops(), give_up=stop)
        # Before the threads: a reconciliation that died with the last daemon must still wait when the
        # scheduler looks, or a second one is asked for.
        self._receiving.scheduler.start()
        threads.start()
        serving = [asyncio.create_task(listener.serve()) for listener in (self._public, self._admin)]
        try:
            await asyncio.gather(self._public.started.wait(), self._admin.started.wait())
            until(stop, partial(self._hurry, threads))
            systemd.notify("READY=1")
            self._say_ready(released)
            await _until_set(stopping, self._sign_of_life)
        finally:
            await self._shut_down(serving, threads)
        if threads.failed:
            raise CallbridgeError(f"{threads.failed} failed; its trace is in the log")

    def _loops(self) -> dict[str, Callable[[], None]]:
        receiving = ReceivingLoops(self._receiving, self._receiving_wakeups, self._clocks.wall)
        delivering = DeliveringLoops(
            self._delivering,
            self._delivery_wakeups,
            self._clocks.wall,
            lambda: self._receiving.door.pressed,
        )
        delivering.lock_what_is_in_doubt()
        return receiving.all() | delivering.all()

    def _say_ready(self, released: int) -> None:
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

    async def _shut_down(self, serving: Sequence[asyncio.Task[None]], threads: Threads) -> None:
        """Stop all parts in the reverse order of the start; what is under way gets 20 s to end."""
        systemd.notify("STOPPING=1")
        log.info("daemon.stopping")
        self._receiving.door.close()
        self._receiving.scheduler.stop()
        for listener in (self._public, self._admin):
            listener.stop()
        await asyncio.gather(*serving)
        self._receiving_wakeups.stop_all()
        self._delivery_wakeups.stop_all()
        await asyncio.to_thread(threads.join, STOP_WITHIN)
        log.info("daemon.stopped")

    def _hurry(self, threads: Threads) -> None:
        """A second signal: do not wait for what is under way; it is due again at the next start."""
        threads.hurry()
        self._receiving_wakeups.stop.set()
        self._delivery_wakeups.stop.set()
        for listener in (self._public, self._admin):
            listener.hurry()

    def _sign_of_life(self) -> None:
        # The result does not matter: a full disk is no reason for a restart, a writer that never answers is.
        self._ledger.writable()
        systemd.notify("WATCHDOG=1")


def tune_process() -> None:
    """Set the interpreter and the process up for many threads, large records and many connections."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 10, 10)
    # The door's connections, the ledger and the CRMs share the limit of open files.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, OPEN_FILES)), hard))


async def _until_set(stopping: asyncio.Event, sign_of_life: Callable[[], None]) -> None:
    """Wait for the end, with systemd's watchdog tied to a ledger that can be written."""
    interval = systemd.watchdog_interval()
    while not stopping.is_set():
        try:
            await asyncio.wait_for(stopping.wait(), interval)
        except TimeoutError:
            await asyncio.to_thread(sign_of_life)
