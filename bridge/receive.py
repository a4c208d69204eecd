"""Receive: the public door. Nothing is answered `SUCCESS` before it is on disk.

Checked in this order: method, source and token, address, size, body. What arrives while
a commit is under way shares the next one.
"""

import asyncio
import hmac
import ipaddress
import re
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import structlog

from bridge.arrival import arrivals_of, garbage
from bridge.body import NotAnObject, declared_charset
from bridge.errors import LedgerError
from bridge.ledger import Ledger
from bridge.model import Arrival, Filed, Quarantined, Via
from bridge.wrapping import TooMany

log = structlog.get_logger("bridge.receive")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Beyond this many callbacks that wait for one commit the sender is told to come again.
MOST_WAITING = 10_000


# So many in one commit mean a burst.
PRESSED = 8
GZIP = b"\x1f\x8b"
MOST_MEMBERS = 16
_CHINA = ZoneInfo("Asia/Shanghai")
# Some proxies name the sender's port beside its address.
_HOST_AND_PORT = re.compile(r"(?:\[([^]]+)\]|([^:]+))(?::[0-9]{1,5})?")


class Refusal(Exception):
    """An answer other than the source's acknowledgement."""

    def __init__(self, status: int, reason: str, *, allow: str = "") -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.allow = allow


class Left(Exception):
    """The sender was gone before the body's end."""


@dataclass(frozen=True, slots=True)
class SourceDoor:
    """What the door knows of one source; tokens are bytes, several may be valid."""

    name: str
    tokens: tuple[bytes, ...]
    allow: tuple[Network, ...] = ()
    status: int = 200
    body: bytes = b"SUCCESS"
    zone: ZoneInfo = _CHINA


def receive(batch: Sequence[Arrival], ledger: Ledger) -> list[Filed]:
    """One step: file a batch in one commit."""
    return ledger.record(batch)


class Door:
    """The ASGI application of the public listener."""

    def __init__(
        self,
        sources: Mapping[str, SourceDoor],
        ledger: Ledger,
        *,
        max_body: int,
        trusted_proxies: Sequence[Network] = (),
        clock: Callable[[], datetime],
        filed: Callable[[], None] = lambda: None,
    ) -> None:
        self._sources = sources
        self._max_body = max_body
        self._trusted = tuple(trusted_proxies)
        self._clock = clock
        self._commits = _Commits(ledger, filed)
        self.answers: dict[int, int] = {}
        """How many requests were answered with each status since the start."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        source: SourceDoor | None = None
        try:
            source = self._admit(scope)
            length, charset = announced(scope["headers"])
            body = await self._read(length, receive)
            await self._commits.file(self._arrivals(source, body, charset))
            status, text = source.status, source.body
            headers = [(b"content-type", b"text/plain")]
        except Left:
            # Nobody is there to be answered; a sender that was cut off is counted by who did it.
            log.info("callback.left", source=source and source.name)
            return
        except (Refusal, asyncio.CancelledError) as error:
            # A second signal cancels what is still open.
            refusal = error if isinstance(error, Refusal) else Refusal(503, "shutting down")
            status, text, headers = _refused(refusal)
            log.warning(
                "callback.refused", status=status, reason=refusal.reason, source=source and source.name
            )
        self.answers[status] = self.answers.get(status, 0) + 1
        headers.append((b"content-length", str(len(text)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": text})

    @property
    def pressed(self) -> bool:
        """Whether callbacks arrive so fast that other work had better wait."""
        return self._commits.pressed

    @property
    def closed(self) -> bool:
        """Whether callbacks are refused because the daemon stops."""
        return self._commits.closed

    def count_late(self) -> None:
        """A request was cut off by the listener, because it did not arrive in time."""
        self.answers[408] = self.answers.get(408, 0) + 1
        log.warning("callback.refused", status=408, reason="the request did not arrive in time")

    def close(self) -> None:
        """Refuse what comes from now on; what has been read is still filed."""
        self._commits.closed = True

    # -- the checks, in the order of the contract ---------------------------------
    def _admit(self, scope: Scope) -> SourceDoor:
        parts = scope["path"].split("/")
        if len(parts) != 4 or parts[0] or parts[1] != "callback":
            raise Refusal(404, "no such address")
        if scope["method"] != "POST":
            raise Refusal(405, "callbacks are POSTed", allow="POST")
        source = self._sources.get(parts[2])
        if not _one_of(parts[3].encode(), source.tokens if source else (b"",)) or source is None:
            raise Refusal(404, "unknown source or wrong token")
        if source.allow and not self._allowed(scope, source):
            raise Refusal(403, "the sender's address is not allowed")
        return source

    def _allowed(self, scope: Scope, source: SourceDoor) -> bool:
        address = client_address(scope, self._trusted)
        return address is not None and any(address in network for network in source.allow)

    async def _read(self, length: int, receive: Receive) -> bytes:
        """The body; how long it may take is the listener's affair."""
        if length > self._max_body:
            raise self._too_large()
        message = await receive()
        chunks: list[bytes] = []
        size = 0
        while message["type"] == "http.request":
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > self._max_body:
                raise self._too_large()
            if not message.get("more_body"):
                return b"".join((*chunks, chunk)) if chunks else chunk
            chunks.append(chunk)
            message = await receive()
        raise Left

    def _too_large(self) -> Refusal:
        return Refusal(413, f"larger than {shown_size(self._max_body)}")

    def _arrivals(self, source: SourceDoor, body: bytes, charset: str) -> list[Arrival]:
        now = self._clock()
        try:
            # By its first bytes: some proxies unzip a body and leave its header, or forget the header.
            text = gunzip(body, self._max_body) if body.startswith(GZIP) else body
            return arrivals_of(source.name, Via.CALLBACK, text, now, source.zone, charset)
        except NotAnObject as error:
            return [garbage(source.name, Via.CALLBACK, body, str(error), now)]
        except TooMany as error:
            raise Refusal(413, str(error)) from error


