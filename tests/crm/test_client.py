"""The client against a CRM that answers nonsense, slowly, half, or not at all."""

import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import chain, repeat
from typing import Any

import pytest

from bridge.lib.errors import InDoubt, Permanent, Transient
from bridge.lib.http.client import CRM_LIMITS
from tests.fixtures.crm_requests import CONNECTOR, CREATE, FIND, LINK, NAMES, SECRET, fault
from tests.fixtures.small_crm import Server, crm_of


@contextmanager
def raw(*answers: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that treats each connection in turn as told, once a request has come."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for answer in answers:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                with suppress(OSError):
                    answer(connection)
                    connection.shutdown(socket.SHUT_WR)
                    connection.settimeout(2)
                    while connection.recv(65536):
                        pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()


def says(text: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(text)


def drips(start: bytes, drop: bytes) -> Callable[[socket.socket], None]:
    """Never silent for long, never done."""

    def answer(connection: socket.socket) -> None:
        for piece in chain([start], repeat(drop)):
            connection.sendall(piece)
            threading.Event().wait(0.05)

    return answer


@pytest.mark.parametrize(
    ("start", "drop"),
    [
        (b"HTTP/1.1 200 O", b"K"),
        (b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"id": 1}', b" "),
    ],
)
def test_deadline_holds_though_the_answer_drips(start: bytes, drop: bytes) -> None:
    before = time.monotonic()
    with raw(drips(start, drop)) as url:
        error = fault(url, CREATE, timeout=0.3)
    assert time.monotonic() - before < 1
    assert isinstance(error, InDoubt)
    assert "too slowly" in str(error)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{",
        b"SMTP ready\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
        b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{"id":',
        b"HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\n<html>login</html>\n",
    ],
)
def test_broken_answer_leaves_the_request_in_doubt(answer: bytes) -> None:
    with raw(says(answer), says(answer)) as url:
        assert isinstance(fault(url, CREATE), InDoubt)
        error = fault(url, FIND)
    assert isinstance(error, Transient)
    assert error.doubtful


def test_refused_connection_means_nothing_was_sent() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.close()
    error = fault(url, CREATE)
    assert isinstance(error, Transient)
    assert not error.doubtful


@pytest.mark.parametrize("encoded", [False, True])
def test_endless_answer_is_given_up(encoded: bool) -> None:
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
    big = b" " * (CRM_LIMITS.size + 1)
    body = gzip.compress(big, 1) if encoded else big
    with raw(
        says(head + b"Content-Encoding: gzip\r\n\r\n" * encoded + b"\r\n" * (not encoded) + body)
    ) as url:
        assert "longer than 8 MiB" in str(fault(url, CREATE))


def test_connection_closed_while_idle_is_no_fault() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
    bodies = []
    with (
        raw(says(head + b'{"id": 1}'), says(head + b'{"id": 2}')) as url,
        closing(crm_of(CONNECTOR, url, {"token": SECRET})) as crm,
    ):
        for _ in range(2):
            bodies.append(crm.ask(CREATE, NAMES, "x").body)
            # The server's end of the connection is closed by now, or within this time.
            threading.Event().wait(0.1)
    assert bodies == [{"id": 1}, {"id": 2}]


# What an answer holds


def asked(server: Server, body: object, headers: dict[str, str] | None = None, status: int = 200) -> Any:
    server.answer = lambda _seen: (status, body, headers or {})
    with closing(crm_of(CONNECTOR, server.url, {"token": SECRET})) as crm:
        return crm.ask(CREATE, NAMES, "x")


@pytest.mark.parametrize("body", [[], [1], 7, None, True, "text", {"a": 1}, {"id": 2**63 + 1}])
def test_json_of_every_shape_is_accepted(server: Server, body: object) -> None:
    found = asked(server, json.dumps(body).encode())
    assert found.body == body


@pytest.mark.parametrize(
    ("body", "charset", "expected"),
    [
        ('{"id": "客户"}'.encode("gbk"), "gbk", "客户"),
        ('\ufeff{"id": "客户"}'.encode(), "utf-8", "客户"),
        ('{"id": "客户"}'.encode(), "no-such", "客户"),
        ('{"id": "客户"}'.encode(), "base64", "客户"),
        (b'{"id": "a\xff"}', "utf-8", "a\ufffd"),
        (b'{"id": "\\ud83d"}', "utf-8", "?"),
        (b'{"id": "\\ud83d\\ude00"}', "utf-8", "😀"),
    ],
)
def test_declared_charsets_are_decoded(server: Server, body: bytes, charset: str, expected: str) -> None:
    assert (
        asked(server, body, {"Content-Type": f"application/json; charset={charset}"}).body["id"] == expected
    )


def test_gzip_and_headers_in_any_case_are_read(server: Server) -> None:
    body = gzip.compress(b'{"id": 5}')
    found = asked(server, body, {"Content-Encoding": "gzip", "X-Entity-ID": "7"})
    assert found.body == {"id": 5}
    assert {found.headers["x-entity-id"], found.headers.get("X-ENTITY-id")} == {"7"}


@pytest.mark.parametrize("body", [b"[" * 100_000, b"1" * 10_000])
def test_unparsable_json_is_no_internal_fault(server: Server, body: bytes) -> None:
    server.answer = lambda _seen: (200, body, {})
    error = fault(server.url, CREATE)
    assert isinstance(error, InDoubt)
    assert error.blame == "account"


def test_redirect_is_reported_with_its_target(server: Server) -> None:
    server.answer = lambda _seen: (302, None, {"Location": "https://elsewhere.example/"})
    error = fault(server.url, CREATE)
    assert isinstance(error, InDoubt)
    assert error.blame == "account"
    assert "base_url" in str(error)


# What is sent, and what is never shown


def test_query_in_the_path_and_query_key_are_both_sent(server: Server) -> None:
    server.log.clear()
    asked(server, {})
    assert server.log[0].query == {"a": "1", "b": "y"}


@pytest.mark.parametrize(
    "quoted",
    [
        lambda seen: seen.headers["x-token"],
        lambda seen: seen.headers["authorization"],
        lambda seen: json.dumps(seen.headers["x-token"]),
        lambda _seen: "canary-5a81%20c0%22de canary-5a81+c0%22de",
    ],
)
def test_secret_quoted_in_an_answer_is_hidden(server: Server, quoted: Any) -> None:
    server.answer = lambda seen: (400, {"why": quoted(seen), "phone": "15899770637"}, {})
    text = str(fault(server.url, CREATE))
    assert "***" in text
    assert "158****0637" in text
    assert "dTpjYW5hcnk" not in text


def test_secret_is_hidden_before_a_message_is_truncated(server: Server) -> None:
    server.answer = lambda seen: (400, "x" * 272 + seen.headers["x-token"], {})
    error = fault(server.url, CREATE)
    assert "canary" not in f"{error}{error.cause}"
    server.answer = lambda seen: (400, {"why": "x" * 290 + seen.headers["x-token"]}, {})
    error = fault(server.url, CREATE)
    assert "canary" not in f"{error}{error.cause}"
    assert len(str(error)) < 500


def test_secret_in_the_path_is_not_shown(server: Server) -> None:
    server.answer = lambda _seen: (400, {}, {})
    assert "/secret/***" in str(fault(server.url, LINK))


@pytest.mark.parametrize("value", [b"raw", object(), {1, 2}])
def test_unencodable_body_is_a_mistake_of_the_connector(server: Server, value: object) -> None:
    with closing(crm_of(CONNECTOR, server.url, {"token": SECRET})) as crm, pytest.raises(Permanent):
        crm.ask(CREATE, {**NAMES, "fields": {"a": value}}, "x")
