"""A walk over a list that will not hold still: it sees everything, and it ends."""

import random
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.reconcile.paging import LONGEST_WINDOW, MOST_PASSES, ListWalker
from bridge.reconcile.window import ListWindow, WalkResult, remaining_windows
from bridge.sandbox.platform_faults import Disturbances
from bridge.sandbox.platform_list import PlatformList
from bridge.source import Page
from tests.fixtures.examples import examples
from tests.fixtures.list_walk import SECOND, ListedSource, RowCollector, row, shelf, spread, walk_all
from tests.fixtures.served_platform import NOW

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
LAST_DAY = ListWindow(NOW - DAY, NOW)


def complete(windows: list[tuple[ListWindow, WalkResult]]) -> bool:
    return all(walked.complete for _, walked in windows)


def test_windows_are_split_until_each_is_one_page() -> None:
    notes, windows, (asked,) = walk_all(shelf(spread(3000, DAY)), LAST_DAY)
    assert len(notes.rows) == 3000
    assert complete(windows)
    # Behind an answer that is as long as the longest before it there may be more.
    assert len(asked.asked) < 3000 / 100 * 3
    # A burst of one second does not fit into a page, however the time is cut.
    assert sum(entry["page"] > 0 for entry in asked.asked) < 30


def test_time_without_calls_takes_few_long_windows() -> None:
    notes, windows, (asked,) = walk_all(shelf([]), ListWindow(NOW - 365 * DAY, NOW))
    assert (len(notes.rows), complete(windows)) == (0, True)
    assert len(asked.asked) < 35
    assert max(window.length for window, _ in windows) <= LONGEST_WINDOW


@pytest.mark.parametrize(
    "faults",
    [
        Disturbances(page_cap=37),
        Disturbances(total="text"),
        Disturbances(total="absent"),
        Disturbances(total_moves=0.6),
        Disturbances(unlisted=0.05),
        Disturbances(unlisted=1.0),
        Disturbances(order="any"),
        Disturbances(order="newest", page_cap=50),
        Disturbances(end="inclusive"),
        Disturbances(start="exclusive", end="exclusive"),
        Disturbances(empty_pages=0.3),
        Disturbances(short_pages=0.1),
        Disturbances(rows_move=0.5, page_cap=40),
    ],
    ids=lambda faults: ",".join(
        name for name in faults.__struct_fields__ if getattr(faults, name) != getattr(Disturbances(), name)
    ),
)
def test_every_single_disturbance_loses_no_row(faults: Disturbances) -> None:
    # More than a page in one second is hopeless where every answer is in another order.
    rows = spread(800, DAY, bursts=faults.order != "any")
    notes, windows, (asked,) = walk_all(shelf(rows, faults), LAST_DAY)
    assert {one["uuid"] for one in rows} <= notes.rows.keys()
    assert complete(windows)
    assert len(asked.asked) < 900


def test_full_page_without_a_total_is_split_until_not_full() -> None:
    notes, windows, (asked,) = walk_all(shelf(spread(900, DAY), Disturbances(total="absent")), LAST_DAY)
    assert (len(notes.rows), complete(windows)) == (900, True)
    # Only the second that has more than a page is paged through.
    paged = {(entry["since"], entry["until"]) for entry in asked.asked if entry["page"] and entry["rows"]}
    assert all(until - since <= 2 * SECOND for since, until in paged)


def test_rows_counted_by_the_total_but_never_listed_are_reported() -> None:
    notes, windows, _ = walk_all(
        shelf(spread(100, HOUR), Disturbances(unlisted=0.1)), ListWindow(NOW - HOUR, NOW)
    )
    assert len(notes.rows) == 100
    assert sum(walked.unlisted for _, walked in windows) == pytest.approx(10, abs=4)


def test_page_cap_below_the_page_size_loses_no_row() -> None:
    class Skipping(ListedSource):
        def page(self, since: datetime, until: datetime, index: int, size: int) -> Page:
            page = super().page(since, until, index, size)
            return Page(page.rows[:30], page.total)

    notes = RowCollector()
    source = Skipping(shelf(spread(500, HOUR)))
    windows = list(ListWalker([source], 100, notes).windows([ListWindow(NOW - HOUR, NOW)]))
    assert len(notes.rows) == 500
    assert complete(windows)


