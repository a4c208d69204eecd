"""Sends one request within the CRM account's budget, and again after a fault that may be over in seconds."""

import random
import threading
from collections.abc import Callable

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    sleep_using_event,
    stop_after_attempt,
    stop_any,
    stop_when_event_set,
)

from bridge.crm.client import Crm
from bridge.crm.connector.answer import Answer
from bridge.crm.connector.compiling import Values
from bridge.crm.connector.request import Request
from bridge.delivery.account_gate import AccountGate
from bridge.lib.errors import DeliveryError, Transient, Unsent
from bridge.model.deliveries import Lane

# Three tries bridge a fault of seconds while the lease is held; the retry policy bridges the rest.
QUICK_TRIES = 3
# In seconds: a CRM that asks for a longer wait gets it from the retry policy, without a worker that waits.
LONGEST_QUICK_WAIT = 2.0


class RequestSender:
    """Sends requests for one worker and one destination, and tells the account's budget what came of each."""

    def __init__(self, crm: Crm, gate: AccountGate, rng: random.Random, stop: threading.Event) -> None:
        """`gate` is the one that `crm` sends through."""
        self.crm = crm
        self._gate = gate
        self._rng = rng
        self._stop = stop
        self._suspects = False

    def begin_group(self, lane: Lane, *, suspects: bool) -> None:
        """Begin a group of requests in this lane.

        `suspects`: all of them are of records that caused faults before while others succeeded, so that their
        faults say nothing about the account.
        """
        self._gate.lane, self._suspects = lane, suspects

    def ask(self, request: Request, names: Values, what: str) -> Answer:
        """Send a request, up to `QUICK_TRIES` times where a short wait may help.

        Raises:
            DeliveryError: anything but a yes.
        """
        try:
            return self._once(request, names, what)
        except DeliveryError as error:
            # tenacity takes more time than all the rest, so it is used only once a request has failed.
            if not _is_short(error):
                raise
            return self._again(error, lambda: self._once(request, names, what))

    def _again(self, failed: DeliveryError, once: Callable[[], Answer]) -> Answer:
        """Try again what has failed once."""
        retrying = Retrying(
            retry=retry_if_exception(_is_short),
            wait=self._wait,
            stop=stop_any(stop_after_attempt(QUICK_TRIES), stop_when_event_set(self._stop)),
            sleep=sleep_using_event(self._stop),
            reraise=True,
        )
        made, doubts = [failed], list[DeliveryError]()

        def attempt() -> Answer:
            try:
                if made:
                    raise made.pop()
                return once()
            except DeliveryError as error:
                # The last try was refused, but an earlier one may have been processed.
                doubts.extend([error] if error.doubtful else [])
                error.doubtful = bool(doubts)
                raise

        return retrying(attempt)

    def _once(self, request: Request, names: Values, what: str) -> Answer:
        self._gate.answered = False
        try:
            answer = self.crm.ask(request, names, what)
        except DeliveryError as error:
            self._learn(request, error)
            raise
        self._note_answer(request)
        return answer

    def _learn(self, request: Request, error: DeliveryError) -> None:
        budget = self._gate.budget
        if isinstance(error, Unsent):
            return
        if error.blame in ("limit", "quota"):
            wait = error.retry_after if isinstance(error, Transient) else None
            budget.refused(request.limit, wait, quota=error.blame == "quota")
        elif error.blame == "account" and self._suspects and not budget.probing:
            return
        elif error.blame in ("account", "credentials"):
            budget.failed(error.cause, at_once=error.blame == "credentials")
        elif self._gate.answered:
            # A request that could not be written says nothing about the account.
            self._note_answer(request)

    def _note_answer(self, request: Request) -> None:
        """Tell the budget that the account has answered, and with something else than "too many"."""
        self._gate.budget.answered()
        self._gate.budget.accepted(request.limit)

    def _wait(self, state: RetryCallState) -> float:
        """0.2 s, then 0.4 s, ±50 % jitter; never less than the CRM asked for."""
        error = state.outcome.exception() if state.outcome else None
        asked: float = getattr(error, "retry_after", None) or 0.0
        return max(asked, 0.2 * float(2 ** (state.attempt_number - 1)) * (0.5 + self._rng.random()))


def _is_short(error: BaseException) -> bool:
    """Whether a fault may be over in a moment."""
    # A redirect will be the same in a second.
    if not isinstance(error, Transient) or error.blame == "credentials" or 300 <= error.status < 400:
        return False
    return (error.retry_after or 0) <= LONGEST_QUICK_WAIT
