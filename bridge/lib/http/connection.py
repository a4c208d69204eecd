"""A connection to a server that sends a request in one system call and reads an answer in as few.

Every system call gives up the interpreter's lock, and a worker among sixteen waits for it anew: so no timeout
is set or polled for; the deadline of the whole exchange, which shuts the connection, is the only clock.
"""

import select
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import inf

import httpx

from bridge.lib.http.answer_parser import AnswerParser
from bridge.lib.http.happy_eyeballs import Resolve, connect_to_host, resolve

Connected = Callable[[socket.socket], None]
"""Told of each connection that is made: from then on it is shut when its time is over."""
_MOST_AT_ONCE = 64 * 1024


@dataclass(slots=True)
class Allowance:
    """How many bytes of the current exchange may still be read: 1xx answers have no end to them."""

    left: float = inf

    def spend(self, received: bytes) -> bytes:
        """Count what was read, and return it.

        Raises:
            httpx.ReadError: it is too much.
        """
        self.left -= len(received)
        if self.left < 0:
            raise httpx.ReadError("the answer sends far more than it says")
        return received


class Connection:
    """One connection to a server, with TLS or without."""

    def __init__(self, connected: socket.socket, allowance: Allowance) -> None:
        self.answer = AnswerParser()
        """As far as the answer to the latest request has been read."""
        self._socket = connected
        self._allowance = allowance
        self._idle = select.poll()
        self._idle.register(connected, select.POLLIN)

    def send(self, method: str, request: bytes) -> None:
        """Send a whole request with this method."""
        self.answer.expect(method)
        # A server may refuse a body before it has read all of it: what it says is worth reading.
        with suppress(OSError):
            self._socket.sendall(request)

    def read_more(self) -> None:
        """Wait for more of the answer, at most 64 KiB.

        Raises:
            httpx.ReadError: the connection is broken, or the answer is longer than it may be.
            httpx.RemoteProtocolError: what comes is no answer, or not a whole one.
        """
        try:
            received = self._socket.recv(_MOST_AT_ONCE)
        except OSError as error:
            raise httpx.ReadError(str(error)) from error
        self.answer.feed(self._allowance.spend(received))

    def is_stale(self) -> bool:
        """Whether the server has closed it, or sent what nobody asked for, while nothing was under way."""
        return bool(self._idle.poll(0))

    def close(self) -> None:
        """Close it."""
        self._socket.close()


@dataclass(frozen=True, slots=True)
class Dialer:
    """Makes connections."""

    connected: Connected
    allowance: Allowance
    tls: ssl.SSLContext
    resolve: Resolve = resolve

    def connect(self, url: httpx.URL, timeout: float | None) -> Connection:
        """A connection to the server of this address.

        Raises:
            httpx.ConnectTimeout: it does not answer within `timeout` seconds.
            httpx.ConnectError: it cannot be reached, or the two do not agree about TLS.
            httpx.LocalProtocolError: no host can have this name.
        """
        host, secure = url.raw_host.decode("ascii"), url.scheme == "https"
        try:
            made = connect_to_host(host, url.port or (443 if secure else 80), timeout, self.resolve)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except UnicodeError as error:
            raise httpx.LocalProtocolError(f"{host!r} is no name of a host: {error}") from error
        except TimeoutError as error:
            raise httpx.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise httpx.ConnectError(str(error)) from error
        self.connected(made)
        return Connection(self._secured(made, host) if secure else made, self.allowance)

    def _secured(self, made: socket.socket, host: str) -> socket.socket:
        """The connection under TLS."""
        secured = made
        try:
            # The handshake comes after the deadline knows of the new socket: the old one is empty by then.
            secured = wrapped = self.tls.wrap_socket(
                made, server_hostname=host, do_handshake_on_connect=False
            )
            self.connected(wrapped)
            wrapped.do_handshake()
        except OSError as error:
            secured.close()
            raise httpx.ConnectError(f"no TLS: {error}") from error
        return secured
