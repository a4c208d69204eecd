"""SIGTERM and SIGINT: the first stops the daemon, the second hurries it."""

import asyncio
import atexit
import signal
import threading
from collections.abc import Callable
from contextlib import suppress


def on_signals(stop: Callable[[], None], hurry: Callable[[], None]) -> None:
    """SIGTERM and SIGINT stop the daemon; a second one hurries it, down to the process's last moment.

    The loop's own handlers would end with the loop, and from there on a signal would kill the process.
    """
    loop, told = asyncio.get_running_loop(), threading.Event()

    def handle() -> None:
        (hurry if told.is_set() else stop)()
        told.set()

    def pass_on(*_: object) -> None:
        # If the event loop has ended, there is nothing left to stop.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(handle)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
        # The interpreter removes its handlers shortly before the process ends; ignoring lasts to its end.
        atexit.register(signal.signal, number, signal.SIG_IGN)
