"""One connection on the wire: heads, bodies, silences and queues, each with its bound."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from bridge.intake.http_protocol import LONGEST_HEAD, MOST_HEADERS, Waiting
from bridge.intake.http_server import FIRST_SILENCE, KEEP_ALIVE, LONGEST_STALL
from tests.fixtures.door import Listening, answer

HEAD = b"POST /a HTTP/1.1\r\nHost: x\r\n"


class Echo:
    """Answers each request with its own body, once it may; remembers what it saw."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bytes, list[tuple[bytes, bytes]]]] = []
        self.refused: list[tuple[int, str, str]] = []
        self.long_answer = b""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message["body"]
            more = message["more_body"]
        self.seen.append((scope["path"], body, scope["headers"]))
        text = self.long_answer or b"<" + body + b">"
        length = [(b"content-length", b"%d" % len(text))]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body", "body": text})

    def note(self, status: int, reason: str, address: str) -> None:
        self.refused.append((status, reason, address))


ECHO = Echo()


@pytest.fixture(scope="module")
def served() -> Iterator[Listening]:
    with Listening(ECHO, refused=ECHO.note) as listening:
        yield listening


@pytest.fixture
def echo() -> Echo:
    """Of this test alone."""
    ECHO.__init__()  # type: ignore[misc]  # as new
    return ECHO


@contextmanager
def connected(served: Listening) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", served.port), timeout=5) as connection:
        yield connection


def request(body: bytes, head: bytes = HEAD) -> bytes:
    return head + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


def read_answers(connection: socket.socket, count: int) -> list[bytes]:
    """The bodies of so many answers."""
    received = b""
    while received.count(b">") < count:
        piece = connection.recv(65536)
        assert piece, received
        received += piece
    return [part.rpartition(b"<")[2] for part in received.split(b">")[:count]]


def rest_of(connection: socket.socket) -> bytes:
    """What still comes until the other side closes, however it does."""
    received = b""
    with suppress(ConnectionError):
        while piece := connection.recv(65536):
            received += piece
    return received


# -- pipelines ---------------------------------------------------------------------
def test_many_requests_in_one_segment_are_answered_in_order(served: Listening, echo: Echo) -> None:
    bodies = [b"body %d" % number for number in range(300)]
    with connected(served) as connection:
        connection.sendall(b"".join(request(body) for body in bodies))
        assert read_answers(connection, len(bodies)) == bodies
    assert [body for _, body, _ in echo.seen] == bodies


@pytest.mark.parametrize("size", [1, 7, 64])
def test_pipelined_requests_are_read_however_they_are_segmented(
    served: Listening, echo: Echo, size: int
) -> None:
    text = request(b"one") + b"\r\n\r\n" + HEAD + b"\r\n" + request(b"") + request(b"three")
    with connected(served) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for place in range(0, len(text), size):
            connection.sendall(text[place : place + size])
        assert read_answers(connection, 4) == [b"one", b"", b"", b"three"]
    assert len(echo.seen) == 4


def test_pipelined_requests_are_all_answered_after_a_half_close(served: Listening, echo: Echo) -> None:
    with connected(served) as connection:
        connection.sendall(request(b"one") + request(b"two") + request(b"three"))
        connection.shutdown(socket.SHUT_WR)
        assert answer(connection)[1].count(b"HTTP/1.1 200") == 3
    assert len(echo.seen) == 3


def test_connection_closes_after_a_chunked_body(served: Listening, echo: Echo) -> None:
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n"
    with connected(served) as connection:
        connection.sendall(chunked + request(b"two"))
        status, received = answer(connection)
        assert (status, received.count(b"HTTP/1.1 "), b"connection: close" in received) == (200, 1, True)
    with connected(served) as connection:
        connection.sendall(chunked)
        assert read_answers(connection, 1) == [b"one"]
        connection.sendall(chunked)
        assert read_answers(connection, 1) == [b"one"]
    assert [body for _, body, _ in echo.seen] == [b"one"] * 3


