"""CRMs that cost little, each in a process of its own: one with upserts, one with HubSpot's batches."""

import asyncio
import json
import multiprocessing
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, cast
from urllib.parse import unquote

import httpx
import uvloop

OK = 200
TOO_MANY = 429
OUT_OF_SERVICE = 503


class Upserts:
    """The sandbox connector's shape: every request answers at once, in 20 ms."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """An id for everything."""
        del method, path, body
        return OK, {"id": str(next(self._numbers))}


class Refusing(Upserts):
    """The same, but a share of all requests is answered 429 with `Retry-After: 1`."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self._share = share
        self._rng = random.Random(1)  # noqa: S311 -- chance, no secret

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """An id for nearly everything."""
        if self._rng.random() < self._share:
            return TOO_MANY, {"error": {"code": "rate_limited", "message": "too many requests"}}
        return super().answer(method, path, body)


class Batches:
    """HubSpot's shape: objects read, searched, made, changed and linked by the hundred."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._contacts: dict[str, dict[str, Any]] = {}
        self._by_phone: dict[str, dict[str, Any]] = {}
        self._calls: dict[str, dict[str, Any]] = {}

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """One request."""
        where = path.split("?", maxsplit=1)[0].rsplit("/", 3)[1:]
        asked = json.loads(body) if body else {}
        if where[0] == "properties":
            return OK, {"results": []}
        if where[-1] == "search":
            return OK, {"total": 0, "results": []}
        if where[-1] == "read":
            known = self._by_phone if "idProperty" in asked else self._contacts
            found = [known[each["id"]] for each in asked["inputs"] if each["id"] in known]
            return OK, {"results": found}
        if where[-1] in ("create", "update", "upsert"):
            made = self._calls if "calls" in where else self._contacts
            return OK, {"results": [self._written(made, each) for each in asked["inputs"]]}
        if "associations" not in path:
            return self._one(method, unquote(path), asked)
        return OK, {"results": [_linked(each) for each in asked.get("inputs", [])]}

    def _one(self, method: str, path: str, asked: dict[str, Any]) -> tuple[int, Any]:
        """What is asked alone: of one kind there was one only."""
        place, _, query = path.partition("?")
        kind, _, name = place.partition("/objects/")[2].partition("/")
        made = self._calls if kind == "calls" else self._contacts
        if method == "POST":
            return 201, self._written(made, asked)
        known = self._by_phone if "idProperty" in query and method == "GET" else made
        if name not in known:
            return 404, {"category": "OBJECT_NOT_FOUND"}
        if method == "PATCH":
            known[name]["properties"] |= asked["properties"]
        return OK, known[name]

    def _written(self, made: dict[str, dict[str, Any]], each: dict[str, Any]) -> dict[str, Any]:
        known = made.get(str(each.get("id"))) if made is self._contacts else None
        record = known or {"id": str(next(self._numbers)), "properties": {}, "createdAt": "2026-01-01"}
        record["properties"] |= each["properties"]
        made[record["id"]] = record
        if made is self._contacts:
            self._by_phone[record["properties"].get("callbridge_phone", "")] = record
        return record | {"objectWriteTraceId": each.get("objectWriteTraceId")}


def _linked(each: dict[str, Any]) -> dict[str, Any]:
    return {
        "fromObjectId": each["from"]["id"],
        "toObjectId": each["to"]["id"],
        "from": each["from"],
        "to": each["to"],
    }


@dataclass
class _Account:
    """What all connections of a CRM share."""

    crm: Upserts | Batches
    delay: float
    log: list[tuple[str, str, bytes]] = field(default_factory=list)
    """Method, path and body of each request that was not refused; bodies are kept for batches alone."""
    moments: list[float] = field(default_factory=list)
    """When each of them came, by the performance counter, which is one for all processes."""
    refused: list[float] = field(default_factory=list)
    """When each refusal was answered, by the loop's clock."""
    out_until: float = 0.0
    """Until when it is out of service, by the performance counter."""

    def told(self, path: str) -> Any:
        """What it tells of itself below `/_`."""
        if path.startswith("/_outage/"):
            self.out_until = time.perf_counter() + float(path.removeprefix("/_outage/"))
        if path == "/_log":
            return [[method, path, body.decode()] for method, path, body in self.log]
        if path == "/_seen":
            return [[moment, path] for moment, (_, path, _) in zip(self.moments, self.log, strict=True)]
        return {"/_refused": self.refused, "/_count": len(self.log)}.get(path, {})

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """One request."""
        now = time.perf_counter()
        if now < self.out_until:
            return OUT_OF_SERVICE, {"error": {"code": "unavailable", "message": "out of service"}}
        status, answer = self.crm.answer(method, path, body)
        if status == TOO_MANY:
            self.refused.append(asyncio.get_running_loop().time() + self.delay)
        else:
            self.log.append((method, path, body if isinstance(self.crm, Batches) else b""))
            self.moments.append(now)
        return status, answer


class _Served(asyncio.Protocol):
    """One connection: a request, a wait, an answer."""

    def __init__(self, account: _Account) -> None:
        self._account = account
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, whole, body = self._received.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
        if not whole or len(body) < int(length or 0):
            return
        self._received = b""
        method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
        if path.startswith("/_"):
            self._send(OK, self._account.told(path))
            return
        answer = self._account.answer(method, path, body)
        if delay := self._account.delay:
            asyncio.get_running_loop().call_later(delay, self._send, *answer)
        else:
            self._send(*answer)

    def _send(self, status: int, answer: Any) -> None:
        body = json.dumps(answer).encode()
        pause = "Retry-After: 1\r\n" if status == TOO_MANY else ""
        head = (
            f"HTTP/1.1 {status} -\r\nContent-Type: application/json\r\n{pause}"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        if not self._transport.is_closing():
            self._transport.write(head.encode() + body)


def _crm(kind: str) -> Upserts | Batches:
    if kind.startswith("refusing "):
        return Refusing(float(kind.removeprefix("refusing ")))
    return Upserts() if kind == "upserts" else Batches()


def _serve(kind: str, delay: float, connection: Any) -> None:
    async def run() -> None:
        account = _Account(_crm(kind), delay)
        server = await asyncio.get_running_loop().create_server(lambda: _Served(account), "127.0.0.1", 0)
        connection.send(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await server.serve_forever()

    uvloop.run(run())


@contextmanager
def serving(kind: str, delay: float = 0.0) -> Iterator[str]:
    """A CRM, `upserts`, `batches` or `refusing SHARE`, that answers after so many seconds; its address.

    Below its address: `/_count` of requests that it took, their `/_log` (method, path, body) and when they
    were `/_seen` (moment, path), when it `/_refused`, and `/_outage/SECONDS`, after which it answers 503 for
    so long.
    """
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(kind, delay, theirs), daemon=True
    )
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


def told(url: str, what: str) -> Any:
    """What the CRM tells of itself: `count`, `log`, `seen`, `refused`, or `outage/SECONDS`."""
    return httpx.get(f"{url}/_{what}", timeout=120).json()
