"""One HTTP listener of the daemon: its socket, its deadlines and its limits.

uvicorn waits for ever for a request that has begun. Here a request that is not whole in time is cut off,
whichever part of it is late, and the number of connections has a limit. Begin at `Listener`.
"""

import asyncio
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import uvicorn

from bridge.intake.connections import ConnectionTable
from bridge.intake.http_protocol import LimitedProtocol, Limits, Waiting
from bridge.lib.addresses import IpNetwork
from bridge.lib.errors import CallbridgeError
from bridge.lib.values import Address

MOST_CONNECTIONS = 2_000
# A quarter of the listener, so that one address cannot fill it; if four do, silent connections make room.
MOST_PER_ADDRESS = 500
# All senders behind a proxy come from its address.
MOST_PER_PROXY = 1_500
# Seconds that a connection may be silent before its first request, and after an answer.
FIRST_SILENCE, KEEP_ALIVE = 8.0, 5.0
# Seconds after which a connection is closed whose client does not read its answer.
LONGEST_STALL = 30.0


class _QuietServer(uvicorn.Server):
    """uvicorn without its signal handlers, which would raise the signal again after serving."""

    begun: asyncio.Event

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.begun.set()


def _bound(listen: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    # The protocol is named, because asyncio switches Nagle's delay off only for sockets that name TCP.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((listen.host, listen.port))
    except OSError as error:
        bound.close()
        raise CallbridgeError(f"cannot listen on {listen}: {error.strerror}") from error
    bound.listen(2048)
    return bound


class Listener:
    """Serves one ASGI application on a socket that is bound at construction; it handles no signals."""

    def __init__(
        self,
        app: Callable[..., Any],
        listen: Address,
        *,
        request_timeout: float,
        trusted_proxies: Sequence[IpNetwork] = (),
        refused: Callable[[int, str, str], None] = lambda _status, _reason, _address: None,
    ) -> None:
        """Bind; `refused` is told the status, reason and address of what the application never saw.

        Raises:
            CallbridgeError: the address is taken or not ours.
        """
        self._socket = _bound(listen)
        self.url = f"http://{Address(listen.host, self._socket.getsockname()[1])}"
        self.started = asyncio.Event()
        self._request_timeout = request_timeout
        self.connections: ConnectionTable[LimitedProtocol] = ConnectionTable(MOST_CONNECTIONS)
        limits = Limits(self.connections, MOST_PER_ADDRESS, MOST_PER_PROXY, trusted_proxies, refused)
        self._server = _QuietServer(
            uvicorn.Config(
                app,
                http=type("_Protocol", (LimitedProtocol,), {"limits": limits}),
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
        sweeping = asyncio.create_task(self._sweep())
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            sweeping.cancel()

    async def _sweep(self) -> None:
        """Close overdue connections by one timer: a timer for each would add its cost to every request."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(self._request_timeout / 4, 1.0))
            self.sweep(loop.time())

    def open(self) -> list[LimitedProtocol]:
        """The open connections."""
        return [one for one in self._server.server_state.connections if isinstance(one, LimitedProtocol)]

    def sweep(self, now: float) -> None:
        """Close connections that were silent, sent too slowly, or left an answer unread for too long."""
        for connection in self.open():
            waited = now - connection.since
            if connection.stalls(now) > LONGEST_STALL:
                connection.transport.abort()
            elif connection.transport.is_closing() or connection.waiting is Waiting.ANSWER:
                continue
            elif connection.waiting is Waiting.REST or not connection.answered_any:
                if waited > self._longest_silence(connection.waiting):
                    connection.cut()
            elif waited > KEEP_ALIVE:
                connection.hang_up()

    def _longest_silence(self, what: Waiting) -> float:
        if what is Waiting.REST:
            return self._request_timeout
        return min(self._request_timeout, FIRST_SILENCE)

    def stop(self) -> None:
        """Accept no more connections, and let `serve` end once answers under way are given."""
        self._server.should_exit = True

    def hurry(self) -> None:
        """Close open connections without waiting for their answers."""
        self._server.force_exit = True
