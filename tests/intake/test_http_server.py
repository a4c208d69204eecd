"""What the listener does to senders that are slow, silent, or offer another protocol."""

import socket
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from bridge.intake.http_protocol import Waiting
from tests.fixtures.daemon_process import EXAMPLE, DaemonProcess, write_config
from tests.fixtures.door import BODY, PATH, Served, SharedListener

UPGRADED = (
    b"POST %s HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: %s\r\n"
    b"HTTP2-Settings: AAEA\r\nContent-Length: %d\r\n\r\n%s"
)
REQUEST = b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (PATH.encode(), len(BODY), BODY)
RECEIPTS = "SELECT count(*) FROM receipts"


def received(connection: socket.socket) -> bytes:
    """Everything until the other side closes."""
    text = b""
    while piece := connection.recv(65536):
        text += piece
    return text


def answers(connection: socket.socket, count: int) -> bytes:
    """So many acknowledgements."""
    text = b""
    while text.count(b"SUCCESS") < count:
        piece = connection.recv(65536)
        assert piece, text
        text += piece
    return text


def test_daemons_listener_cuts_off_a_late_body(tmp_path: Path) -> None:
    config = write_config(tmp_path, "http://127.0.0.1:9")
    text = config.read_text("utf-8")
    config.write_text(text.replace("[server]\n", '[server]\nbody_timeout = "400ms"\n'), "utf-8")
    daemon = DaemonProcess(config)
    try:
        parts = urlsplit(daemon.callback_url)
        half = b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{" % parts.path.encode()
        for beginning in (b"", b"POST /callback/main/x HTTP/1.1\r\nHost: a\r\n", half):
            with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
                connection.sendall(beginning)
                assert received(connection).startswith(b"HTTP/1.1 408 ")
        assert daemon.count(RECEIPTS) == 0
        answer = httpx.post(daemon.callback_url, content=EXAMPLE.read_bytes())
        assert answer.content == b"SUCCESS"
    finally:
        daemon.kill()


@pytest.mark.parametrize(
    ("beginning", "waiting"),
    [
        (b"", Waiting.REQUEST),
        (b"POST /callback/main/x HTTP/1.1\r\nHost: a\r\n", Waiting.REST),
        (REQUEST[:-5], Waiting.REST),
    ],
    ids=["nothing", "half a header", "half a body"],
)
def test_incomplete_request_is_cut_off(
    shared_listener: SharedListener, door: Served, beginning: bytes, waiting: Waiting
) -> None:
    with door.connected() as connection:
        connection.sendall(beginning)
        shared_listener.sweep(11, waiting)
        assert received(connection).startswith(b"HTTP/1.1 408 ")
    assert door.counted() == {("", 408): 1}
    assert door.post().content == b"SUCCESS"


def test_complete_request_keeps_its_connection_until_the_answer(door: Served) -> None:
    assert {door.post().content for _ in range(20)} == {b"SUCCESS"}
    assert door.rows(RECEIPTS) == [(20,)]


@pytest.mark.parametrize("offer", [b"h2c", b"websocket"])
@pytest.mark.parametrize("cut", [0, 30, -10], ids=["whole", "in the head", "in the body"])
def test_an_upgrade_header_loses_no_body(door: Served, offer: bytes, cut: int) -> None:
    request = UPGRADED % (PATH.encode(), offer, len(BODY), BODY)
    with door.connected() as connection:
        for _ in range(2):
            for part in (request[:cut], request[cut:]):
                connection.sendall(part)
            answers(connection, 1)
        # Nor where it comes right behind another.
        connection.sendall(request + request)
        answers(connection, 2)
    assert door.rows(RECEIPTS) == [(4,)]


@pytest.mark.parametrize("place", [20, -32, -33, -34, -10, 0], ids=str)
def test_second_request_is_read_wherever_it_is_split(door: Served, place: int) -> None:
    with door.connected() as connection:
        for part in (REQUEST + REQUEST[:place], REQUEST[place:]):
            connection.sendall(part)
            answers(connection, 1)
    assert door.rows(RECEIPTS) == [(2,)]


def test_late_second_request_is_answered_408(shared_listener: SharedListener, door: Served) -> None:
    with door.connected() as connection:
        connection.sendall(REQUEST + REQUEST[:30])
        assert answers(connection, 1).count(b"HTTP/1.1 ") == 1
        shared_listener.sweep(11, Waiting.REST)
        assert received(connection).startswith(b"HTTP/1.1 408 ")
    assert door.rows(RECEIPTS) == [(1,)]


@pytest.mark.parametrize(("kept", "answer"), [(0, b"SUCCESS"), (5, b"")], ids=["whole", "half"])
def test_a_half_closed_connection_is_still_answered(door: Served, kept: int, answer: bytes) -> None:
    with door.connected() as connection:
        connection.sendall(REQUEST[: len(REQUEST) - kept])
        connection.shutdown(socket.SHUT_WR)
        assert received(connection)[-7:] == answer
    assert door.rows(RECEIPTS) == [(0 if kept else 1,)]
