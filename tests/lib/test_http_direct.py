"""The transport to the server itself: whole requests, a kept connection, TLS, and its one clock."""

import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field

import httpx
import pytest

from bridge.lib.errors import Transient
from bridge.lib.http.connection import Allowance, Dialer
from bridge.lib.http.deadline import Deadline
from bridge.lib.http.direct import DirectTransport
from bridge.model.failures import remedy_of
from tests.fixtures.crm_requests import CREATE, fault
from tests.fixtures.socket_server import AUTHORITY, served

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def trusting() -> ssl.SSLContext:
    """TLS that trusts the authority of these tests."""
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


def transport(connected: Callable[[socket.socket], None] = lambda _: None) -> closing[DirectTransport]:
    return closing(DirectTransport(Dialer(connected, Allowance(), trusting())))


@dataclass
class Answering:
    """A server that notes what comes at once and answers, again and again on one connection."""

    answer: bytes = GOOD
    pieces: list[bytes] = field(default_factory=list)
    connections: int = 0

    def __call__(self, connection: socket.socket) -> None:
        self.connections += 1
        while piece := connection.recv(2**20):
            self.pieces.append(piece)
            connection.sendall(self.answer)


def exchange(
    carrier: httpx.BaseTransport,
    url: str,
    method: str = "GET",
    content: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    """The answer to one request, read to its end."""
    with closing(
        carrier.handle_request(httpx.Request(method, url, headers=headers, content=content))
    ) as answer:
        answer.read()
    return answer


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_request_is_sent_whole_and_its_connection_is_reused(tls: bool) -> None:
    made: list[socket.socket] = []
    server = Answering()
    with served(server, tls=tls) as port, transport(made.append) as carrier:
        url = f"http{'s' if tls else ''}://127.0.0.1:{port}/"
        for number in range(10):
            answer = exchange(carrier, url, "POST", b"body %d" % number)
            assert (answer.status_code, answer.content) == (200, b"{}")
    assert [each.rpartition(b"\r\n")[2] for each in server.pieces] == [
        b"body %d" % each for each in range(10)
    ]
    assert len(made) == 1 + tls
    assert all(each.gettimeout() is None for each in made)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_request_and_answer_pass_through_unchanged(tls: bool) -> None:
    server = Answering(b"HTTP/1.1 201 Created\r\nX-Seen: yes\r\nContent-Length: 2\r\n\r\n{}")
    with served(server, tls=tls) as port, transport() as carrier:
        url = f"http{'s' if tls else ''}://127.0.0.1:{port}/a?b=c%20d"
        answer = exchange(carrier, url, "POST", b"body", {"X-Own": "1"})
        assert (answer.status_code, answer.headers["x-seen"], answer.content) == (201, "yes", b"{}")
    [request] = server.pieces
    assert request.startswith(b"POST /a?b=c%20d HTTP/1.1\r\n")
    assert b"Host: 127.0.0.1:%d\r\n" % port in request
    assert b"X-Own: 1\r\n" in request
    assert b"Content-Length: 4\r\n" in request
    assert request.endswith(b"\r\n\r\nbody")


@pytest.mark.parametrize(
    ("method", "content", "length"),
    [
        ("POST", b"", b"0"),
        ("PUT", None, b"0"),
        ("DELETE", b"ab", b"2"),
        ("DELETE", None, None),
        ("GET", None, None),
    ],
)
def test_a_bodys_length_is_told_where_there_may_be_one(
    method: str, content: bytes | None, length: bytes | None
) -> None:
    server = Answering()
    with served(server) as port, transport() as carrier:
        exchange(carrier, f"http://127.0.0.1:{port}/", method, content)
    lines = [line for line in server.pieces[0].split(b"\r\n") if line.lower().startswith(b"content-length")]
    assert lines == ([] if length is None else [b"Content-Length: " + length])


def test_a_length_that_headers_claim_is_not_believed() -> None:
    server = Answering()
    claims = {"Content-Length": "9", "Transfer-Encoding": "chunked"}
    with served(server) as port, transport() as carrier:
        exchange(carrier, f"http://127.0.0.1:{port}/", "POST", b"abc", claims)
    head = server.pieces[0].partition(b"\r\n\r\n")[0].lower()
    assert head.count(b"content-length") == 1
    assert b"content-length: 3" in head
    assert b"chunked" not in head


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X", "a\r\nY: b"),
        ("X", "a\nb"),
        ("X", "a\0b"),
        ("X", " a"),
        ("X", "a "),
        ("X", "\x7f"),
        ("X Y", "a"),
        ("X:", "a"),
        ("", "a"),
        ("X\r\nY", "a"),
    ],
)
def test_header_that_would_break_out_is_not_sent(name: str, value: str) -> None:
    server = Answering()
    with served(server) as port, transport() as carrier, pytest.raises(httpx.LocalProtocolError) as caught:
        exchange(carrier, f"http://127.0.0.1:{port}/", headers={name: value})
    assert (server.connections, server.pieces) == (0, [])
    assert value not in str(caught.value) or value == "a"


