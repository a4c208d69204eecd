"""A turn's time of day gets the date that is nearest to the call."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.record.turn_clock import CallClock

START = datetime(2025, 4, 14, 2, 19, 21, tzinfo=UTC)
ALIKE = ("10:20:01", "00:00:00", "23:59:59", "24:00:00", "23:60:00", "23:59:60", "10:20+08", "+1:20:01")


def clock(zone: str, start: datetime, seconds: int) -> CallClock:
    return CallClock(start, start + timedelta(seconds=seconds), ZoneInfo(zone))


@given(
    st.sampled_from(["Asia/Shanghai", "Europe/Berlin", "America/New_York", "UTC"]),
    st.datetimes(datetime(2025, 3, 1), datetime(2025, 12, 1)),  # noqa: DTZ001 -- in UTC, below
    st.integers(0, 7200),
    st.one_of(st.times().map(lambda each: f"{each:%H:%M:%S}"), st.sampled_from(ALIKE)),
)
def test_usual_form_means_what_any_other_form_means(
    zone: str, start: datetime, seconds: int, time_of_day: str
) -> None:
    """The blank behind it makes it an unusual form of the same time."""
    of_call = clock(zone, start.replace(tzinfo=UTC), seconds)
    assert of_call.moment(time_of_day) == of_call.moment(f"{time_of_day} ")


@pytest.mark.parametrize(
    ("time_of_day", "moment"),
    [
        ("10:19:21", datetime(2025, 4, 14, 2, 19, 21, tzinfo=UTC)),
        ("10:20", datetime(2025, 4, 14, 2, 20, tzinfo=UTC)),
        ("00:00:10", datetime(2025, 4, 13, 16, 0, 10, tzinfo=UTC)),
        ("2025-04-13 23:00:00", datetime(2025, 4, 13, 15, tzinfo=UTC)),
        ("24:00:00", None),
        ("10:60:00", None),
        ("10:20+08", None),
        ("１０:２０:３０", None),
        ("", None),
        (None, None),
    ],
)
def test_time_of_day_is_put_on_the_calls_day(time_of_day: str | None, moment: datetime | None) -> None:
    assert clock("Asia/Shanghai", START, 60).moment(time_of_day) == moment


def test_without_a_time_of_the_call_no_turn_has_a_date() -> None:
    assert CallClock(None, None, ZoneInfo("UTC")).moment("10:20:01") is None
