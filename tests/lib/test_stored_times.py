"""Times that were stored under another clock: one too far ahead counts as past."""

from datetime import UTC, datetime, timedelta

from bridge.lib.stored_times import LONGEST_STORED_WAIT, bounded, past

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
FAR = timedelta(days=400)
HOUR = timedelta(hours=1)


def test_stored_time_too_far_ahead_counts_as_past() -> None:
    assert bounded(None, NOW) is None
    for at in (NOW - FAR, NOW, NOW + LONGEST_STORED_WAIT):
        assert bounded(at, NOW) == at
    assert bounded(NOW + LONGEST_STORED_WAIT + timedelta(microseconds=1), NOW) is None
    assert bounded(datetime.max.replace(tzinfo=UTC), NOW) is None
    assert [past(at, NOW) for at in (None, NOW - FAR, NOW, NOW + HOUR)] == [None, NOW - FAR, NOW, None]
