"""When those come back that were crowded out."""

from datetime import timedelta

import pytest

from bridge.delivery.crowd import Crowd
from tests.fixtures.delivery_bench import NOW


def seconds(crowd: Crowd, count: int, after: float = 0.0) -> list[float]:
    now = NOW + timedelta(seconds=after)
    return [(crowd.back_at(now) - now).total_seconds() for _ in range(count)]


def test_they_come_back_one_after_the_other_and_not_before_five_seconds() -> None:
    crowd = Crowd()
    assert seconds(crowd, 3) == [5.025, 5.05, 5.075]
    assert seconds(crowd, 1, after=1.0) == [5.025], "at a later time the first are waited for no longer"


@pytest.mark.parametrize(
    ("served", "in_seconds", "apart"),
    [
        pytest.param(50, 5.0, 0.05, id="twice as many as got their keys"),
        pytest.param(1000, 10.0, 0.005, id="many"),
        pytest.param(0, 5.0, 0.25, id="none, but they are asked again"),
        pytest.param(9, 4.9, 0.025, id="not counted for long enough"),
    ],
)
def test_as_fast_as_keys_get_free(served: int, in_seconds: float, apart: float) -> None:
    crowd = Crowd()
    crowd.count(1, 0, NOW)
    crowd.count(100, served, NOW + timedelta(seconds=in_seconds))
    first, second = seconds(crowd, 2)
    assert second - first == pytest.approx(apart, abs=1e-5)


def test_none_waits_longer_than_five_minutes_whatever_the_clock_does() -> None:
    crowd = Crowd()
    crowd.count(1, 0, NOW + timedelta(days=1))
    crowd.count(1, 0, NOW)
    crowd.count(1, 0, NOW + timedelta(seconds=6))
    assert max(seconds(crowd, 2000)) == 300.0
    assert seconds(crowd, 1, after=-86400.0) == [300.0]


def test_time_in_which_nobody_waits_does_not_count() -> None:
    crowd = Crowd()
    crowd.count(1, 0, NOW)
    for minute in range(3):
        crowd.count(0, 0, NOW + timedelta(minutes=minute))
    first, second = seconds(crowd, 2)
    assert second - first == pytest.approx(0.025)
