"""Schedules mean what crontab(5) says, here and in APScheduler."""

from datetime import datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bridge.lib.crontab import parse, to_trigger
from tests.fixtures.examples import examples

# 2026-11-22 is a Sunday.
SUNDAY = datetime(2026, 11, 22, 3, 30)  # noqa: DTZ001 - the wall clock of any zone


@pytest.mark.parametrize(
    ("expr", "moment", "matches"),
    [
        ("* * * * *", SUNDAY, True),
        ("*/15 * * * *", SUNDAY, True),
        ("*/7 * * * *", SUNDAY, False),
        ("30 3 * * 0", SUNDAY, True),
        ("30 3 * * 7", SUNDAY, True),
        ("30 3 * * Sun", SUNDAY, True),
        ("30 3 * * 1-5", SUNDAY, False),
        ("30 3 * * 5-7", SUNDAY, True),
        ("30 3 * NOV *", SUNDAY, True),
        ("30 3 * jan-oct,dec *", SUNDAY, False),
        ("0-40/10 3 * * *", SUNDAY, True),
        ("30 3 1 * sun", SUNDAY, True),
        ("30 3 1 * mon", SUNDAY, False),
        ("30 3 22 * mon", SUNDAY, True),
        ("30 3 */2 * sun", SUNDAY, False),
        ("@daily", SUNDAY, False),
        ("@Weekly", SUNDAY.replace(hour=0, minute=0), True),
        ("  30   3 * * *  ", SUNDAY, True),
    ],
)
def test_schedule_matches_its_minutes(expr: str, moment: datetime, matches: bool) -> None:
    assert parse(expr).matches(moment) is matches


@pytest.mark.parametrize(
    ("expr", "sentence"),
    [
        ("", "five fields"),
        ("* * * *", "five fields (minute hour day-of-month month day-of-week), not 4"),
        ("@reboot", "one of @yearly"),
        ("60 * * * *", "the minute 60 is not between 0 and 59"),
        ("* 24 * * *", "the hour 24 is not between 0 and 23"),
        ("* * 0 * *", "the day of month 0 is not between 1 and 31"),
        ("* * * 13 *", "the month 13"),
        ("* * * * 8", "the day of week 8"),
        ("* * * fubar *", 'the month "fubar" is not a number or a name, jan to dec'),
        ("* * * * fri-sun", "Sunday is 0 at the start"),
        ("30-10 * * * *", "ends before it begins"),
        ("*/0 * * * *", 'the step "0"'),
        ("5/10 * * * *", "has a step, which needs * or a range"),
        ("1,,2 * * * *", "is none of"),
        ("*-5 * * * *", "is none of"),
        ("-1 * * * *", "is none of"),
        ("0 0 31 2,4 *", "no month of this schedule has a day 31"),
        ("² * * * *", "is none of"),
    ],
)
def test_a_wrong_schedule_is_explained(expr: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse(expr)
    assert sentence in str(caught.value)


def field_of(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    spans = st.tuples(number, number).map(sorted)
    part = (
        number.map(str)
        | spans.map(lambda span: f"{span[0]}-{span[1]}")
        | st.tuples(spans, st.integers(1, high)).map(lambda pair: f"{pair[0][0]}-{pair[0][1]}/{pair[1]}")
    )
    star = st.just("*") | st.integers(1, high).map(lambda step: f"*/{step}")
    return star | st.lists(part, min_size=1, max_size=3).map(",".join)


EXPRESSIONS = st.tuples(
    field_of(0, 59), field_of(0, 23), field_of(1, 31), st.just("*") | field_of(1, 12), field_of(0, 7)
)


@examples(20, 300)
@given(
    EXPRESSIONS.map(" ".join),
    st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1)),  # noqa: DTZ001 - hypothesis wants them naive
    st.sampled_from(["Asia/Shanghai", "UTC"]),
)
def test_the_trigger_fires_on_exactly_the_minutes_that_match(expr: str, start: datetime, zone: str) -> None:
    try:
        crontab = parse(expr)
    except ValueError as error:
        assert "no month of this schedule" in str(error)  # noqa: PT017 - the only reason to refuse these
        assume(False)
    here = ZoneInfo(zone)
    first = start.replace(second=0, microsecond=0)
    begin, end = first.replace(tzinfo=here), (first + timedelta(days=40)).replace(tzinfo=here)
    minutes = (first + timedelta(minutes=minute) for minute in range(40 * 24 * 60))
    matching = (minute.replace(tzinfo=here) for minute in minutes if crontab.matches(minute))
    expected = list(islice(matching, 50))
    trigger = to_trigger(crontab, here)
    fired: list[datetime] = []
    moment = trigger.get_next_fire_time(None, begin)
    while moment is not None and moment < end and len(fired) < 50:
        fired.append(moment)
        moment = trigger.get_next_fire_time(moment, moment)
    assert fired == expected
