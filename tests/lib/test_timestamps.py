"""Times as platforms write them: read where the meaning is plain, else not at all."""

import time
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.lib.timestamps import UnreadableTimeError, parse_time, read_time

SHANGHAI = ZoneInfo("Asia/Shanghai")
NEW_YORK = ZoneInfo("America/New_York")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [
        "2025-04-14 11:00:00",
        "2025-04-14 11:00",
        "2025-04-14T11:00:00+08:00",
        "2025-04-14T11:00:00.000+0800",
        "2025-04-14T03:00:00Z",
        "2025-04-14 03:00:00 UTC",
        "2025-04-13 22:00:00 -05",
        "2025-04-14 11:00:00 GMT+8",
        "2025-04-14 11:00:00 +0800 CST",
        "2025-04-14 11:00:00 CST",
        "2025-04-14T11:00:00+08:00[Asia/Shanghai]",
        "2025/4/14 11:00",
        "2025.4.14 11:00:00",
        "2025年04月14日 11:00:00",
        "2025年4月14日11时",
        "2025年4月14日 11点00分",
        "2025 年 4 月 14 日 11 时 00 分 00 秒",
        "2025年4月14日 上午11:00",
        "2025年4月14日 中午11点整",
        "2025年4月14号 星期一 11:00:00",
        "2025-04-14（周一）11:00",
        "２０２５－０４－１４\u3000１１：００：００",
        "٢٠٢٥-٠٤-١٤ ١١:٠٠:٠٠",
        "\ufeff2025-04-14 11:00:00",
        "'2025-04-14 11:00:00'",
        "2025-04-14 11:00:00 AM",
        "Apr 14, 2025 11:00 am",
        "14-Apr-2025 11:00:00",
        "Mon, 14 Apr 2025 11:00:00 +0800",
        "Mon Apr 14 2025 11:00:00 GMT+0800 (China Standard Time)",
        "Mon Apr 14 11:00:00 2025",
        "20250414110000",
        "202504141100",
        "20250414T110000",
        "20250414T030000Z",
        20250414110000,
        "1744599600",
        1744599600,
        1744599600.0,
        "1744599600000",
        1744599600000,
        1744599600000000,
        "1744599600000000000",
        "/Date(1744599600000+0800)/",
        {"date": "2025-04-14 11:00:00.000000", "timezone_type": 3, "timezone": "Asia/Shanghai"},
        {"date": "2025-04-13 23:00:00", "timezone_type": 3, "timezone": "America/New_York"},
        {"date": "2025-04-14 03:00:00", "timezone_type": 1, "timezone": "+00:00"},
        # By hand in JavaScript, by Java's Date and its LocalDateTime, by a browser in Chinese.
        "2025-4-14 11:0:0",
        "Mon Apr 14 11:00:00 CST 2025",
        "Mon Apr 14 11:00:00 GMT+08:00 2025",
        "Mon Apr 14 2025 11:00:00 GMT+0800 (中国标准时间)",
        "2025-04-14 11:00:00:000",
        "20250414 11:00:00",
        "20250414 110000",
        "1.7445996E9",
        "1.7445996E12",
        # A form that was decoded once too seldom, or once too often.
        "2025-04-14+11:00:00",
        "2025-04-14%2011%3A00%3A00",
        "2025-04-14T11%3A00%3A00%2B08%3A00",
        "2025-04-14T11:00:00 08:00",
        "2025-04-14T11:00:00.000 08:00",
        [2025, 4, 14, 11, 0],
        [2025, 4, 14, 11, 0, 0, 0],
        {"year": 2025, "monthValue": 4, "dayOfMonth": 14, "hour": 11, "minute": 0, "month": "APRIL"},
        {"date": {"year": 2025, "month": 4, "day": 14}, "time": {"hour": 11, "minute": 0, "second": 0}},
        {"year": 125, "month": 3, "date": 14, "hours": 11, "time": 1744599600000},
        {"$date": "2025-04-14T03:00:00Z"},
        {"$date": {"$numberLong": "1744599600000"}},
        {"seconds": 1744599600, "nanos": 0},
        datetime(2025, 4, 14, 11),  # noqa: DTZ001 - naive as the platform's
    ],
)
def test_one_moment_is_read_from_many_spellings(value: object) -> None:
    assert read_time(value, SHANGHAI) == utc("2025-04-14 03:00")


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("2025年4月14日 下午1点30分", "2025-04-14 05:30"),
        ("2025-04-14 下午 13:30", "2025-04-14 05:30"),
        ("2025-04-14 12:30 AM", "2025-04-13 16:30"),
        ("2025-04-14 12:30 p.m.", "2025-04-14 04:30"),
        ("2025-04-14 晚上8:00", "2025-04-14 12:00"),
        ("2025-04-14 24:00:00", "2025-04-14 16:00"),
        ("2025-12-31 24:00", "2025-12-31 16:00"),
        ("2025-02-28T24:00:00Z", "2025-03-01 00:00"),
        ("2016-12-31T23:59:60Z", "2017-01-01 00:00"),
        ("2025-04-14 11:00:00.123456789", "2025-04-14 03:00:00.123456"),
        ("2025-04-14 11:00:00,5", "2025-04-14 03:00:00.5"),
        (1744599600.25, "2025-04-14 03:00:00.25"),
        ("1744599600.25", "2025-04-14 03:00:00.25"),
        ("20250414110000123", "2025-04-14 03:00:00.123"),
        ("2025-04-14 1:2:3", "2025-04-13 17:02:03"),
        ([2025, 4, 14, 11, 0, 0, 123456789], "2025-04-14 03:00:00.123456"),
        ([2025, 4, 14], "2025-04-13 16:00"),
        ("2025-04-14", "2025-04-13 16:00"),
        (20250414, "2025-04-13 16:00"),
    ],
)
def test_am_pm_midnight_and_fractions_are_read(value: object, moment: str) -> None:
    assert read_time(value, SHANGHAI) == utc(moment)