def test_list_with_daily_windows_is_walked_by_days() -> None:
    class Daily(ListedSource):
        def page(self, since: datetime, until: datetime, index: int, size: int) -> Page:
            self.asked.append({})
            day = (since - DAY).replace(hour=16, minute=0, second=0)
            return super().page(day, (until + DAY).replace(hour=16, minute=0, second=0), index, size)

    source, notes = Daily(shelf(spread(600, 5 * DAY))), RowCollector()
    windows = list(ListWalker([source], 100, notes).windows([ListWindow(NOW - 5 * DAY, NOW)]))
    assert len(notes.rows) == 600
    assert complete(windows)
    assert len(source.asked) < 250


@pytest.mark.parametrize("off", [(-1, 0), (-1, 0, 1, 2)])
def test_low_total_hides_no_row_behind_a_short_page(off: Sequence[int]) -> None:
    chance = random.Random(5)  # noqa: S311 -- disturbs a list

    class Low(ListedSource):
        def page(self, since: datetime, until: datetime, index: int, size: int) -> Page:
            page = super().page(since, until, index, size)
            return Page(page.rows, max(0, (page.total or 0) + chance.choice(off)))

    for seed in range(4):
        source, notes = (
            Low(shelf(spread(3000, 2 * DAY, seed, bursts=False), Disturbances(page_cap=50))),
            RowCollector(),
        )
        windows = list(ListWalker([source], 1000, notes).windows([ListWindow(NOW - 2 * DAY - SECOND, NOW)]))
        assert len(notes.rows) == 3000
        assert complete(windows)


def test_total_of_the_whole_list_is_not_used_for_a_window() -> None:
    class Whole(ListedSource):
        def page(self, since: datetime, until: datetime, index: int, size: int) -> Page:
            return Page(super().page(since, until, index, size).rows, 5000)

    source, notes = Whole(shelf(spread(3000, 30 * DAY))), RowCollector()
    windows = list(ListWalker([source], 100, notes).windows([ListWindow(NOW - 30 * DAY - SECOND, NOW)]))
    assert len(notes.rows) == 3000
    assert complete(windows)
    assert len(source.asked) < 800


def test_second_with_many_pages_leaves_neighbouring_windows_short() -> None:
    burst = [row(10_000 + number, NOW - 3 * HOUR) for number in range(1000)]
    rows = [*spread(1000, 6 * HOUR, bursts=False), *burst]
    notes, windows, (asked,) = walk_all(shelf(rows), ListWindow(NOW - 6 * HOUR - SECOND, NOW))
    assert len(notes.rows) == 2000
    assert complete(windows)
    # Windows beside the burst overlap with it, and are no sign of a list that goes by days.
    assert max(window.length for window, _ in windows) <= HOUR
    assert sum(entry["page"] > 0 for entry in asked.asked) < 40


def test_rows_of_one_second_are_paged_through() -> None:
    rows = [row(number, NOW - HOUR) for number in range(950)]
    notes, windows, _ = walk_all(shelf(rows), LAST_DAY)
    assert len(notes.rows) == 950
    assert complete(windows)


def test_several_logins_share_the_windows() -> None:
    rows = spread(400, DAY) + spread(30, DAY, seed=2, user="branch", start=1000)
    notes, windows, shelves = walk_all(shelf(rows), LAST_DAY, users=("demo", "branch"))
    assert len(notes.rows) == 430
    assert complete(windows)
    done = Counter(window for window, _ in windows)
    for source in shelves:
        asked = {ListWindow(entry["since"], entry["until"]) for entry in source.asked}
        assert done.keys() <= asked


def test_window_that_keeps_changing_is_reported_incomplete() -> None:
    faults = Disturbances(order="any", short_pages=1.0, total_moves=1.0)
    notes, windows, (asked,) = walk_all(shelf(spread(60, HOUR), faults), ListWindow(NOW - HOUR, NOW))
    assert not complete(windows)
    assert all(walked.complete or f"{MOST_PASSES} passes" in walked.reason for _, walked in windows)
    # What was seen counts all the same.
    assert len(notes.rows) > 50
    assert len(asked.asked) < 60 * MOST_PASSES * 8


