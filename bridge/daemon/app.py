"""The daemon on one screen: it starts its parts, waits, and stops them in reverse."""

import asyncio
import ctypes
import gc
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import structlog
import uvloop

from bridge import __version__
from bridge.config.load import Config
from bridge.config.secrets import Secrets
from bridge.daemon import systemd
from bridge.daemon.deliveries import Deliveries, DeliveryThreads
from bridge.daemon.delivery_process import STOP_WITHIN, DeliveryProcess
from bridge.daemon.listeners import admin_listener, public_listener
from bridge.daemon.loop import ReceivingWakeups
from bridge.daemon.receiving import ReceivingLoops, build_receiving
from bridge.daemon.threads import Threads
from bridge.daemon.wiring import load_destinations
from bridge.delivery.destination import Destination
from bridge.ledger import Ledger, open_ledger, ownership_of, prepare_ledger
from bridge.lib.clocks import Clocks, SteadyClock, now_utc
from bridge.lib.errors import CallbridgeError
from bridge.lib.log import hide

log = structlog.get_logger("bridge.daemon")

OPEN_FILES = 65_536
"""Wanted as the limit of open files, where the system allows so many: each of 2,000 connections takes one."""
SWITCH_INTERVAL = 0.0001
"""Seconds. The ledger's writer gives up the interpreter's lock at every statement. With Python's default it
would wait up to 5 ms for the door's thread each time to get it back, and a commit has many statements. At 64
connections 5,750 calls/s are taken in; 4,800 with 0.5 ms, 4,900 with 5 ms."""
COLLECT_AFTER = 5_000
"""New objects between two runs of the garbage collector. Records are large trees of plain values without
cycles: looking for cycles at every 700 objects, as Python does, takes a tenth of the processor's time."""


MALLOC_ARENAS = 2
"""Heaps of the C library, which would make one for each of 16 threads: 40 workers keep 112 MB in those, and
94 MB in two. Python takes large pieces from them, so threads hardly wait for one another."""
_M_ARENA_MAX = -8

ToldHowToStop = Callable[[Callable[[], None], Callable[[], None]], None]
"""Takes `stop` and `hurry`, either of which may be called from any thread or signal handler."""


class Daemon:
    """One running callbridge: starts the stages' threads and the two listeners, and stops them in reverse."""

    def __init__(
        self,
        config: Config,
        secrets: Secrets,
        destinations: Mapping[str, Destination],
        ledger: Ledger,
        clocks: Clocks,
        deliveries: Deliveries,
    ) -> None:
        """Build every part and bind both addresses; nothing is served yet.

        Raises:
            CallbridgeError: an address to listen on is taken or not ours.
        """
        self._config = config
        self._ledger = ledger
        self._clocks = clocks
        self._deliveries = deliveries
        self._wakeups = ReceivingWakeups(wake_deliveries=deliveries.wake)
        self._receiving = build_receiving(config, secrets, destinations, ledger, clocks.wall, self._wakeups)
        # Bound here, so that a port in use stops the start, and port 0 is known before serving.
        self._public = public_listener(config, self._receiving.door)
        self._admin = admin_listener(config, secrets.metrics_token, self._receiving.door, ledger)
        self.url, self.admin_url = self._public.url, self._admin.url

    def run(self, until: ToldHowToStop) -> None:
        """Serve until stopped; `until` is told how once both listeners accept.

        Raises:
            CallbridgeError: a part died of a fault.
        """
        uvloop.run(self._run(until))

    async def _run(self, until: ToldHowToStop) -> None:
        loop, stopping = asyncio.get_running_loop(), asyncio.Event()

        def stop() -> None:
            loop.call_soon_threadsafe(stopping.set)

        released = self._ledger.release_leases(self._clocks.steady())
        loops = ReceivingLoops(self._receiving, self._wakeups, self._clocks.wall)
        threads = Threads(give_up=stop)
        self._deliveries.start(give_up=stop)
        # Before the threads: a reconciliation that died with the last daemon must still wait when the
        # scheduler looks, or a second one is asked for.
        self._receiving.scheduler.start()
        threads.start(loops.all())
        serving = [asyncio.create_task(listener.serve()) for listener in (self._public, self._admin)]
        try:
            await asyncio.gather(self._public.started.wait(), self._admin.started.wait())
            until(stop, partial(self._hurry, threads))
            systemd.notify("READY=1")
            self._say_ready(released)
            await _until_set(stopping, self._sign_of_life)
        finally:
            await self._shut_down(serving, threads)
        if failed := threads.failed or self._deliveries.failed:
            raise CallbridgeError(f"{failed} failed: the log says why")

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
        self._wakeups.stop_all()
        self._deliveries.stop()
        await asyncio.to_thread(self._join, threads)
        log.info("daemon.stopped")

    def _join(self, threads: Threads) -> None:
        until = time.monotonic() + STOP_WITHIN
        threads.join(STOP_WITHIN)
        self._deliveries.join(max(0.0, until - time.monotonic()))

    def _hurry(self, threads: Threads) -> None:
        """A second signal: do not wait for what is under way; it is due again at the next start."""
        threads.hurry()
        self._wakeups.stop.set()
        self._deliveries.hurry()
        for listener in (self._public, self._admin):
            listener.hurry()

    def _sign_of_life(self) -> None:
        # The result does not matter: a full disk is no reason for a restart, a writer that never answers is.
        self._ledger.writable()
        if self._deliveries.respond():
            systemd.notify("WATCHDOG=1")


