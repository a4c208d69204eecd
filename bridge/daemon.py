"""The daemon on one screen: build the parts, start them, wait, stop them in reverse."""

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog
import uvicorn
import uvloop

from bridge import assembly, deliver, judge, runs, systemd
from bridge.config import Config, Secrets
from bridge.console import admin_app
from bridge.errors import CallbridgeError
from bridge.judge import Judge
from bridge.ledger import Ledger
from bridge.receive import Door
from bridge.values import Address

log = structlog.get_logger("bridge.daemon")

# systemd's TimeoutStopSec is longer: what is under way ends before the process is killed.
STOP_WITHIN = 20.0
RUNS_EVERY = 0.25


def now_utc() -> datetime:
    """The daemon's clock."""
    return datetime.now(UTC)


class Daemon:
    """All parts of one running callbridge, joined here and nowhere else."""

    def __init__(
        self, config: Config, secrets: Secrets, ledger: Ledger, clock: Callable[[], datetime] = now_utc
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._stop = threading.Event()
        self._arrived = threading.Event()
        self._owed = threading.Condition()
        self._failed = ""
        destinations = assembly.load_destinations(config, secrets)
        ledger.start_destinations(assembly.destinations_by_source(config), clock())
        rules = assembly.source_rules(config, destinations)
        self._judge = Judge(ledger, rules, destinations_since=ledger.skipped_before())
        count = config.delivery.workers if destinations else 0
        self._workers = [
            assembly.new_worker(config, destinations, ledger, clock, self._stop) for _ in range(count)
        ]
        self._door = Door(
            assembly.source_doors(config, secrets),
            ledger,
            max_body=config.server.max_body,
            body_timeout=config.server.body_timeout.total_seconds(),
            trusted_proxies=config.server.trusted_proxies,
            clock=clock,
            filed=self._arrived.set,
        )
        admin = admin_app(
            ledger,
            accepting=lambda: not self._door.closed,
            answers=lambda: self._door.answers,
            token=secrets.admin_token,
        )
        # Bound here, so that a port in use stops the start, and port 0 is known before serving.
        self._public = _Listener(self._door, config.server.listen)
        self._admin = _Listener(admin, config.admin.listen)
        self.url, self.admin_url = self._public.url, self._admin.url

    def run(self, until: Callable[[Callable[[], None], Callable[[], None]], None]) -> None:
        """Serve; `until(stop, hurry)` is told how to end it, from any thread or signal."""
        uvloop.run(self._run(until))

    async def _run(self, until: Callable[[Callable[[], None], Callable[[], None]], None]) -> None:
        loop, stopping = asyncio.get_running_loop(), asyncio.Event()
        released = self._ledger.release_leases()
        threads = self._start_threads(partial(_set_from_anywhere, loop, stopping))
        serving = [asyncio.create_task(listener.serve()) for listener in (self._public, self._admin)]
        try:
            await asyncio.gather(self._public.started.wait(), self._admin.started.wait())
            until(partial(_set_from_anywhere, loop, stopping), self._hurry)
            systemd.notify("READY=1")
            log.info("daemon.ready", callbacks=self.url, admin=self.admin_url, leases_released=released)
            await _until_set(stopping, self._sign_of_life)
        finally:
            systemd.notify("STOPPING=1")
            log.info("daemon.stopping")
            self._door.close()
            for listener in (self._public, self._admin):
                listener.stop()
            await asyncio.gather(*serving)
            self._stop.set()
            with self._owed:
                self._owed.notify_all()
            self._arrived.set()
            deadline = loop.time() + STOP_WITHIN
            for thread in threads:
                await asyncio.to_thread(thread.join, max(0.0, deadline - loop.time()))
            log.info("daemon.stopped")
        if self._failed:
            raise CallbridgeError(f"{self._failed} failed; its trace is in the log")

    def _start_threads(self, give_up: Callable[[], None]) -> list[threading.Thread]:
        parts = {
            "judge": partial(
                judge.work, self._judge, self._arrived, self._wake_workers, self._stop, self._clock
            ),
            "runs": partial(
                runs.work, self._ledger, self._wake_workers, self._stop, self._clock, every=RUNS_EVERY
            ),
        } | {
            f"deliver-{number}": partial(deliver.work, worker, self._owed, self._stop, self._clock)
            for number, worker in enumerate(self._workers)
        }
        threads = [
            threading.Thread(target=self._guarded, args=(name, part, give_up), name=name, daemon=True)
            for name, part in parts.items()
        ]
        for thread in threads:
            thread.start()
        return threads

    def _guarded(self, name: str, part: Callable[[], None], give_up: Callable[[], None]) -> None:
        """A part that dies takes the daemon with it: half a daemon would look alive."""
        try:
            part()
        except Exception:
            log.exception("daemon.part_failed", part=name)
            self._failed = name
            give_up()

    def _wake_workers(self) -> None:
        with self._owed:
            self._owed.notify_all()

    def _hurry(self) -> None:
        """A second signal: do not wait for what is under way; it is due again at the next start."""
        self._stop.set()
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


class _Listener:
    """One uvicorn server on a socket of ours; signals are the daemon's affair."""

    def __init__(self, app: Callable[..., Any], listen: Address) -> None:
        family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
        # Named, because asyncio switches Nagle's delay off only for sockets that say they are TCP.
        self._socket = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((listen.host, listen.port))
        except OSError as error:
            raise CallbridgeError(f"cannot listen on {listen}: {error.strerror}") from error
        self._socket.listen(2048)
        self.url = f"http://{Address(listen.host, self._socket.getsockname()[1])}"
        self.started = asyncio.Event()
        self._server = _Server(
            uvicorn.Config(
                app,
                log_config=None,
                # The callback's path holds its token.
                access_log=False,
                lifespan="off",
                ws="none",
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=10,
            )
        )

    async def serve(self) -> None:
        """Serve until stopped; answers under way are finished."""
        self._server.begun = self.started
        await self._server.serve(sockets=[self._socket])

    def stop(self) -> None:
        """Take no more connections."""
        self._server.should_exit = True

    def hurry(self) -> None:
        """Close what is open."""
        self._server.force_exit = True


class _Server(uvicorn.Server):
    """uvicorn's own handlers would raise the signal again once it has served."""

    begun: asyncio.Event

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.begun.set()


def on_signals(stop: Callable[[], None], hurry: Callable[[], None]) -> None:
    """SIGTERM and SIGINT stop the daemon; a second one hurries it."""
    loop, told = asyncio.get_running_loop(), threading.Event()

    def handle() -> None:
        (hurry if told.is_set() else stop)()
        told.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, handle)
