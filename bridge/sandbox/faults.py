"""Faults on demand: what the sandbox CRM does wrong, with which requests, and how often. Begin at `Fault`."""

import random
import threading
from dataclasses import dataclass
from typing import Any

import msgspec


class Fault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One thing to do wrong with the next `times` matching requests (-1: with all of them).

    `status` is answered in place of any effect, or, with `after_effect`, in place of the answer;
    `lost_answer` lets the effect happen and drops the connection; `delay` seconds pass before
    the answer, whatever it is.
    """

    status: int | None = None
    after_effect: bool = False
    lost_answer: bool = False
    delay: float = 0.0
    retry_after: int | None = None
    path: str = ""
    method: str = ""
    times: int = 1

    def __post_init__(self) -> None:
        if self.status is None and not self.lost_answer and self.delay <= 0:
            raise ValueError("a fault needs a status, lost_answer or a delay")
        if self.status is None and (self.after_effect or self.retry_after is not None):
            raise ValueError("after_effect and retry_after need a status")
        if self.status is not None and (self.lost_answer or not 400 <= self.status <= 599):
            raise ValueError("status is 400 to 599, and excludes lost_answer")
        if self.times == 0 or self.times < -1:
            raise ValueError("times is a count, or -1 for ever")

    def matches(self, method: str, path: str) -> bool:
        """Whether it concerns this request; `path` is a prefix, nothing given means any."""
        return path.startswith(self.path) and self.method.upper() in {"", method}


@dataclass(frozen=True, slots=True)
class Trouble:
    """What goes wrong with one request."""

    fault: Fault | None = None
    delay: float = 0.0

    @property
    def has_effect(self) -> bool:
        """Whether the request is carried out at all."""
        return self.fault is None or self.fault.lost_answer or self.fault.after_effect

    def described(self) -> dict[str, Any] | None:
        """The entry for the request log; None where nothing went wrong."""
        wrong: dict[str, Any] = {} if self.fault is None else msgspec.to_builtins(self.fault)
        for name in ("path", "method", "times", "delay"):
            wrong.pop(name, None)
        if self.delay:
            wrong["delay"] = self.delay
        return wrong or None


@dataclass(frozen=True, slots=True)
class Rates:
    """Which share of the requests goes wrong by chance, of `seed`: 0 none, 1 all."""

    lost: float = 0.0
    """Carried out, and the connection dropped without an answer."""
    errors: float = 0.0
    """500, 502 (of which half were carried out) and 503."""
    limited: float = 0.0
    """429 with `Retry-After: 1`."""
    delay: float = 0.0
    """Seconds before every answer."""
    seed: int = 1


class FaultList:
    """The faults still to come, in the order they were asked for; safe to use from several threads."""

    def __init__(self, rates: Rates | None = None) -> None:
        """Start without faults; `rates` are the shares of requests that fail at random."""
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._rates = rates or Rates()
        self._rng = random.Random(self._rates.seed)  # noqa: S311 -- faults, not secrets

    def add(self, fault: Fault) -> None:
        """Add a fault to the end of the list."""
        # A copy, because `times` is counted down here and the caller may add the same fault again.
        with self._lock:
            self._faults.append(msgspec.structs.replace(fault))

    def clear(self) -> None:
        """Forget all faults and rates."""
        with self._lock:
            self._faults.clear()
            self._rates = Rates()

    def _at_random(self) -> Fault | None:
        rates, drawn = self._rates, self._rng.random()
        if drawn < rates.lost:
            return Fault(lost_answer=True)
        if drawn < rates.lost + rates.errors:
            status = self._rng.choice((500, 502, 503))
            return Fault(status=status, after_effect=status != 503 and self._rng.random() < 0.5)
        if drawn < rates.lost + rates.errors + rates.limited:
            return Fault(status=429, retry_after=1)
        return None

    def take(self, method: str, path: str) -> Trouble:
        """Use up this request's faults: the first one with an outcome, and every one that only delays."""
        with self._lock:
            matching = [fault for fault in self._faults if fault.matches(method, path)]
            delays = [fault for fault in matching if fault.status is None and not fault.lost_answer]
            outcome = next((fault for fault in matching if fault not in delays), None)
            used = delays if outcome is None else [*delays, outcome]
            random_fault = self._at_random()
            trouble = Trouble(outcome or random_fault, sum(fault.delay for fault in used) + self._rates.delay)
            for fault in used:
                if fault.times > 0:
                    fault.times -= 1
            self._faults = [fault for fault in self._faults if fault.times]
        return trouble
