"""The budget of one CRM account: rates, requests at once, a day's quota, and a breaker for when it is down.

All workers and destinations of an account share one budget. Declared rates are sliding windows, as CRMs count
them; what a CRM allows beyond what its connector declares is learned from its refusals.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from bridge.crm.connector.rates import bounded_number, parse_rate
from bridge.crm.connector.retry_after import LONGEST_RETRY_AFTER, next_time
from bridge.crm.connector.schema import LimitSection
from bridge.delivery.breaker import CircuitBreaker
from bridge.delivery.rate_limit import Backoff, LearnedRate, SlidingWindow
from bridge.lib.stored_times import bounded
from bridge.model.account_limits import KeptLimits
from bridge.model.deliveries import Lane

# Seconds that a request waits for its turn; then its delivery is put off, and the worker takes another one.
LONGEST_QUEUEING = 2.0


@dataclass(slots=True)
class _RequestClass:
    """The requests of one entry of `[limits]`."""

    section: LimitSection
    windows: list[SlidingWindow]
    learned: LearnedRate = field(default_factory=LearnedRate)
    backoff: Backoff = field(default_factory=Backoff)
    under_way: int = 0
    spent: int = 0
    requests: int = 0
    """All that were ever sent."""
    day_ends_at: datetime | None = None
    paused_until: datetime | None = None

    def rates_wait(self, at: float) -> float:
        """Seconds until its declared rates have room for one more request."""
        return max([self.learned.wait(at), *(window.wait(at) for window in self.windows)])

    def rate(self, at: float) -> float | None:
        """The learned rate in requests a second, as people read it."""
        rate = self.learned.rate(at)
        return None if rate is None else float(f"{rate:.3g}")


class Budget:
    """The budget of one account; every method may be called from any worker."""

    def __init__(
        self,
        limits: Mapping[str, LimitSection],
        clock: Callable[[], datetime],
        saved: KeptLimits | None = None,
    ) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        sections = {"default": LimitSection(), **limits}
        self._classes = {
            name: _RequestClass(section, [SlidingWindow(*parse_rate(rate)) for rate in section.rate])
            for name, section in sections.items()
        }
        self._waiting: dict[Lane, int] = dict.fromkeys(Lane, 0)
        self._breaker = CircuitBreaker()
        if saved is not None:
            self._restore(saved)

    def _of(self, name: str) -> _RequestClass:
        """A class of requests; one that the connector does not declare, such as `poll`, has no limits yet."""
        if name not in self._classes:
            self._classes[name] = _RequestClass(LimitSection(), [])
        return self._classes[name]

    # -- the breaker ------------------------------------------------------------------
    def paused_for(self, now: datetime) -> float:
        """Seconds until a delivery to this account may be begun; 0: go on, or probe."""
        with self._lock:
            self._forget_future(now)
            if self._breaker.open_until is not None:
                return self._breaker.open_for(now)
            return max(
                max(self._left(each.paused_until, now), self._full_for(each, now))
                for each in self._classes.values()
            )

    @property
    def probing(self) -> bool:
        """Whether one delivery is out to see if the account is well again."""
        with self._lock:
            return self._breaker.probing

    @property
    def is_open(self) -> bool:
        """Whether the breaker is open, so that deliveries go out one by one, as probes."""
        with self._lock:
            return self._breaker.open_until is not None

    def admit(self) -> bool:
        """Whether a delivery may go out: all may while the breaker is closed, else one that probes."""
        with self._lock:
            return self._breaker.admit(self._clock())

    def end_probe(self) -> None:
        """End a probe; if that delivery sent no request, another one may probe."""
        with self._lock:
            self._breaker.end_probe()

    def answered(self) -> None:
        """Note that the account has answered, which closes the breaker."""
        with self._lock:
            self._breaker.answered()

    def failed(self, why: str, *, at_once: bool = False) -> None:
        """Note that the account could not be reached, or is down; `at_once` for refused credentials."""
        with self._lock:
            self._breaker.failed(why, self._clock(), at_once=at_once)

    # -- rates --------------------------------------------------------------------------
    def reserve(self, name: str, lane: Lane) -> float:
        """Take the right to send one request of a class.

        Returns 0: taken, and `finish` must follow. Else the seconds after which it is worth asking again.
        """
        with self._lock:
            each = self._of(name)
            wait = self._wait(each, lane)
            if wait <= 0:
                self._note_sent(each)
            return max(wait, 0.0)

    @contextmanager
    def queueing(self, lane: Lane) -> Iterator[None]:
        """While this context is open, requests of later lanes wait behind this one."""
        with self._lock:
            self._waiting[lane] += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting[lane] -= 1

    def finish(self, name: str, headers: Mapping[str, str] | None = None) -> None:
        """Note that a request has ended; `headers` of its answer may tell how many are left."""
        with self._lock:
            each = self._of(name)
            each.under_way -= 1
            if headers is not None:
                self._read_headers(each, headers)

    def accepted(self, name: str) -> None:
        """Note that the CRM answered a request with anything but "too many"."""
        with self._lock:
            each = self._of(name)
            each.learned.accepted(self._clock().timestamp())
            each.backoff.reset()

    def refused(self, name: str, wait: float | None, *, quota: bool = False) -> None:
        """Note that the CRM answered "too many"; `wait` is its own wish in seconds, None: it named none."""
        with self._lock:
            each, now = self._of(name), self._clock()
            self._forget_future(now)
            # Requests that were under way with the first refused one are refused as well: that is no news.
            first = self._left(each.paused_until, now) <= 0
            if wait is None:
                wait = each.backoff.next() if first else 0.0
            if first and not quota:
                each.learned.refused(now.timestamp(), wait)
            until = now + timedelta(seconds=wait)
            each.paused_until = max(until, each.paused_until or until)

    @staticmethod
    def _full_for(each: _RequestClass, now: datetime) -> float:
        """Seconds until it has room, where a request would not wait so long; else 0."""
        wait = each.rates_wait(now.timestamp())
        return wait if wait > LONGEST_QUEUEING else 0.0

    def _forget_future(self, now: datetime) -> None:
        """End pauses and days that lie too far ahead to be true: the clock was wrong when they were set."""
        self._breaker.forget_future(now)
        for each in self._classes.values():
            each.paused_until = bounded(each.paused_until, now)
            each.day_ends_at = bounded(each.day_ends_at, now)

    def _wait(self, each: _RequestClass, lane: Lane) -> float:
        now = self._clock()
        self._forget_future(now)
        if any(self._waiting[before] for before in Lane if before < lane):
            return 0.01
        wait = self._left(each.paused_until, now)
        section = each.section
        if section.concurrency is not None and each.under_way >= section.concurrency:
            wait = max(wait, 0.01)
        if section.daily is not None:
            if each.day_ends_at is None or now >= each.day_ends_at:
                each.spent, each.day_ends_at = 0, next_time(section.reset, now)
            if each.spent >= section.daily:
                each.paused_until = each.day_ends_at
                wait = max(wait, (each.day_ends_at - now).total_seconds())
        return max(wait, each.rates_wait(now.timestamp()))

    def _note_sent(self, each: _RequestClass) -> None:
        at = self._clock().timestamp()
        each.under_way += 1
        each.spent += 1
        each.requests += 1
        each.learned.sent(at)
        for window in each.windows:
            window.note(at)

    def _read_headers(self, each: _RequestClass, headers: Mapping[str, str]) -> None:
        section = each.section
        if section.remaining is None:
            return
        left, after = (
            bounded_number(headers.get((name or "").lower()), LONGEST_RETRY_AFTER)
            for name in (section.remaining, section.reset_after)
        )
        if left is not None and left <= 0:
            until = self._clock() + timedelta(seconds=after if after is not None else 1.0)
            each.paused_until = max(until, each.paused_until or until)

    @staticmethod
    def _left(until: datetime | None, now: datetime) -> float:
        return 0.0 if until is None else max(0.0, (until - now).total_seconds())

    # -- over restarts --------------------------------------------------------------------
    def state(self) -> KeptLimits:
        """The state to keep over a restart, and to show to operators."""
        with self._lock:
            at = self._clock().timestamp()
            return {
                "breaker": self._breaker.kept(),
                "classes": {
                    name: {
                        "rates": list(each.section.rate),
                        "learned": each.learned.kept(),
                        "learned_rate": each.rate(at),
                        # The release before this one reads `factor`.
                        "factor": 1.0,
                        "spent": each.spent,
                        "daily": each.section.daily,
                        "day_ends_at": _text(each.day_ends_at),
                        "paused_until": _text(each.paused_until),
                        "requests": each.requests,
                        "went": [window.kept(at) for window in each.windows],
                    }
                    for name, each in self._classes.items()
                },
            }

    def _restore(self, saved: KeptLimits) -> None:
        for name, kept in saved.get("classes", {}).items():
            each = self._classes.get(name)
            if each is None:
                continue
            at = self._clock().timestamp()
            each.learned.restore(kept.get("learned"), at)
            each.spent = int(kept.get("spent", 0))
            each.requests = int(kept.get("requests", 0))
            each.day_ends_at = _moment(kept.get("day_ends_at"))
            if kept.get("rates") == list(each.section.rate):
                for window, went in zip(each.windows, kept.get("went", ()), strict=False):
                    window.restore(went, at)
            each.paused_until = _moment(kept.get("paused_until"))
        self._breaker.restore(saved.get("breaker", {}))
        self._forget_future(self._clock())


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
