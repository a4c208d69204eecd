"""Serves an ASGI app on loopback in a thread of its own. Begin at `LocalServer`."""

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from bridge.lib.errors import CallbridgeError

HANG_UP = "callbridge.hang_up"
"""ASGI extension of this server: a function that drops the connection without another byte."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SERVER_ENDED = 0


class _Protocol(HttpToolsProtocol):
    """HTTP/1.1 whose connections an app can drop; ASGI itself always answers something."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {HANG_UP: self.transport.abort}  # type: ignore[dict-item]  # not in ASGI


class LocalServer:
    """One app on one loopback port, in a thread of its own.

    The port is taken at construction, so `url` can be told to others before anything runs;
    connections that arrive before `start()` wait in the backlog. Serves once: to come back
    on the same port, make a new one.
    """

    def __init__(self, app: ASGIApp, *, host: str = "127.0.0.1", port: int = 0) -> None:
        """Bind the port; 0 takes a free one.

        Raises:
            CallbridgeError: the port cannot be bound.
        """
        self._host = host
        self._socket = _listen(host, port)
        self._port: int = self._socket.getsockname()[1]
        self._ended = threading.Event()
        self._ready = threading.Event()
        self._wake: socket.socket | None = None
        self._server = _Server(_config(app), self._ready)
        self._thread = threading.Thread(target=self._run, name=f"sandbox:{self._port}", daemon=True)

    @property
    def port(self) -> int:
        """The port that is really bound, also when 0 was asked for."""
        return self._port

    @property
    def url(self) -> str:
        """`http://host:port`, without a slash at the end."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    def start(self) -> Self:
        """Serve in the background; returns once requests are answered."""
        self._thread.start()
        self._ready.wait()
        if not self._server.started:
            self.stop()
            raise CallbridgeError(f"the server at {self.url} did not start")
        return self

    def stop(self) -> None:
        """Finish what is being answered (at most a second), then free the port."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()

    def serve_forever(self) -> None:
        """Serve until SIGINT or SIGTERM, from the main thread; returns, so that the command exits with 0.

        uvicorn would raise the signal again after its shutdown and so end the process by it.
        """
        reader, writer = socket.socketpair()
        writer.setblocking(False)
        with reader, writer, _owned_signals(writer):
            self._wake = writer
            with self:
                while reader.recv(1)[0] not in (_SERVER_ENDED, *_SIGNALS):
                    pass

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._ready.set()
            if self._wake is not None:
                self._wake.send(bytes([_SERVER_ENDED]))


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: threading.Event) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready.set()


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        # Two sockets with SO_REUSEADDR may bind one port; only listening makes it ours.
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise CallbridgeError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    return listener


@contextmanager
def _owned_signals(writer: socket.socket) -> Iterator[None]:
    """Turn the stop signals into bytes on a socket, which wakes the main thread whoever receives them."""
    before = {number: signal.signal(number, lambda _number, _frame: None) for number in _SIGNALS}
    wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
