"""Pages through a platform's list so that no row is missed, and so that the walk always ends.

The list is live: rows move between pages while these are asked for, and a platform's totals and page sizes
cannot be relied on. One answer, though, is of one moment. So windows are cut until each fits into one page,
wherever time can be cut that fine. A window is complete when the total stayed the same during one pass and as
many rows were seen, or when two passes saw the same rows. Begin at `ListWalker.windows`.
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
"""So often the pages of one window are asked for before it is cut in halves."""
MOST_SPLITS = 3
"""A window whose rows differ from pass to pass is halved so often: into eight parts."""
FIRST_WINDOW, LONGEST_WINDOW = timedelta(hours=1), timedelta(days=14)
"""The walk begins with an hour, and adapts to how full pages are; in quiet times up to two weeks."""
TARGET_FILL = 0.75
"""How full the next window shall make a page: the next hour may be busier than the last."""
DAY_LIST_MARGIN = timedelta(minutes=1)
"""A row created so long before or after the window shows that the list ignores the time of day."""
PASSES_IF_EMPTY = 3
"""So many empty passes are believed where the total says that there are rows."""
PASSES_IF_MOVED = 3
"""So many passes with the same rows are believed where the total or the pages changed meanwhile."""
MOST_PAGES = 10_000
"""Of one window: with pages of 10 rows, the platform's least, that is a day of 100,000 calls."""
MOST_FAILURES = 64
"""So many pages of one walk may fail for good. Finding one bad second in two weeks takes about ten."""

RowKey = Hashable


class RowIdentity(NamedTuple):
    """What paging needs to know of a row."""

    key: RowKey
    """Equal for two answers that show the same call."""
    created_at: str | None
    """As `bridge.lib.iso_times.stamp` writes it."""


class RowConsumer(Protocol):
    """Takes the rows of every page."""

    def before_page(self) -> None:
        """Called before each page is asked for; raises where paging shall not go on."""

    def take_rows(self, window: ListWindow, rows: Sequence[bytes]) -> Sequence[RowIdentity]:
        """Take the rows of one page, which may have come before; returns what tells them apart, in order."""


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

    keys: set[RowKey] = field(default_factory=set)
    totals: list[int | None] = field(default_factory=list)
    largest: int = 0
    repeated: bool = False
    """A page showed a row of an earlier page: rows moved meanwhile, and one may have slipped through."""

    @property
    def last(self) -> int | None:
        return self.totals[-1]

    @property
    def risen(self) -> bool:
        """Whether some total was higher than the one before it."""
        return any((after or 0) > (before or 0) for before, after in pairwise(self.totals))

    @property
    def exact(self) -> bool:
        """Whether the total stayed the same, and as many rows were seen."""
        return set(self.totals) == {len(self.keys)}

    @property
    def as_complete(self) -> WalkResult:
        """The result of a complete window; rows that the total counts beyond those seen are `unlisted`."""
        return WalkResult(unlisted=max(0, (self.last or 0) - len(self.keys)))


