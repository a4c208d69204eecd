"""Windows of a platform's list: a span of time, and how paging through it ended."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

SHORTEST_WINDOW = timedelta(seconds=1)
"""The platform writes times in whole seconds."""


def whole_ticks(length: timedelta) -> timedelta:
    """A length cut to whole seconds, and at least one."""
    return max(SHORTEST_WINDOW, length // SHORTEST_WINDOW * SHORTEST_WINDOW)


@dataclass(frozen=True, slots=True)
class ListWindow:
    """The calls that were created from `since` on and before `until`."""

    since: datetime
    until: datetime

    @property
    def length(self) -> timedelta:
        """From `since` to `until`."""
        return self.until - self.since

    @property
    def shown(self) -> str:
        """For people, in UTC."""
        return f"{self.since:%Y-%m-%d %H:%M:%S}Z to {self.until:%Y-%m-%d %H:%M:%S}Z"

    def halves(self) -> "tuple[ListWindow, ListWindow]":
        """Two parts, cut at a whole second."""
        middle = self.since + (self.length // 2 // SHORTEST_WINDOW) * SHORTEST_WINDOW
        return ListWindow(self.since, middle), ListWindow(middle, self.until)


@dataclass(frozen=True, slots=True)
class WalkResult:
    """How paging through a window ended. Added up over logins and windows."""

    complete: bool = True
    unlisted: int = 0
    """Rows that the total counts, and that two passes did not show."""
    reason: str = ""
    """Why it is not complete."""

    def __add__(self, other: "WalkResult") -> "WalkResult":
        return WalkResult(
            self.complete and other.complete, self.unlisted + other.unlisted, self.reason or other.reason
        )


def remaining_windows(whole: ListWindow, done: Iterable[ListWindow]) -> Iterator[ListWindow]:
    """The parts of `whole` that no window of `done` covers, the oldest first."""
    since = whole.since
    for one in sorted(done, key=lambda one: one.since):
        if one.since > since:
            yield ListWindow(since, min(one.since, whole.until))
        since = max(since, one.until)
    if since < whole.until:
        yield ListWindow(since, whole.until)