class _Commits:
    """Files arrivals; those that come while a commit is under way share the next one."""

    def __init__(self, ledger: Ledger, filed: Callable[[], None]) -> None:
        self._ledger = ledger
        self._filed = filed
        self._waiting: list[tuple[Sequence[Arrival], asyncio.Future[Sequence[Filed]]]] = []
        self._committing = False
        self._last = 0
        self.closed = False

    @property
    def pressed(self) -> bool:
        """Whether a commit of many is under way."""
        return self._committing and self._last >= PRESSED

    async def file(self, arrivals: Sequence[Arrival]) -> None:
        """Return once all records of a body are on disk and may be acknowledged; else raise the refusal."""
        if self.closed or len(self._waiting) >= MOST_WAITING:
            raise Refusal(503, "shutting down" if self.closed else "too many callbacks wait for the ledger")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Sequence[Filed]] = loop.create_future()
        self._waiting.append((arrivals, done))
        if not self._committing:
            self._commit(loop)
        try:
            filed = await done
        except LedgerError as error:
            raise Refusal(503, str(error)) from error
        except Exception as error:
            # Whatever it is, nothing was committed; the platform shall come again.
            log.exception("callback.fault", source=arrivals[0].source)
            raise Refusal(503, "a fault in callbridge, see its log") from error
        # What is no record among several is kept too; the others are not to be sent again for it.
        if all(one.trouble is Quarantined.NOT_AN_OBJECT for one in filed):
            raise Refusal(400, f"no JSON object: {arrivals[0].detail}")

    def _commit(self, loop: asyncio.AbstractEventLoop) -> None:
        batch, self._waiting = self._waiting, []
        self._committing, self._last = True, len(batch)
        committed = self._ledger.submit([arrival for arrivals, _ in batch for arrival in arrivals])
        committed.add_done_callback(lambda future: loop.call_soon_threadsafe(self._end, loop, batch, future))

    def _end(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: list[tuple[Sequence[Arrival], asyncio.Future[Sequence[Filed]]]],
        committed: Future[list[Filed]],
    ) -> None:
        self._committing = False
        if self._waiting:
            self._commit(loop)
        error = committed.exception()
        results = [] if error else committed.result()
        place = 0
        for arrivals, done in batch:
            filed = results[place : place + len(arrivals)]
            place += len(arrivals)
            if done.cancelled():
                continue
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(filed)
        if error is None:
            self._filed()


def announced(headers: Sequence[tuple[bytes, bytes]]) -> tuple[int, str]:
    """The body's length as its header says (0 without one), and its declared charset."""
    length, charset = 0, ""
    for name, value in headers:
        if name == b"content-length":
            length = int(value) if value.isdigit() else 0
        elif name == b"content-type":
            charset = declared_charset(value)
    return length, charset


def client_address(
    scope: Scope, trusted: Sequence[Network]
) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The sender's address; a proxy's word on it counts only if the proxy is trusted."""
    client = scope.get("client")
    claims = [
        value.strip()
        for name, header in scope["headers"]
        if name == b"x-forwarded-for"
        for value in header.decode("latin-1").split(",")
    ]
    address = _address(client[0]) if client else None
    while address is not None and claims and any(address in network for network in trusted):
        address = _address(claims.pop())
    return address


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    found = _HOST_AND_PORT.fullmatch(text)
    try:
        address = ipaddress.ip_address(found[1] or found[2] if found else text)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


def gunzip(body: bytes, limit: int) -> bytes:
    """Unzip all members of a body, but never more than `limit` bytes of it."""
    text = b""
    for _ in range(MOST_MEMBERS):
        if not body:
            return text
        unzip = zlib.decompressobj(wbits=31)
        try:
            text += unzip.decompress(body, limit + 1 - len(text))
        except zlib.error as error:
            raise NotAnObject(f"the body is no gzip: {error}") from error
        if len(text) > limit:
            raise Refusal(413, f"larger than {shown_size(limit)} after gunzip")
        if not unzip.eof:
            raise NotAnObject("the gzip ends too early")
        body = unzip.unused_data
    if body:
        raise NotAnObject(f"the gzip has more than {MOST_MEMBERS} members")
    return text


def shown_size(count: int) -> str:
    """Bytes as people write them."""
    return f"{count / 2**20:.3g} MiB"


def _one_of(token: bytes, valid: Sequence[bytes]) -> bool:
    """Compare with every valid token in constant time."""
    found = False
    for one in valid:
        found |= hmac.compare_digest(token, one)
    return found


def _refused(refusal: Refusal) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    if refusal.allow:
        headers.append((b"allow", refusal.allow.encode()))
    if refusal.status not in (400, 503):
        # The rest of the body is not read, so the connection cannot be used again.
        headers.append((b"connection", b"close"))
    return refusal.status, f"{refusal}\n".encode(), headers