# -- heads -------------------------------------------------------------------------
@pytest.mark.parametrize("before", [b"", request(b"one")], ids=["first", "pipelined"])
def test_head_size_is_bounded_on_every_request(served: Listening, echo: Echo, before: bytes) -> None:
    with connected(served) as connection:
        connection.sendall(before + HEAD + b"X-Long: ")
        if before:
            assert read_answers(connection, 1) == [b"one"]
        with suppress(OSError):
            for _ in range(200):
                connection.sendall(b"x" * 4096)
        rest_of(connection)
    assert echo.refused == [(431, f"a head of more than {LONGEST_HEAD} bytes", "127.0.0.1")]
    assert len(echo.seen) == (1 if before else 0)


def test_head_just_below_the_limit_is_read(served: Listening, echo: Echo) -> None:
    filling = b"X-Long: " + b"x" * (LONGEST_HEAD - len(HEAD) - 100) + b"\r\n"
    with connected(served) as connection:
        connection.sendall(request(b"one", HEAD + filling) + request(b"two"))
        assert read_answers(connection, 2) == [b"one", b"two"]
    assert echo.refused == []


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (HEAD + b"X: y\r\n" * (MOST_HEADERS - 1) + b"\r\n", 200),
        (HEAD + b"X: y\r\n" * MOST_HEADERS + b"\r\n", 431),
        (b"POST /a HTTP/1.1\r\n\r\n", 400),
        (b"POST /a HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400),
        (b"POST /a HTTP/1.1\r\nHost: x\r\nhost: y\r\n\r\n", 400),
        (b"POST /a HTTP/1.0\r\n\r\n", 200),
        (b"POST /a HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"POST /a HTTP/1.1\r\nHost: x\r\nA B: y\r\n\r\n", 400),
        (b"POST /\xff HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (HEAD + b"Content-Length: -1\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: gzip\r\nContent-Length: 3\r\n\r\n", 400),
    ],
)
def test_heads_are_accepted_or_refused(served: Listening, echo: Echo, head: bytes, status: int) -> None:
    with connected(served) as connection:
        connection.sendall(head)
        connection.shutdown(socket.SHUT_WR)
        assert answer(connection)[0] == status
    assert len(echo.seen) == (status == 200)
    assert [one[0] for one in echo.refused] == ([] if status == 200 else [status])


def test_refused_second_request_does_not_replace_the_first_answer(served: Listening, echo: Echo) -> None:
    with connected(served) as connection:
        connection.sendall(request(b"one") + b"nonsense\r\n\r\n")
        received = answer(connection)[1]
    assert [part[:3] for part in received.split(b"HTTP/1.1 ")[1:]] == [b"200", b"400"]
    assert [body for _, body, _ in echo.seen] == [b"one"]


def test_host_of_an_absolute_url_wins_over_the_header(served: Listening, echo: Echo) -> None:
    with connected(served) as connection:
        connection.sendall(b"GET http://user@evil.example:80/a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        read_answers(connection, 1)
    assert echo.seen == [("/a", b"", [(b"host", b"evil.example:80")])]


# -- bodies ------------------------------------------------------------------------
def test_trailers_do_not_count_as_headers(served: Listening, echo: Echo) -> None:
    with connected(served) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\nTrailer: X-Forwarded-For\r\n\r\n")
        connection.sendall(b"3\r\none\r\n0\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n")
        assert read_answers(connection, 1) == [b"one"]
    assert b"x-forwarded-for" not in dict(echo.seen[0][2])


@pytest.mark.parametrize(
    "endless",
    [b"0\r\nX-Long: " + b"x" * 8192, b"1;" + b"x" * 8192, b"1;a=b\r\nx\r\n" * 2000],
    ids=["trailer", "extension", "extensions"],
)
def test_trailers_and_chunk_extensions_are_bounded(served: Listening, echo: Echo, endless: bytes) -> None:
    with connected(served) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + endless)
        sent = 0
        with suppress(OSError):
            while sent < 2**24:
                sent += connection.send(b"x" * 65536 if endless[-1:] == b"x" else endless)
    assert sent < 2**23
    assert echo.refused[-1][0] == 400
    assert echo.seen == []


def test_chunks_of_one_byte_are_read(served: Listening, echo: Echo) -> None:
    body = b"x" * 30_000
    with connected(served) as connection:
        chunks = b"".join(b"1\r\nx\r\n" for _ in body)
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
        assert read_answers(connection, 1) == [body]
    assert echo.refused == []


def test_expect_100_continue_is_answered(served: Listening, echo: Echo) -> None:
    with connected(served) as connection:
        connection.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"one")
        assert read_answers(connection, 1) == [b"one"]
    assert len(echo.seen) == 1


