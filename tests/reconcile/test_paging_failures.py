"""A page that never comes costs a second of the list at most, and a list that is down costs few requests."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from bridge.lib.errors import SourceError, SourceRefused, SourceUnreachable
from bridge.reconcile.paging import MOST_FAILURES, MOST_PAGES, ListWalker
from bridge.reconcile.window import ListWindow, WalkResult
from bridge.sandbox.records import PLATFORM_ZONE, Record
from bridge.source import Page, PageTooLarge
from tests.fixtures.list_walk import SECOND, ListedSource, RowCollector, row, shelf, spread
from tests.fixtures.served_platform import NOW

DAY = timedelta(days=1)
Fails = Callable[[ListWindow, int, int, Page], Page]
"""What becomes of a page: of a window, by its index and size."""


class Failing(ListedSource):
    """A list of which some pages fail."""

    def __init__(self, rows: list[Record], fails: Fails) -> None:
        super().__init__(shelf(rows))
        self._fails = fails
        self.calls = 0
        self.named: str | None = "SYSUSER|demo"

    @property
    def user(self) -> str | None:
        return self.named

    def page(self, since: datetime, until: datetime, index: int, size: int) -> Page:
        self.calls += 1
        return self._fails(ListWindow(since, until), index, size, super().page(since, until, index, size))


def walked(
    source: Failing, length: timedelta = DAY
) -> tuple[RowCollector, list[tuple[ListWindow, WalkResult]]]:
    notes = RowCollector()
    return notes, list(ListWalker([source], 100, notes).windows([ListWindow(NOW - length, NOW)]))


def at(record: Record) -> datetime:
    return datetime.fromisoformat(record["created_at"]).replace(tzinfo=PLATFORM_ZONE)


def holds(window: ListWindow, moment: datetime) -> bool:
    """The platform is asked for a second more on each side."""
    return window.since - SECOND <= moment <= window.until + SECOND


def unreachable(_page: Page) -> Page:
    raise SourceUnreachable("no answer from /api/crmList")


def says_no(_page: Page) -> Page:
    raise SourceRefused("its list says no: code 500")


def cut(page: Page) -> Page:
    return Page(page.rows[: len(page.rows) // 2], None, broken="it ends after some rows")


def too_large(_page: Page) -> Page:
    raise PageTooLarge("the answer is longer than 32 MiB")


@pytest.mark.parametrize("how", [unreachable, says_no, cut, too_large])
def test_failing_second_loses_no_rows_of_its_neighbours(how: Callable[[Page], Page]) -> None:
    rows = spread(500, DAY, bursts=False)
    poison = at(rows[250])
    source = Failing(rows, lambda window, _index, _size, page: how(page) if holds(window, poison) else page)
    notes, windows = walked(source)
    # What is asked for is a second longer on each side.
    assert {one["uuid"] for one in rows if abs(at(one) - poison) > 3 * SECOND} <= notes.rows.keys()
    bad = [(window, one) for window, one in windows if not one.complete]
    assert 1 <= len(bad) <= 5
    assert all(window.length <= SECOND and holds(window, poison) for window, _ in bad)
    assert all(window.shown in one.reason for window, one in bad)
    assert source.calls < 150


def test_whole_rows_of_a_truncated_page_are_used() -> None:
    rows = [row(number, NOW - timedelta(hours=1)) for number in range(20)]
    source = Failing(rows, lambda _window, _index, _size, page: cut(page) if page.rows else page)
    notes, windows = walked(source)
    assert len(notes.rows) >= 10
    assert not all(one.complete for _, one in windows)


def test_large_rows_are_requested_a_few_at_a_time() -> None:
    rows = [*spread(300, DAY), *(row(1000 + number, NOW - timedelta(hours=2)) for number in range(30))]
    source = Failing(
        rows, lambda _window, _index, _size, page: too_large(page) if len(page.rows) > 7 else page
    )
    notes, windows = walked(source)
    assert len(notes.rows) == 330
    assert all(one.complete for _, one in windows)
    assert source.calls < 700


def test_page_truncated_at_many_rows_is_requested_in_smaller_pages() -> None:
    rows = [row(number, NOW - timedelta(hours=1)) for number in range(60)]
    source = Failing(rows, lambda _window, _index, _size, page: cut(page) if len(page.rows) > 20 else page)
    notes, windows = walked(source)
    assert len(notes.rows) == 60
    assert all(one.complete for _, one in windows)
    assert source.calls < 120


@pytest.mark.parametrize("how", [unreachable, says_no])
def test_list_that_is_down_ends_the_walk_at_once(how: Callable[[Page], Page]) -> None:
    source = Failing(spread(50, DAY), lambda _window, _index, _size, page: how(page))
    with pytest.raises(SourceError):
        walked(source)
    assert source.calls == 2


def test_refused_login_is_not_retried() -> None:
    source = Failing(spread(50, DAY), lambda _window, _index, _size, page: says_no(page))
    source.named = None
    with pytest.raises(SourceRefused):
        walked(source)
    assert source.calls == 1


def test_walk_gives_up_if_every_page_is_truncated() -> None:
    def how(_window: ListWindow, _index: int, _size: int, page: Page) -> Page:
        return Page((), None, broken="it ends after 0 rows") if page.rows else page

    source = Failing(spread(2000, DAY), how)
    with pytest.raises(SourceUnreachable, match="after 0 rows"):
        walked(source)
    assert source.calls < 12 * MOST_FAILURES


def test_row_too_large_for_any_answer_is_reported() -> None:
    rows = spread(100, DAY, bursts=False)
    poison = at(rows[50])
    source = Failing(
        rows,
        lambda window, _index, _size, page: too_large(page) if holds(window, poison) and page.rows else page,
    )
    notes, windows = walked(source)
    assert {one["uuid"] for one in rows if abs(at(one) - poison) > 3 * SECOND} <= notes.rows.keys()
    assert any("longer than 32 MiB" in one.reason for _, one in windows)


def test_failing_login_does_not_stop_the_other() -> None:
    rows = spread(200, DAY, bursts=False)
    poison = at(rows[100])
    good = ListedSource(shelf(rows))
    bad = Failing(rows, lambda window, _index, _size, page: cut(page) if holds(window, poison) else page)
    notes = RowCollector()
    windows = list(ListWalker([good, bad], 100, notes).windows([ListWindow(NOW - DAY - SECOND, NOW)]))
    assert len(notes.rows) == 200
    assert 1 <= sum(not one.complete for _, one in windows) <= 5


def test_ever_growing_total_does_not_split_windows_for_ever() -> None:
    source: Failing

    def how(_window: ListWindow, _index: int, _size: int, page: Page) -> Page:
        return Page(page.rows, source.calls * 7)

    source = Failing(spread(100, DAY), how)
    notes, _ = walked(source, 10 * DAY)
    assert len(notes.rows) == 100
    assert source.calls < 600


def test_walk_ends_if_every_answer_is_the_same_page() -> None:
    rows = [one.encode() for one in map(json.dumps, spread(100, DAY))]
    source = Failing([], lambda _window, _index, _size, _page: Page(rows, 300))
    notes, _ = walked(source, 35 * DAY)
    assert len(notes.rows) == 100
    assert source.calls < 600


@pytest.mark.slow
def test_walk_ends_if_pages_never_run_out() -> None:
    source: Failing

    def how(window: ListWindow, _index: int, _size: int, _page: Page) -> Page:
        fresh = [row(100 * source.calls + number, window.since) for number in range(100)]
        return Page([json.dumps(one).encode() for one in fresh], None)

    source = Failing([], how)
    with pytest.raises(SourceRefused, match="has no end"):
        walked(source, 60 * SECOND)
    assert source.calls < 1.1 * MOST_PAGES
