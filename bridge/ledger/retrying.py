"""Asking a ledger again while it cannot commit."""

import threading
from collections.abc import Callable
from typing import TypeVar

from bridge.lib.errors import LedgerError

T = TypeVar("T")

RETRY_EVERY = 1.0
"""Seconds. A full disk or another process's lock lasts for seconds to hours; a commit takes about 5 ms."""


def until_answered(
    ask: Callable[[], T],
    stop: threading.Event,
    *,
    busy: Callable[[LedgerError], object],
    every: float = RETRY_EVERY,
) -> T:
    """Ask the ledger until it answers, however long it is busy.

    For what has happened already and must not be lost: a CRM has written, a job has ended. `busy` is called
    with each refusal; `every` is the pause in seconds.

    Raises:
        LedgerError: the last refusal, once `stop` is set.
    """
    while True:
        try:
            return ask()
        except LedgerError as error:
            busy(error)
            if stop.wait(every):
                raise
