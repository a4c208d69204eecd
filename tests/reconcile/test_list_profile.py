"""What a list's answers teach: how many rows one holds, and when its totals are of no use."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from bridge.reconcile.counts import SHORT_LISTS_FROM, is_suspiciously_short
from bridge.reconcile.diff import DiffOutcome, stronger_outcome
from bridge.reconcile.list_profile import NO_SHARED_ROWS, ListProfile
from bridge.reconcile.window import ListWindow
from bridge.source import Page

START = datetime(2025, 4, 14, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Silent:
    """A login that nobody asks."""

    name = "demo"
    user: str | None = None

    def page(self, since: datetime, until: datetime, index: int, size: int) -> Page:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


def profile(page_size: int = 100) -> ListProfile:
    return ListProfile(Silent(), page_size, page_size)


def windows(gap: timedelta, count: int) -> Sequence[ListWindow]:
    """Windows of a minute with so much between them."""
    starts = [START + index * (MINUTE + gap) for index in range(count)]
    return [ListWindow(start, start + MINUTE) for start in starts]


@pytest.mark.parametrize(
    ("rows", "total", "overflows"),
    [(100, 100, False), (5, 101, True), (100, 50, False), (99, None, False), (100, None, True)],
)
def test_total_or_else_a_full_page_shows_that_a_window_holds_more(
    rows: int, total: int | None, overflows: bool
) -> None:
    assert profile().overflows(rows, total) is overflows


@pytest.mark.parametrize(
    ("gap", "totals", "useless"),
    [
        (NO_SHARED_ROWS, [900, 900, 900, 900], True),
        (NO_SHARED_ROWS, [900, 900, 900], False),
        (NO_SHARED_ROWS, [900, 900, 901, 900, 900], False),
        (NO_SHARED_ROWS, [201, 201, 201, 201], True),
        (NO_SHARED_ROWS, [200, 200, 200, 200, 200], False),
        (NO_SHARED_ROWS - timedelta(seconds=1), [900, 900, 900, 900, 900], False),
    ],
    ids=["three times again", "twice again", "another between", "just too much", "two pages", "rows shared"],
)
def test_same_total_of_windows_without_common_rows_is_not_theirs(
    gap: timedelta, totals: list[int], useless: bool
) -> None:
    login = profile()
    for window, total in zip(windows(gap, len(totals)), totals, strict=True):
        login.note_large_total(window, total)
    assert login.totals_useless is useless


def test_shortened_window_shares_its_rows_with_the_longer_one() -> None:
    login, window = profile(), ListWindow(START, START + 64 * MINUTE)
    for _ in range(6):
        login.note_large_total(window, 900)
        window = ListWindow(START, START + window.length // 2)
    assert not login.totals_useless


@pytest.mark.parametrize(
    ("seen", "total", "times", "useless"),
    [
        (100, 301, 3, True),
        (100, 301, 2, False),
        (100, 300, 9, False),
        (5, 301, 3, True),
        (200, 600, 9, False),
    ],
)
def test_totals_are_ignored_after_three_implausible_ones(
    seen: int, total: int, times: int, useless: bool
) -> None:
    login = profile()
    for _ in range(times):
        login.note_total_of_shortest(seen, total)
    assert login.totals_useless is useless


def test_a_page_that_is_too_large_is_halved_down_to_one_row() -> None:
    login = ListProfile(Silent(), page_size=5, most_rows=5)
    sizes = []
    for _ in range(4):
        login.halve_page_size()
        sizes.append((login.page_size, login.most_rows))
    assert sizes == [(2, 2), (1, 1), (1, 1), (1, 1)]


@pytest.mark.parametrize(
    ("sizes", "page_size"), [([50], 100), ([50, 50], 50), ([50, 40], 100), ([50, 40, 40], 40)], ids=str
)
def test_page_size_shrinks_after_fewer_rows_showed_more_twice(sizes: list[int], page_size: int) -> None:
    login = profile()
    for size in sizes:
        login.note_less_showed_more(size)
    assert (login.page_size, login.most_rows) == (page_size, page_size)


@pytest.mark.parametrize(
    ("ours", "listed", "short"),
    [
        (SHORT_LISTS_FROM, SHORT_LISTS_FROM // 2 - 1, True),
        (SHORT_LISTS_FROM, SHORT_LISTS_FROM // 2, False),
        (SHORT_LISTS_FROM - 1, 0, False),
        (1000, 499, True),
        (1000, 1000, False),
    ],
)
def test_list_lacking_more_than_half_of_twenty_calls_is_not_trusted(
    ours: int, listed: int, short: bool
) -> None:
    assert is_suspiciously_short(ours, listed) is short


def test_a_call_seen_twice_counts_under_the_stronger_outcome() -> None:
    order = [
        DiffOutcome.DEFERRED,
        DiffOutcome.MATCHED,
        DiffOutcome.STALE,
        DiffOutcome.REVISED,
        DiffOutcome.MISSING,
        DiffOutcome.CONFLICTING,
    ]
    assert set(order) == set(DiffOutcome)
    for place, outcome in enumerate(order):
        assert stronger_outcome(None, outcome) is outcome
        for weaker in order[:place]:
            assert stronger_outcome(weaker, outcome) is outcome
            assert stronger_outcome(outcome, weaker) is outcome
