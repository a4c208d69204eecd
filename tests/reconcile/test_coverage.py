"""From when until when a reconciliation looks, and how far its source is covered afterwards."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bridge.lib.iso_times import stamp
from bridge.reconcile.coverage import ReconcileRange, ReconcileRules, choose_range, range_as_json
from bridge.reconcile.window import ListWindow
from tests.fixtures.origins import MAIN

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
DAY = 24 * HOUR
RULES = ReconcileRules(
    origin=MAIN,
    reads=frozenset(),
    settle=10 * MINUTE,
    lookbacks={"short": 3 * HOUR, "deep": 3 * DAY, "weekly": 35 * DAY},
    start_at=None,
    page_size=50,
)
SETTLED = NOW - 10 * MINUTE


def ago(length: timedelta) -> str:
    """A time of a run's arguments."""
    return stamp(NOW - length)


@pytest.mark.parametrize(
    ("covered", "args", "since"),
    [
        # Its lookback, or half an hour before what is covered, whichever is earlier.
        (None, {}, 3 * HOUR + 30 * MINUTE),
        (HOUR, {}, 3 * HOUR),
        (2 * HOUR + 30 * MINUTE, {}, 3 * HOUR),
        (2 * HOUR + 31 * MINUTE, {}, 3 * HOUR + MINUTE),
        (8 * HOUR, {}, 8 * HOUR + 30 * MINUTE),
        (timedelta(0), {}, 3 * HOUR),
        # How far back it looks depends on what triggered it.
        (HOUR, {"trigger": "short"}, 3 * HOUR),
        (HOUR, {"trigger": "deep"}, 3 * DAY),
        (HOUR, {"trigger": "weekly"}, 35 * DAY),
        (4 * DAY, {"trigger": "deep"}, 4 * DAY + 30 * MINUTE),
        (HOUR, {"trigger": "operator"}, 3 * HOUR),
        (HOUR, {"trigger": None}, 3 * HOUR),
        (HOUR, {"trigger": ""}, 3 * HOUR),
        # Nobody knows how far a clock had really come that covered the future.
        (-MINUTE, {}, 35 * DAY + 30 * MINUTE),
        (-MINUTE, {"trigger": "deep"}, 35 * DAY + 30 * MINUTE),
    ],
)
def test_run_covers_from_its_lookback_until_the_settled_time(
    covered: timedelta | None, args: dict[str, Any], since: timedelta
) -> None:
    found = choose_range(args, RULES, None if covered is None else NOW - covered, NOW)
    assert found == ReconcileRange(ListWindow(NOW - since, SETTLED), SETTLED)


def test_longest_lookback_is_used_after_a_wrong_clock() -> None:
    rules = replace(RULES, lookbacks={"short": 40 * DAY, "deep": 3 * DAY})
    found = choose_range({}, rules, NOW + MINUTE, NOW)
    assert found.whole.since == NOW - 40 * DAY - 30 * MINUTE


@pytest.mark.parametrize(
    ("covered", "start_at", "since"),
    [
        (None, 10 * DAY, 10 * DAY + 30 * MINUTE),
        (None, HOUR, 3 * HOUR),
        (HOUR, 10 * DAY, 3 * HOUR),
        (20 * DAY, 10 * DAY, 20 * DAY + 30 * MINUTE),
    ],
)
def test_first_coverage_starts_at_the_configured_start(
    covered: timedelta | None, start_at: timedelta, since: timedelta
) -> None:
    rules = replace(RULES, start_at=NOW - start_at)
    found = choose_range({}, rules, None if covered is None else NOW - covered, NOW)
    assert found == ReconcileRange(ListWindow(NOW - since, SETTLED), SETTLED)


@pytest.mark.parametrize(
    ("args", "since", "until", "covers_until"),
    [
        # What begins behind the coverage leaves a hole, and does not move it.
        ({"since": ago(4 * HOUR)}, 4 * HOUR, 10 * MINUTE, None),
        ({"since": ago(5 * HOUR)}, 5 * HOUR, 10 * MINUTE, 10 * MINUTE),
        ({"since": ago(6 * HOUR)}, 6 * HOUR, 10 * MINUTE, 10 * MINUTE),
        ({"since": ago(6 * HOUR), "until": ago(4 * HOUR)}, 6 * HOUR, 4 * HOUR, 4 * HOUR),
        # What has not settled is looked at where that is asked for, and is not covered.
        ({"until": ago(timedelta(0))}, 5 * HOUR + 30 * MINUTE, timedelta(0), 10 * MINUTE),
        ({"until": ago(HOUR)}, 5 * HOUR + 30 * MINUTE, HOUR, HOUR),
        ({"since": "", "until": ""}, 5 * HOUR + 30 * MINUTE, 10 * MINUTE, 10 * MINUTE),
        ({"since": None, "until": None}, 5 * HOUR + 30 * MINUTE, 10 * MINUTE, 10 * MINUTE),
        ({"dry_run": True}, 5 * HOUR + 30 * MINUTE, 10 * MINUTE, None),
        ({"dry_run": False}, 5 * HOUR + 30 * MINUTE, 10 * MINUTE, 10 * MINUTE),
    ],
)
def test_requested_run_covers_the_requested_range(
    args: dict[str, Any], since: timedelta, until: timedelta, covers_until: timedelta | None
) -> None:
    found = choose_range(args, RULES, NOW - 5 * HOUR, NOW)
    covered = None if covers_until is None else NOW - covers_until
    assert found == ReconcileRange(ListWindow(NOW - since, NOW - until), covered)


def test_a_range_is_of_whole_seconds_as_the_platform_writes_them() -> None:
    late = NOW + timedelta(microseconds=999_999)
    assert choose_range({}, RULES, None, late) == choose_range({}, RULES, None, NOW)
    asked = choose_range({"until": stamp(late)}, RULES, None, late)
    assert asked == ReconcileRange(ListWindow(NOW - 3 * HOUR - 30 * MINUTE, NOW), SETTLED)


@pytest.mark.parametrize("cover_until", [SETTLED, None])
def test_an_interrupted_run_keeps_its_range_as_json(cover_until: datetime | None) -> None:
    assert range_as_json(ReconcileRange(ListWindow(NOW - HOUR, NOW), cover_until)) == {
        "since": "2026-11-22T07:00:00.000Z",
        "until": "2026-11-22T08:00:00.000Z",
        "cover_until": None if cover_until is None else "2026-11-22T07:50:00.000Z",
    }


def test_a_sources_rules_are_named_after_it() -> None:
    assert RULES.name == "main"
