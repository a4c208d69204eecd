"""Connections for httpcore that send a request in one system call and read an answer in one.

Every system call gives up the interpreter's lock, and a worker among sixteen waits for it anew. httpcore's
own connections send the head and the body apart, and set and poll a timeout before each call; here the
deadline of the whole exchange, which shuts the connection, is the only clock.
"""

import select
import socket
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Any

import httpcore

from bridge.lib.http.happy_eyeballs import Resolve, connect_to_host, resolve

Connected = Callable[[socket.socket], None]
"""Told of each connection that is made: from then on it is shut when its time is over."""


@dataclass(slots=True)
class Allowance:
    """How many bytes of the current exchange may still be read.

    httpcore passes over 1xx answers, chunk extensions and trailers without an end to them.
    """

    left: float = inf

    def spend(self, received: bytes) -> bytes:
        """Count what was read.

        Raises:
            httpcore.ReadError: it is too much.
        """
        self.left -= len(received)
        if self.left < 0:
            raise httpcore.ReadError("the answer sends far more than it says")
        return received


class SocketStream(httpcore.NetworkStream):
    """One connection. Written bytes are kept until the answer is asked for, then sent at once."""

    def __init__(self, connection: socket.socket, connected: Connected, allowance: Allowance) -> None:
        self._socket = connection
        self._connected = connected
        self._allowance = allowance
        self._unsent: list[bytes] = []
        connected(connection)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """The next bytes of the answer; empty where the other side has closed.

        Raises:
            httpcore.ReadError: the connection is broken.
        """
        del timeout  # the exchange has a deadline
        try:
            if self._unsent:
                unsent, self._unsent = b"".join(self._unsent), []
                # A server may refuse a body before it has read all of it: what it says is worth reading.
                with suppress(OSError):
                    self._socket.sendall(unsent)
            received = self._socket.recv(max_bytes)
        except OSError as error:
            raise httpcore.ReadError(str(error)) from error
        return self._allowance.spend(received)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Keep a part of the request until the answer is asked for."""
        del timeout
        if buffer:
            self._unsent.append(buffer)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Put the connection under TLS.

        Raises:
            httpcore.ConnectError: the two do not agree.
        """
        del timeout
        secured: socket.socket = self._socket
        try:
            # The handshake comes after the deadline knows of the new socket: the old one is empty by then.
            secured = wrapped = ssl_context.wrap_socket(
                self._socket, server_hostname=server_hostname, do_handshake_on_connect=False
            )
            stream = SocketStream(wrapped, self._connected, self._allowance)
            wrapped.do_handshake()
        except OSError as error:
            secured.close()
            raise httpcore.ConnectError(f"no TLS: {error}") from error
        return stream

    def get_extra_info(self, info: str) -> Any:
        """What the pool asks for: `is_readable` of an idle connection means that the other side closed it."""
        if info == "is_readable":
            return self._is_readable()
        return self._socket if info == "socket" else None

    def _is_readable(self) -> bool:
        if self._socket.fileno() < 0:
            return True
        asked = select.poll()
        asked.register(self._socket, select.POLLIN)
        return bool(asked.poll(0))


class SocketBackend(httpcore.NetworkBackend):
    """Makes connections."""

    def __init__(
        self, connected: Connected, allowance: Allowance | None = None, resolve: Resolve = resolve
    ) -> None:
        self._connected = connected
        self._resolve = resolve
        self._allowance = allowance or Allowance()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """A connection to a server.

        Raises:
            httpcore.ConnectTimeout: it does not answer within `timeout` seconds.
            httpcore.ConnectError: it cannot be reached.
            httpcore.LocalProtocolError: no host can have this name.
        """
        del local_address, socket_options  # nobody sets them
        try:
            connection = connect_to_host(host, port, timeout, self._resolve)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except UnicodeError as error:
            raise httpcore.LocalProtocolError(f"{host!r} is no name of a host: {error}") from error
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        return SocketStream(connection, self._connected, self._allowance)


class CountedBackend(httpcore.NetworkBackend):
    """httpcore's own connections, which can do TLS within TLS for proxies; what is read is counted."""

    def __init__(self, allowance: Allowance) -> None:
        self._backend = httpcore.SyncBackend()
        self._allowance = allowance

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """See `httpcore.NetworkBackend`."""
        made = self._backend.connect_tcp(host, port, timeout, local_address, socket_options)
        return _Counted(made, self._allowance)


class _Counted(httpcore.NetworkStream):
    """A connection whose answer has a bound."""

    def __init__(self, stream: httpcore.NetworkStream, allowance: Allowance) -> None:
        self._stream = stream
        self._allowance = allowance

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """See `httpcore.NetworkStream`."""
        return self._allowance.spend(self._stream.read(max_bytes, timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """See `httpcore.NetworkStream`."""
        self._stream.write(buffer, timeout)

    def close(self) -> None:
        """See `httpcore.NetworkStream`."""
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """See `httpcore.NetworkStream`."""
        return _Counted(self._stream.start_tls(ssl_context, server_hostname, timeout), self._allowance)

    def get_extra_info(self, info: str) -> Any:
        """See `httpcore.NetworkStream`."""
        return self._stream.get_extra_info(info)
