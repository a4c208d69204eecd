"""A command that does a daemon's work, while none lives."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bridge.ledger import ownership_of

LOOK_EVERY = 0.1


@contextmanager
def owning(ledger: Path, stop: threading.Event) -> Iterator[None]:
    """The ledger is this command's until the end, which `stop` asks for once a daemon wants it.

    Raises:
        LedgerLocked: a daemon lives, or another command does this.
    """
    ownership, ended = ownership_of(ledger, guest=True), threading.Event()

    def watch() -> None:
        while not ended.wait(LOOK_EVERY):
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
