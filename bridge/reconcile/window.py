"""Windows of a platform's list: a time, and how its walk ended."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

SHORTEST_WINDOW = timedelta(seconds=1)
"""The platform's clock has no shorter tick."""


def whole_ticks(length: timedelta) -> timedelta:
    """A length cut to whole seconds, and at least one."""
    return max(SHORTEST_WINDOW, length // SHORTEST_WINDOW * SHORTEST_WINDOW)


@dataclass(frozen=True, slots=True)
class ListWindow:
    """Calls created from `since` until before `until`."""

    since: datetime
    until: datetime

    @property
    def length(self) -> timedelta:
        return self.until - self.since

    @property
    def shown(self) -> str:
        """For people."""
        return f"{self.since:%Y-%m-%d %H:%M:%S}Z to {self.until:%Y-%m-%d %H:%M:%S}Z"

    def halves(self) -> "tuple[ListWindow, ListWindow]":
        """Two parts, cut at a whole second."""
        middle = self.since + (self.length // 2 // SHORTEST_WINDOW) * SHORTEST_WINDOW
        return ListWindow(self.since, middle), ListWindow(middle, self.until)


@dataclass(frozen=True, slots=True)
class WalkResult:
    """How a window's walk ended. `unlisted`: rows that the total counts, and two passes did not show."""

    complete: bool = True
    unlisted: int = 0
    reason: str = ""

    def __add__(self, other: "WalkResult") -> "WalkResult":
        return WalkResult(
            self.complete and other.complete, self.unlisted + other.unlisted, self.reason or other.reason
        )


def remaining_windows(whole: ListWindow, done: Iterable[ListWindow]) -> Iterator[ListWindow]:
    """What of a time is not done yet."""
    since = whole.since
    for one in sorted(done, key=lambda one: one.since):
        if one.since > since:
            yield ListWindow(since, min(one.since, whole.until))
        since = max(since, one.until)
    if since < whole.until:
        yield ListWindow(since, whole.until)
