"""A deadline for a whole exchange: httpx's timeouts are for each read, and a server may send slowly."""

import contextlib
import heapq
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_Entry = tuple[float, int, Callable[[], None]]


class _Watch:
    """One thread for all deadlines of the process; it sleeps until the first of them."""

    def __init__(self) -> None:
        self._due: list[_Entry] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def add(self, seconds: float, act: Callable[[], None]) -> None:
        """Call something in so many seconds."""
        with self._changed:
            entry = (time.monotonic() + seconds, next(self._numbers), act)
            heapq.heappush(self._due, entry)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
                self._thread.start()
            elif self._due[0] is entry:
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                wait = self._due[0][0] - time.monotonic() if self._due else None
                if wait is None or wait > 0:
                    self._changed.wait(wait)
                    continue
                _, _, act = heapq.heappop(self._due)
            act()


_WATCH = _Watch()


class Deadline:
    """Shuts the one connection of a client when an exchange takes too long."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._ends_at: float | None = None
        self._watched = False
        self.expired = False
        """Whether the exchange that is under way, or has just ended, was cut off."""

    @contextlib.contextmanager
    def exchange(self) -> Iterator[None]:
        """The deadline runs during this block."""
        with self._lock:
            self._ends_at, self.expired = time.monotonic() + self._seconds, False
            watched, self._watched = self._watched, True
        if not watched:
            _WATCH.add(self._seconds, self._look)
        try:
            yield
        finally:
            with self._lock:
                self._ends_at = None

    def traced(self, event: str, info: Mapping[str, Any]) -> None:
        """Learn of a new connection by httpcore's `trace` extension."""
        if not event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            return
        self.connected(info["return_value"].get_extra_info("socket"))

    def connected(self, connection: socket.socket) -> None:
        """Take this for the connection that is shut when the time is over."""
        with self._lock:
            self._socket = connection
            if self.expired:
                self._shut()

    def _look(self) -> None:
        """The watch's call: one at a time for each client, however many its exchanges."""
        with self._lock:
            left = None if self._ends_at is None else self._ends_at - time.monotonic()
            self._watched = left is not None and left > 0
            if left is not None and left <= 0:
                self.expired = True
                self._shut()
        if left is not None and left > 0:
            _WATCH.add(left, self._look)

    def _shut(self) -> None:
        if self._socket is not None:
            # Not `close`: that would free the number of a socket that another thread reads from.
            # Not the TLS socket's own `shutdown`, which would let that thread read on in the clear.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
