"""What is leased ahead for one destination: what waits for keys, and what is ready to be sent, by lane."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bridge.delivery.attempt import Attempt
from bridge.delivery.crowd import Crowd
from bridge.delivery.destination import Destination
from bridge.delivery.stages import MappedDelivery
from bridge.model.deliveries import Lane

# Up to 3 batches' worth a turn: leases in one batch often need different requests. No more than 300
# deliveries, unless one batch takes more: they all hold their keys until the turn ends.
BATCHES_AT_ONCE = 3
MOST_AT_ONCE = 300


@dataclass(frozen=True, slots=True)
class Seen:
    """The counts of a `WorkSignal` up to which a queue has been looked after."""

    owed: int = -1
    owed_live: int = -1
    freed: int = -1


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """Deliveries of one destination that a worker takes to their ends together."""

    destination: Destination
    attempts: Sequence[Attempt]
    is_probe: bool = False
    """Whether it goes out alone, to see if a paused account is well again."""


class DestinationQueue:
    """The deliveries of one destination that are leased and not yet in a worker's hands.

    Not safe between threads: the dispatcher holds its lock.
    """

    def __init__(self, destination: Destination) -> None:
        self.destination = destination
        self.waiting: list[MappedDelivery] = []
        """Mapped, and waiting for keys that others hold; only who fills the queue touches it."""
        self.crowd = Crowd()
        """Tells those that cannot wait here when to come back."""
        self._ready: dict[Lane, deque[Attempt]] = {lane: deque() for lane in Lane}
        self.is_filling = False
        """Whether a worker is leasing and mapping for it."""
        self.seen = Seen()
        self.look_again_at = 0.0
        """When retries may have become due though nothing was told."""
        self.gathers_since: float | None = None
        """Since when a turn that is not full has waited for calls that may join it."""
        self.is_probe = False
        """Whether its one ready delivery is to probe the account."""

    def __len__(self) -> int:
        """How many are ready."""
        return sum(map(len, self._ready.values()))

    @property
    def turn_size(self) -> int:
        """The most deliveries of one turn."""
        together = self.destination.connector.together
        return 1 if together <= 1 else max(together, min(BATCHES_AT_ONCE * together, MOST_AT_ONCE))

    def add(self, attempts: Iterable[Attempt]) -> None:
        """Make attempts ready, each in its lane."""
        for attempt in attempts:
            self._ready[attempt.lane].append(attempt)

    @property
    def first_lane(self) -> Lane | None:
        """The lane of what would go first; None: nothing is ready."""
        return next((lane for lane in Lane if self._ready[lane]), None)

    @property
    def first_event(self) -> str:
        """The place among calls of what would go first; empty: nothing is ready.

        Where several destinations have one account, the oldest of their calls goes first.
        """
        return next((ready[0].delivery.event for ready in self._ready.values() if ready), "")

    def take(self) -> Turn:
        """Take the next turn: live calls first."""
        attempts: list[Attempt] = []
        for lane in Lane:
            ready = self._ready[lane]
            while ready and len(attempts) < self.turn_size:
                attempts.append(ready.popleft())
        is_probe, self.is_probe, self.gathers_since = self.is_probe, False, None
        return Turn(self.destination, attempts, is_probe)

    def take_back(self, matches: Callable[[Attempt], bool]) -> list[MappedDelivery]:
        """Take out those that are ready and match; a probe goes out whatever comes."""
        taken: list[MappedDelivery] = []
        for ready in () if self.is_probe else self._ready.values():
            for attempt in [each for each in ready if matches(each)]:
                ready.remove(attempt)
                taken.append(attempt.delivery)
        if not len(self):
            self.gathers_since = None
        return taken

    def clear_ready(self) -> list[MappedDelivery]:
        """Take out all that is ready."""
        taken = [attempt.delivery for ready in self._ready.values() for attempt in ready]
        for ready in self._ready.values():
            ready.clear()
        self.gathers_since, self.is_probe = None, False
        return taken

    def clear(self) -> list[MappedDelivery]:
        """Take out all that is ready or waits."""
        waiting, self.waiting = self.waiting, []
        return [*self.clear_ready(), *waiting]
