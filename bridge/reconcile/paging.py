"""Walk a platform's list so that nothing is missed, and so that the walk always ends.

The list is live: rows move between pages while they are asked for, and what a platform says of its own
totals and pages is not to be relied upon. So windows are cut small enough for one page wherever time can
be cut, for one answer is of one moment. A window is complete when in one pass over its pages the total
stayed the same and as many rows were seen, or when two passes saw the same rows.
"""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple, Protocol

from bridge.lib.errors import SourceError, SourceRefused, SourceUnreachable
from bridge.lib.iso_times import stamp
from bridge.reconcile.list_profile import NO_SHARED_ROWS, TIMES_TO_BELIEVE, ListProfile
from bridge.reconcile.window import SHORTEST_WINDOW, ListWindow, WalkResult, whole_ticks
from bridge.source import PageTooLarge, Source

MOST_PASSES = 5
MOST_SPLITS = 3
"""How often a window that will not hold still is halved: into eight parts."""
FIRST_WINDOW, LONGEST_WINDOW = timedelta(hours=1), timedelta(days=14)
TARGET_FILL = 0.75
"""How full of calls a window's page shall be: the next hour may be busier than the last one."""
DAY_LIST_MARGIN = timedelta(minutes=1)
"""A row that was created so long before or after what was asked for comes of a list that goes by days."""
PASSES_IF_EMPTY = 3
"""Nothing, where the total says that there is something, is believed at the third time."""
PASSES_IF_MOVED = 3
"""So are the same rows while the total or the rows move."""
MOST_PAGES = 10_000
"""Of one window: with a page of 10 rows, the platform's least, a day of 100,000 calls."""
MOST_FAILURES = 64
"""Pages of one walk that may fail for good. Finding one second of two weeks takes about ten of them."""

Key = Hashable


class RowIdentity(NamedTuple):
    """One row as the walk knows it."""

    key: Key
    """What it is told apart by."""
    created_at: str | None
    """As `bridge.model.stamp` writes it."""


class RowConsumer(Protocol):
    """Who wants the rows."""

    def before_page(self) -> None:
        """A page is about to be asked for; raises where the walk shall not go on."""

    def take_rows(self, window: ListWindow, rows: Sequence[bytes]) -> Sequence[RowIdentity]:
        """Rows have come, perhaps not for the first time."""


class _MoreThanAPage(Exception):
    """A window turned out to be longer than a page is."""

    def __init__(self, total: int) -> None:
        super().__init__(total)
        self.total = total


class _PageFailed(Exception):
    """A page did not come, or not whole, however often it was asked for."""

    def __init__(self, login: "ListProfile", reason: str, error: SourceError | None = None) -> None:
        super().__init__(reason)
        self.login = login
        self.reason = reason
        self.error = error
        """None: a part of it came."""


@dataclass(slots=True)
class _Pass:
    """One pass over the pages of a window."""

    keys: set[Key] = field(default_factory=set)
    totals: list[int | None] = field(default_factory=list)
    largest: int = 0
    repeated: bool = False
    """A page showed a row of an earlier page: rows moved meanwhile, and one may have slipped through."""

    @property
    def last(self) -> int | None:
        return self.totals[-1]

    @property
    def risen(self) -> bool:
        """Some total was higher than the one before it."""
        return any((after or 0) > (before or 0) for before, after in pairwise(self.totals))

    @property
    def exact(self) -> bool:
        """The total stayed the same, and all of it was seen."""
        return set(self.totals) == {len(self.keys)}

    @property
    def taken_for_all(self) -> WalkResult:
        """What more the total counts is listed nowhere."""
        return WalkResult(unlisted=max(0, (self.last or 0) - len(self.keys)))


