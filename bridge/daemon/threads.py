"""The daemon's threads: each repeats one loop, and when one dies, the daemon ends."""

import threading
import time
from collections.abc import Callable, Mapping

import structlog

log = structlog.get_logger("bridge.daemon")


class Threads:
    """Runs each loop on its own thread. If one dies, the daemon ends: otherwise it would only look alive."""

    def __init__(self, give_up: Callable[[], None]) -> None:
        """`give_up` is called, from its thread, when a loop has died."""
        self._give_up = give_up
        self._hurried = threading.Event()
        self._threads: list[threading.Thread] = []
        self.failed = ""
        """The name of a loop that died."""

    def start(self, loops: Mapping[str, Callable[[], None]]) -> None:
        """Start them all; more may be started later, by loops of these."""
        for name, loop in loops.items():
            thread = threading.Thread(target=self._guarded, args=(name, loop), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _guarded(self, name: str, loop: Callable[[], None]) -> None:
        try:
            loop()
        except Exception:
            log.exception("daemon.part_failed", part=name)
            self.failed = name
            self._give_up()

    def hurry(self) -> None:
        """Let `join` wait no longer."""
        self._hurried.set()

    def join(self, within: float) -> None:
        """Wait up to `within` seconds for all threads; what is unfinished is due again at the next start."""
        deadline = time.monotonic() + within
        while threads := [thread for thread in self._threads if thread.is_alive()]:
            if self._hurried.is_set() or time.monotonic() > deadline:
                log.warning("daemon.stopped_late", under_way=len(threads))
                return
            threads[0].join(0.1)
