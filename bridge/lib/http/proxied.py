"""httpx requests through an HTTP or SOCKS proxy, by httpcore's pools, which know every kind of proxy.

`httpx.HTTPTransport` makes its own pool and cannot be given connections that count what is read, so its work
is done here: 40 lines between the public interfaces of both libraries.
"""

import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpcore
import httpx

from bridge.lib.http.connection import Allowance
from bridge.lib.http.direct import sent_headers

Trace = Callable[[str, Mapping[str, Any]], None]
"""Told of each event of a connection: httpcore's `trace` extension."""

# A connection that was idle for longer may just be closed by the CRM: a request that is
# lost so is in doubt, for nothing tells it from one whose answer was lost.
_ONE_CONNECTION: Any = {"max_connections": 1, "max_keepalive_connections": 1, "keepalive_expiry": 1.0}

HTTPX_ERRORS: Mapping[type[Exception], type[httpx.TransportError]] = {
    httpcore.ConnectError: httpx.ConnectError,
    httpcore.ConnectTimeout: httpx.ConnectTimeout,
    httpcore.LocalProtocolError: httpx.LocalProtocolError,
    httpcore.NetworkError: httpx.NetworkError,
    httpcore.PoolTimeout: httpx.PoolTimeout,
    httpcore.ProtocolError: httpx.ProtocolError,
    httpcore.ProxyError: httpx.ProxyError,
    httpcore.ReadError: httpx.ReadError,
    httpcore.ReadTimeout: httpx.ReadTimeout,
    httpcore.RemoteProtocolError: httpx.RemoteProtocolError,
    httpcore.TimeoutException: httpx.TimeoutException,
    httpcore.UnsupportedProtocol: httpx.UnsupportedProtocol,
    httpcore.WriteError: httpx.WriteError,
    httpcore.WriteTimeout: httpx.WriteTimeout,
}
"""The same faults have the same names in both libraries."""


def through_proxy(
    address: str, backend: httpcore.NetworkBackend, tls: ssl.SSLContext, trace: Trace
) -> "PoolTransport":
    """A transport with one connection through the HTTP or SOCKS proxy at this address.

    Raises:
        ValueError: the address is none of a proxy.
        RuntimeError: a SOCKS proxy, which needs the package `socksio`.
    """
    proxy = httpx.Proxy(address)
    pool: httpcore.ConnectionPool
    if proxy.url.scheme in ("socks5", "socks5h"):
        pool = httpcore.SOCKSProxy(
            _core_url(proxy.url),
            proxy_auth=proxy.raw_auth,
            ssl_context=tls,
            network_backend=backend,
            **_ONE_CONNECTION,
        )
    else:
        pool = httpcore.HTTPProxy(
            _core_url(proxy.url),
            proxy_auth=proxy.raw_auth,
            proxy_headers=proxy.headers.raw,
            ssl_context=tls,
            network_backend=backend,
            **_ONE_CONNECTION,
        )
    return PoolTransport(pool, trace)


class PoolTransport(httpx.BaseTransport):
    """Carries httpx's requests over a given pool; the pool's errors become httpx's."""

    def __init__(self, pool: httpcore.ConnectionPool, trace: Trace | None = None) -> None:
        self._pool = pool
        self._extensions = {} if trace is None else {"trace": trace}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """One exchange; the body is read from the response's stream.

        Raises:
            httpx.TransportError: there is no answer.
        """
        assert isinstance(request.stream, httpx.SyncByteStream)  # noqa: S101 -- nothing here is async
        asked = httpcore.Request(
            request.method,
            _core_url(request.url),
            headers=sent_headers(request),
            content=request.stream,
            extensions={**request.extensions, **self._extensions},
        )
        with _as_httpx_errors():
            answer = self._pool.handle_request(asked)
        return httpx.Response(
            answer.status,
            headers=answer.headers,
            stream=_Body(answer),
            extensions=answer.extensions,
        )

    def close(self) -> None:
        """Close the connection."""
        self._pool.close()


class _Body(httpx.SyncByteStream):
    """An answer's body, piece by piece as it comes."""

    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        with _as_httpx_errors():
            assert isinstance(self._answer.stream, Iterable)  # noqa: S101 -- nothing here is async
            yield from self._answer.stream

    def close(self) -> None:
        self._answer.close()


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


def _core_url(url: httpx.URL) -> httpcore.URL:
    return httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)


@contextmanager
def _as_httpx_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        for kind in type(error).__mro__:
            if kind in HTTPX_ERRORS:
                raise HTTPX_ERRORS[kind](str(error)) from error
        raise