class ListWalker:
    """Walks the lists of all logins of one source, window by window."""

    def __init__(self, sources: Sequence[Source], page_size: int, consumer: RowConsumer) -> None:
        self._logins = [ListProfile(source, page_size, page_size) for source in sources]
        self._consumer = consumer
        self._length = FIRST_WINDOW
        self._in_vain = 0
        self._full = 0
        """The last total that was too much for a page."""
        self._by_days = False
        """The list shows whole days, whatever part of one is asked for: cutting does not help."""
        self._failures = 0
        self._bad_until: datetime | None = None
        """Somewhere before then is what makes pages fail: it is looked for by halves."""
        self._oversized: ListProfile | None = None
        """The login whose pages of that time were too large."""

    def windows(self, left: Iterable[ListWindow]) -> Iterator[tuple[ListWindow, WalkResult]]:
        """Walk all of these times, the oldest first; each window as it is done."""
        for gap in left:
            since = gap.since
            while since < gap.until:
                window, walked = self._fitting(ListWindow(since, self._until(since, gap.until)))
                yield window, walked
                since = window.until

    def _until(self, since: datetime, end: datetime) -> datetime:
        """How far the window goes that begins here."""
        until = min(since + self._length, end)
        if self._bad_until is None or self._bad_until <= since:
            self._bad_until = None
            if self._oversized is not None:
                self._oversized.ask_for_less()
                self._oversized = None
            return until
        return min(until, since + whole_ticks((self._bad_until - since) // 2))

    def _fitting(self, window: ListWindow) -> tuple[ListWindow, WalkResult]:
        """Walk a window, or as much of its beginning as fits into a page."""
        end = window.until
        while True:
            try:
                walked = self._fits(window)
            except _PageFailed as failed:
                walked = self._failed(window, failed)
            if walked is not None:
                return window, walked
            window = ListWindow(window.since, self._until(window.since, end))

    def _fits(self, window: ListWindow) -> WalkResult | None:
        """Walk a window; None where it is too long for a page."""
        walked, filled = WalkResult(), 0.0
        for login in self._logins:
            first = self._ask(login, window, 0, login.size)
            if login.overflows(len(first.keys), first.total) and self._shrinks(window, first.total, login):
                return None
            try:
                found, seen = self._walk(login, window, first)
            except _MoreThanAPage as more:
                if self._shrinks(window, more.total, login):
                    return None
                found, seen = self._walk(login, window)
            walked += found
            filled = max(filled, seen / login.cap)
            if window.length <= SHORTEST_WINDOW:
                login.compare(seen, first.total or 0)
        self._adapt(window, filled)
        return walked

    # -- pages that fail ---------------------------------------------------------------
    def _failed(self, window: ListWindow, failed: _PageFailed) -> WalkResult | None:
        """What follows when a page fails for good: fewer rows, a shorter window, or a gap that is told.

        Raises:
            SourceError: it is not the page, the list does not answer at all.
        """
        self._failures += 1
        login, error = failed.login, failed.error
        if self._failures > MOST_FAILURES:
            raise error or SourceUnreachable(failed.reason)
        if error is not None:
            self._prove_alive(login, window, error)
        if isinstance(error, PageTooLarge):
            self._oversized = login
        if window.length > SHORTEST_WINDOW:
            self._bad_until = window.until
            return None
        size = login.size
        while size > 1:
            size = max(1, size // 8)
            with suppress(_PageFailed):
                return self._walk(replace(login, size=size, cap=size), window)[0]
        # One row is to blame, not how many were asked for.
        self._oversized = None
        return WalkResult(complete=False, reason=f"{window.shown}: {failed.reason}")

    def _prove_alive(self, login: ListProfile, window: ListWindow, error: SourceError) -> None:
        """Raise the error unless the list answers for another time: then it is this page that fails."""
        beside = ListWindow(window.until + NO_SHARED_ROWS, window.until + NO_SHARED_ROWS + SHORTEST_WINDOW)
        self._consumer.before_page()
        try:
            page = login.source.page(beside.since, beside.until, 0, 1)
        except SourceError:
            raise error from None
        if page.broken:
            raise error

    def _shrinks(self, window: ListWindow, total: int | None, login: ListProfile) -> bool:
        """Whether a shorter window should be tried; how short is in `_length`."""
        if total is None:
            # Two pages are the least that a window with a full one may have; a list without totals
            # cannot say that cutting was in vain, but after 20 cuts two weeks are one second.
            total = 2 * login.cap
        else:
            login.doubt(window, total)
            before, self._full = self._full, total
            self._in_vain = self._in_vain + 1 if before == total else 0
        hopeless = self._by_days or login.vague or self._in_vain >= TIMES_TO_BELIEVE
        if hopeless or window.length <= SHORTEST_WINDOW:
            return False
        expected = window.length * (TARGET_FILL * login.cap / total)
        self._length = whole_ticks(expected)
        return True

    def _adapt(self, window: ListWindow, filled: float) -> None:
        """How long the next window shall be, by how full this one was."""
        self._in_vain = self._full = 0
        if self._by_days:
            self._length = timedelta(days=1)
            return
        factor = min(4.0, TARGET_FILL / filled) if filled else 4.0
        # A window that was cut off at its gap's end says nothing of what is usual.
        length = max(window.length, self._length) if factor >= 1 else window.length
        self._length = min(LONGEST_WINDOW, whole_ticks(length * factor))

    # -- one window of one login -------------------------------------------------------
    def _walk(
        self, login: ListProfile, window: ListWindow, first: "_PageRows | None" = None, splits: int = 0
    ) -> tuple[WalkResult, int]:
        """Up to five passes, then in halves; with how many rows there seem to be."""
        earlier: list[_Pass] = []
        size, cap = login.size, login.cap
        for _ in range(MOST_PASSES):
            done = self._pass(login, window, size, first if not earlier else None)
            # What was shown before was less than the total: rows that came meanwhile are no sign of a cap.
            better = all(len(one.keys) < min(len(done.keys), one.last or 0) for one in earlier)
            if size < login.size and better:
                login.asked_too_much(size)
            if done.exact:
                # A page that was short by chance must not keep windows small for ever.
                login.cap = min(login.size, login.cap + max(1, login.cap // 8))
                return WalkResult(), len(done.keys)
            if self._agreed(done, earlier):
                return done.taken_for_all, len(done.keys)
            earlier.append(done)
            there = len(done.keys) if done.last is None else done.last
            if first is not None and login.cap < min(cap, there):
                # Now that it is known how little a page holds, a shorter window does better.
                raise _MoreThanAPage(there)
            # Some skip what lies between their cap and what was asked for: asking for less shows it.
            size = done.largest if size == login.size and done.largest else login.size
        if splits < MOST_SPLITS and window.length >= 2 * SHORTEST_WINDOW:
            return self._halved(login, window, splits)
        return self._given_up(login, window, earlier)

    @staticmethod
    def _agreed(done: _Pass, earlier: Sequence[_Pass]) -> bool:
        """Whether passes have seen the same often enough to be believed."""
        alike = [one for one in earlier if one.keys == done.keys]
        if not done.keys and done.last:
            return len(alike) >= PASSES_IF_EMPTY - 1
        if not done.repeated and any(set(one.totals) == set(done.totals) == {done.last} for one in alike):
            return True
        # A total that says this and that of the same rows is believed less than the rows; but one that rises
        # during a pass speaks of a row that came behind it.
        return len(alike) >= PASSES_IF_MOVED - 1 and not done.risen

    @staticmethod
    def _given_up(login: ListProfile, window: ListWindow, passes: Sequence[_Pass]) -> tuple[WalkResult, int]:
        """What there is to say of a window that did not hold still: two passes that saw the same will do."""
        for place, one in reversed(list(enumerate(passes))):
            if one.keys and any(one.keys == other.keys for other in passes[:place]):
                return one.taken_for_all, len(one.keys)
        reason = f"{window.shown}: {MOST_PASSES} passes of login {login.source.name} each saw other rows"
        return WalkResult(complete=False, reason=reason), 0

    def _halved(self, login: ListProfile, window: ListWindow, splits: int) -> tuple[WalkResult, int]:
        walked, seen = WalkResult(), 0
        for half in window.halves():
            found, count = self._walk(login, half, splits=splits + 1)
            walked, seen = walked + found, seen + count
        return walked, seen

    def _pass(self, login: ListProfile, window: ListWindow, size: int, first: "_PageRows | None") -> _Pass:
        """All pages once, as far as there seem to be any."""
        done = _Pass()
        index = barren = 0
        asked_again = full = False
        while index < MOST_PAGES:
            taken = first or self._ask(login, window, index, size)
            first = None
            rows, total = len(taken.keys), taken.total
            fresh = len(done.keys)
            done.keys.update(taken.keys)
            done.repeated |= len(done.keys) < fresh + rows
            barren = 0 if len(done.keys) > fresh else barren + 1
            if index and not barren and done.largest < size:
                # There was more behind a page that was not full: so that is as full as they get.
                login.cap = min(login.cap, max(done.largest, rows))
            done.largest = max(done.largest, rows)
            done.totals.append(total)
            # An empty page may be a hiccup: where rows are likely it is asked for again.
            asked_again = not rows and (full or not index) and not asked_again and total != 0
            cut = rows > 0 and rows >= min(size, login.cap, login.longest)
            full = cut or (full and asked_again)
            login.longest = max(login.longest, rows)
            if not asked_again and self._ended(done, index, barren, rows, full=full):
                return done
            index += not asked_again
        raise SourceRefused(f"{window.shown}: the list of login {login.source.name} has no end")

    @staticmethod
    def _ended(done: _Pass, index: int, barren: int, rows: int, *, full: bool) -> bool:
        if done.last is not None and len(done.keys) >= done.last:
            # Behind a full page there may be more, whatever the total says.
            return not full or bool(barren)
        beyond = done.last is None or (index + 1) * done.largest >= done.last
        return barren >= TIMES_TO_BELIEVE or (not rows and beyond)

    def _ask(self, login: ListProfile, window: ListWindow, index: int, size: int) -> "_PageRows":
        self._consumer.before_page()
        try:
            page = login.source.page(window.since, window.until, index, size)
        except SourceError as error:
            if isinstance(error, SourceRefused) and login.source.user is None:
                # It is the login that is refused.
                raise
            raise _PageFailed(login, str(error), error) from error
        shown = self._consumer.take_rows(window, page.rows)
        if page.broken:
            raise _PageFailed(login, page.broken)
        if len(shown) >= login.cap or (page.total or 0) > login.cap:
            self._by_days = self._by_days or _elsewhere(window, shown)
        return _PageRows(page.total, [one.key for one in shown])


def _elsewhere(window: ListWindow, rows: Sequence[RowIdentity]) -> bool:
    """Whether most rows are of another time than was asked for."""
    since, until = stamp(window.since - DAY_LIST_MARGIN), stamp(window.until + DAY_LIST_MARGIN)
    outside = sum(one.created_at is not None and not since <= one.created_at < until for one in rows)
    return 2 * outside > len(rows)


@dataclass(frozen=True, slots=True)
class _PageRows:
    """What the walk keeps of a page: what its rows are told apart by, not the rows."""

    total: int | None
    keys: Sequence[Key]
