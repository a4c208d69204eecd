"""What the listener does to senders that are slow, silent or too many."""

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from tests.running import EXAMPLE, DaemonProcess, write_config

RECEIPTS = "SELECT count(*) FROM receipts"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """One for all: a start takes longer than all of these tests."""
    config = write_config(tmp_path_factory.mktemp("listener"), "http://127.0.0.1:9")
    text = config.read_text("utf-8")
    config.write_text(text.replace("[server]\n", '[server]\nbody_timeout = "1s"\n'), "utf-8")
    process = DaemonProcess(config)
    try:
        yield process
    finally:
        process.kill()


def connected(daemon: DaemonProcess) -> socket.socket:
    parts = urlsplit(daemon.url)
    return socket.create_connection((parts.hostname, parts.port), timeout=10)


def received(connection: socket.socket) -> bytes:
    """Everything until the other side closes."""
    text = b""
    while piece := connection.recv(65536):
        text += piece
    return text


@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        b"POST /callback/main/x HTTP/1.1\r\nHost: a\r\n",
        b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{",
    ],
    ids=["nothing", "half a header", "half a body"],
)
def test_a_request_that_does_not_come_whole_is_cut(daemon: DaemonProcess, beginning: bytes) -> None:
    path = urlsplit(daemon.callback_url).path.encode()
    before = daemon.count(RECEIPTS)
    with connected(daemon) as connection:
        connection.sendall(beginning.replace(b"%s", path))
        assert received(connection).startswith(b"HTTP/1.1 408 ")
    assert daemon.count(RECEIPTS) == before
    assert httpx.post(daemon.callback_url, content=EXAMPLE.read_bytes()).content == b"SUCCESS"


def test_a_whole_request_keeps_its_connection_until_the_answer(daemon: DaemonProcess) -> None:
    before = daemon.count(RECEIPTS)
    with httpx.Client() as client:
        answers = [client.post(daemon.callback_url, content=EXAMPLE.read_bytes()) for _ in range(20)]
    assert {answer.content for answer in answers} == {b"SUCCESS"}
    assert daemon.count(RECEIPTS) == before + 20


@pytest.mark.parametrize("offer", [b"h2c", b"websocket"])
@pytest.mark.parametrize("cut", [0, 30, 120], ids=["whole", "in the head", "in the body"])
def test_the_offer_of_another_protocol_costs_no_body(daemon: DaemonProcess, offer: bytes, cut: int) -> None:
    path, before = urlsplit(daemon.callback_url).path.encode(), daemon.count(RECEIPTS)
    body = b'{"uuid":"a-test-of-an-upgrade"}'
    request = (
        b"POST %s HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: %s\r\n"
        b"HTTP2-Settings: AAEA\r\nContent-Length: %d\r\n\r\n%s" % (path, offer, len(body), body)
    )
    with connected(daemon) as connection:
        for _ in range(2):
            place = len(request) - 10 if cut == 120 else cut
            for part in (request[:place], request[place:]):
                connection.sendall(part)
            answer = b""
            while b"SUCCESS" not in answer:
                piece = connection.recv(65536)
                assert piece, answer
                answer += piece
    assert daemon.count(RECEIPTS) == before + 2


@pytest.mark.parametrize("place", [20, -32, -33, -34, -10, 0], ids=str)
def test_a_request_right_behind_another_is_read_wherever_it_is_cut(daemon: DaemonProcess, place: int) -> None:
    path, before = urlsplit(daemon.callback_url).path.encode(), daemon.count(RECEIPTS)
    body = b'{"uuid":"a-test-of-a-pipeline"}'
    request = b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (path, len(body), body)
    with connected(daemon) as connection:
        answer = b""
        for part in (request + request[:place], request[place:]):
            connection.sendall(part)
            wanted = answer.count(b"SUCCESS") + 1
            while answer.count(b"SUCCESS") < wanted:
                piece = connection.recv(65536)
                assert piece, answer
                answer += piece
    assert daemon.count(RECEIPTS) == before + 2


def test_a_late_second_request_is_told_so(daemon: DaemonProcess) -> None:
    path, before = urlsplit(daemon.callback_url).path.encode(), daemon.count(RECEIPTS)
    body = b'{"uuid":"a-test-of-patience"}'
    request = b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (path, len(body), body)
    with connected(daemon) as connection:
        connection.sendall(request + request[:30])
        answer = received(connection)
    assert daemon.count(RECEIPTS) == before + 1
    assert answer.count(b"SUCCESS") == 1
    assert answer.count(b"HTTP/1.1 408 ") == 1


@pytest.mark.parametrize(("kept", "answer"), [(0, b"SUCCESS"), (5, b"")], ids=["whole", "half"])
def test_who_has_said_all_is_still_answered(daemon: DaemonProcess, kept: int, answer: bytes) -> None:
    path, before = urlsplit(daemon.callback_url).path.encode(), daemon.count(RECEIPTS)
    body = b'{"uuid":"a-test-of-a-half-closed-connection"}'
    request = b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (path, len(body), body)
    with connected(daemon) as connection:
        connection.sendall(request[: len(request) - kept])
        connection.shutdown(socket.SHUT_WR)
        assert received(connection)[-7:] == answer
    assert daemon.count(RECEIPTS) == before + (not kept)
