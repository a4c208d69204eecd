"""The gate of one worker's requests to a CRM account: each waits until the account's budget has room."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from bridge.crm.gate import Passage
from bridge.delivery.budget import LONGEST_QUEUEING, Budget
from bridge.lib.errors import Unsent
from bridge.model.deliveries import Lane


class AccountGate:
    """Lets one worker's requests pass as the budget allows; a `bridge.crm.gate.RequestGate`."""

    def __init__(self, budget: Budget, stop: threading.Event) -> None:
        self.budget = budget
        self.lane = Lane.LIVE
        """The lane of what is sent now: a live call does not queue behind others."""
        self.answered = False
        """Whether the account has answered a request since this was last set."""
        self._stop = stop

    @contextmanager
    def passing(self, limit: str, what: str) -> Iterator[Passage]:
        """Wait for the budget's room, at most `LONGEST_QUEUEING` seconds.

        Raises:
            Unsent: there is no room so soon; `retry_after` tells when.
        """
        wait = self._queue(limit)
        if wait > 0:
            raise Unsent(
                f"{what}: waits {wait:.0f} s for the CRM's limits",
                cause="waits for the CRM's limits",
                retry_after=wait,
            )
        passage = Passage()
        try:
            yield passage
        finally:
            self.answered = self.answered or passage.headers is not None
            self.budget.finish(limit, passage.headers)

    def _queue(self, limit: str) -> float:
        """Wait for room; returns 0 once the request may go, else the seconds that are still to wait."""
        wait, waited = self.budget.reserve(limit, self.lane), 0.0
        if wait <= 0:
            return 0.0
        with self.budget.queueing(self.lane):
            while (wait := self.budget.reserve(limit, self.lane)) > 0:
                waited += wait
                if waited > LONGEST_QUEUEING or self._stop.wait(wait):
                    return wait
        return 0.0
