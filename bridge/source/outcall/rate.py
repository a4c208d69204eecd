"""Limits the rate of requests to a platform."""

from collections.abc import Callable


class RequestRate:
    """Spaces requests evenly: at `per_second` = 20 one every 50 ms, without bursts after a pause."""

    def __init__(
        self, per_second: float, monotonic: Callable[[], float], sleep: Callable[[float], None]
    ) -> None:
        self._gap = 1 / per_second
        self._monotonic = monotonic
        self._sleep = sleep
        self._next = float("-inf")

    def wait(self) -> None:
        """Wait until the next request may be sent."""
        now = self._monotonic()
        if self._next > now:
            self._sleep(self._next - now)
        self._next = max(now, self._next) + self._gap
