"""How fast one class of requests may go: as its connector declares, and as the CRM's refusals taught."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from bridge.model.account_limits import KeptRate

# A window of a minute or more outlasts a restart: what was sent within it is kept, by 60 parts of it.
OUTLASTS = 60.0
PARTS = 60

# A rate is looked for once the CRM refused three times within two minutes. Requests that are further apart
# count as 1 s apart, so that a quiet minute between two refusals does not look like a slow CRM.
EPISODES = 3
RECENT = 120.0
LONGEST_GAP = 1.0
# The pace of a trial, as a share of what got through: even requests leave less room than bursts and pauses.
TRIAL_PACE = 0.9
# A trial is won when four refusals would have come at the old pace, and lost when three come all the same.
EXPECTED = 4.0
# A rate that held and is refused again goes down by 4 %; six refusals as frequent as ever end it.
AFTER_REFUSAL = 0.96
LOST_AFTER = 6
# Refusals that became less than three times rarer did not come of the pace.
RARER = 3.0
# Up to its first refusal a rate doubles every 40 s, for nobody knows yet where the CRM's own lies.
DOUBLES_IN = 40.0
# Then it grows with the cube of the quiet time: 5 % after 40 s, 40 % after 80 s; it is forgotten after 5 min.
GROWTH = 0.05
GROWTH_AFTER = 40.0
FORGOTTEN_AFTER = 300.0
# After a trial that was lost, none for 5 min, then for twice as long each time, up to an hour.
NO_TRIAL_FOR = 300.0
NO_TRIAL_AT_MOST = 3600.0
# What may go at once when less than the rate was used: the requests of 50 ms.
BURST = 0.05
# What is less than a step of the clock is over: rounding leaves so much of a wait that was waited out.
CLOCK_STEP = 2e-6
# The wait after a refusal that names none: 1 s, doubled while nothing but refusals comes, up to a minute.
FIRST_BACKOFF = 1.0
LONGEST_BACKOFF = 60.0
# Threads read the clock in another order than they note what they sent.
SKEW = 1.0


@dataclass(slots=True)
class SlidingWindow:
    """A declared rate: at most `count` requests within any `seconds`."""

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
        """What counts yet, to be kept over a restart."""
        oldest = int((at - self.seconds) * PARTS / self.seconds)
        self.parts = {part: count for part, count in self.parts.items() if part >= oldest}
        return [[part, count] for part, count in sorted(self.parts.items())]

    def restore(self, kept: Iterable[Sequence[int]], at: float) -> None:
        """What was kept: as if all of a part had gone at its end."""
        for part, count in kept:
            self.parts[part] = count
            self.sent.extend([min(at, (part + 1) * self.seconds / PARTS)] * count)

    def wait(self, at: float) -> float:
        """Seconds until one more may go; never more than the window is long, whatever became of the clock."""
        while self.sent and self.sent[0] <= at - self.seconds:
            self.sent.popleft()
        while self.sent and self.sent[-1] > at + SKEW:
            # The clock was put back: what went then cannot be told from what is to come.
            self.sent.pop()
        if len(self.sent) < self.count:
            return 0.0
        return min(self.sent[-self.count] + self.seconds - at, self.seconds)


class _PaceAtRefusal(NamedTuple):
    """How much had got through by then, since the beginning."""

    accepted: int
    busy: float
    """Seconds in which there was something to send, or a pause after a refusal."""
    at: float


class LearnedRate:
    """The rate just under what a CRM takes, in requests a second; None while it takes all there is.

    A refusal alone costs the pause that it asks for. Three of them start a trial: the requests go evenly at
    the pace that got through so far, pauses included. If the refusals become rare, their cause was the pace,
    and the rate is kept, grows while all is quiet and goes down a little at the next refusal. If they do not,
    they have another cause, and slowing down would only add to what they cost.

    All times are seconds since the epoch. Not safe between threads: a budget holds its lock.
    """

    def __init__(self) -> None:
        self._rate: float | None = None
        self._since = 0.0
        """When the rate was set, for its growth."""
        self._kept = False
        """Whether the trial of this rate was won."""
        self._met = False
        """Whether the CRM has refused this rate since: its own is close by."""
        self._share = 0.0
        """Refusals for each accepted request before the rate was set."""
        self._refusals: deque[_PaceAtRefusal] = deque(maxlen=LOST_AFTER + 1)
        """The latest; the first of them may be the beginning of the count instead."""
        self._accepted = 0
        self._busy = 0.0
        self._last_at: float | None = None
        self._longest_gap = LONGEST_GAP
        self._next_at = 0.0
        self._no_trial_until = 0.0
        self._no_trial_for = NO_TRIAL_FOR

    def rate(self, at: float) -> float | None:
        """The rate that holds now."""
        if self._rate is None:
            return None
        if not self._kept:
            return self._rate
        quiet = min(max(0.0, at - self._since), FORGOTTEN_AFTER)
        if not self._met:
            return self._rate * float(2 ** (quiet / DOUBLES_IN))
        return self._rate * (1 + GROWTH * (quiet / GROWTH_AFTER) ** 3)

    def wait(self, at: float) -> float:
        """Seconds until one more may go."""
        rate = self.rate(at)
        if rate is None:
            return 0.0
        if at - self._since > FORGOTTEN_AFTER:
            self._rate = None
            self._refusals.clear()
            return 0.0
        # Bounded by the pace itself, whatever became of the clock.
        wait = min(self._next_at - BURST - at, 1 / rate)
        return wait if wait > CLOCK_STEP else 0.0

    def sent(self, at: float) -> None:
        """One more has gone."""
        rate = self.rate(at)
        if rate is not None:
            self._next_at = min(max(self._next_at, at), at + BURST + 1 / rate) + 1 / rate

    def accepted(self, at: float) -> None:
        """One more was answered with anything but a refusal."""
        self._pass_time(at)
        self._longest_gap = LONGEST_GAP
        self._accepted += 1
        if self._rate is not None and not self._kept and self._is_won():
            self._kept, self._met, self._since = True, False, at
            self._begin_counting()

    def refused(self, at: float, wait: float) -> None:
        """The CRM said: too many, for `wait` seconds. What is refused along with it is no refusal more."""
        self._pass_time(at)
        self._longest_gap = max(LONGEST_GAP, wait)
        refusal = _PaceAtRefusal(self._accepted, self._busy, at)
        if self._refusals and self._refusals[-1].accepted == refusal.accepted:
            # Nothing got through since the last one: it is still the same.
            self._refusals[-1] = refusal
            return
        self._refusals.append(refusal)
        if self._rate is None:
            self._maybe_try(at)
        elif self._is_refuted():
            self._give_up(at)
        elif self._kept:
            self._rate, self._met, self._since = (self.rate(at) or self._rate) * AFTER_REFUSAL, True, at

    def _pass_time(self, at: float) -> None:
        if self._last_at is not None:
            self._busy += min(max(0.0, at - self._last_at), self._longest_gap)
        self._last_at = at

    def _maybe_try(self, at: float) -> None:
        while abs(at - self._refusals[0].at) > RECENT:
            self._refusals.popleft()
        if len(self._refusals) < EPISODES or 0 < self._no_trial_until - at <= NO_TRIAL_AT_MOST:
            return
        first, last = self._refusals[0], self._refusals[-1]
        count, seconds = last.accepted - first.accepted, last.busy - first.busy
        if seconds <= 0:
            return
        self._rate, self._kept, self._since = TRIAL_PACE * count / seconds, False, at
        self._share = (len(self._refusals) - 1) / count
        self._begin_counting()

    def _begin_counting(self) -> None:
        self._refusals.clear()
        self._refusals.append(_PaceAtRefusal(self._accepted, self._busy, self._since))

    def _seen(self) -> int:
        """Requests accepted since the counting began, or since the oldest refusal that still counts."""
        return self._accepted - self._refusals[0].accepted

    def _is_won(self) -> bool:
        expected = self._seen() * self._share
        return expected >= EXPECTED and len(self._refusals) - 1 <= expected / RARER

    def _is_refuted(self) -> bool:
        refusals = len(self._refusals) - 1
        if refusals < (LOST_AFTER if self._kept else EPISODES):
            return False
        return refusals >= self._seen() * self._share / RARER

    def _give_up(self, at: float) -> None:
        self._rate = None
        self._refusals.clear()
        self._no_trial_until = at + self._no_trial_for
        self._no_trial_for = min(2 * self._no_trial_for, NO_TRIAL_AT_MOST)

    def kept(self) -> KeptRate | None:
        """What is worth keeping over a restart: a rate whose trial was won."""
        if self._rate is None or not self._kept:
            return None
        return {"rate": self._rate, "since": self._since, "share": self._share}

    def restore(self, kept: KeptRate | None, at: float) -> None:
        """Go on with what was kept, as if it had been set now: nothing was tried meanwhile."""
        if kept:
            self._rate, self._share = float(kept["rate"]), float(kept["share"])
            self._kept, self._met, self._since = True, True, at
            self._begin_counting()


class Backoff:
    """How long a class of requests pauses after a refusal that does not say."""

    def __init__(self) -> None:
        self._wait = FIRST_BACKOFF

    def next(self) -> float:
        """Seconds; twice as many at each refusal in a row."""
        wait, self._wait = self._wait, min(2 * self._wait, LONGEST_BACKOFF)
        return wait

    def reset(self) -> None:
        """Something was accepted."""
        self._wait = FIRST_BACKOFF
