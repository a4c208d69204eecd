"""Driving effects: what each asks is sent alone or together, within the account's budget."""

import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

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
from bridge.crm.connector.compiling import Answer, Values
from bridge.crm.connector.request import Request
from bridge.delivery.batch import Result, ask_together, batch_of
from bridge.delivery.budget import PATIENCE, Budget
from bridge.delivery.lookup import CrmReply, CrmRequest, RequestFlow
from bridge.delivery.plan_sync import PlanSync
from bridge.delivery.poison_records import FaultCount, Successes, room_for
from bridge.lib.errors import DeliveryError, LedgerError, Permanent, Transient, Unsent
from bridge.model.deliveries import Lane

# tenacity bridges seconds, while the lease is held; the ledger's schedule bridges the rest.
QUICK_TRIES = 3
# A delivery asks at most so many questions for each object of its plan in one try. A first delivery needs
# two or three, the longest way (found, gone, found again, a duplicate, its link gone) about 15. Each is sent
# at most QUICK_TRIES times, and once more with a new token.
MOST_QUESTIONS = 20
LONGEST_QUICK_WAIT = 2.0
_OF_CIRCLES = (
    "Look at the record in the CRM, its bin included, and at the connector's rules for gone and duplicate;"
    " then retry"
)


@dataclass(slots=True, eq=False)
class Attempt:
    """One effect on its way: what it asks for now, and how it ended."""

    asking: RequestFlow[None]
    lane: Lane
    plan_sync: PlanSync
    wanted: CrmRequest | None = None
    error: DeliveryError | None = None
    fault: Exception | None = None
    """A fault of ours, not of the CRM."""
    faults: FaultCount | None = None
    """What its record has drawn in earlier tries."""
    objects: int = 1
    """How many objects its plan has."""
    questions: int = 0
    """How many it has asked in this try."""

    def begin(self) -> None:
        """Up to its first request."""
        self._step(lambda: next(self.asking))

    def go_on(self, result: Result) -> None:
        """With the answer to its request, up to the next one; not for ever, whatever the CRM answers."""
        self.questions += 1
        if self.questions >= MOST_QUESTIONS * self.objects:
            result = _in_circles(self)
        if isinstance(result, CrmReply):
            self._step(lambda: self.asking.send(result))
        else:
            self._step(lambda: self.asking.throw(result))

    def _step(self, step: Callable[[], CrmRequest]) -> None:
        self.wanted = None
        try:
            self.wanted = step()
        except StopIteration:
            pass
        except DeliveryError as error:
            self.error = error
        except Exception as fault:  # noqa: BLE001 -- one record's fault must not end the others
            self.fault = fault


