"""A host of several addresses: one that is silent or refuses costs a moment, not the timeout."""

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import httpx
import pytest

from bridge.lib.http.connection import Allowance, Dialer
from bridge.lib.http.happy_eyeballs import MOST_ADDRESSES, STAGGER, connect_to_host


@contextmanager
def silent() -> Iterator[int]:
    """A port whose queue of connections is full: it drops what else comes."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    port: int = listener.getsockname()[1]
    waiting = []
    for _ in range(3):
        one = socket.socket()
        one.setblocking(False)
        with suppress(BlockingIOError):
            one.connect(("127.0.0.1", port))
        waiting.append(one)
    try:
        yield port
    finally:
        for one in (*waiting, listener):
            one.close()


@contextmanager
def open_port() -> Iterator[int]:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield listener.getsockname()[1]


def closed_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port: int = listener.getsockname()[1]
    return port


def at(*ports: int) -> Any:
    """A name that stands for these ports of this machine."""

    def find(_host: str, _port: int) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port)) for port in ports]

    return find


def connected_to(*ports: int, timeout: float = 5) -> tuple[int, float]:
    began = time.monotonic()
    with closing(connect_to_host("crm.example", 443, timeout, at(*ports))) as made:
        assert made.getblocking()
        return made.getpeername()[1], time.monotonic() - began


def test_silent_address_does_not_take_the_whole_timeout() -> None:
    with silent() as first, open_port() as second:
        port, took = connected_to(first, second)
    assert port == second
    assert STAGGER * 0.9 < took < 2


def test_refusing_address_costs_no_time() -> None:
    with open_port() as second:
        port, took = connected_to(closed_port(), second)
        assert port == second
        assert took < STAGGER


def test_first_address_is_preferred_if_it_answers() -> None:
    with open_port() as first, open_port() as second:
        assert connected_to(first, second)[0] == first


def test_silent_addresses_share_one_timeout() -> None:
    began = time.monotonic()
    with silent() as first, silent() as second, pytest.raises(TimeoutError):
        connected_to(first, second, timeout=0.3)
    assert time.monotonic() - began < 1


def test_refusal_is_reported_if_all_addresses_refuse() -> None:
    with pytest.raises(ConnectionRefusedError):
        connected_to(closed_port(), closed_port())


def test_a_host_without_addresses_is_an_error() -> None:
    with pytest.raises(OSError, match="no address"):
        connected_to()


def test_address_family_missing_on_this_machine_is_skipped() -> None:
    with open_port() as port:

        def find(_host: str, _port: int) -> list[tuple[Any, ...]]:
            strange = (socket.AF_INET6, socket.SOCK_STREAM, 0, "", ("2001:db8::1", 443, 0, 0))
            return [strange, *at(port)("", 0)]

        with closing(connect_to_host("crm.example", 443, 5, find)) as made:
            assert made.getpeername()[1] == port


def test_only_some_of_very_many_addresses_are_tried() -> None:
    with open_port() as port, pytest.raises(ConnectionRefusedError):
        connected_to(*(closed_port() for _ in range(MOST_ADDRESSES)), port)


def test_client_tells_a_silent_host_from_a_refusing_one() -> None:
    def connect(port: int) -> None:
        dialer = Dialer(lambda _: None, Allowance(), ssl.create_default_context(), at(port))
        dialer.connect(httpx.URL("https://crm.example/"), 0.1)

    with silent() as port, pytest.raises(httpx.ConnectTimeout):
        connect(port)
    with pytest.raises(httpx.ConnectError, match="refused"):
        connect(closed_port())