@pytest.mark.parametrize(("idle", "connections"), [(0.9, 1), (1.1, 2)])
def test_connection_that_was_idle_for_long_is_not_trusted(idle: float, connections: int) -> None:
    server, now = Answering(), [100.0]
    dialer = Dialer(lambda _: None, Allowance(), trusting())
    with served(server) as port, closing(DirectTransport(dialer, lambda: now[0])) as carrier:
        for _ in range(2):
            exchange(carrier, f"http://127.0.0.1:{port}/")
            now[0] += idle
    assert server.connections == connections


def test_answer_after_the_end_is_never_taken_for_the_next_requests() -> None:
    stray = b"HTTP/1.1 500 Stray\r\nContent-Length: 0\r\n\r\n"
    server = Answering(GOOD + stray)
    with served(server) as port, transport() as carrier:
        url = f"http://127.0.0.1:{port}/"
        assert [exchange(carrier, url).status_code for _ in range(3)] == [200] * 3
    assert server.connections == 3


def test_stray_answer_on_an_idle_connection_ends_it() -> None:
    sent = threading.Event()

    def serve(connection: socket.socket) -> None:
        while connection.recv(2**20):
            connection.sendall(GOOD)
            if not sent.is_set():
                # The client has read the answer, since it waits for nothing else.
                connection.sendall(b"HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n")
                sent.set()

    with served(serve) as port, transport() as carrier:
        url = f"http://127.0.0.1:{port}/"
        assert exchange(carrier, url).status_code == 200
        assert sent.wait(5)
        assert exchange(carrier, url).status_code == 200


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n",
    ],
    ids=["close", "1.0"],
)
def test_connection_that_the_server_ends_is_not_reused(head: bytes) -> None:
    server = Answering(head + b"{}")
    with served(server) as port, transport() as carrier:
        for _ in range(2):
            assert exchange(carrier, f"http://127.0.0.1:{port}/").content == b"{}"
    assert server.connections == 2


@pytest.mark.parametrize("status", [204, 304])
def test_answer_without_a_body_leaves_its_connection_usable(status: int) -> None:
    server = Answering(b"HTTP/1.1 %d X\r\nETag: 1\r\n\r\n" % status)
    with served(server) as port, transport() as carrier:
        answers = [exchange(carrier, f"http://127.0.0.1:{port}/") for _ in range(2)]
    assert [(each.status_code, each.content) for each in answers] == [(status, b"")] * 2
    assert server.connections == 1


def test_answer_to_head_has_no_body_whatever_its_length_says() -> None:
    server = Answering(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
    with served(server) as port, transport() as carrier:
        answers = [exchange(carrier, f"http://127.0.0.1:{port}/", "HEAD") for _ in range(2)]
    assert [(each.status_code, each.content) for each in answers] == [(200, b"")] * 2


def test_body_that_was_not_read_ends_its_connection() -> None:
    server = Answering(b"HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\n" + bytes(500_000))
    with served(server) as port, transport() as carrier:
        for _ in range(2):
            carrier.handle_request(httpx.Request("GET", f"http://127.0.0.1:{port}/")).close()
    assert server.connections == 2


def test_other_server_gets_a_connection_of_its_own() -> None:
    one, other = Answering(), Answering()
    with served(one) as first, served(other) as second, transport() as carrier:
        for port in (first, second, first):
            exchange(carrier, f"http://127.0.0.1:{port}/")
    assert (one.connections, other.connections) == (2, 1)


def test_disconnect_raises_httpxs_error() -> None:
    def hang_up(connection: socket.socket) -> None:
        connection.shutdown(socket.SHUT_RDWR)

    with served(hang_up) as port, transport() as carrier:
        request = httpx.Request("GET", f"http://127.0.0.1:{port}/")
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            carrier.handle_request(request)
    with transport() as carrier, pytest.raises(httpx.ConnectError):
        carrier.handle_request(request)


def test_truncated_body_raises_httpxs_error() -> None:
    def cut(connection: socket.socket) -> None:
        connection.recv(2**20)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}")

    with served(cut) as port, transport() as carrier:
        answer = carrier.handle_request(httpx.Request("GET", f"http://127.0.0.1:{port}/"))
        with pytest.raises(httpx.RemoteProtocolError):
            answer.read()


def test_dripping_answer_over_tls_is_cut_off() -> None:
    def drip(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 O")
        while True:
            connection.sendall(b"K")
            threading.Event().wait(0.05)

    deadline, before = Deadline(0.3), time.monotonic()
    with served(drip, tls=True) as port, transport(deadline.connected) as carrier, deadline.exchange():
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            exchange(carrier, f"https://127.0.0.1:{port}/")
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
    with served(Answering(), tls=True) as port:
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


@pytest.mark.parametrize("reads_on", [True, False])
def test_answer_sent_before_the_body_is_read_is_received(reads_on: bool) -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        while reads_on and connection.recv(2**20):
            pass

    with served(refuse) as port, transport() as carrier:
        answer = exchange(carrier, f"http://127.0.0.1:{port}/", "POST", bytes(8 * 2**20))
    assert answer.status_code == 413
