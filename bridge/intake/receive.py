"""The public door: checks a callback, files it, and answers `SUCCESS` only once it is on disk.

The checks, in this order: method, source and token, sender's address, size, body. Callbacks that arrive while
a commit is under way share the next one.
"""

import asyncio
import hmac
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bridge.intake.answer_log import NO_SOURCE, AnswerLog
from bridge.intake.group_commit import GroupCommit, NotFiled
from bridge.intake.new_calls import NewCallReader
from bridge.ledger import IntakeLedger
from bridge.lib.addresses import IpNetwork, client_address, is_among, limit_key, parse_address
from bridge.model.calls import Arrival, Filed, Quarantined, Via
from bridge.record.arrival import arrivals_of, garbage
from bridge.record.json_body import NotAnObject, declared_charset
from bridge.record.origin import Origin
from bridge.record.unwrap_body import TooMany

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
SendEvent = Callable[[MutableMapping[str, Any]], Awaitable[None]]
GZIP = b"\x1f\x8b"
MOST_MEMBERS = 16
"""Members of a gzip body: each costs a new decompressor, and senders make one."""
# The most requests under way at once of one sender behind a proxy.
MOST_PER_CLIENT = 500
# Bodies that are not whole yet take no more memory than so many of the largest size: 128 MiB at 2 MiB.
MOST_BODIES = 64
# Characters that are left at the ends of an address that was copied out of a chat or a document.
_AROUND = " \t\r\n\v\f\x85\xa0\u200b\u2060\u3000\ufeff"
# The statuses with which a request can be refused: before its source is known, and after.
_STRANGERS = (400, 404, 405, 408, 431, 503)
_STATUSES = (400, 403, 404, 413, 429, 503)


