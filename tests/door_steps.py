"""Plain steps for the tests of the public door: a door on a real socket, and bytes on the wire."""

import asyncio
import socket
import sqlite3
import ssl
import threading
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Self

import httpx
import uvloop

from bridge.intake.http_protocol import Waiting
from bridge.intake.http_server import Listener
from bridge.intake.receive import Door, Receive, Scope, Send, SourceDoor
from bridge.ledger.sqlite import SqliteLedger
from bridge.ledger.sqlite.payloads import Payloads
from bridge.lib.values import Address

# Loading the trusted roots takes longer than a test; nothing here is encrypted.
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
UUID = "db57f262-18d6-11f0-88c8-2f2b0aba51d7"
BODY = f'{{"uuid": "{UUID}", "name": "张"}}'.encode()
LIMIT = 4096
PATH = "/callback/main/right-token"
ANYWHERE = {"main": SourceDoor("main", (b"right-token",))}


@dataclass
class Served:
    """A door that is open, and how often it said that a commit had filed something."""

    url: str
    port: int
    door: Door
    ledger: SqliteLedger
    path: Path
    client: httpx.Client
    commits: list[int] = field(default_factory=list)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """What another process would read from the ledger now."""
        with closing(sqlite3.connect(self.path)) as connection:
            payloads = Payloads()
            payloads.load(connection)
            connection.create_function("unpacked", 2, payloads.unpack)
            return connection.execute(sql).fetchall()

    def payloads(self) -> list[bytes]:
        return [row[0] for row in self.rows("SELECT unpacked(codec, body) FROM payloads ORDER BY receipt_id")]

    def quarantined(self) -> list[tuple[Any, ...]]:
        return self.rows("SELECT reason, arrivals, unpacked(codec, body) FROM quarantine ORDER BY id")

    def counted(self) -> dict[tuple[str, int], int]:
        """How often each answer was given, those left out that never were."""
        return {which: count for which, count in self.door.answers.items() if count}

    def post(
        self, body: bytes = BODY, path: str = PATH, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        return self.client.post(self.url + path, content=body, headers=headers)

    @contextmanager
    def connected(self) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            yield connection


class Listening:
    """One of the daemon's listeners, in a thread of its own."""

    def __init__(
        self,
        app: Callable[..., Any],
        *,
        trusted: Sequence[str] = (),
        refused: Callable[[int, str, str], None] = lambda _status, _reason, _address: None,
    ) -> None:
        self.listener = Listener(
            app,
            Address("127.0.0.1", 0),
            request_timeout=10.0,
            trusted_proxies=[ip_network(one) for one in trusted],
            refused=refused,
        )
        self.url = self.listener.url
        self.port = int(self.url.rpartition(":")[2])
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    def _run(self) -> None:
        # The loop that the daemon has.
        uvloop.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self.listener.serve()

    def sweep(self, later: float, waiting: Waiting | None = None) -> None:
        """What the listener does on its rounds, so many seconds from now.

        With `waiting`: once there is a connection that is waited for in that way.
        """
        assert self._loop is not None

        async def act() -> None:
            # Nothing tells of it, and each round of the loop may bring it.
            while waiting is not None and not any(one.waiting is waiting for one in self.listener.open()):  # noqa: ASYNC110
                await asyncio.sleep(0)
            self.listener.sweep(asyncio.get_running_loop().time() + later)

        asyncio.run_coroutine_threadsafe(act(), self._loop).result(10)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.listener.stop()
        self.listener.hurry()
        self._thread.join(5)

    def __enter__(self) -> Self:
        self.start()
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(b"nothing\r\n\r\n")
            connection.recv(100)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class SharedListener:
    """One socket for many doors, one after the other: starting and stopping a server takes its time."""

    def __init__(self) -> None:
        self.door: Door | None = None
        self._moved = threading.Condition()
        self._server = Listening(self, refused=self._refused)
        self.url, self.port = self._server.url, self._server.port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def told() -> MutableMapping[str, Any]:
            message = await receive()
            # Called once the door has done with the message what it can do at once.
            asyncio.get_running_loop().call_soon(self._move)
            return message

        assert self.door is not None
        await self.door(scope, told, send)

    def _refused(self, status: int, reason: str, address: str) -> None:
        if self.door is not None:
            self.door.count_refused(status, reason, address)

    def _move(self) -> None:
        with self._moved:
            self._moved.notify_all()

    def sweep(self, later: float, waiting: Waiting) -> None:
        """See `Listening.sweep`."""
        self._server.sweep(later, waiting)

    def wait_until(self, condition: Callable[[], bool], within: float = 5) -> None:
        """Wait for what a request brings about on its way through the door."""
        with self._moved:
            assert self._moved.wait_for(condition, within), "it did not happen in time"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()


@contextmanager
def served(
    shared_listener: SharedListener,
    path: Path,
    sources: dict[str, SourceDoor] | None = None,
    *,
    max_body: int = LIMIT,
    trusted: tuple[str, ...] = (),
) -> Iterator[Served]:
    ledger = SqliteLedger(path, create=True)
    commits: list[int] = []
    door = shared_listener.door = Door(
        ANYWHERE if sources is None else sources,
        ledger,
        max_body=max_body,
        trusted_proxies=[ip_network(one) for one in trusted],
        clock=lambda: NOW,
        filed=lambda: commits.append(1),
    )
    with httpx.Client(verify=TLS, timeout=10) as client:
        yield Served(shared_listener.url, shared_listener.port, door, ledger, path, client, commits)
    ledger.close()


def answer(connection: socket.socket) -> tuple[int, bytes]:
    """Everything that comes until the server ends, and its status."""
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return int(received.split(b" ", 2)[1]), received
