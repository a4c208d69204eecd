"""What operators ask of deliveries: retry, park or skip, replay. Many rows are changed in several commits."""

import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from bridge.ledger import StoredCall, Window
from bridge.ledger.operators import HeldDeliveries, RetriableGroup
from bridge.ledger.sqlite import operator_actions, replay
from bridge.ledger.sqlite.access import Access, looks
from bridge.model.deliveries import DeliveryState


class OperatorPart(Access):
    """See `bridge.ledger.OperatorLedger`, which says what each method promises."""

    @looks
    def retriable(
        self, ids: Sequence[int] = (), cause: str = "", destination: str = ""
    ) -> list[RetriableGroup]:
        """Read the groups of deliveries that `retry` would make due."""
        return [group for group, _ in operator_actions.retriable(self._reader, ids, cause, destination)]

    @looks
    def parked_in_doubt(self, destination: str = "") -> int:
        """Count the deliveries that are parked in doubt."""
        return operator_actions.parked_in_doubt(self._reader, destination)

    @looks
    def retry(self, ids: Sequence[int], now: datetime, *, cause: str = "", destination: str = "") -> int:
        """Find the deliveries that are meant, then make them due, at most `ROWS_IN_COMMIT` in a commit."""
        groups = operator_actions.retriable(self._reader, ids, cause, destination)
        found = [delivery_id for _, each in groups for delivery_id in each]
        return sum(self._in_steps(found, partial(operator_actions.retry, now=now)))

    @looks
    def hold(self, ids: Sequence[int], reason: str, now: datetime, *, skip: bool) -> HeldDeliveries:
        """Park or skip deliveries, at most `ROWS_IN_COMMIT` in a commit."""
        held_as = DeliveryState.SKIPPED if skip else DeliveryState.PARKED
        done = self._in_steps(list(ids), partial(operator_actions.hold, held_as=held_as, why=reason, now=now))
        return HeldDeliveries(
            [one for held in done for one in held.now], [one for held in done for one in held.later]
        )

    def _in_steps(self, ids: Sequence[int], step: Callable[..., Any]) -> list[Any]:
        """Change many rows in several commits: callbacks are committed in between."""
        starts = range(0, len(ids), operator_actions.ROWS_IN_COMMIT) or [0]
        parts = [ids[start : start + operator_actions.ROWS_IN_COMMIT] for start in starts]
        return [self._write().run(partial(_with_ids, step, part)) for part in parts]

    def demote(self, destinations: Sequence[str], before: datetime) -> int:
        """Move overdue deliveries into the retry lane, one commit after the other until none is left."""
        demoted = 0
        for destination in destinations:
            step = partial(operator_actions.demote, destination=destination, before=before)
            while count := self._write().run(step):
                demoted += count
        return demoted

    @looks
    def page_of_calls(
        self, destination: str, source: str, window: Window, after: tuple[int, int] | None, limit: int
    ) -> list[StoredCall]:
        """Read one page of calls, in the order of the index over their creation."""
        return replay.page_of_calls(self._reader, self._payloads, destination, source, window, after, limit)

    def replay(self, ids: Sequence[int], account: str, now: datetime, *, forget: bool) -> int:
        """Make these deliveries due again in one commit."""
        return self._write().run(lambda c: replay.replay(c, ids, account, now, forget=forget))


def _with_ids(step: Callable[..., Any], ids: Sequence[int], connection: sqlite3.Connection) -> Any:
    return step(connection, ids)
