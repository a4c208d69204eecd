"""Dispatch: leases what is due ahead of the workers, prepares it, and hands it out turn by turn.

There is no thread for it: the worker that finds little ready leases and maps for all, many in one commit and
a few queries, while the others send. Begin at `Dispatcher.take`.
"""

import threading
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from bridge.delivery.attempt import Attempt, AttemptStarter
from bridge.delivery.budget import Budget
from bridge.delivery.completer import Completer
from bridge.delivery.concurrency_limit import ConcurrencyLimit
from bridge.delivery.destination import Destination, Routes
from bridge.delivery.destination_queue import DestinationQueue, Turn
from bridge.delivery.locks import KeyLocks
from bridge.delivery.prepare import Preparer
from bridge.delivery.stages import MappedDelivery, SettledDelivery
from bridge.delivery.unused_leases import GIVEN_BACK_FOR, UnusedLeases
from bridge.delivery.work_signal import WorkSignal
from bridge.ledger import DeliveryLedger
from bridge.lib.errors import LedgerError, Transient
from bridge.lib.stored_times import bounded
from bridge.model.deliveries import Lane, Lease, LockKey

AFTER_HOLDER = timedelta(seconds=5)
"""What waits for a key of a delivery in doubt is looked at again so long after that one goes on: the holder
must come first, and may be late where many are due."""
BATCH_TURNS_AT_ONCE = 4
"""With more, turns get small: each holds the locks of objects that the others' deliveries want."""
PREPARED_AT_ONCE = 8
"""So many are mapped before the first of them can be sent."""
LEASED_AT_ONCE = 50
"""Leased records are held as JSON (about 15 KB each) until they are mapped; 50 keeps that under 1 MB."""


@dataclass(frozen=True, slots=True)
class DispatchSettings:
    """How far ahead of the workers deliveries are leased, and how batches fill."""

    ahead: int = 0
    """Deliveries leased ahead for each that may be under way at once; 0: each only when a worker wants it."""
    batch_wait: float = 0.0
    """Seconds for which a batch with room waits for calls that may join it."""
    look_every: float = 0.0
    """Seconds after which it is looked for what is due though nothing was told."""
    most_blocked: int = 0
    """Deliveries that wait, leased and mapped, for keys that others hold; further ones are given back."""
    workers: int | None = None
    """How many turns of one account may be under way; None: as many as make it faster."""


@dataclass(frozen=True, slots=True)
class DispatchParts:
    """What the dispatcher hands deliveries through."""

    preparer: Preparer
    starter: AttemptStarter
    completer: Completer


@dataclass(slots=True)
class _AccountLoad:
    """What is under way at one CRM account."""

    limit: ConcurrencyLimit
    turns: int = 0


