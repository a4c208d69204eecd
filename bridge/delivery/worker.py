"""The delivery worker: takes what the dispatcher has made ready to its end, turn by turn."""

from collections.abc import Callable, Sequence
from datetime import datetime

from bridge.delivery.attempt import Attempt
from bridge.delivery.completer import Completer
from bridge.delivery.destination import Destination
from bridge.delivery.dispatcher import Dispatcher
from bridge.delivery.executor import Executor
from bridge.delivery.outcome import OutcomeRules
from bridge.delivery.stages import SettledDelivery
from bridge.lib.errors import LedgerError


class Worker:
    """One delivery worker, with an HTTP client of its own for each destination."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        completer: Completer,
        outcomes: OutcomeRules,
        new_executor: Callable[[Destination], Executor],
        *,
        settles_itself: bool,
    ) -> None:
        """`settles_itself`: a step ends once its outcome is on disk; else somebody else settles it."""
        self._dispatcher = dispatcher
        self._completer = completer
        self._outcomes = outcomes
        self._new_executor = new_executor
        self._settles_itself = settles_itself
        self._executors: dict[str, Executor] = {}

    def deliver_one(self, now: datetime) -> bool:
        """Take one turn to its end. Returns False when there was nothing to do.

        Raises:
            LedgerError: the ledger is busy; what was leased is given back at the next step.
        """
        turn = self._dispatcher.take(now)
        if turn is not None:
            try:
                self._completer.hand_over(self._send(turn.attempts, turn.destination, now))
            except LedgerError:
                self._dispatcher.abandon(turn, now)
                raise
            finally:
                self._dispatcher.end_turn(turn)
        settled = self._settles_itself and self._completer.settle_ended()
        return turn is not None or settled

    def close(self) -> None:
        """Close the connections to the CRMs."""
        for executor in self._executors.values():
            executor.crm.close()

    def _send(
        self, attempts: Sequence[Attempt], destination: Destination, now: datetime
    ) -> list[SettledDelivery]:
        """Take attempts to their ends; the order stays."""
        executor = self._executor(destination)
        executor.drive(attempts, now)
        return [self._outcomes.settled(each, executor.crm.masked) for each in attempts]

    def _executor(self, destination: Destination) -> Executor:
        if destination.name not in self._executors:
            self._executors[destination.name] = self._new_executor(destination)
        return self._executors[destination.name]
