"""Limits how many workers of one CRM account assemble batches at the same time, so that batches are full."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

# With more, batches get small: each worker holds the locks of objects that the others' deliveries want.
WORKERS_AT_ONCE = 4


class BatchGate:
    """Lets a few workers of one account assemble batches, and one of them wait for more calls to come."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._assembling = 0
        self._waiting = False

    def begin(self) -> bool:
        """Whether the caller may assemble a batch; if so, `end` must follow.

        While a worker waits for its batch to fill, nobody else takes what is due: it belongs there.
        """
        with self._lock:
            may = self._assembling < WORKERS_AT_ONCE and not self._waiting
            self._assembling += may
            return may

    def end(self) -> None:
        """The caller has sent its batch, or found nothing to send."""
        with self._lock:
            self._assembling -= 1

    @contextmanager
    def waiting(self) -> Iterator[bool]:
        """Wait for more calls within this context if it yields True: only one worker at a time waits."""
        with self._lock:
            may, self._waiting = not self._waiting, True
        try:
            yield may
        finally:
            if may:
                with self._lock:
                    self._waiting = False