def test_ignored_page_number_ends_the_pass() -> None:
    class Stuck(ListedSource):
        def page(self, since: datetime, until: datetime, index: int, size: int) -> Page:
            del index
            return super().page(since, until, 0, size)

    source, notes = Stuck(shelf([row(number, NOW - HOUR) for number in range(300)])), RowCollector()
    windows = list(ListWalker([source], 100, notes).windows([LAST_DAY]))
    assert len(notes.rows) == 100
    # Two passes saw the same: the rest is reported, and `audit` cannot balance by it.
    assert sum(walked.unlisted for _, walked in windows) >= 200


def test_consumer_of_the_rows_can_end_the_walk() -> None:
    class Enough(Exception):
        pass

    platform = shelf(spread(500, DAY))
    notes, source = RowCollector(), ListedSource(platform)

    def check() -> None:
        if len(source.asked) >= 4:
            raise Enough

    notes.check = check
    done: list[tuple[ListWindow, WalkResult]] = []
    with pytest.raises(Enough):
        done.extend(ListWalker([source], 100, notes).windows([LAST_DAY]))
    assert len(source.asked) == 4


def test_remaining_windows_are_those_not_done_yet() -> None:
    def hours(*spans: tuple[int, int]) -> list[ListWindow]:
        return [ListWindow(NOW + since * HOUR, NOW + until * HOUR) for since, until in spans]

    (whole,) = hours((0, 10))
    assert list(remaining_windows(whole, [])) == [whole]
    assert list(remaining_windows(whole, hours((2, 3), (0, 1), (5, 10)))) == hours((1, 2), (3, 5))
    assert not list(remaining_windows(whole, hours((0, 6), (4, 10))))
    assert list(remaining_windows(whole, hours((8, 12)))) == hours((0, 8))
    assert list(remaining_windows(whole, hours((-3, 1)))) == hours((1, 10))


shares = st.sampled_from([0.0, 0.0, 0.1, 0.4])


# A row appears behind the page that was just read, and goes again: one slips through between two pages.
@example(Disturbances(total="absent", total_moves=0.4, rows_move=0.4, order="newest"), 83, 15, 25, 201703)
@example(Disturbances(page_cap=3, total="absent", rows_move=0.4, end="inclusive"), 39, 39, 5, 319)
@example(
    Disturbances(page_cap=3, total="absent", unlisted=0.4, rows_move=0.4, end="inclusive"), 94, 25, 39, 48684
)
@examples(60, 3000)
@given(
    st.builds(
        Disturbances,
        page_cap=st.sampled_from([0, 0, 3, 20]),
        empty_pages=st.sampled_from([0.0, 0.1]),
        total=st.sampled_from(["number", "text", "absent"]),
        total_moves=shares,
        unlisted=shares,
        rows_move=shares,
        order=st.sampled_from(["oldest", "newest"]),
        start=st.sampled_from(["inclusive", "exclusive"]),
        end=st.sampled_from(["inclusive", "exclusive"]),
    ),
    st.integers(0, 120),
    st.integers(1, 48),
    st.integers(5, 60),
    st.integers(0, 10**6),
)
def test_any_mixture_of_disturbances_loses_no_row(
    faults: Disturbances, count: int, hours: int, page_size: int, seed: int
) -> None:
    if faults.total_moves:
        # A total that says by chance just what a cut or empty page holds is the one lie that nobody can tell.
        faults.page_cap, faults.empty_pages = 0, 0.0
        if faults.unlisted:
            # The same where a row slips out of a pass: a total of unlisted rows is lower by chance.
            faults.rows_move = 0.0
    if faults.total == "absent" or faults.unlisted:
        # Where no total could ever be reached, a page that was empty in two passes is believed to be empty.
        faults.empty_pages = 0.0
    rows = spread(count, hours * HOUR, seed)
    platform: PlatformList = shelf(rows, faults, seed)
    notes, windows, _ = walk_all(platform, ListWindow(NOW - hours * HOUR - SECOND, NOW), page_size)
    if complete(windows):
        assert {one["uuid"] for one in rows} <= notes.rows.keys()
    else:
        # Only what moves all the time will not hold still for five passes.
        assert faults.rows_move or faults.empty_pages or faults.total_moves
