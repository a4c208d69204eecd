"""A load generator that costs little: prepared requests over kept-alive connections."""

import asyncio
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import uvloop

EXAMPLE = Path(__file__).parent.parent / "tests" / "data" / "callback.json"
# The daemon closes a connection that has said nothing for five seconds.
KEEP_IDLE = 3.0


@dataclass
class Outcome:
    """What a burst came to: requests a second, and the latencies in milliseconds."""

    seconds: float
    answers: dict[int, int]
    latencies: list[float] = field(repr=False)

    @property
    def rate(self) -> float:
        return sum(self.answers.values()) / self.seconds

    def note(self, status: int, seconds: float) -> None:
        """One more answer."""
        self.latencies.append(seconds * 1000)
        self.answers[status] = self.answers.get(status, 0) + 1

    def percentile(self, share: float) -> float:
        ranked = sorted(self.latencies)
        return ranked[min(int(len(ranked) * share), len(ranked) - 1)]


def bodies(count: int) -> list[bytes]:
    """The example record, each time another call."""
    record = json.loads(EXAMPLE.read_bytes())
    text = json.dumps(record, ensure_ascii=False)
    old = record["uuid"]
    return [text.replace(old, str(uuid.uuid4())).encode() for _ in range(count)]


def whole_answer(received: bytes) -> int | None:
    """The status of an answer that has come to its end."""
    head, found, body = received.partition(b"\r\n\r\n")
    if not found or len(body) < int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]):
        return None
    return int(head[9:12])


def requests(url: str, payloads: list[bytes]) -> list[bytes]:
    """Whole HTTP requests."""
    parts = urlsplit(url)
    head = f"POST {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: ".encode()
    return [head + str(len(body)).encode() + b"\r\n\r\n" + body for body in payloads]


class _Connection(asyncio.Protocol):
    """One request after another; the next one is written as soon as an answer is whole."""

    def __init__(
        self, queue: Iterator[bytes], done: asyncio.Future[None], outcome: Outcome, pause: float
    ) -> None:
        self._queue = queue
        self._done = done
        self._outcome = outcome
        self._pause = pause
        self._sent = 0.0
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not asyncio's by type, only by what they can do.
        self._transport = cast("asyncio.Transport", transport)
        self._next()

    def _next(self) -> None:
        request = next(self._queue, None)
        if request is None:
            self._transport.close()
            if not self._done.done():
                self._done.set_result(None)
            return
        self._sent = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        status = whole_answer(self._received)
        if status is None:
            return
        self._received = b""
        now = time.perf_counter()
        self._outcome.note(status, now - self._sent)
        if self._pause:
            asyncio.get_running_loop().call_later(max(0.0, self._sent + self._pause - now), self._next)
        else:
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(exc or ConnectionError("closed by the server"))


def burst(url: str, payloads: list[bytes], concurrency: int, rate: float = 0.0) -> Outcome:
    """Send every payload once over `concurrency` connections, at `rate` a second if one is given."""
    return uvloop.run(_burst(url, payloads, concurrency, rate))


async def _burst(url: str, payloads: list[bytes], concurrency: int, rate: float) -> Outcome:
    parts = urlsplit(url)
    queue = iter(requests(url, payloads))
    loop = asyncio.get_running_loop()
    outcome = Outcome(0.0, {}, [])
    pause = concurrency / rate if rate else 0.0
    started = time.perf_counter()
    finished = []
    for _ in range(concurrency):
        done: asyncio.Future[None] = loop.create_future()
        await loop.create_connection(
            lambda done=done: _Connection(queue, done, outcome, pause),  # type: ignore[misc]
            parts.hostname or "127.0.0.1",
            parts.port or 80,
        )
        finished.append(done)
        if pause:
            await asyncio.sleep(pause / concurrency)
    await asyncio.gather(*finished)
    outcome.seconds = time.perf_counter() - started
    return outcome


class _Line(asyncio.Protocol):
    """A connection that sends what it is handed, and is idle again once that is answered."""

    def __init__(self, crowd: "_Crowd") -> None:
        self._crowd = crowd
        self._due = 0.0
        self._idle_since = 0.0
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._rest()

    def _rest(self) -> None:
        self._idle_since = time.perf_counter()
        self._crowd.idle.append(self)

    def fresh(self) -> bool:
        """Whether the server has no reason yet to close it."""
        return time.perf_counter() - self._idle_since < KEEP_IDLE

    def close(self) -> None:
        self._transport.close()

    def send(self, request: bytes, due: float) -> None:
        self._due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        status = whole_answer(self._received)
        if status is not None:
            self._received = b""
            self._crowd.outcome.note(status, time.perf_counter() - self._due)
            self._due = 0.0
            self._rest()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._due:
            self._crowd.lost = exc or ConnectionError("closed by the server")
        elif self in self._crowd.idle:
            self._crowd.idle.remove(self)


class _Crowd:
    """Sends by the clock, whatever the answers do: a new connection where all others wait."""

    def __init__(self) -> None:
        self.idle: list[_Line] = []
        self.outcome = Outcome(0.0, {}, [])
        self.lost: Exception | None = None
        self.connections = 0

    async def line(self, host: str, port: int) -> _Line:
        if self.lost:
            raise self.lost
        while self.idle:
            if (line := self.idle.pop()).fresh():
                return line
            line.close()
        self.connections += 1
        await asyncio.get_running_loop().create_connection(lambda: _Line(self), host, port)
        return self.idle.pop()


def steady(url: str, payloads: list[bytes], rate: float) -> tuple[Outcome, int]:
    """Send every payload once, `rate` a second by the clock; latencies count from when each was due.

    Also returns how many connections it took.
    """
    return uvloop.run(_steady(url, payloads, rate))


async def _steady(url: str, payloads: list[bytes], rate: float) -> tuple[Outcome, int]:
    parts, crowd = urlsplit(url), _Crowd()
    started = time.perf_counter()
    for number, request in enumerate(requests(url, payloads)):
        due = started + number / rate
        if (early := due - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        (await crowd.line(parts.hostname or "127.0.0.1", parts.port or 80)).send(request, due)
    while len(crowd.outcome.latencies) < len(payloads):
        if crowd.lost:
            raise crowd.lost
        await asyncio.sleep(0.001)
    crowd.outcome.seconds = time.perf_counter() - started
    return crowd.outcome, crowd.connections
