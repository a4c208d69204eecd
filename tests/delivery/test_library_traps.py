"""Traps of the libraries that we stand on: each has caught somebody, and must not catch us."""

import random
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.crm.client import Crm
from bridge.crm.connector.answer import Answer
from bridge.crm.connector.request import Request
from bridge.delivery.account_gate import AccountGate
from bridge.delivery.budget import Budget
from bridge.delivery.request_sender import QUICK_TRIES, RequestSender
from bridge.lib.errors import DeliveryError, Transient
from tests.fixtures.lookup_request import CONNECTOR, FIND, NAMES, SECRET
from tests.fixtures.small_crm import Clock, crm_of

TOP = Path(__file__).parents[2]
GOOD = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{"items": []}'


@contextmanager
def silent_for(times: int) -> Iterator[str]:
    """A server that says nothing to the first connections, and answers the later ones."""
    listener = socket.create_server(("127.0.0.1", 0))
    held: list[socket.socket] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection = listener.accept()[0]
                held.append(connection)
                if len(held) > times:
                    connection.recv(65536)
                    connection.sendall(GOOD)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()
        for connection in held:
            connection.close()


def test_interrupted_request_leaks_no_connection_of_the_pool() -> None:
    # Its pool has one slot: a leaked one would make every later request a PoolTimeout.
    with silent_for(5) as url, closing(crm_of(CONNECTOR, url, {"token": SECRET}, timeout=0.05)) as crm:
        for _ in range(5):
            with pytest.raises(Transient, match="no answer"):
                crm.ask(FIND, NAMES, "x")
        # A slow machine may miss the short timeout now and then; a leaked slot would fail each time.
        assert _first_answer(crm).body == {"items": []}


def _first_answer(crm: Crm) -> Answer:
    for _ in range(20):
        with suppress(Transient):
            return crm.ask(FIND, NAMES, "x")
    raise AssertionError("no request was answered: a slot of the pool is lost")


def sender_of(answers: Callable[[httpx.Request], httpx.Response], stop: threading.Event) -> RequestSender:
    """A sender whose requests go nowhere."""
    clock = Clock()
    gate = AccountGate(Budget({}, clock), stop)
    transport = httpx.MockTransport(answers)
    crm = crm_of(CONNECTOR, "http://crm.test", {"token": SECRET}, clock=clock, transport=transport, gate=gate)
    return RequestSender(crm, gate, random.Random(1), stop)  # noqa: S311 -- spreads retries


class Waits(threading.Event):
    """Waits for nothing, and remembers how long it should have."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        """Time passes at once."""
        self.waited.append(timeout or 0.0)
        return self.is_set()


def ask(sender: RequestSender, request: Request) -> Answer:
    """One request, with its retries."""
    return sender.ask(request, NAMES, "x")


def test_retries_end_with_the_last_answers_error_and_retry_after() -> None:
    asked = iter(["0", "0", "90"])
    stop = Waits()

    def limited(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(503, headers={"retry-after": next(asked)})

    sender = sender_of(limited, stop)
    with pytest.raises(DeliveryError) as caught:
        ask(sender, FIND)
    assert isinstance(caught.value, Transient)
    assert caught.value.retry_after == 90
    assert next(asked, None) is None, f"{QUICK_TRIES} tries"
    sender.crm.close()


def test_5xx_is_retried_with_waits_but_not_for_ever() -> None:
    seen: list[httpx.Request] = []
    stop = Waits()

    def ill(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(500)

    sender = sender_of(ill, stop)
    with pytest.raises(Transient):
        ask(sender, FIND)
    assert len(seen) == QUICK_TRIES
    assert len([wait for wait in stop.waited if wait > 0]) == QUICK_TRIES - 1
    sender.crm.close()


class Killed(BaseException):
    """Ends a thread, as KeyboardInterrupt and SystemExit do."""


def test_exit_signals_are_not_retried() -> None:
    seen: list[Any] = []

    def kill(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        raise Killed

    sender = sender_of(kill, Waits())
    with pytest.raises(Killed):
        ask(sender, FIND)
    assert len(seen) == 1
    sender.crm.close()


def test_stop_ends_the_retries() -> None:
    stop = Waits()
    stop.set()
    seen: list[Any] = []

    def ill(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(500)

    sender = sender_of(ill, stop)
    with pytest.raises(Transient):
        ask(sender, FIND)
    assert len(seen) == 1
    sender.crm.close()


LOGGED = """
import sys
sys.path.insert(0, sys.argv[1])
from bridge.lib.log import configure
configure("debug", "text")
import logging
logging.getLogger("ours").warning("the log is there")
from tests.fixtures.small_crm import crm_of
from tests.fixtures.lookup_request import NAMES, FIND, SECRET, CONNECTOR
crm = crm_of(CONNECTOR, sys.argv[2], {"token": SECRET})
crm.ask(FIND, NAMES, "x")
crm.close()
"""


def test_secret_in_the_query_is_not_in_the_clients_log() -> None:
    with silent_for(0) as url:
        command = [sys.executable, "-c", LOGGED, str(TOP), url]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert "the log is there" in ended.stderr
    assert SECRET not in ended.stderr + ended.stdout


def test_redirect_carries_no_secret_to_another_host() -> None:
    seen: list[str] = []

    def elsewhere(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.host)
        return httpx.Response(302, headers={"location": "http://other.test/"})

    sender = sender_of(elsewhere, Waits())
    with pytest.raises(DeliveryError, match="redirects"):
        ask(sender, FIND)
    assert seen == ["crm.test"]
    sender.crm.close()
