"""The connections beneath httpx: whole requests, TLS, and a deadline that is their only clock."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import httpcore
import pytest

from bridge.lib.errors import Transient
from bridge.lib.http.deadline import Deadline
from bridge.lib.http.socket import SocketBackend
from bridge.model.failures import remedy_of
from tests.fixtures.crm_requests import CREATE, fault
from tests.fixtures.socket_server import AUTHORITY, served

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@contextmanager
def pool(deadline: Deadline) -> Iterator[httpcore.ConnectionPool]:
    """A pool over our connections, which trusts the authority of these tests."""
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    with closing(
        httpcore.ConnectionPool(ssl_context=context, network_backend=SocketBackend(deadline.connected))
    ) as made:
        yield made


def answers(pieces: list[bytes], times: int = 100) -> Callable[[socket.socket], None]:
    """A server that notes what comes at once and answers, again and again on one connection."""

    def serve(connection: socket.socket) -> None:
        for _ in range(times):
            piece = connection.recv(2**20)
            if not piece:
                return
            pieces.append(piece)
            connection.sendall(GOOD)

    return serve


@pytest.mark.parametrize("tls", [False, True])
def test_request_is_sent_whole_and_its_connection_is_reused(tls: bool) -> None:
    pieces: list[bytes] = []
    made: list[socket.socket] = []
    with (
        served(answers(pieces), tls=tls) as port,
        httpcore.ConnectionPool(
            ssl_context=trusting(), network_backend=SocketBackend(made.append)
        ) as connections,
    ):
        for number in range(10):
            url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/"
            answer = connections.request("POST", url, content=b"body %d" % number)
            assert (answer.status, answer.content) == (200, b"{}")
    assert [piece.rpartition(b"\r\n")[2] for piece in pieces] == [b"body %d" % each for each in range(10)]
    assert len(made) == 1 + tls
    assert all(each.gettimeout() is None for each in made)


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


def test_dripping_answer_over_tls_is_cut_off() -> None:
    def drip(connection: socket.socket) -> None:
        connection.recv(65536)
        while True:
            connection.sendall(b"HTTP/1.1 200 OK\r\nX: y\r\n"[:1])
            threading.Event().wait(0.05)

    deadline, before = Deadline(0.3), time.monotonic()
    with served(drip, tls=True) as port, pool(deadline) as connections, deadline.exchange():
        with pytest.raises((httpcore.ReadError, httpcore.RemoteProtocolError)):
            connections.request("GET", f"https://127.0.0.1:{port}/")
        assert deadline.expired
    assert time.monotonic() - before < 2


def test_silence_in_the_handshake_counts_as_unreachable() -> None:
    def listen(connection: socket.socket) -> None:
        while connection.recv(65536):
            pass

    before = time.monotonic()
    with served(listen) as port:
        error = fault(f"https://127.0.0.1:{port}", CREATE, timeout=0.3)
    assert time.monotonic() - before < 2
    assert isinstance(error, Transient)
    assert not error.doubtful


def test_untrusted_certificate_is_reported() -> None:
    with served(answers([]), tls=True) as port:
        error = fault(f"https://127.0.0.1:{port}", CREATE)
    assert isinstance(error, Transient)
    assert not error.doubtful
    assert "certificate verify failed" in str(error)
    assert "SSL_CERT_FILE" in remedy_of(error)


def test_server_without_tls_is_reported() -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with served(refuse) as port:
        error = fault(f"https://127.0.0.1:{port}", CREATE)
    assert isinstance(error, Transient)
    assert "check base_url" in remedy_of(error)


def test_answer_sent_before_the_body_is_read_is_received() -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        while connection.recv(2**20):
            pass

    with served(refuse) as port, pool(Deadline(5)) as connections:
        answer = connections.request("POST", f"http://127.0.0.1:{port}/", content=bytes(8 * 2**20))
    assert answer.status == 413