@pytest.mark.parametrize(
    "value",
    [
        *("", "  ", None, False, [], {}, 0, "0", 0.0, 28800, -62169984000, "-", "--", "null", "N/A", "无"),
        *("0000-00-00", "0000-00-00 00:00:00", "0000/00/00", "0000年00月00日 00:00:00", "00000000000000"),
        *("1970-01-01 08:00:00", "1970-01-01T00:00:00Z", "1970年1月1日", "1969-12-31 19:00:00"),
        *("0001-01-01 00:00:00", "-0001-11-30T00:00:00+08:00", "1900-01-01", "1899-12-30 00:00:00"),
    ],
)
def test_zero_dates_are_no_time(value: object) -> None:
    assert read_time(value, SHANGHAI) is None


@pytest.mark.parametrize(
    "value",
    [
        *(
            "soon",
            "04/14/2025 11:00:00",
            "14/04/2025",
            "25-04-14 11:00:00",
            "14.04.25",
            "2025-02-30",
            "2025年04月",
        ),
        *("2025-13-01", "2025-04-14 25:00:00", "2025-04-14 24:00:01", "2025-04-14 11:60:00", "11:00:00"),
        *("2025-04-14 11:5", "2025-04-14 11:", "2025-04-14 11:00:00x", "2025-04-14 11:00:00 EST", "May 2025"),
        *(
            "2025-04-14 13:00 AM",
            "2025-04-14 晚上12:00",
            "2025-04-14 am 11:00 pm",
            "2025-04-14 11:00:00+99:00",
        ),
        *("Foo 14 2025", True, 5_000_000, 1e300, float("nan"), float("inf"), 10**4000, {"a": 1}, [1]),
        *([2025, 4], [2025, 4, 31], [2025, 4, 14, 25], [2025, 4, 14, 1, 2, 3, -1], [2025, 4, "14"], [0] * 6),
        *({"$date": True}, {"time": "x"}, {"year": 2025, "month": "APRIL", "day": 1}),
        *(
            "2025-04-14 1:2",
            "1.7E9",
            "Mon Apr 14 11:00:00 EST 2025",
        ),
        *(
            "1" * 500,
            {"date": "2025-04-14", "timezone": "Nowhere/Else"},
            {"date": "2025-04-14", "timezone": ".."},
        ),
    ],
)
def test_ambiguous_or_impossible_time_is_not_guessed(value: object) -> None:
    with pytest.raises(UnreadableTimeError):
        read_time(value, SHANGHAI)
    assert parse_time(value, SHANGHAI) is None


def test_skipped_or_repeated_hour_is_read_as_before_the_change() -> None:
    assert read_time("2025-03-09 02:30:00", NEW_YORK) == utc("2025-03-09 07:30")
    assert read_time("2025-11-02 01:30:00", NEW_YORK) == utc("2025-11-02 05:30")
    assert read_time("2025-03-08 24:00:00", NEW_YORK) == utc("2025-03-09 05:00")
    assert read_time("2025-03-09 24:00:00", NEW_YORK) == utc("2025-03-10 04:00")
    assert read_time("2025-11-02 01:30:00 EST", NEW_YORK) == utc("2025-11-02 06:30")


@given(st.text("0123456789-/:. 年月日时分秒上下午TZ+CSTapmMon", max_size=40) | st.floats() | st.integers())
def test_any_value_is_a_time_no_time_or_unreadable(value: Any) -> None:
    try:
        moment = read_time(value, SHANGHAI)
    except UnreadableTimeError:
        return
    assert moment is None or (moment.tzinfo is UTC and moment.year > 1970)


@pytest.mark.parametrize("unit", ["1", " ", "0000-00-00 ", "-", "年", "1年 ", "a", "2025-04-14 "])
def test_reading_time_grows_linearly_with_the_text(unit: str) -> None:
    def cost(length: int) -> float:
        text, costs = unit * (length // len(unit)), []
        for _ in range(5):
            begun = time.process_time()
            parse_time(text, SHANGHAI)
            costs.append(time.process_time() - begun)
        return min(costs)

    assert cost(16_000) <= 3 * cost(8_000) + 0.002