class ListWalker:
    """Walks the lists of all logins of one source, window by window."""

    def __init__(self, sources: Sequence[Source], page_size: int, consumer: RowConsumer) -> None:
        self._logins = [ListProfile(source, page_size, page_size) for source in sources]
        self._consumer = consumer
        self._next_length = FIRST_WINDOW
        self._cuts_in_vain = 0
        self._last_overflow = 0
        """The last total that was too much for a page."""
        self._lists_whole_days = False
        """The list shows whole days, whatever part of one is asked for: cutting does not help."""
        self._failures = 0
        self._failing_until: datetime | None = None
        """Somewhere before then is what makes pages fail: it is looked for by halves."""
        self._oversized: ListProfile | None = None
        """The login whose pages of that time were too large."""

    def windows(self, left: Iterable[ListWindow]) -> Iterator[tuple[ListWindow, WalkResult]]:
        """Page through all of these times, the oldest first; yields each window when it has ended."""
        for gap in left:
            since = gap.since
            while since < gap.until:
                window, walked = self._walk_what_fits(ListWindow(since, self._window_end(since, gap.until)))
                yield window, walked
                since = window.until

    def _window_end(self, since: datetime, end: datetime) -> datetime:
        """Where the window ends that begins here."""
        until = min(since + self._next_length, end)
        if self._failing_until is None or self._failing_until <= since:
            self._failing_until = None
            if self._oversized is not None:
                self._oversized.halve_page_size()
                self._oversized = None
            return until
        return min(until, since + whole_ticks((self._failing_until - since) // 2))

    def _walk_what_fits(self, window: ListWindow) -> tuple[ListWindow, WalkResult]:
        """Page through a window, or through as much of its beginning as fits into one page."""
        end = window.until
        while True:
            try:
                walked = self._try_window(window)
            except _PageFailed as failed:
                walked = self._after_failed_page(window, failed)
            if walked is not None:
                return window, walked
            window = ListWindow(window.since, self._window_end(window.since, end))

    def _try_window(self, window: ListWindow) -> WalkResult | None:
        """Page through a window at every login. Returns None where a shorter one must be tried."""
        walked, filled = WalkResult(), 0.0
        for login in self._logins:
            first = self._ask(login, window, 0, login.page_size)
            if login.overflows(len(first.keys), first.total) and self._shorten(window, first.total, login):
                return None
            try:
                found, seen = self._walk(login, window, first)
            except _MoreThanAPage as more:
                if self._shorten(window, more.total, login):
                    return None
                found, seen = self._walk(login, window)
            walked += found
            filled = max(filled, seen / login.most_rows)
            if window.length <= SHORTEST_WINDOW:
                login.note_total_of_shortest(seen, first.total or 0)
        self._adapt_length(window, filled)
        return walked

    # -- pages that fail ---------------------------------------------------------------
    def _after_failed_page(self, window: ListWindow, failed: _PageFailed) -> WalkResult | None:
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
            self._failing_until = window.until
            return None
        size = login.page_size
        while size > 1:
            size = max(1, size // 8)
            with suppress(_PageFailed):
                return self._walk(replace(login, page_size=size, most_rows=size), window)[0]
        # One row broke the page, not the number of rows that were asked for.
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

    def _shorten(self, window: ListWindow, total: int | None, login: ListProfile) -> bool:
        """Whether a shorter window should be tried; `_next_length` is set to how long."""
        if total is None:
            # Without a total, two pages are assumed; it ends, as 20 halvings turn two weeks into one second.
            total = 2 * login.most_rows
        else:
            login.note_large_total(window, total)
            before, self._last_overflow = self._last_overflow, total
            self._cuts_in_vain = self._cuts_in_vain + 1 if before == total else 0
        hopeless = self._lists_whole_days or login.totals_useless or self._cuts_in_vain >= TIMES_TO_BELIEVE
        if hopeless or window.length <= SHORTEST_WINDOW:
            return False
        expected = window.length * (TARGET_FILL * login.most_rows / total)
        self._next_length = whole_ticks(expected)
        return True

    def _adapt_length(self, window: ListWindow, filled: float) -> None:
        """How long the next window shall be, by how full this one was."""
        self._cuts_in_vain = self._last_overflow = 0
        if self._lists_whole_days:
            self._next_length = timedelta(days=1)
            return
        factor = min(4.0, TARGET_FILL / filled) if filled else 4.0
        # A window that was cut off at its gap's end says nothing of what is usual.
        length = max(window.length, self._next_length) if factor >= 1 else window.length
        self._next_length = min(LONGEST_WINDOW, whole_ticks(length * factor))

    # -- one window of one login -------------------------------------------------------
    def _walk(
        self, login: ListProfile, window: ListWindow, first: "_PageRows | None" = None, splits: int = 0
    ) -> tuple[WalkResult, int]:
        """Up to five passes, then in halves; with how many rows there seem to be."""
        earlier: list[_Pass] = []
        size, cap = login.page_size, login.most_rows
        for _ in range(MOST_PASSES):
            done = self._pass(login, window, size, first if not earlier else None)
            # Earlier passes must have shown fewer rows than their totals: rows that came since prove no cap.
            better = all(len(one.keys) < min(len(done.keys), one.last or 0) for one in earlier)
            if size < login.page_size and better:
                login.note_less_showed_more(size)
            if done.exact:
                # Grow again by an eighth: a page that was short once must not keep windows small for ever.
                login.most_rows = min(login.page_size, login.most_rows + max(1, login.most_rows // 8))
                return WalkResult(), len(done.keys)
            if self._is_believed(done, earlier):
                return done.as_complete, len(done.keys)
            earlier.append(done)
            there = len(done.keys) if done.last is None else done.last
            if first is not None and login.most_rows < min(cap, there):
                # Now that it is known how little a page holds, a shorter window does better.
                raise _MoreThanAPage(there)
            # Some platforms skip rows between their cap and the size asked for: a smaller size shows them.
            size = done.largest if size == login.page_size and done.largest else login.page_size
        if splits < MOST_SPLITS and window.length >= 2 * SHORTEST_WINDOW:
            return self._halved(login, window, splits)
        return self._best_of(login, window, earlier)

    @staticmethod
    def _is_believed(done: _Pass, earlier: Sequence[_Pass]) -> bool:
        """Whether passes have seen the same often enough to be believed."""
        alike = [one for one in earlier if one.keys == done.keys]
        if not done.keys and done.last:
            return len(alike) >= PASSES_IF_EMPTY - 1
        if not done.repeated and any(set(one.totals) == set(done.totals) == {done.last} for one in alike):
            return True
        # Passes that saw the same rows count more than a total that changes; but a total that rises during a
        # pass means that a row has come behind the pages already read.
        return len(alike) >= PASSES_IF_MOVED - 1 and not done.risen

    @staticmethod
    def _best_of(login: ListProfile, window: ListWindow, passes: Sequence[_Pass]) -> tuple[WalkResult, int]:
        """The result of a window that kept changing: complete only if two passes saw the same rows."""
        for place, one in reversed(list(enumerate(passes))):
            if one.keys and any(one.keys == other.keys for other in passes[:place]):
                return one.as_complete, len(one.keys)
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
                # A page that was not full had more behind it: so that is the most a page holds.
                login.most_rows = min(login.most_rows, max(done.largest, rows))
            done.largest = max(done.largest, rows)
            done.totals.append(total)
            # An empty page may be a passing fault: where rows are likely it is asked for again, once.
            asked_again = not rows and (full or not index) and not asked_again and total != 0
            cut = rows > 0 and rows >= min(size, login.most_rows, login.longest_answer)
            full = cut or (full and asked_again)
            login.longest_answer = max(login.longest_answer, rows)
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
                # The login is refused: another page would fail as well.
                raise
            raise _PageFailed(login, str(error), error) from error
        shown = self._consumer.take_rows(window, page.rows)
        if page.broken:
            raise _PageFailed(login, page.broken)
        if len(shown) >= login.most_rows or (page.total or 0) > login.most_rows:
            self._lists_whole_days = self._lists_whole_days or _mostly_outside(window, shown)
        return _PageRows(page.total, [one.key for one in shown])


def _mostly_outside(window: ListWindow, rows: Sequence[RowIdentity]) -> bool:
    """Whether most rows are of another time than was asked for."""
    since, until = stamp(window.since - DAY_LIST_MARGIN), stamp(window.until + DAY_LIST_MARGIN)
    outside = sum(one.created_at is not None and not since <= one.created_at < until for one in rows)
    return 2 * outside > len(rows)


@dataclass(frozen=True, slots=True)
class _PageRows:
    """What the walk keeps of a page: its rows' keys, not the rows themselves, which may be 14 MB."""

    total: int | None
    keys: Sequence[RowKey]
