"""One HTTP listener of the daemon: its socket, its deadlines, its limits.

uvicorn waits for ever for a request that has begun. Here a request that is not whole in
time is cut off, whichever part of it is late, and so are connections beyond a number.
"""

import asyncio
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from bridge.errors import CallbridgeError
from bridge.values import Address

MOST_CONNECTIONS = 2000
LONGEST_HEAD = 65_536
_UPGRADE = re.compile(rb"\r\nupgrade:", re.IGNORECASE)
_LATE = b"the request did not arrive in time\n"
_CUT = (
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-type: text/plain\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(_LATE), _LATE)
)


class _Protocol(HttpToolsProtocol):
    """Knows since when a request has been arriving."""

    arriving_since: float | None = None
    _head: bytes | None = b""
    """What has come of a head that is not whole; None while a body arrives."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.arriving_since = self.loop.time()
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Hand on whole heads, without the offer of another protocol.

        Some clients and proxies offer one with every request; the parser would take the
        message to end with its head, and the body would be lost.
        """
        if self._head is not None:
            data = self._head + data if self._head else data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                if self.arriving_since is None:
                    self.arriving_since = self.loop.time()
                if len(data) > LONGEST_HEAD:
                    self.transport.close()
                self._head = data
                return
            self._head = None
            if b"\r\nupgrade:" in data[:end].lower():
                data = _UPGRADE.sub(b"\r\nX-Offer:", data[:end]) + data[end:]
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        # The parser has its head, or the beginning of it where requests follow without a pause.
        self._head = None
        if self.arriving_since is None:
            self.arriving_since = self.loop.time()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self.arriving_since = None
        self._head = b""

    def eof_received(self) -> bool:  # type: ignore[override]
        """Who has said all may still wait for the answer: the connection ends behind that."""
        waits = self.arriving_since is None and self.cycle is not None and not self.cycle.response_complete
        if waits:
            self.cycle.keep_alive = False
        return waits

    def cut(self) -> bool:
        """End a request that takes too long to arrive; an answer already given is not repeated."""
        before = self.cycle
        # The answer to the request before says nothing of one whose head is not whole.
        done = before is not None and before.response_complete and before.keep_alive
        answers = before is None or not before.response_started or done
        if answers:
            self.transport.write(_CUT)
        self.transport.close()
        return answers


class _Server(uvicorn.Server):
    """uvicorn's own handlers would raise the signal again once it has served."""

    begun: asyncio.Event

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.begun.set()


class Listener:
    """Serves one ASGI application on a socket that is bound at once; signals are not its affair."""

    def __init__(
        self,
        app: Callable[..., Any],
        listen: Address,
        *,
        request_timeout: float,
        late: Callable[[], None] = lambda: None,
    ) -> None:
        """Bind; `late` is told of every request that was cut off.

        Raises:
            CallbridgeError: the address is taken or not ours.
        """
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
        self._request_timeout = request_timeout
        self._late = late
        self._server = _Server(
            uvicorn.Config(
                app,
                http=_Protocol,
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
        """One timer for all connections costs a request nothing."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(self._request_timeout / 4, 1.0))
            for connection in list(self._server.server_state.connections):
                since = getattr(connection, "arriving_since", None)
                late = since is not None and loop.time() - since > self._request_timeout
                if late and connection.cut():  # type: ignore[union-attr]
                    self._late()

    def stop(self) -> None:
        """Take no more connections."""
        self._server.should_exit = True

    def hurry(self) -> None:
        """Close what is open."""
        self._server.force_exit = True
