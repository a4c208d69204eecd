"""A call's place among calls: by its event time, believed unless it lies far ahead, and then by its key."""

from datetime import UTC, datetime, timedelta

import pytest

from bridge.model.call_order import AHEAD, event_parts, event_text, event_time

SEEN = datetime(2026, 11, 22, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("started", "created", "right"),
    [
        (None, None, None),
        (SEEN, None, SEEN),
        (None, SEEN - HOUR, SEEN - HOUR),
        (SEEN - HOUR, SEEN, SEEN - HOUR),
        (SEEN + AHEAD, None, SEEN + AHEAD),
        (SEEN + AHEAD + timedelta(microseconds=1), SEEN, SEEN),
        (None, SEEN + timedelta(days=400), SEEN),
        (datetime(2099, 1, 1, tzinfo=UTC), datetime(2098, 1, 1, tzinfo=UTC), SEEN),
        (datetime.max.replace(tzinfo=UTC), None, SEEN),
        (SEEN - HOUR, datetime.max.replace(tzinfo=UTC), SEEN - HOUR),
        (datetime.min.replace(tzinfo=UTC), None, datetime.min.replace(tzinfo=UTC)),
        (datetime(1970, 1, 1, tzinfo=UTC), SEEN, datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_call_time_counts_unless_it_is_far_ahead(
    started: datetime | None, created: datetime | None, right: datetime | None
) -> None:
    assert event_time(started, created, SEEN) == right


def test_events_sort_by_time_then_key_and_none_is_the_oldest() -> None:
    times = [None, datetime.min.replace(tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC), SEEN - HOUR, SEEN]
    events = [event_text(at, "b" * 40) for at in times]
    assert events == sorted(events)
    assert events[0] == events[1] == events[2]
    assert event_text(SEEN, "a") < event_text(SEEN, "b") < event_text(SEEN + timedelta(milliseconds=1), "a")
    assert event_parts(event_text(SEEN, "b" * 40)) == (SEEN, "b" * 16)


@pytest.mark.parametrize(
    ("at", "key", "text"),
    [
        (SEEN, "key", "1a20244e800 key"),
        (SEEN, "k" * 17, "1a20244e800 " + "k" * 16),
        (None, "key", "00000000000 key"),
        (datetime(1969, 12, 31, tzinfo=UTC), "key", "00000000000 key"),
        (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=1), "key", "00000000001 key"),
        (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=1600), "key", "00000000002 key"),
    ],
)
def test_an_event_is_written_as_earlier_releases_wrote_it(at: datetime | None, key: str, text: str) -> None:
    assert event_text(at, key) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "key",
        "0000000000 key",
        "000000000000 key",
        "0000000000g key",
        "0000000000X key",
        "0x000000000 key",
        "0X000000000 key",
        "0000000000A key",
        "-0000000001 key",
        " 00000000000 key",
    ],
)
def test_invalid_event_has_no_parts(text: str) -> None:
    assert event_parts(text) is None


def test_the_parts_of_an_event_are_its_time_and_all_behind_the_first_space() -> None:
    assert event_parts("00000000001 a b") == (datetime(1970, 1, 1, 0, 0, 0, 1000, UTC), "a b")
    assert event_parts("00000000000") == (datetime(1970, 1, 1, tzinfo=UTC), "")
