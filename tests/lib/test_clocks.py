"""The clock that goes evenly, whatever the system's clock is set to."""

from datetime import UTC, datetime, timedelta

from bridge.lib.clocks import SteadyClock

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
FAR = timedelta(days=400)


def test_steady_clock_ignores_jumps_of_the_system_clock() -> None:
    told, passed = [NOW], [5.0]
    steady = SteadyClock(lambda: told[0], lambda: passed[0])
    told[0], passed[0] = NOW + FAR, 6.5
    assert steady() == NOW + timedelta(seconds=1.5)
