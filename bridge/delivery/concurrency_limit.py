"""How many requests one CRM account is sent at once, found from how fast it answers.

Nobody has to know a number: a CRM is given more at once as long as that makes it take more calls a second,
and fewer where fewer do as well. The account's own limits hold beside it (`budget`).
"""

FIRST = 4
MOST = 40
"""Fewer than there are workers, so that one account that hangs does not keep all of them."""
STEP = 1.5
"""One step up or down."""
LONGER, SHORTER = 1.08, 0.96
"""The calls a second after a step, as a share of those before, with which a step up, or down, is kept."""
WINDOW = 1.0
"""Seconds of delivering without a pause that show how fast the account is."""
DELIVERIES = 3
"""A window lasts until each place has delivered so often, so that a slow CRM is judged as well."""
REST = 15.0
"""Seconds for which a number that was found stays before the next step is tried."""


class ConcurrencyLimit:
    """Climbs to the number at which an account takes the most calls a second.

    Not safe between threads: the dispatcher holds its lock.
    """

    def __init__(self, fixed: int | None = None) -> None:
        """`fixed`: the operator's number, which stays."""
        self._is_fixed = fixed is not None
        self.at_once = fixed or FIRST
        """So many turns may be under way."""
        self._before: tuple[int, float] | None = None
        """The number before the step that is being tried, and the calls a second at that number."""
        self._rests_until = 0.0
        self._goes_up = True
        self._restart(float("inf"))

    def _restart(self, at: float) -> None:
        self._began, self._delivered, self._turns = at, 0, 0

    def ended(self, at: float, deliveries: int, *, more_to_do: bool) -> None:
        """Note that a turn has ended, and how many of its deliveries the account did not put off.

        `at` in seconds; `more_to_do`: others waited for their turn, or were just leased. Where there was less
        to do than could be done, nothing is learned.
        """
        if self._is_fixed:
            return
        if not more_to_do or not self._began <= at:
            self._restart(at)
            return
        self._delivered += deliveries
        self._turns += 1
        seconds = at - self._began
        if seconds >= WINDOW and self._turns >= DELIVERIES * self.at_once:
            self._judge(at, self._delivered / seconds)
            self._restart(at)

    def _judge(self, at: float, rate: float) -> None:
        if self._before is not None:
            (number, rate_before), self._before = self._before, None
            wanted = rate_before * (LONGER if self.at_once > number else SHORTER)
            if rate > 0 and rate >= wanted:
                # It helped: another step in the same direction, if there is one.
                self._step(rate)
                return
            self.at_once = number
            self._goes_up = not self._goes_up
            self._rests_until = at + REST
        elif rate > 0 and (at >= self._rests_until or at < self._rests_until - REST):
            self._step(rate)

    def _step(self, rate: float) -> None:
        wanted = self.at_once * STEP if self._goes_up else self.at_once / STEP
        number = min(MOST, max(1, round(wanted)))
        if number == self.at_once:
            self._goes_up = not self._goes_up
            return
        self._before, self.at_once = (self.at_once, rate), number
