"""httpx's requests through a proxy: what is asked of it, and by which names faults are told."""

import inspect
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing

import httpcore
import httpx
import pytest

from bridge.lib.http.proxied import HTTPX_ERRORS, PoolTransport, through_proxy
from tests.fixtures.socket_server import served

ANSWER = b"HTTP/1.1 201 Created\r\nX-Seen: yes\r\nContent-Length: 2\r\n\r\n{}"


def answering(asked: list[bytes], connection: socket.socket) -> None:
    """Note one request and answer it."""
    asked.append(connection.recv(2**20))
    connection.sendall(ANSWER)


def errors_of(library: object) -> dict[str, type[Exception]]:
    return {
        name: kind
        for name, kind in vars(library).items()
        if inspect.isclass(kind) and issubclass(kind, Exception)
    }


def test_every_shared_error_is_raised_under_httpxs_name() -> None:
    ours, theirs = errors_of(httpcore), errors_of(httpx)
    shared = {ours[name]: theirs[name] for name in ours.keys() & theirs.keys()}
    assert shared == HTTPX_ERRORS


class Raising(httpcore.ConnectionPool):
    """A pool that fails in one way."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def handle_request(self, request: httpcore.Request) -> httpcore.Response:
        del request
        raise self._error


def faults() -> Iterator[tuple[Exception, type[Exception]]]:
    for kind, told in HTTPX_ERRORS.items():
        yield kind("why"), told
    yield type("Newer", (httpcore.ReadError,), {})("why"), httpx.ReadError
    yield OSError("why"), OSError


@pytest.mark.parametrize(
    ("error", "told"), list(faults()), ids=lambda value: getattr(value, "__name__", None)
)
def test_pool_error_is_raised_under_the_nearest_name(error: Exception, told: type[Exception]) -> None:
    with closing(PoolTransport(Raising(error))) as carrier, pytest.raises(told, match="why") as caught:
        carrier.handle_request(httpx.Request("GET", "http://crm.example/"))
    assert type(caught.value) is told


@pytest.mark.parametrize("address", ["ftp://127.0.0.1:1", "127.0.0.1:1"])
def test_invalid_proxy_address_is_refused(address: str) -> None:
    backend = httpcore.SyncBackend()
    with pytest.raises(ValueError, match="scheme"):
        through_proxy(address, backend, ssl.create_default_context(), lambda *_: None)


def test_a_proxy_is_asked_with_its_credentials() -> None:
    asked: list[bytes] = []
    with served(lambda connection: answering(asked, connection)) as port:
        proxy = through_proxy(
            f"http://user:word@127.0.0.1:{port}",
            httpcore.SyncBackend(),
            ssl.create_default_context(),
            lambda *_: None,
        )
        with closing(proxy):
            answer = proxy.handle_request(httpx.Request("GET", "http://crm.example/a"))
            assert answer.read() == b"{}"
    assert asked[0].startswith(b"GET http://crm.example/a HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic dXNlcjp3b3Jk\r\n" in asked[0]