class Dispatcher:
    """Hands out turns; every method may be called by any worker."""

    def __init__(
        self,
        ledger: DeliveryLedger,
        routes: Routes,
        locks: KeyLocks,
        parts: DispatchParts,
        signal: WorkSignal,
        settings: DispatchSettings,
        passes: Callable[[], float],
    ) -> None:
        """`passes` tells seconds that pass."""
        self._ledger = ledger
        self._routes = routes
        self._sources = list(routes.origins)
        self._locks = locks
        self._parts = parts
        self._signal = signal
        self._settings = settings
        self._passes = passes
        self._lock = threading.Lock()
        self._queues = [DestinationQueue(each) for each in routes.destinations.values()]
        self._loads = {name: _AccountLoad(ConcurrencyLimit(settings.workers)) for name in routes.accounts}
        self._unused = UnusedLeases(ledger, locks, parts.preparer, signal)
        # Deliveries that persons have parked or skipped while they were leased.
        self._held: set[int] = set()

    def take(self, now: datetime) -> Turn | None:
        """The next turn, `end_turn` must follow; None: nothing can be sent now.

        Raises:
            LedgerError: the ledger is busy; what was leased is given back at the next call.
        """
        for queue in self._queues:
            if self._begin_filling(queue):
                try:
                    self._fill(queue, now)
                finally:
                    queue.is_filling = False
        self._unused.give_back()
        turn = self._next_turn()
        if turn is None or turn.is_probe or self._budget_of(turn.destination).paused_for(now) <= 0:
            return turn
        # The account was paused after this was leased.
        self._put_back(turn, now)
        return None

    def end_turn(self, turn: Turn) -> None:
        """End a turn: another one of its account may begin."""
        with self._lock:
            self._held.difference_update(each.delivery.lease.delivery_id for each in turn.attempts)
            load = self._load_of(turn.destination)
            more_to_do = any(
                len(queue) > 0 or queue.is_filling
                for queue in self._queues
                if self._load_of(queue.destination) is load
            )
            # What has to wait for the account's limits ends fast, and was not taken.
            taken = sum(not isinstance(each.error, Transient) for each in turn.attempts)
            load.limit.ended(self._passes(), taken, more_to_do=more_to_do)
            load.turns -= 1
        if turn.is_probe:
            # It may have sent no request.
            self._budget_of(turn.destination).end_probe()

    def abandon(self, turn: Turn, now: datetime) -> None:
        """Give back the deliveries of a turn that ended because the ledger was busy.

        Their attempts ended as in a crash: requests may be in doubt, so the deliveries keep their keys.
        """
        self._unused.add_leases((each.delivery.lease for each in turn.attempts), now + GIVEN_BACK_FOR)

    def withdraw(self, delivery_ids: Iterable[int], now: datetime) -> None:
        """Give back those of these deliveries that no worker has begun, because a person holds them."""
        with self._lock:
            self._held.update(delivery_ids)
            for queue in self._queues:
                self._take_back_held(queue, now)
        # Whoever looks next gives them back, and what waits for keys as well.
        self._signal.keys_freed()

    def close(self, now: datetime) -> None:
        """Give back all that is leased ahead, because the daemon stops.

        Raises:
            LedgerError: the ledger is busy; the leases come due at the next start.
        """
        for queue in self._queues:
            self._clear(queue, now)
        self._unused.give_back()

    @property
    def look_within(self) -> float:
        """Seconds after which an idle worker should look again though nothing was told."""
        with self._lock:
            gathers = any(queue.gathers_since is not None for queue in self._queues)
        return self._settings.batch_wait if gathers else self._settings.look_every

    # -- leasing ahead ------------------------------------------------------------------
    def _begin_filling(self, queue: DestinationQueue) -> bool:
        """Whether this worker is to lease for a queue: there may be something to do, and nobody does it."""
        with self._lock:
            if queue.is_filling or queue.is_probe:
                return False
            if not (self._wish(queue)[0] or self._may_be_unblocked(queue)):
                return False
            queue.is_filling = True
            return True

    def _may_be_unblocked(self, queue: DestinationQueue) -> bool:
        return bool(queue.waiting) and queue.seen.freed != self._signal.freed

    def _wish(self, queue: DestinationQueue) -> tuple[int, Lane | None]:
        """How many deliveries to lease now; of the live lane only, where later lanes fill the queue."""
        ready, wanted = len(queue), self._wanted(queue)
        if ready > wanted // 2:
            lane = None if queue.first_lane is Lane.LIVE else Lane.LIVE
            news = queue.seen.owed_live != self._signal.owed
            return (wanted, lane) if lane is not None and news else (0, None)
        may_be_due = queue.seen.owed != self._signal.owed or self._passes() >= queue.look_again_at
        return (wanted - ready if may_be_due else 0), None

    def _wanted(self, queue: DestinationQueue) -> int:
        """How many deliveries should be ready."""
        if not self._settings.ahead and self._places(queue) <= 0:
            return 0
        if queue.turn_size > 1 or not self._settings.ahead:
            # The next batch is mapped while the others are on the wire.
            return queue.turn_size
        return self._settings.ahead * self._load_of(queue.destination).limit.at_once

    def _fill(self, queue: DestinationQueue, now: datetime) -> None:
        budget = self._budget_of(queue.destination)
        if budget.paused_for(now) > 0:
            self._clear(queue, now)
            return
        queue.seen = replace(queue.seen, freed=self._signal.freed)
        waited = len(queue.waiting)
        self._make_ready(queue, now)
        queue.crowd.count(waited, waited - len(queue.waiting), now)
        limit, lane = self._wish(queue)
        if not budget.is_open:
            if limit:
                self._lease(queue, now, limit, lane)
            return
        # The account is down: one delivery goes out alone, to see if it is well again.
        if self._load_of(queue.destination).turns or len(queue) or not limit or not budget.admit():
            return
        queue.is_probe = True
        try:
            self._lease(queue, now, 1, None)
        finally:
            if not len(queue):
                queue.is_probe = False
                budget.end_probe()

    def _lease(self, queue: DestinationQueue, now: datetime, limit: int, lane: Lane | None) -> None:
        owed = self._signal.owed
        leases = self._ledger.lease([queue.destination.name], self._sources, now, limit, lane=lane)
        self._prepare(queue, leases, now)
        if len(leases) < limit:
            every_lane = owed if lane is None else queue.seen.owed
            queue.seen = replace(queue.seen, owed=every_lane, owed_live=owed)
            queue.look_again_at = self._passes() + self._settings.look_every

    def _prepare(self, queue: DestinationQueue, leases: Sequence[Lease], now: datetime) -> None:
        """Map leases a few at a time, so that the first can be sent while the others are mapped."""
        size = LEASED_AT_ONCE if queue.turn_size > 1 else PREPARED_AT_ONCE
        left = list(leases)
        try:
            while left:
                prepared = self._parts.preparer.prepare(left[:size], now)
                del left[:size]
                self._parts.completer.hand_over(
                    [each for each in prepared if isinstance(each, SettledDelivery)]
                )
                queue.waiting += [each for each in prepared if isinstance(each, MappedDelivery)]
                self._make_ready(queue, now)
        finally:
            self._unused.add_leases(left, now + GIVEN_BACK_FOR)

    def _make_ready(self, queue: DestinationQueue, now: datetime) -> None:
        """Start the attempts of those mapped deliveries whose keys are free; the others wait, or go back."""
        if not queue.waiting:
            return
        self._let_go_first(queue, now)
        queue.waiting.sort(key=lambda each: (each.lease.lane, each.event))
        locked, blocked, wanted = list[MappedDelivery](), list[MappedDelivery](), set[LockKey]()
        for each in queue.waiting:
            # The oldest call that waits for a key has it first; one that kept its keys goes on with them.
            may = wanted.isdisjoint(each.keys) or self._locks.holds(each.lease.delivery_id, each.keys)
            if may and self._locks.acquire(each.lease.delivery_id, each.keys):
                locked.append(each)
            else:
                wanted.update(each.keys)
                blocked.append(each)
        try:
            started = self._parts.starter.start(locked, queue.destination, now)
        except LedgerError:
            for each in locked:
                self._unused.free_keys(each.lease, each.turn, now)
            raise
        queue.waiting = self._still_waiting(queue, blocked, now)
        self._parts.completer.hand_over([each for each in started if isinstance(each, SettledDelivery)])
        with self._lock:
            queue.add(each for each in started if isinstance(each, Attempt))
            self._take_back_held(queue, now)
        if started:
            self._signal.more_ready()

    def _let_go_first(self, queue: DestinationQueue, now: datetime) -> None:
        """Give back what is ready in a later lane and has keys that one of those in a queue waits for."""
        load = self._load_of(queue.destination)
        of_account = [each for each in self._queues if self._load_of(each.destination) is load]
        for each in queue.waiting:
            holders = self._locks.others(each.lease.delivery_id, each.keys)
            taken = [one for other in of_account for one in self._take_back_later(other, each, holders)]
            self._unused.add(taken, now + GIVEN_BACK_FOR)
            for one in taken:
                self._unused.free_keys(one.lease, one.turn, now)

    def _take_back_later(
        self, queue: DestinationQueue, first: MappedDelivery, holders: Container[int]
    ) -> list[MappedDelivery]:
        """Take back those of these holders that are ready and can go after a delivery."""

        def goes_later(attempt: Attempt) -> bool:
            lease = attempt.delivery.lease
            holds = lease.lane > first.lease.lane and lease.delivery_id in holders
            # One in doubt keeps its keys, so it goes first.
            return holds and self._parts.preparer.may_release(lease)

        with self._lock:
            return queue.take_back(goes_later) if holders else []

    def _take_back_held(self, queue: DestinationQueue, now: datetime) -> None:
        """Give back later what is ready and was withdrawn; whoever calls holds the lock."""
        if not self._held:
            return
        taken = queue.take_back(lambda each: each.delivery.lease.delivery_id in self._held)
        self._held.difference_update(each.lease.delivery_id for each in taken)
        self._unused.add(taken, now + GIVEN_BACK_FOR)

    def _still_waiting(
        self, queue: DestinationQueue, blocked: Sequence[MappedDelivery], now: datetime
    ) -> list[MappedDelivery]:
        """Those that stay leased until their keys are free; the others go back to the ledger."""
        stay: list[MappedDelivery] = []
        for each in blocked:
            lease = each.lease
            # A time further ahead than any delivery waits was set while the clock was wrong.
            free_at = bounded(self._locks.free_at(lease.delivery_id, each.keys), now)
            if free_at is None and len(stay) < self._settings.most_blocked:
                stay.append(each)
                # Or two calls that exchange their keys would wait for each other for ever.
                may_release = self._parts.preparer.may_release(lease)
                if may_release and self._locks.free_while_waiting(lease.delivery_id):
                    self._signal.keys_freed()
            elif free_at is not None:
                self._unused.add([each], max(free_at, now) + AFTER_HOLDER)
            else:
                is_crowd = self._settings.most_blocked > 0
                self._unused.add([each], queue.crowd.back_at(now) if is_crowd else now + GIVEN_BACK_FOR)
        return stay

    # -- giving back ----------------------------------------------------------------------
    def _put_back(self, turn: Turn, now: datetime) -> None:
        """Give back a turn that is not begun, and what is ready behind it."""
        with self._lock:
            self._load_of(turn.destination).turns -= 1
            ready = [
                each
                for queue in self._queues
                if queue.destination is turn.destination
                for each in queue.clear_ready()
            ]
        taken = [*(attempt.delivery for attempt in turn.attempts), *ready]
        self._unused.add(taken, now + GIVEN_BACK_FOR)
        self._unused.give_back()

    def _clear(self, queue: DestinationQueue, now: datetime) -> None:
        """Give back all that a queue holds."""
        with self._lock:
            taken = queue.clear()
        self._unused.add(taken, now + GIVEN_BACK_FOR)

    # -- turns ----------------------------------------------------------------------------
    def _next_turn(self) -> Turn | None:
        with self._lock:
            able = [queue for queue in self._queues if self._places(queue) > 0 and self._is_full(queue)]
            if not able:
                return None
            queue = min(able, key=self._rank)
            self._load_of(queue.destination).turns += 1
            turn, more = queue.take(), len(able) > 1 or len(queue) > 0
        if more and self._signal.idle:
            self._signal.more_ready()
        return turn

    def _rank(self, queue: DestinationQueue) -> tuple[Lane, int, str]:
        return queue.first_lane or Lane.LIVE, self._load_of(queue.destination).turns, queue.first_event

    def _places(self, queue: DestinationQueue) -> int:
        """How many more turns of its account may begin."""
        load = self._load_of(queue.destination)
        at_once = min(load.limit.at_once, BATCH_TURNS_AT_ONCE) if queue.turn_size > 1 else load.limit.at_once
        return at_once - load.turns

    def _is_full(self, queue: DestinationQueue) -> bool:
        """Whether a turn can begin; one with room waits a moment for calls that may join it."""
        ready = len(queue)
        if ready >= queue.destination.connector.together or queue.is_probe or not self._settings.batch_wait:
            return ready > 0
        if not ready:
            return False
        if queue.gathers_since is None:
            queue.gathers_since = self._passes()
        return self._passes() - queue.gathers_since >= self._settings.batch_wait

    def _load_of(self, destination: Destination) -> _AccountLoad:
        return self._loads[destination.account.name]

    def _budget_of(self, destination: Destination) -> Budget:
        return self._routes.account_of(destination.name).budget
