"""CRMs that limit requests in one way each, and workers that ask them, in a time of their own."""

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from bridge.crm.connector.schema import LimitSection
from bridge.delivery.budget import Budget
from bridge.delivery.rate_limit import LearnedRate
from bridge.model.calls import Lane

START = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
SERVICE = 0.015

Limiter = Callable[[float, random.Random], tuple[bool, float | None]]
"""Whether a request at a time is accepted, and the `Retry-After` of a refusal."""


def by_chance(share: float, after: float | None = 1.0) -> Limiter:
    """Refuses a share of all requests, however fast they come."""
    return lambda _at, rng: (rng.random() >= share, after)


def sliding(count: int, seconds: float, after: float | None = 1.0) -> Limiter:
    """At most so many within any so many seconds."""
    accepted: deque[float] = deque()

    def ask(at: float, _rng: random.Random) -> tuple[bool, float | None]:
        while accepted and accepted[0] <= at - seconds:
            accepted.popleft()
        if len(accepted) >= count:
            return False, after
        accepted.append(at)
        return True, None

    return ask


def fixed(count: int, seconds: float) -> Limiter:
    """At most so many in each period by the clock; says how long until the next."""
    seen: dict[int, int] = {}

    def ask(at: float, _rng: random.Random) -> tuple[bool, float | None]:
        period = int(at // seconds)
        seen[period] = seen.get(period, 0) + 1
        left = (period + 1) * seconds - at
        return seen[period] <= count, float(max(1, round(left + 0.5)))

    return ask


def bucket(rate: float, size: float, after: float | None = 1.0) -> Limiter:
    """A bucket of tokens that fills evenly."""
    tokens, since = size, None

    def ask(at: float, _rng: random.Random) -> tuple[bool, float | None]:
        nonlocal tokens, since
        tokens = min(size, tokens + (0.0 if since is None else (at - since) * rate))
        since = at
        if tokens < 1:
            return False, after
        tokens -= 1
        return True, None

    return ask


@dataclass(frozen=True, slots=True)
class Run:
    """What came of asking for a while."""

    seconds: float
    accepted: int
    refused: int
    paused: float
    """Seconds for which the refusals asked, overlaps counted once."""
    learned: float | None
    saved: dict[str, object]

    @property
    def rate(self) -> float:
        """Accepted requests a second."""
        return self.accepted / self.seconds


class NeverLearns(LearnedRate):
    """Only the pauses are kept."""

    def refused(self, at: float, wait: float) -> None:
        """Forget it."""


class Desk:
    """Workers at one budget; each asks as soon as it may."""

    def __init__(
        self,
        limiter: Limiter,
        workers: int,
        saved: dict[str, object] | None = None,
        *,
        begin: float = START.timestamp(),
        learns: bool = True,
    ) -> None:
        self.now = begin
        self._limiter = limiter
        self._rng = random.Random(1)  # noqa: S311 -- chance, no secret
        self._workers = workers
        self.budget = Budget({"default": LimitSection()}, self._clock, saved)
        if not learns:
            self.budget._classes["default"].learned = NeverLearns()

    def _clock(self) -> datetime:
        return datetime.fromtimestamp(self.now, UTC)

    def run(self, seconds: float) -> Run:
        """Ask for so long."""
        began, accepted, refused, paused, until = self.now, 0, 0, 0.0, 0.0
        queue: list[tuple[float, int, bool | None, float | None]] = [
            (began, worker, None, None) for worker in range(self._workers)
        ]
        while queue[0][0] < began + seconds:
            self.now, worker, answer, after = heapq.heappop(queue)
            if answer is None:
                wait = self.budget.take("default", Lane.LIVE)
                if wait > 0:
                    heapq.heappush(queue, (self.now + wait, worker, None, None))
                    continue
                taken, after = self._limiter(self.now + SERVICE / 2, self._rng)
                took = SERVICE * self._rng.uniform(0.7, 1.3)
                heapq.heappush(queue, (self.now + took, worker, taken, after))
                continue
            self.budget.done("default")
            if answer:
                accepted += 1
                self.budget.accepted("default")
            else:
                refused += 1
                self.budget.refused("default", after)
                asked = min(self.now + (1.0 if after is None else after), began + seconds)
                paused += max(0.0, asked - max(until, self.now))
                until = max(until, asked)
            heapq.heappush(queue, (self.now, worker, None, None))
        saved = self.budget.state()
        return Run(seconds, accepted, refused, paused, saved["classes"]["default"]["learned_rate"], saved)
