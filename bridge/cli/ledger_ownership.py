"""Lets a command own the ledger while no daemon runs, to do the daemon's work."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bridge.ledger import ownership_of

CHECK_EVERY = 0.1
"""Seconds between two checks whether a daemon wants the ledger."""


@contextmanager
def owned_ledger(ledger: Path, stop: threading.Event) -> Iterator[None]:
    """Own the ledger inside the `with` block; `stop` is set when a daemon wants to start.

    Raises:
        LedgerLocked: a daemon or another command owns the ledger.
    """
    ownership, ended = ownership_of(ledger, guest=True), threading.Event()

    def watch() -> None:
        while not ended.wait(CHECK_EVERY):
            if ownership.is_wanted():
                stop.set()
                return

    with ownership:
        watcher = threading.Thread(target=watch, name="gives-way", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()
