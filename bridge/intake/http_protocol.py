"""HTTP/1.1 on one connection: one request at a time, with a limit for every head, silence and queue.

uvicorn's own protocol hands whatever arrives to the parser: the head of a second request then has no limit,
empty lines restart every timeout, and requests queue up behind the one that is being answered. Here the
parser gets one head, then its body; what follows is held back until the answer is given.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from bridge.intake.connections import ConnectionTable
from bridge.lib.addresses import IpNetwork, is_among, limit_key, parse_address

# Bytes and headers of a request's head: far more than clients and proxies write.
LONGEST_HEAD = 65_536
MOST_HEADERS = 100
# Bytes that are held back while a request is being answered: one read of the event loop is 256 KiB.
_MOST_HELD = 1 << 20
# A chunk of one byte takes five more bytes of framing; extensions and trailers take some too.
_CHUNKING_COSTS = 8
_UPGRADE = re.compile(rb"\r\nupgrade:", re.IGNORECASE)
_HEAD_END = b"\r\n\r\n"
_EMPTY_LINES = b"\r\n"


_FOREIGN = (
    (b"\x16\x03", "TLS at a port of plain HTTP: end TLS in a proxy in front, or use http://"),
    (b"PROXY ", "the PROXY protocol, which is not spoken here: switch it off in the proxy in front"),
    (b"\0\r\nQUIT\n", "the PROXY protocol, which is not spoken here: switch it off in the proxy in front"),
    (b"PRI * HTTP/2", "HTTP/2 without TLS: set the proxy in front to HTTP/1.1"),
)
"""How other protocols begin that are set up by mistake, and what to do."""


class Waiting(Enum):
    """What the listener waits for on a connection."""

    REQUEST = "its next request"
    REST = "the rest of a request"
    ANSWER = "our answer"


@dataclass
class Limits:
    """Shared by all connections of one listener: their table, its limits, and who is told of refusals."""

    connections: ConnectionTable["LimitedProtocol"]
    per_address: int
    per_proxy: int
    trusted: Sequence[IpNetwork]
    refused: Callable[[int, str, str], None]
    """Status, reason and address of a request that the application never saw."""


class LimitedProtocol(HttpToolsProtocol):
    """One connection of a listener."""

    limits: Limits
    waiting = Waiting.REQUEST
    since = 0.0
    """The event loop's time when that waiting began."""
    answered_any = False
    _address = ""
    _ended = False
    """Whether nothing more is read: the request was refused, or the connection closed."""
    _half_closed = False
    _in_head = False
    _whole = True
    """Whether the last request has been read to its end."""
    _body_left: int | None = 0
    """Bytes of the body that are still to come; None where only its chunks tell."""
    _unread_since: float | None = None
    _held = b""
    """Bytes that came after a request that is not answered yet."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection for its address; where the listener is full, one makes room."""
        super().connection_made(transport)
        self.since = self.loop.time()
        self._head = bytearray()
        peer = self.client[0] if self.client else ""
        self._address = limit_key(peer)
        proxy = bool(self.limits.trusted) and is_among(parse_address(peer), self.limits.trusted)
        limit = self.limits.per_proxy if proxy else self.limits.per_address
        crowded = self.limits.connections.open(self, self._address, limit)
        if crowded is not None:
            crowded.make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give back the connection's place in the table."""
        self._ended = True
        self.limits.connections.close(self)
        super().connection_lost(exc)

    # -- what arrives --------------------------------------------------------------
    def data_received(self, data: bytes) -> None:
        """Take what has arrived; bytes of a later request wait until this one is answered."""
        if self._ended:
            return
        if self._whole and self.waiting is Waiting.ANSWER:
            self._hold(data)
            return
        while data and not self._ended:
            data = self._read_body(data) if not self._whole else self._read_head(data)
            if data and self._whole and self.waiting is Waiting.ANSWER:
                self._hold(data)
                return

    def _hold(self, data: bytes) -> None:
        self._held += data
        self.flow.pause_reading()
        if len(self._held) > _MOST_HELD:
            self.refuse(400, "too many requests before the first was answered")

    def _read_head(self, data: bytes) -> bytes:
        """Gather a head and have it parsed; returns what follows it.

        Some clients and proxies offer another protocol with every request; the parser would take the
        message to end with its head, and the body would be lost. So it does not see the offer.
        """
        head = self._head
        if not head:
            # Empty lines between requests are not a request, and do not restart the timeout.
            data = data.lstrip(_EMPTY_LINES)
            if not data:
                return b""
            if (foreign := _foreign(data)) is not None:
                self.refuse(400, foreign)
                return b""
            if self.waiting is not Waiting.REST:
                self._wait_for(Waiting.REST)
        begin = max(0, len(head) - 3)
        head += data
        end = head.find(_HEAD_END, begin)
        if (end if end >= 0 else len(head)) > LONGEST_HEAD:
            self.refuse(431, f"a head of more than {LONGEST_HEAD} bytes")
            return b""
        if end < 0:
            return b""
        end += len(_HEAD_END)
        whole, rest = bytes(head[:end]), bytes(head[end:])
        self._head = bytearray()
        if b"\r\nupgrade:" in whole.lower():
            whole = _UPGRADE.sub(b"\r\nX-Offer:", whole)
        self._whole = False
        if self._feed(whole) and self._in_head:
            # A head must have one meaning: here the parser sees its end elsewhere than we do.
            self.refuse(400, "the request is no HTTP")
        return rest

    def _read_body(self, data: bytes) -> bytes:
        if self._body_left is None:
            self._wire_bytes += len(data)
            if self._wire_bytes > LONGEST_HEAD + _CHUNKING_COSTS * self._body_bytes + len(data):
                self.refuse(400, "more trailers and chunk extensions than body")
            else:
                self._feed(data)
            return b""
        piece, rest = data[: self._body_left], data[self._body_left :]
        self._body_left -= len(piece)
        self._feed(piece)
        if not self._body_left and not self._whole and not self._ended:
            self.refuse(400, "the request is no HTTP")
        return rest

    def _feed(self, data: bytes) -> bool:
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._ended:
                self.refuse(400, "the request is no HTTP")
            return False
        return not self._ended

    # -- what the parser finds -----------------------------------------------------
    def on_message_begin(self) -> None:
        """A request begins; one that came together with another's last chunk is not read."""
        if self._whole:
            # This request came in one piece with the last chunk of another. That one is answered, and the
            # connection closed, so that the client sends this one again.
            self._ended = True
            self.cycle.keep_alive = False
            return
        self._in_head = True
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Take the request's target, unless the connection has ended."""
        if not self._ended:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header of the head; trailers are ignored."""
        # Trailers come after the body, when everything that they could say is decided already.
        if self._in_head and not self._ended:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Check the head, and hand the request to the application or refuse it."""
        if self._ended:
            return
        self._in_head = False
        if trouble := self._read_headers():
            self.refuse(*trouble)
            return
        super().on_headers_complete()

    def _read_headers(self) -> tuple[int, str] | None:
        """Find out how long the body is; what is wrong with the head, if anything is."""
        hosts, chunked = 0, False
        self._body_left = self._body_bytes = self._wire_bytes = 0
        for place, (name, value) in enumerate(self.headers):
            if name == b"host":
                hosts += 1
                if self.url[:1] != b"/" and b"://" in self.url:
                    # Where the request line names a host, it replaces the Host header (RFC 9112, 3.2.2).
                    self.headers[place] = (name, self.url.split(b"/", 3)[2].rpartition(b"@")[2])
            elif name == b"content-length":
                self._body_left = int(value)
            elif name == b"transfer-encoding":
                chunked = True
        if chunked:
            self._body_left = None
        if len(self.headers) > MOST_HEADERS:
            return 431, f"more than {MOST_HEADERS} headers"
        if hosts != 1 and (hosts or self.parser.get_http_version() == "1.1"):
            return 400, "one Host header is needed"
        return None

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        if not self._ended:
            self._body_bytes += len(body)
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole: wait for its answer."""
        if self._ended:
            return
        self._whole = True
        super().on_message_complete()
        if self.cycle.response_complete:
            self._rest()
        else:
            self._wait_for(Waiting.ANSWER)

    # -- what is answered ----------------------------------------------------------
    def on_response_complete(self) -> None:
        """The answer has been given: read on in what was held back."""
        self.server_state.total_requests += 1
        self.answered_any = True
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self._whole:
            self._rest()
            held, self._held = self._held, b""
            if held:
                self.data_received(held)
            if self._half_closed:
                self._end_half_closed()

    def _rest(self) -> None:
        self._wait_for(Waiting.REQUEST)

    def _wait_for(self, what: Waiting) -> None:
        self.waiting, self.since = what, self.loop.time()
        table = self.limits.connections
        if what is Waiting.REQUEST:
            table.rest(self)
        elif what is Waiting.REST:
            table.begin(self)
        else:
            table.answer(self)

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client has closed its side and may still wait for answers: close after the last of them."""
        self._half_closed = True
        return self._end_half_closed()

    def _end_half_closed(self) -> bool:
        if self._whole and self.waiting is Waiting.ANSWER:
            if not self._held:
                self.cycle.keep_alive = False
            return True
        self.transport.close()
        return False

    # -- what is refused -----------------------------------------------------------
    def refuse(self, status: int, reason: str) -> None:
        """Answer in the application's place, and close."""
        self._ended = True
        self.limits.refused(status, reason, self._address)
        self._answer_in_place(status, reason)

    def _answer_in_place(self, status: int, reason: str) -> None:
        before = self.cycle
        # A request whose head is not whole has no answer under way; the one before it may have.
        open_answer = before is not None and before.response_started and not before.response_complete
        if before is not None and not before.response_complete:
            before.disconnected = True
            before.message_event.set()
        if not open_answer:
            body = f"{reason}\n".encode()
            self.transport.write(
                b"HTTP/1.1 %d %s\r\nconnection: close\r\ncontent-type: text/plain; charset=utf-8\r\n"
                b"content-length: %d\r\n\r\n%s"
                % (status, HTTPStatus(status).phrase.encode(), len(body), body)
            )
        self.transport.close()

    def cut(self) -> None:
        """End a request that takes too long to arrive."""
        self.refuse(408, "the request did not arrive in time")

    def make_room(self) -> None:
        """Close this silent connection, because a new one needs its place."""
        self._ended = True
        self.limits.refused(503, "too many connections", self._address)
        if self.waiting is Waiting.REST:
            self._answer_in_place(503, "too many connections")
        else:
            self.transport.close()

    def hang_up(self) -> None:
        """End a connection on which nothing is under way."""
        self._ended = True
        self.transport.close()

    def stalls(self, now: float) -> float:
        """For how many seconds the client has not read what it was sent."""
        if not self.transport.get_write_buffer_size():
            self._unread_since = None
        elif self._unread_since is None:
            self._unread_since = now
        return 0.0 if self._unread_since is None else now - self._unread_since


def _foreign(data: bytes) -> str | None:
    """Why bytes that begin like this cannot become an HTTP request; None: they may."""
    return next((reason for start, reason in _FOREIGN if data.startswith(start)), None)
