"""httpx requests over one kept connection to the server itself: one system call out, one or two back.

httpx's own transport stands on httpcore and h11, which take six times the processor time: a pool, locks and
an event for each part of a message, where a worker has one connection and one request.
"""

import re
import time
from collections.abc import Callable, Iterator
from functools import lru_cache

import httpx

from bridge.lib.http.connection import Connection, Dialer

_LONGEST_IDLE = 1.0
"""Seconds. A connection that was idle for longer may just be closed by the CRM: a request that is lost so is
in doubt, for nothing tells it from one whose answer was lost."""
_TARGET = re.compile(rb"[!-~]+")
_NAME = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(rb"(?:[^\x00-\x20\x7f](?:[^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?)?")
_FRAMING = (b"content-length", b"transfer-encoding")
_WITH_BODY = ("POST", "PUT", "PATCH")
_Origin = tuple[str, bytes, int | None]


class DirectTransport(httpx.BaseTransport):
    """Carries one request at a time, over one connection that is kept while it is good."""

    def __init__(self, dialer: Dialer, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` in seconds."""
        self._dialer = dialer
        self._clock = clock
        self._connection: Connection | None = None
        self._origin: _Origin | None = None
        self._idle_since = 0.0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """One exchange; the body is read from the response's stream.

        Raises:
            httpx.LocalProtocolError: no such request can be written; nothing was sent.
            httpx.ConnectError, httpx.ConnectTimeout: there is no connection; nothing was sent.
            httpx.TransportError: there is no answer.
        """
        written = _written(request)
        connection = self._ready(request)
        try:
            connection.send(request.method, written)
            while not connection.answer.status:
                connection.read_more()
        except BaseException:
            self.close()
            raise
        answer = connection.answer
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(self, connection))

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def end_exchange(self) -> None:
        """Keep the connection for the next request if the answer has been read to its end."""
        if self._connection is not None and self._connection.answer.reusable:
            self._idle_since = self._clock()
        else:
            self.close()

    def _ready(self, request: httpx.Request) -> Connection:
        """The kept connection where it is good, else a new one."""
        url = request.url
        origin = (url.scheme, url.raw_host, url.port)
        if self._connection is not None:
            is_young = self._clock() - self._idle_since < _LONGEST_IDLE
            if is_young and origin == self._origin and not self._connection.is_stale():
                return self._connection
            self.close()
        made = self._dialer.connect(url, request.extensions.get("timeout", {}).get("connect"))
        self._connection, self._origin = made, origin
        return made


class _Body(httpx.SyncByteStream):
    """An answer's body, piece by piece as it comes."""

    def __init__(self, transport: DirectTransport, connection: Connection) -> None:
        self._transport = transport
        self._connection = connection

    def __iter__(self) -> Iterator[bytes]:
        answer = self._connection.answer
        while True:
            yield from answer.taken()
            if answer.complete:
                return
            self._connection.read_more()

    def close(self) -> None:
        self._transport.end_exchange()


def sent_headers(request: httpx.Request) -> list[tuple[bytes, bytes]]:
    """A request's headers as they are sent: they tell the length of the body that is there."""
    headers = [each for each in request.headers.raw if each[0].lower() not in _FRAMING]
    body = request.read()
    if body or request.method in _WITH_BODY:
        headers.append((b"Content-Length", b"%d" % len(body)))
    return headers


def _written(request: httpx.Request) -> bytes:
    """The bytes of a request.

    Raises:
        httpx.LocalProtocolError: a part of it cannot be written.
    """
    target = request.url.raw_path
    if not _TARGET.fullmatch(target):
        raise httpx.LocalProtocolError("the address cannot be written")
    lines = [b"%b %b HTTP/1.1\r\n" % (request.method.encode("ascii"), target)]
    lines += [_line(*header) for header in sent_headers(request)]
    lines += (b"\r\n", request.content)
    return b"".join(lines)


@lru_cache(maxsize=256)
def _line(name: bytes, value: bytes) -> bytes:
    """A header as it is written.

    Raises:
        httpx.LocalProtocolError: it cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise httpx.LocalProtocolError(f"Illegal header name {name!r}")
    if not _VALUE.fullmatch(value):
        raise httpx.LocalProtocolError(f"Illegal header value of {name!r}")
    return b"%b: %b\r\n" % (name, value)
