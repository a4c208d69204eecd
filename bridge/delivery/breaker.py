"""The circuit breaker of a CRM account: while the account is down, one delivery at a time probes it."""

from datetime import datetime, timedelta

from bridge.lib.stored_times import LONGEST_PAUSE, bounded
from bridge.model.account_limits import KeptBreaker

# Five faults in a row open the breaker. Then one delivery probes after 5 s, 10 s, 20 s … up to 5 minutes.
FAULTS_IN_A_ROW = 5
FIRST_PAUSE = timedelta(seconds=5)


class CircuitBreaker:
    """Closed: all deliveries go out. Open: none do. After its pause one goes out, as a probe.

    Not safe between threads: a budget holds its lock.
    """

    def __init__(self) -> None:
        self._faults = 0
        self._pause = FIRST_PAUSE
        self.open_until: datetime | None = None
        """When it may be probed; None: it is closed."""
        self.probing = False
        """Whether a delivery is out to probe."""
        self.why = ""
        """The cause of the last fault that opened it."""

    def open_for(self, now: datetime) -> float:
        """Seconds until a delivery may be begun; 0: go on, or probe."""
        self.forget_future(now)
        if self.open_until is None:
            return 0.0
        left = (self.open_until - now).total_seconds()
        return max(left, 1.0) if self.probing else max(left, 0.0)

    def admit(self, now: datetime) -> bool:
        """Whether a delivery may go out; while it is open, the one that may is the probe."""
        self.forget_future(now)
        if self.open_until is None:
            return True
        if self.probing or now < self.open_until:
            return False
        self.probing = True
        return True

    def end_probe(self) -> None:
        """End a probe; if that delivery sent no request, another one may probe."""
        self.probing = False

    def answered(self) -> None:
        """Note that the account has answered, which closes the breaker."""
        self._faults, self._pause = 0, FIRST_PAUSE
        self.open_until, self.probing, self.why = None, False, ""

    def failed(self, why: str, now: datetime, *, at_once: bool) -> None:
        """Note a fault of the account; `at_once` (refused credentials) opens the breaker at the first one."""
        self._faults += 1
        probed, self.probing = self.probing, False
        if not (probed or at_once or self._faults >= FAULTS_IN_A_ROW):
            return
        self.forget_future(now)
        if self.open_until is not None and now < self.open_until:
            return
        self.open_until = now + self._pause
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        self.why = why

    def forget_future(self, now: datetime) -> None:
        """End a pause that lies further ahead than any pause is long: the clock was wrong when it was set."""
        if self.open_until is not None:
            self.open_until = bounded(self.open_until, now, LONGEST_PAUSE) or now

    def kept(self) -> KeptBreaker:
        """The state to keep over a restart, and to show to operators."""
        return {
            "open_until": None if self.open_until is None else self.open_until.isoformat(),
            "why": self.why,
            "pause": self._pause.total_seconds(),
        }

    def restore(self, kept: KeptBreaker) -> None:
        """Go on with what was kept."""
        text = kept.get("open_until")
        self.open_until = None if text is None else datetime.fromisoformat(text)
        self.why = str(kept.get("why", ""))
        if self.open_until is not None:
            self._pause = timedelta(seconds=float(kept.get("pause", self._pause.total_seconds())))
