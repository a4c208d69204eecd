"""One HTTP exchange after the other, over a connection of one's own.

It is httpx's transport without httpx's client: that one would follow what an account's proxy or a cookie
says from one call to the next, and it takes two fifths of a request's processor time.
"""

import ssl
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address
from typing import Any
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

from bridge.deadline import Deadline
from bridge.stream import Connector

LONGEST_ANSWER = 32 * 2**20
"""An answer that is longer is none of ours; it would only eat memory."""
_TOO_SLOW = "the answer came too slowly"
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "gzip, deflate", "User-Agent": "callbridge"}
# A connection that was idle for longer may just be closed by the CRM: a request that is
# lost so is in doubt, for nothing tells it from one whose answer was lost.
_LIMITS: Any = {"max_connections": 1, "max_keepalive_connections": 1, "keepalive_expiry": 1.0}


@dataclass(frozen=True, slots=True)
class Received:
    """What came back, its body undone of its transfer's compression."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    charset: str | None


class Wire:
    """Sends requests one at a time, each within a deadline for the whole of it."""

    def __init__(self, timeout: float, transport: httpx.BaseTransport | None = None) -> None:
        """`timeout` in seconds; `transport` carries the requests in place of the network."""
        self._deadline = Deadline(timeout)
        self._timeouts = dict.fromkeys(("connect", "read", "write", "pool"), timeout)
        self._transport = transport
        self._by_proxy: dict[str | None, httpx.BaseTransport] = {}

    def close(self) -> None:
        """Close the connections."""
        for transport in (self._transport, *self._by_proxy.values()):
            if transport is not None:
                transport.close()

    def send(
        self, method: str, url: httpx.URL, headers: Mapping[str, str], content: bytes | None
    ) -> Received:
        """One exchange.

        Raises:
            httpx.HTTPError: there is no answer.
        """
        named = {name.lower() for name in headers}
        defaults = {name: value for name, value in _HEADERS.items() if name.lower() not in named}
        request = httpx.Request(
            method,
            url,
            headers={**defaults, **headers},
            content=content,
            extensions={"timeout": self._timeouts},
        )
        try:
            with (
                self._deadline.exchange(),
                closing(self._carrier(url).handle_request(request)) as response,
            ):
                body = _read(response)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise
        except httpx.TransportError as error:
            if self._deadline.expired:
                raise httpx.ReadTimeout(_TOO_SLOW) from error
            raise
        if self._deadline.expired:
            # A body whose end is the connection's was cut off, and looks whole.
            raise httpx.ReadTimeout(_TOO_SLOW)
        return Received(response.status_code, response.headers, body, response.charset_encoding)

    def _carrier(self, url: httpx.URL) -> httpx.BaseTransport:
        if self._transport is not None:
            return self._transport
        if url.scheme not in ("http", "https") or not url.host:
            raise httpx.UnsupportedProtocol(f"the address {url.scheme}://{url.host} is none of HTTP")
        proxy = _proxy_for(url.scheme, url.host)
        if proxy not in self._by_proxy:
            self._by_proxy[proxy] = _Direct(self._deadline) if proxy is None else _By(proxy, self._deadline)
        return self._by_proxy[proxy]


class _Direct(httpx.HTTPTransport):
    """httpx's transport over connections of our own."""

    def __init__(self, deadline: Deadline) -> None:
        super().__init__(verify=_tls())
        self._pool = httpcore.ConnectionPool(
            ssl_context=_tls(), network_backend=Connector(deadline.connected), **_LIMITS
        )


class _By(httpx.HTTPTransport):
    """httpx's transport through a proxy, over its own connections: it knows what TLS within TLS needs."""

    def __init__(self, proxy: str, deadline: Deadline) -> None:
        super().__init__(verify=_tls(), limits=httpx.Limits(**_LIMITS), proxy=proxy)
        self._deadline = deadline

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """See `httpx.BaseTransport`."""
        request.extensions["trace"] = self._deadline.traced
        return super().handle_request(request)


def _read(response: httpx.Response) -> bytes:
    pieces, size = [], 0
    for piece in response.iter_bytes():
        pieces.append(piece)
        size += len(piece)
        if size > LONGEST_ANSWER:
            # The error, which is kept while it is tried again, would hold them.
            pieces.clear()
            raise httpx.ReadError("the answer is longer than 32 MiB")
    return b"".join(pieces)


@cache
def _proxy_for(scheme: str, host: str) -> str | None:
    """The environment's proxy: that is for the world outside, not for this machine."""
    if is_loopback(host) or proxy_bypass(host):
        return None
    proxies = getproxies()
    found = proxies.get(scheme) or proxies.get("all")
    return found if found is None or "://" in found else f"http://{found}"


@cache
def _tls() -> ssl.SSLContext:
    """Whom TLS trusts, read once for all workers: it is more than a megabyte."""
    return httpx.create_ssl_context()


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
