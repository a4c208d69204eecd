"""Connecting to a host of several addresses: the next is tried while the first is still silent (RFC 8305).

An address that swallows packets would otherwise take the whole timeout, and the one behind it, which is fine,
would never be tried.
"""

import errno
import os
import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, zip_longest
from typing import Any

STAGGER = 0.25
"""Seconds that one address is waited for before the next is tried beside it; RFC 8305 names this number."""
MOST_ADDRESSES = 8
_Info = tuple[Any, ...]
Resolve = Callable[[str, int], Sequence[_Info]]


def resolve(host: str, port: int) -> Sequence[_Info]:
    """The addresses of a host, as `socket.getaddrinfo` gives them."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


def connect_to_host(host: str, port: int, timeout: float | None, find: Resolve = resolve) -> socket.socket:
    """A connection to the first address that answers, within `timeout` seconds for all of them.

    Raises:
        TimeoutError: none answers in time.
        OSError: there is none, or none takes the connection.
    """
    attempts = _Attempts(_interleaved(find(host, port)))
    ends_at = time.monotonic() + timeout if timeout is not None else float("inf")
    try:
        while True:
            now = time.monotonic()
            if now >= ends_at:
                raise TimeoutError("timed out")
            if (winner := attempts.step(now, ends_at)) is not None:
                winner.setblocking(True)
                return winner
    finally:
        attempts.close()


def _interleaved(infos: Sequence[_Info]) -> list[_Info]:
    """IPv6 and IPv4 in turn, beginning with what the system prefers."""
    first = infos[0][0] if infos else None
    preferred = [each for each in infos if each[0] == first]
    others = [each for each in infos if each[0] != first]
    turns = chain.from_iterable(zip_longest(preferred, others))
    return [each for each in turns if each is not None][:MOST_ADDRESSES]


class _Attempts:
    """Connections that are being made, at most one for each address."""

    def __init__(self, infos: Sequence[_Info]) -> None:
        self._left: Iterator[_Info] = iter(infos)
        self._more = bool(infos)
        self._next_at = float("-inf")
        self._pending: dict[int, socket.socket] = {}
        self._poll = select.poll()
        self._error: OSError = OSError("the host has no address")

    def step(self, now: float, ends_at: float) -> socket.socket | None:
        """Begin what is due and wait for what is under way; the connection that is made, if one is."""
        if self._more and (now >= self._next_at or not self._pending):
            self._next_at = now + STAGGER
            self._begin()
        if not self._pending:
            if not self._more:
                raise self._error
            return None
        until = min(ends_at, self._next_at) if self._more else ends_at
        wait = None if until == float("inf") else max(0.0, until - now) * 1000
        for number, _ in self._poll.poll(wait):
            self._poll.unregister(number)
            made = self._pending.pop(number)
            failed = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if not failed:
                return made
            self._failed(made, failed)
            self._next_at = now
        return None

    def close(self) -> None:
        """Give up what is still under way."""
        for each in self._pending.values():
            each.close()

    def _begin(self) -> None:
        info = next(self._left, None)
        if info is None:
            self._more = False
            return
        family, kind, protocol, _, address = info
        try:
            made = socket.socket(family, kind, protocol)
        except OSError as error:
            # This machine has no IPv6, for one.
            self._error = error
            return
        made.setblocking(False)
        try:
            failed = made.connect_ex(address)
        except OSError as error:
            failed = error.errno or errno.EINVAL
        if failed not in (0, errno.EINPROGRESS, errno.EWOULDBLOCK):
            self._failed(made, failed)
            return
        self._pending[made.fileno()] = made
        self._poll.register(made, select.POLLOUT)

    def _failed(self, made: socket.socket, number: int) -> None:
        made.close()
        self._error = OSError(number, os.strerror(number))