def run_daemon(config: Config, secrets: Secrets, place: Path, until: ToldHowToStop) -> None:
    """Own the ledger at `place` and run a daemon on it, with its deliveries in a process of their own.

    Raises:
        ConfigError: all problems of all mappings and connectors.
        CallbridgeError: the ledger cannot be used, an address is taken, or a part died of a fault.
    """
    hide(secrets.values())
    destinations, clocks = load_destinations(config, secrets), new_clocks()
    tune_process()
    with ownership_of(place) as owner:
        prepare_ledger(place, owner)
        opened = partial(open_ledger, place, min_free=config.ledger.min_free, owner=owner)
        with DeliveryProcess(opened, partial(DeliveryThreads, config, destinations, clocks)) as deliveries:
            ledger = opened()
            try:
                Daemon(config, secrets, destinations, ledger, clocks, deliveries).run(until)
            finally:
                ledger.close()


def daemon_on_threads(config: Config, secrets: Secrets, ledger: Ledger) -> Daemon:
    """A daemon whose deliveries run in this process: for one that has threads already.

    Raises:
        ConfigError: all problems of all mappings and connectors.
        CallbridgeError: an address to listen on is taken or not ours.
    """
    hide(secrets.values())
    destinations, clocks = load_destinations(config, secrets), new_clocks()
    deliveries = DeliveryThreads(config, destinations, clocks, ledger)
    return Daemon(config, secrets, destinations, ledger, clocks, deliveries)


def new_clocks() -> Clocks:
    """The clocks of one daemon: one steady clock, so that all agree on the age of a request in doubt."""
    return Clocks(now_utc, SteadyClock(now_utc))


def tune_process() -> None:
    """Set the interpreter and the process up for many threads, large records and many connections."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.set_threshold(COLLECT_AFTER, 10, 10)
    # The door's connections, the ledger and the CRMs share the limit of open files.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, OPEN_FILES)), hard))
    if set_option := getattr(ctypes.CDLL(None), "mallopt", None):
        set_option(_M_ARENA_MAX, MALLOC_ARENAS)


async def _until_set(stopping: asyncio.Event, sign_of_life: Callable[[], None]) -> None:
    """Wait for the end, with systemd's watchdog tied to a ledger that can be written."""
    interval = systemd.watchdog_interval()
    while not stopping.is_set():
        try:
            await asyncio.wait_for(stopping.wait(), interval)
        except TimeoutError:
            await asyncio.to_thread(sign_of_life)