# -- silence -----------------------------------------------------------------------
@pytest.mark.parametrize("said", [b"", b"\r\n\r\n\r\n"], ids=["nothing", "empty lines"])
def test_silent_connection_is_closed_within_ten_seconds(served: Listening, echo: Echo, said: bytes) -> None:
    with connected(served) as connection:
        connection.sendall(said)
        served.sweep(FIRST_SILENCE - 1, Waiting.REQUEST)
        connection.settimeout(0.05)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(5)
        served.sweep(10.1)
        assert answer(connection)[0] == 408
    assert echo.seen == []


@pytest.mark.parametrize("said", [b"", b"\r\n\r\n", b"\n\r\n"], ids=["nothing", "empty lines", "odd ones"])
def test_idle_connection_is_closed_despite_empty_lines(served: Listening, echo: Echo, said: bytes) -> None:
    with connected(served) as connection:
        connection.sendall(request(b"one"))
        assert read_answers(connection, 1) == [b"one"]
        for later in (1.0, KEEP_ALIVE - 0.5):
            connection.sendall(said)
            served.sweep(later)
        connection.sendall(request(b"two"))
        assert read_answers(connection, 1) == [b"two"]
        connection.sendall(said * 3)
        served.sweep(KEEP_ALIVE + 1)
        # Without an answer that could be taken for the next request's.
        assert rest_of(connection) == b""
    assert echo.refused == []


@pytest.mark.parametrize("part", [HEAD, HEAD + b"Content-Length: 9\r\n\r\nhalf"], ids=["head", "body"])
@pytest.mark.parametrize("before", [b"", request(b"one")], ids=["first", "later"])
def test_partial_request_is_cut_off_at_its_timeout(
    served: Listening, echo: Echo, before: bytes, part: bytes
) -> None:
    with connected(served) as connection:
        connection.sendall(before + part)
        if before:
            read_answers(connection, 1)
        served.sweep(9.0, Waiting.REST)
        served.sweep(10.5, Waiting.REST)
        received = answer(connection)[1]
    assert received.startswith(b"HTTP/1.1 408 ")
    assert len(echo.seen) == bool(before)


def test_answer_that_is_not_read_is_abandoned(served: Listening, echo: Echo) -> None:
    echo.long_answer = b"x" * 2**24
    with connected(served) as connection:
        connection.sendall(request(b"one"))
        assert connection.recv(1)
        served.sweep(1.0)
        served.sweep(LONGEST_STALL)
        served.sweep(LONGEST_STALL + 2)
        assert len(rest_of(connection)) < 2**24 - 1


# -- limits ------------------------------------------------------------------------
def many(served: Listening, count: int, source: str) -> list[socket.socket]:
    return [
        socket.create_connection(("127.0.0.1", served.port), timeout=5, source_address=(source, 0))
        for _ in range(count)
    ]


def test_one_address_cannot_take_all_connections(served: Listening, echo: Echo) -> None:
    taken = many(served, 700, "127.0.0.2")
    try:
        with connected(served) as connection:
            connection.sendall(request(b"one"))
            assert read_answers(connection, 1) == [b"one"]
        held = len(served.listener.connections)
        assert held <= 502
        # The oldest silent ones made room for the newer ones.
        assert rest_of(taken[0]) == b""
        taken[-1].sendall(request(b"two"))
        assert read_answers(taken[-1], 1) == [b"two"]
    finally:
        for one in taken:
            one.close()
    assert set(echo.refused) == {(503, "too many connections", "127.0.0.2")}


@pytest.mark.parametrize(
    ("start", "told"),
    [
        (b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" + b"\0" * 200, "TLS"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + HEAD + b"\r\n", "PROXY protocol"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + b"\1" * 12 + HEAD + b"\r\n", "PROXY protocol"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/2"),
    ],
)
def test_other_protocol_is_refused_at_once_and_named(
    served: Listening, echo: Echo, start: bytes, told: str
) -> None:
    with connected(served) as connection:
        connection.sendall(start)
        assert answer(connection)[0] == 400
    ((status, reason, _),) = echo.refused
    assert (status, told in reason, ": " in reason) == (400, True, True)
    assert not echo.seen
