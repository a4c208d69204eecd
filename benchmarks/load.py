"""A load generator that costs little: prepared requests over kept-alive connections."""

import asyncio
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import cast
from urllib.parse import urlsplit

import uvloop

# The daemon closes a connection that has said nothing for five seconds.
KEEP_IDLE = 3.0


@dataclass
class Outcome:
    """What was answered, and when."""

    seconds: float = 0.0
    answers: dict[int, int] = field(default_factory=dict)
    """The number of answers by status."""
    latencies: list[float] = field(default_factory=list, repr=False)
    """Milliseconds of each answer."""
    moments: list[float] = field(default_factory=list, repr=False)
    """When each answer came, by the performance counter."""
    acknowledged: list[int] = field(default_factory=list, repr=False)
    """The number, from 0 on, of each payload that was answered 200."""
    started: float = 0.0

    @property
    def rate(self) -> float:
        return sum(self.answers.values()) / self.seconds

    def rate_until(self, seconds: float) -> float:
        """Answers a second in the first seconds."""
        return sum(moment <= self.started + seconds for moment in self.moments) / seconds

    def note(self, number: int, status: int, seconds: float) -> None:
        """One more answer."""
        self.latencies.append(seconds * 1000)
        self.moments.append(time.perf_counter())
        self.answers[status] = self.answers.get(status, 0) + 1
        if status == 200:
            self.acknowledged.append(number)

    def percentile(self, share: float) -> float:
        ranked = sorted(self.latencies)
        return ranked[min(int(len(ranked) * share), len(ranked) - 1)]


def whole_answer(received: bytes) -> int | None:
    """The status of an answer that has come to its end."""
    head, found, body = received.partition(b"\r\n\r\n")
    if not found or len(body) < int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]):
        return None
    return int(head[9:12])


def requests(url: str, payloads: Iterable[bytes]) -> Iterator[bytes]:
    """Whole HTTP requests."""
    parts = urlsplit(url)
    head = (
        f"POST {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        "Content-Length: "
    ).encode()
    return (b"%s%d\r\n\r\n%s" % (head, len(body), body) for body in payloads)


@dataclass
class _Sending:
    """What all connections of a burst share."""

    queue: Iterator[bytes]
    outcome: Outcome
    until: float
    """When, by the performance counter, no more is sent."""
    pause: float
    """Seconds from one request of a connection to its next; 0 where the answer alone counts."""
    may_break: bool
    """Whether the server may go away in the middle."""
    numbers: Iterator[int] = field(default_factory=count)

    def next(self) -> bytes | None:
        """The next request, while there is one and time for it."""
        return next(self.queue, None) if time.perf_counter() < self.until else None


class _Connection(asyncio.Protocol):
    """One request after another; the next one is written as soon as an answer is whole."""

    def __init__(self, sending: _Sending, done: asyncio.Future[None]) -> None:
        self._sending = sending
        self._done = done
        self._number = 0
        self._sent = 0.0
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not asyncio's by type, only by what they can do.
        self._transport = cast("asyncio.Transport", transport)
        self._next()

    def _next(self) -> None:
        request = self._sending.next()
        if request is None:
            self._transport.close()
            if not self._done.done():
                self._done.set_result(None)
            return
        self._number = next(self._sending.numbers)
        self._sent = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        status = whole_answer(self._received)
        if status is None:
            return
        self._received = b""
        now = time.perf_counter()
        self._sending.outcome.note(self._number, status, now - self._sent)
        if pause := self._sending.pause:
            asyncio.get_running_loop().call_later(max(0.0, self._sent + pause - now), self._next)
        else:
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done.done():
            return
        if self._sending.may_break:
            self._done.set_result(None)
        else:
            self._done.set_exception(exc or ConnectionError("closed by the server"))


def burst(url: str, payloads: Iterable[bytes], concurrency: int, rate: float = 0.0) -> Outcome:
    """Send every payload once over `concurrency` connections, at `rate` a second if one is given."""
    return uvloop.run(_burst(url, payloads, concurrency, rate=rate))


def flood(
    url: str, payloads: Iterable[bytes], concurrency: int, seconds: float, *, may_break: bool = False
) -> Outcome:
    """Send as fast as the answers come, for so many seconds or as long as there are payloads.

    A connection that the server closes is an error, unless it may break: then what it got counts.
    """
    return uvloop.run(_burst(url, payloads, concurrency, seconds=seconds, may_break=may_break))


async def _burst(
    url: str,
    payloads: Iterable[bytes],
    concurrency: int,
    *,
    rate: float = 0.0,
    seconds: float = float("inf"),
    may_break: bool = False,
) -> Outcome:
    parts, loop = urlsplit(url), asyncio.get_running_loop()
    outcome = Outcome(started=time.perf_counter())
    pause = concurrency / rate if rate else 0.0
    sending = _Sending(requests(url, payloads), outcome, outcome.started + seconds, pause, may_break)
    finished = []
    for _ in range(concurrency):
        done: asyncio.Future[None] = loop.create_future()
        await loop.create_connection(
            lambda done=done: _Connection(sending, done),  # type: ignore[misc]
            parts.hostname or "127.0.0.1",
            parts.port or 80,
        )
        finished.append(done)
        if pause:
            await asyncio.sleep(pause / concurrency)
    await asyncio.gather(*finished)
    outcome.seconds = time.perf_counter() - outcome.started
    return outcome


class _Line(asyncio.Protocol):
    """A connection that sends what it is handed, and is idle again once that is answered."""

    def __init__(self, crowd: "_Crowd") -> None:
        self._crowd = crowd
        self._number = 0
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

    def send(self, number: int, request: bytes, due: float) -> None:
        self._number = number
        self._due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        status = whole_answer(self._received)
        if status is not None:
            self._received = b""
            self._crowd.outcome.note(self._number, status, time.perf_counter() - self._due)
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
        self.outcome = Outcome()
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


def steady(url: str, payloads: Iterable[bytes], rate: float) -> tuple[Outcome, int]:
    """Send every payload once, `rate` a second by the clock; latencies count from when each was due.

    Also returns how many connections it took.
    """
    return uvloop.run(_steady(url, payloads, rate))


async def _steady(url: str, payloads: Iterable[bytes], rate: float) -> tuple[Outcome, int]:
    parts, crowd = urlsplit(url), _Crowd()
    started, sent = time.perf_counter(), 0
    for number, request in enumerate(requests(url, payloads)):
        due = started + number / rate
        if (early := due - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        (await crowd.line(parts.hostname or "127.0.0.1", parts.port or 80)).send(number, request, due)
        sent = number + 1
    while len(crowd.outcome.latencies) < sent:
        if crowd.lost:
            raise crowd.lost
        await asyncio.sleep(0.001)
    crowd.outcome.seconds = time.perf_counter() - started
    return crowd.outcome, crowd.connections