class RefusedRequest(Exception):
    """An answer other than the source's acknowledgement."""

    def __init__(
        self, status: int, reason: str, *, allow: str = "", source: str = NO_SOURCE, close: bool = False
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.allow = allow
        self.source = source
        # The rest of the body is not read, so the connection cannot carry another request.
        self.close = close or status not in (400, 503)

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The answer's headers."""
        headers = [(b"content-type", b"text/plain; charset=utf-8")]
        if self.allow:
            headers.append((b"allow", self.allow.encode()))
        if self.status == 429:
            headers.append((b"retry-after", b"1"))
        if self.close:
            headers.append((b"connection", b"close"))
        return headers


class SenderGone(Exception):
    """The sender closed the connection before the body was complete."""


@dataclass(frozen=True, slots=True)
class SourceDoor:
    """What the door is told about one source; all `tokens` are valid, so that one can be replaced."""

    origin: Origin
    tokens: tuple[bytes, ...]
    allow: tuple[IpNetwork, ...] = ()
    status: int = 200
    body: bytes = b"SUCCESS"
    content_type: bytes = b"text/plain"
    new_calls: NewCallReader | None = None
    """Reads each record as if it were the first one of its call; None leaves that to the judge."""

    @property
    def name(self) -> str:
        """The source's name in the configuration."""
        return self.origin.source


class Door:
    """The ASGI application of the public listener."""

    def __init__(
        self,
        sources: Mapping[str, SourceDoor],
        ledger: IntakeLedger,
        *,
        max_body: int,
        trusted_proxies: Sequence[IpNetwork] = (),
        clock: Callable[[], datetime],
        filed: Callable[[Sequence[Filed]], None] = lambda _: None,
    ) -> None:
        self._sources = sources
        self._max_body = max_body
        self._trusted = tuple(trusted_proxies)
        self._clock = clock
        self._commits = GroupCommit(ledger, filed)
        self._under_way: dict[str, int] = {}
        self._held = 0
        """Bytes of bodies that are not whole yet."""
        expected = {name: (door.status, *_STATUSES) for name, door in sources.items()}
        self._answered = AnswerLog(expected | {NO_SOURCE: _STRANGERS})

    async def __call__(self, scope: Scope, receive: Receive, send: SendEvent) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        source: SourceDoor | None = None
        client = ""
        try:
            source = self._find(scope)
            client = self._admit(scope, source)
            length, charset = announced(scope["headers"])
            body = await self._read(length, receive)
            arrivals = self._arrivals(source, body, charset)
            self._refuse_unkept(arrivals, await self._commits.file(arrivals))
        except SenderGone:
            # Nobody is left to answer. A sender that the listener cut off is counted by the listener.
            self._answered.left(source.name if source else NO_SOURCE)
            return
        except (RefusedRequest, NotFiled, asyncio.CancelledError) as error:
            await self._refuse(_refusal_of(error), scope, source, send)
            return
        finally:
            if client:
                self._leave(client)
        self._answered.accepted(source.name, source.status, len(arrivals))
        await _answer(send, source.status, source.body, [(b"content-type", source.content_type)])

    async def _refuse(
        self, refusal: RefusedRequest, scope: Scope, source: SourceDoor | None, send: SendEvent
    ) -> None:
        address = client_address(_peer(scope), scope["headers"], self._trusted)
        name = source.name if source else refusal.source
        self._answered.refused(refusal.status, refusal.reason, name, "" if address is None else str(address))
        await _answer(send, refusal.status, f"{refusal}\n".encode(), refusal.headers())

    @property
    def answers(self) -> Mapping[tuple[str, int], int]:
        """How many requests were answered, by source and status, since the start."""
        return self._answered.counts

    @property
    def pressed(self) -> bool:
        """Whether callbacks arrive so fast that other work should wait."""
        return self._commits.pressed

    @property
    def closed(self) -> bool:
        """Whether callbacks are refused because the daemon stops."""
        return self._commits.closed

    def count_refused(self, status: int, reason: str, address: str) -> None:
        """Count an answer that the listener gave itself, to something that never became a request."""
        self._answered.refused(status, reason, NO_SOURCE, address)

    def close(self) -> None:
        """Refuse callbacks from now on; bodies that have been read are still filed."""
        self._commits.closed = True
        self._answered.flush()

    # -- the checks, in the order of the contract ---------------------------------
    def _find(self, scope: Scope) -> SourceDoor:
        """The source that the address names, with a token of its own.

        People paste the address somewhere, so extra slashes and blanks around its parts are ignored.
        """
        parts = [part for piece in scope["path"].split("/") if (part := piece.strip(_AROUND))]
        if len(parts) != 3 or parts[0] != "callback":
            raise RefusedRequest(404, "no such address")
        if scope["method"] != "POST":
            raise RefusedRequest(405, "callbacks are POSTed", allow="POST")
        source = self._sources.get(parts[1])
        if not _one_of(parts[2].encode(), source.tokens if source else (b"",)) or source is None:
            raise RefusedRequest(
                404, "unknown source or wrong token", source=source.name if source else NO_SOURCE
            )
        return source

    def _admit(self, scope: Scope, source: SourceDoor) -> str:
        """Check that the sender is allowed, and has few requests under way; returns who to count it for."""
        if source.allow:
            address = client_address(_peer(scope), scope["headers"], self._trusted)
            if not is_among(address, source.allow):
                raise RefusedRequest(403, "the sender's address is not allowed")
        if not self._trusted or not is_among(parse_address(_peer(scope)), self._trusted):
            # Not behind a proxy: the listener limits its connections already.
            return ""
        client = limit_key(str(client_address(_peer(scope), scope["headers"], self._trusted)))
        if self._under_way.get(client, 0) >= MOST_PER_CLIENT:
            raise RefusedRequest(429, "too many requests of this sender are under way")
        self._under_way[client] = self._under_way.get(client, 0) + 1
        return client

    def _leave(self, client: str) -> None:
        self._under_way[client] -= 1
        if not self._under_way[client]:
            del self._under_way[client]

    async def _read(self, length: int, receive: Receive) -> bytes:
        """Read the body. The listener bounds how long that may take."""
        if length > self._max_body:
            raise self._too_large()
        message = await receive()
        chunks: list[bytes] = []
        size = held = 0
        try:
            while message["type"] == "http.request":
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > self._max_body:
                    raise self._too_large()
                if not message.get("more_body"):
                    return b"".join((*chunks, chunk)) if chunks else chunk
                chunks.append(chunk)
                self._held += size - held
                held = size
                if self._held > MOST_BODIES * self._max_body:
                    raise RefusedRequest(503, "too much of too many bodies has arrived", close=True)
                message = await receive()
        finally:
            self._held -= held
        raise SenderGone

    def _too_large(self) -> RefusedRequest:
        return RefusedRequest(413, f"larger than {shown_size(self._max_body)}")

    def _arrivals(self, source: SourceDoor, body: bytes, charset: str) -> list[Arrival]:
        now = self._clock()
        try:
            # Its first bytes tell: some proxies unzip a body and keep the header, others drop the header.
            text = gunzip(body, self._max_body) if body.startswith(GZIP) else body
            return arrivals_of(source.origin, Via.CALLBACK, text, now, charset, source.new_calls)
        except NotAnObject as error:
            return [garbage(source.name, Via.CALLBACK, body, str(error), now)]
        except TooMany as error:
            raise RefusedRequest(413, str(error)) from error

    def _refuse_unkept(self, arrivals: Sequence[Arrival], filed: Sequence[Filed]) -> None:
        # An element that is no record is kept in quarantine, and the others count; none at all is refused.
        if all(one.trouble is Quarantined.NOT_AN_OBJECT for one in filed):
            raise RefusedRequest(400, f"no JSON object: {arrivals[0].detail}")
        if not all(one.kept for one in filed):
            raise RefusedRequest(
                503, "quarantine is full of records that name no call: callbridge quarantine list"
            )


async def _answer(send: SendEvent, status: int, text: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    headers.append((b"content-length", str(len(text)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})


def _peer(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""


def _refusal_of(error: BaseException) -> RefusedRequest:
    if isinstance(error, RefusedRequest):
        return error
    # A second signal cancels the requests that are still open.
    return RefusedRequest(503, str(error) if isinstance(error, NotFiled) else "shutting down")


def announced(headers: Sequence[tuple[bytes, bytes]]) -> tuple[int, str]:
    """The body's length as its header says (0 without one), and its declared charset."""
    length, charset = 0, ""
    for name, value in headers:
        if name == b"content-length":
            length = int(value) if value.isdigit() else 0
        elif name == b"content-type":
            charset = declared_charset(value)
    return length, charset


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
            raise RefusedRequest(413, f"larger than {shown_size(limit)} after gunzip")
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