@dataclass(slots=True)
class Executor:
    """Sends what attempts ask for; a worker has one for each destination.

    `before` is called before anything is sent: what must be durable by then is written there.
    """

    crm: Crm
    budget: Budget
    rng: random.Random
    stop: threading.Event
    successes: Successes = field(default_factory=Successes)
    before: Callable[[], None] = field(default=lambda: None)
    _lane: Lane = field(default=Lane.LIVE, init=False)
    _suspect: bool = field(default=False, init=False)
    """Whether the account takes others, and these drew faults before: more say nothing of the account."""
    _answered: bool = field(default=False, init=False)
    """Whether the account has answered anything since the last try began."""

    def __post_init__(self) -> None:
        self.crm.turn = self._turn

    def drive(self, attempts: Sequence[Attempt]) -> None:
        """Take all attempts to their ends; requests of one kind go together where they can."""
        for attempt in attempts:
            attempt.begin()
        while waiting := [attempt for attempt in attempts if attempt.wanted is not None]:
            self.before()
            for group in _ready(_groups(waiting)):
                try:
                    results = self._ask(group)
                except LedgerError:
                    # A token that cannot be kept: nobody's fault, and it passes.
                    raise
                except Exception as fault:  # noqa: BLE001 -- ours: it ends this group and no other
                    for attempt in group:
                        attempt.wanted, attempt.fault = None, fault
                    continue
                for attempt, result in zip(group, results, strict=True):
                    attempt.go_on(result)

    def _ask(self, group: Sequence[Attempt]) -> list[Result]:
        asks = [attempt.wanted for attempt in group if attempt.wanted is not None]
        self._lane = min(attempt.lane for attempt in group)
        self._suspect = all(each.faults is not None and each.faults.since(self.successes) for each in group)
        if len(asks) > 1:
            return ask_together(self.crm, asks, self._quickly)
        try:
            return [CrmReply(self._quickly(asks[0].request, asks[0].names, asks[0].what))]
        except DeliveryError as error:
            return [error]

    def _quickly(self, request: Request, names: Values, what: str) -> Answer:
        """One request; a short fault is bridged."""
        try:
            return self._once(request, names, what)
        except DeliveryError as error:
            # What tenacity costs is spent on those that it can help.
            if not _worth_waiting(error):
                raise
            return self._again(error, lambda: self._once(request, names, what))

    def _again(self, failed: DeliveryError, once: Callable[[], Answer]) -> Answer:
        """Try again what has failed once, with tenacity over a short fault."""
        retrying = Retrying(
            retry=retry_if_exception(_worth_waiting),
            wait=self._wait,
            stop=stop_any(stop_after_attempt(QUICK_TRIES), stop_when_event_set(self.stop)),
            sleep=sleep_using_event(self.stop),
            reraise=True,
        )
        made, doubts = [failed], list[DeliveryError]()

        def attempt() -> Answer:
            try:
                if made:
                    raise made.pop()
                return once()
            except DeliveryError as error:
                # That the last try was refused proves nothing of those before it.
                doubts.extend([error] if error.doubtful else [])
                error.doubtful = bool(doubts)
                raise

        return retrying(attempt)

    def _once(self, request: Request, names: Values, what: str) -> Answer:
        self._answered = False
        try:
            answer = self.crm.ask(request, names, what)
        except DeliveryError as error:
            self._learn(request, error)
            raise
        self._answers(request)
        return answer

    @contextmanager
    def _turn(self, limit: str, what: str) -> Iterator[Callable[[Mapping[str, str]], None]]:
        """One request on the wire, within the account's budget."""
        wait = self._queue(limit)
        if wait > 0:
            raise Unsent(
                f"{what}: waits {wait:.0f} s for the CRM's limits",
                cause="waits for the CRM's limits",
                retry_after=wait,
            )
        headers: Mapping[str, str] | None = None

        def told(found: Mapping[str, str]) -> None:
            nonlocal headers
            headers, self._answered = found, True

        try:
            yield told
        finally:
            self.budget.done(limit, headers)

    def _queue(self, limit: str) -> float:
        """Wait for the right to send; the seconds that are left where that takes too long."""
        wait, waited = self.budget.take(limit, self._lane), 0.0
        if wait <= 0:
            return 0.0
        with self.budget.queueing(self._lane):
            while (wait := self.budget.take(limit, self._lane)) > 0:
                waited += wait
                if waited > PATIENCE or self.stop.wait(wait):
                    return wait
        return 0.0

    def _learn(self, request: Request, error: DeliveryError) -> None:
        if isinstance(error, Unsent):
            return
        if error.blame in ("limit", "quota"):
            wait = error.retry_after if isinstance(error, Transient) else None
            self.budget.refused(request.limit, wait, quota=error.blame == "quota")
        elif error.blame == "account" and self._suspect and not self.budget.probing:
            return
        elif error.blame in ("account", "credentials"):
            self.budget.fault(error.cause, at_once=error.blame == "credentials")
        elif self._answered:
            # A request that could not even be written tells nothing of the account.
            self._answers(request)

    def _answers(self, request: Request) -> None:
        """The account has answered, and not that it was too much."""
        self.budget.well()
        self.budget.accepted(request.limit)

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked: float = getattr(error, "retry_after", None) or 0.0
        return max(asked, 0.2 * float(2 ** (state.attempt_number - 1)) * (0.5 + self.rng.random()))


def _in_circles(attempt: Attempt) -> DeliveryError:
    """Ends a try that would go on as long as the CRM's answers contradict one another."""
    what = attempt.wanted.what if attempt.wanted is not None else "the CRM"
    error = Permanent(
        f"{what}: the CRM was asked {attempt.questions} times in one try, and its answers lead in circles."
        f" {_OF_CIRCLES}",
        cause=f"{what}: the CRM's answers lead in circles",
    )
    error.says = _OF_CIRCLES
    return error


def _ready(groups: Sequence[Sequence[Attempt]]) -> list[Sequence[Attempt]]:
    """Full groups, and those of the first objects: the others wait for who is behind them."""
    first = min(attempt.plan_sync.cursor for group in groups for attempt in group)
    return [group for group in groups if _is_full(group) or group[0].plan_sync.cursor == first]


def _is_full(group: Sequence[Attempt]) -> bool:
    wanted = group[0].wanted
    batch = batch_of(wanted) if wanted is not None else None
    return batch is None or len(group) >= room_for(group[0].faults, batch.max)


def _groups(waiting: Sequence[Attempt]) -> list[list[Attempt]]:
    """Attempts that ask for the same kind of thing, as many together as one request takes."""
    groups: list[list[Attempt]] = []
    open_groups: dict[tuple[int, int], list[Attempt]] = {}
    for attempt in waiting:
        assert attempt.wanted is not None  # noqa: S101 -- it waits
        batch = batch_of(attempt.wanted)
        if batch is None:
            groups.append([attempt])
            continue
        # One that spoiled a request goes with few, or alone, so that the others are delivered.
        room = room_for(attempt.faults, batch.max)
        kind = id(attempt.wanted.of), room
        group = open_groups.get(kind)
        if group is None or len(group) >= room:
            group = open_groups[kind] = []
            groups.append(group)
        group.append(attempt)
    return groups


def _worth_waiting(error: BaseException) -> bool:
    # A redirect is the same in a second.
    if not isinstance(error, Transient) or error.blame == "credentials" or 300 <= error.status < 400:
        return False
    return (error.retry_after or 0) <= LONGEST_QUICK_WAIT
