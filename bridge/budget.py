"""What one CRM account allows: rates, requests at once, a day's quota, and a breaker for when it is down.

One budget is shared by all workers and destinations of an account. Rates are kept as
sliding windows, as CRMs count them, learned down from refusals and up again with time.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from bridge.connector.limits import parse_rate
from bridge.connector.outcome import next_time
from bridge.connector.schema import LimitSection
from bridge.model import Lane

# One refusal is waited out; a second one this soon makes its class slower, once a second at most.
AGAIN_WITHIN = 30.0
SLOWER = 0.8
SLOWEST = 0.1
# So many quiet seconds make it faster again, until it is as fast as the connector says.
QUIET = 10.0
FASTER = 1.25
# What is learned where the connector says nothing: as many as went within so many seconds.
OBSERVED = 10.0
FEWEST = 10
# A window of so many seconds outlasts a restart: what went within it is kept, by so many parts of it.
OUTLASTS = 60.0
PARTS = 60
# How long a request waits for its right before its delivery gives way, in seconds.
PATIENCE = 2.0
# So many faults of the account in a row open its breaker; the waits double up to the longest.
FAULTS_IN_A_ROW = 5
FIRST_PAUSE = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(minutes=5)


@dataclass(slots=True)
class _Window:
    """One rate: at most `count` requests within `seconds`."""

    count: int
    seconds: float
    sent: deque[float] = field(default_factory=deque)
    parts: dict[int, int] = field(default_factory=dict)
    """How many went in each part of a long window, counted from the epoch."""

    def note(self, at: float) -> None:
        """One more has gone."""
        self.sent.append(at)
        if self.seconds >= OUTLASTS:
            part = int(at * PARTS / self.seconds)
            self.parts[part] = self.parts.get(part, 0) + 1

    def kept(self, at: float) -> list[list[int]]:
        """What counts yet, to be kept."""
        oldest = int((at - self.seconds) * PARTS / self.seconds)
        self.parts = {part: count for part, count in self.parts.items() if part >= oldest}
        return [[part, count] for part, count in sorted(self.parts.items())]

    def restore(self, kept: Iterable[Sequence[int]], at: float) -> None:
        """What was kept: as if all of a part had gone at its end."""
        for part, count in kept:
            self.parts[part] = count
            self.sent.extend([min(at, (part + 1) * self.seconds / PARTS)] * count)

    def wait(self, at: float, factor: float) -> float:
        """Seconds until one more may go."""
        while self.sent and self.sent[0] <= at - self.seconds:
            self.sent.popleft()
        allowed = max(1, int(self.count * factor))
        return 0.0 if len(self.sent) < allowed else self.sent[-allowed] + self.seconds - at


@dataclass(slots=True)
class _Class:
    """The requests of one entry of `[limits]`."""

    section: LimitSection
    windows: list[_Window]
    factor: float = 1.0
    slowed_at: float = 0.0
    refused_at: float = float("-inf")
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=10_000))
    under_way: int = 0
    spent: int = 0
    requests: int = 0
    """All that were ever sent."""
    day_ends_at: datetime | None = None
    paused_until: datetime | None = None


class Budget:
    """The budget of one account; every method may be called from any worker."""

    def __init__(
        self,
        limits: Mapping[str, LimitSection],
        clock: Callable[[], datetime],
        saved: Mapping[str, Any] | None = None,
    ) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        sections = {"default": LimitSection(), **limits}
        self._classes = {
            name: _Class(section, [_Window(*parse_rate(rate)) for rate in section.rate])
            for name, section in sections.items()
        }
        self._waiting: dict[Lane, int] = dict.fromkeys(Lane, 0)
        self._faults = 0
        self._pause = FIRST_PAUSE
        self._open_until: datetime | None = None
        self._probing = False
        self.why = ""
        """Why the breaker is open."""
        self._restore(saved or {})

    # -- the breaker ------------------------------------------------------------------
    def closed_for(self, now: datetime) -> float:
        """Seconds for which nothing of this account should be begun; 0: go on, or probe."""
        with self._lock:
            until = self._open_until
            if until is None:
                return max(
                    max(self._left(each.paused_until, now), self._full_for(each, now))
                    for each in self._classes.values()
                )
            left = (until - now).total_seconds()
            return max(left, 1.0) if self._probing else max(left, 0.0)

    @property
    def probing(self) -> bool:
        """Whether one delivery is out to see if the account is well again."""
        with self._lock:
            return self._probing

    def probe(self) -> bool:
        """Whether this delivery may go: all may while the breaker is closed, one while it is not."""
        with self._lock:
            if self._open_until is None:
                return True
            if self._probing or self._clock() < self._open_until:
                return False
            self._probing = True
            return True

    def probed(self) -> None:
        """The delivery that was to find out is over; if it asked nothing, another one is let out."""
        with self._lock:
            self._probing = False

    def well(self) -> None:
        """The account has answered: the breaker closes."""
        with self._lock:
            self._faults, self._pause = 0, FIRST_PAUSE
            self._open_until, self._probing, self.why = None, False, ""

    def fault(self, why: str, *, at_once: bool = False) -> None:
        """The account could not be reached, or is ill; `at_once` for refused credentials."""
        with self._lock:
            self._faults += 1
            probed, self._probing = self._probing, False
            if not (probed or at_once or self._faults >= FAULTS_IN_A_ROW):
                return
            if self._open_until is not None and self._clock() < self._open_until:
                return
            self._open_until = self._clock() + self._pause
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
            self.why = why

    # -- rates --------------------------------------------------------------------------
    def take(self, name: str, lane: Lane) -> float:
        """Take the right to send one request.

        0: taken, and `done` must follow. Else the seconds after which it is worth asking again.
        """
        with self._lock:
            each = self._classes[name]
            wait = self._wait(each, lane)
            if wait <= 0:
                self._note_sent(each)
            return max(wait, 0.0)

    @contextmanager
    def queueing(self, lane: Lane) -> Iterator[None]:
        """While a request waits for its right: lanes behind it stand back."""
        with self._lock:
            self._waiting[lane] += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting[lane] -= 1

    def done(self, name: str, headers: Mapping[str, str] | None = None) -> None:
        """A request has ended; `headers` of its answer may tell what is left."""
        with self._lock:
            each = self._classes[name]
            each.under_way -= 1
            self._recover(each)
            if headers is not None:
                self._read_headers(each, headers)

    def refused(self, name: str, wait: float | None, *, quota: bool = False) -> None:
        """The CRM said: too many. `wait` in seconds, where it told."""
        with self._lock:
            each = self._classes[name]
            now = self._clock()
            if not quota:
                self._slow_down(each, now.timestamp())
            until = now + timedelta(seconds=wait if wait is not None else 1.0)
            each.paused_until = max(until, each.paused_until or until)

    @staticmethod
    def _full_for(each: _Class, now: datetime) -> float:
        """Seconds for which it has no room, where that is longer than a request would wait for it."""
        wait = max((window.wait(now.timestamp(), each.factor) for window in each.windows), default=0.0)
        return wait if wait > PATIENCE else 0.0

    def _wait(self, each: _Class, lane: Lane) -> float:
        now = self._clock()
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
        return max([wait, *(window.wait(now.timestamp(), each.factor) for window in each.windows)])

    def _note_sent(self, each: _Class) -> None:
        at = self._clock().timestamp()
        each.under_way += 1
        each.spent += 1
        each.requests += 1
        each.recent.append(at)
        for window in each.windows:
            window.note(at)

    def _slow_down(self, each: _Class, at: float) -> None:
        again, each.refused_at = at - each.refused_at <= AGAIN_WITHIN, at
        if not again or at - each.slowed_at < 1.0:
            return
        each.factor, each.slowed_at = max(each.factor * SLOWER, SLOWEST), at
        if not each.windows:
            went = sum(1 for sent in each.recent if sent > at - OBSERVED)
            each.windows.append(_Window(max(went, FEWEST), OBSERVED))

    def _recover(self, each: _Class) -> None:
        at = self._clock().timestamp()
        if each.factor >= 1.0 or at - max(each.slowed_at, each.refused_at) < QUIET:
            return
        each.factor, each.slowed_at = min(1.0, each.factor * FASTER), at
        if each.factor >= 1.0 and not each.section.rate:
            each.windows.clear()

    def _read_headers(self, each: _Class, headers: Mapping[str, str]) -> None:
        section = each.section
        if section.remaining is None:
            return
        left, after = (
            _number(headers.get((name or "").lower())) for name in (section.remaining, section.reset_after)
        )
        if left is not None and left <= 0:
            until = self._clock() + timedelta(seconds=after if after is not None else 1.0)
            each.paused_until = max(until, each.paused_until or until)

    @staticmethod
    def _left(until: datetime | None, now: datetime) -> float:
        return 0.0 if until is None else max(0.0, (until - now).total_seconds())

    # -- over restarts --------------------------------------------------------------------
    def state(self) -> dict[str, Any]:
        """What is worth keeping over a restart, and telling an operator."""
        with self._lock:
            at = self._clock().timestamp()
            return {
                "breaker": {
                    "open_until": _text(self._open_until),
                    "why": self.why,
                    "pause": self._pause.total_seconds(),
                },
                "classes": {
                    name: {
                        "rates": list(each.section.rate),
                        "factor": round(each.factor, 3),
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

    def _restore(self, saved: Mapping[str, Any]) -> None:
        for name, kept in saved.get("classes", {}).items():
            each = self._classes.get(name)
            if each is None:
                continue
            each.factor = float(kept.get("factor", 1.0))
            each.slowed_at = self._clock().timestamp()
            each.spent = int(kept.get("spent", 0))
            each.requests = int(kept.get("requests", 0))
            each.day_ends_at = _moment(kept.get("day_ends_at"))
            if kept.get("rates") == list(each.section.rate):
                for window, went in zip(each.windows, kept.get("went", ()), strict=False):
                    window.restore(went, each.slowed_at)
            each.paused_until = _moment(kept.get("paused_until"))
        breaker = saved.get("breaker", {})
        self._open_until, self.why = _moment(breaker.get("open_until")), str(breaker.get("why", ""))
        if self._open_until is not None:
            self._pause = timedelta(seconds=float(breaker.get("pause", self._pause.total_seconds())))


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
