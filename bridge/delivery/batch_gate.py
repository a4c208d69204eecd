"""How the workers of one CRM account share out what goes together: so that batches are full."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

# More hands would tear the batches apart: each would hold lines that the others' deliveries want.
HANDS = 4


class Gathering:
    """Who gathers for one account, and who waits a moment for more to come."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy = 0
        self._waiting = False

    def begin(self) -> bool:
        """Whether another worker may take a batch: not while what is due goes with what one has that waits.

        It may until it says `end`.
        """
        with self._lock:
            may = self._busy < HANDS and not self._waiting
            self._busy += may
            return may

    def end(self) -> None:
        """A worker has no batch any more, or found none."""
        with self._lock:
            self._busy -= 1

    @contextmanager
    def waiting(self) -> Iterator[bool]:
        """While a worker waits for more; whether it may: one is enough."""
        with self._lock:
            may, self._waiting = not self._waiting, True
        try:
            yield may
        finally:
            if may:
                with self._lock:
                    self._waiting = False
