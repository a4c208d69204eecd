"""While one address takes all it can, and another sends as slowly as it may, a third is served."""

import socket
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from bridge.intake.http_server import MOST_PER_ADDRESS
from bridge.intake.receive import MOST_BODIES, MOST_PER_CLIENT
from tests.fixtures.door import ANYWHERE, BODY, LIMIT, PATH, TLS, SharedListener, served

SLOW_HEAD = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\n{{".encode()


def connect(port: int, source: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=5, source_address=(source, 0))


def test_callbacks_of_others_are_answered_during_a_flood(ledger_path: Path) -> None:
    with (
        SharedListener() as shared_listener,
        served(shared_listener, ledger_path) as door,
        ExitStack() as open_ones,
    ):
        # More than the listener takes, and slow bodies of somebody who even has the token.
        idle = [
            open_ones.enter_context(connect(door.port, "127.0.0.2")) for _ in range(MOST_PER_ADDRESS + 200)
        ]
        slow = [open_ones.enter_context(connect(door.port, "127.0.0.3")) for _ in range(50)]
        for one in slow:
            one.sendall(SLOW_HEAD)
        transport = httpx.HTTPTransport(verify=TLS, local_address="127.0.0.4")
        with httpx.Client(transport=transport, timeout=5) as client:
            for number in range(50):
                body = BODY.replace(b"db57f262", b"%08x" % number)
                assert client.post(door.url + PATH, content=body).content == b"SUCCESS"
                with suppress(OSError):
                    idle.append(open_ones.enter_context(connect(door.port, "127.0.0.2")))
                    slow[number].sendall(b" ")
        assert len(door.payloads()) == 50


def test_unfinished_bodies_are_limited(ledger_path: Path) -> None:
    with SharedListener() as shared_listener, served(shared_listener, ledger_path) as door:
        with ExitStack() as open_ones:
            for _ in range(MOST_BODIES + 6):
                one = open_ones.enter_context(connect(door.port, "127.0.0.2"))
                one.sendall(SLOW_HEAD.replace(b"4000", b"%d" % LIMIT) + b" " * (LIMIT - 10))
            shared_listener.wait_until(lambda: door.counted().get(("main", 503), 0) > 0)
            assert door.door._held <= MOST_BODIES * LIMIT
            assert door.post().content == b"SUCCESS"
        shared_listener.wait_until(lambda: door.door._held == 0)


@pytest.mark.long
def test_one_sender_behind_a_proxy_cannot_take_all_requests(ledger_path: Path) -> None:
    """Its connections are the proxy's: its requests are counted."""
    with (
        SharedListener() as shared_listener,
        served(shared_listener, ledger_path, ANYWHERE, trusted=("127.0.0.0/8",)) as door,
    ):
        with ExitStack() as open_ones:
            head = SLOW_HEAD.replace(b"Host: x", b"Host: x\r\nX-Forwarded-For: 192.0.2.%d")
            for number in range(MOST_PER_CLIENT + 10):
                one = open_ones.enter_context(connect(door.port, f"127.0.1.{number // 250 + 1}"))
                one.sendall(head % 7)
            shared_listener.wait_until(lambda: door.counted().get(("main", 429)) == 10)
            crowded = door.post(headers={"x-forwarded-for": "192.0.2.7"})
            assert (crowded.status_code, crowded.headers["retry-after"]) == (429, "1")
            assert door.post(headers={"x-forwarded-for": "192.0.2.8"}).content == b"SUCCESS"
        shared_listener.wait_until(lambda: not door.door._under_way)
        assert door.post(headers={"x-forwarded-for": "192.0.2.7"}).content == b"SUCCESS"
