"""When reconciliations are asked for: on time, never twice, and once for all that was missed."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from bridge.daemon.scheduler import DEEP, SHORT, WEEKLY, Scheduler, Timetable
from bridge.ledger.sqlite import SqliteLedger
from bridge.lib.crontab import parse
from bridge.model.jobs import RECONCILE, WalksOf
from tests.fixtures.daemon_process import wait_until
from tests.fixtures.served_platform import Clock

ZONE = ZoneInfo("Asia/Shanghai")
# A Saturday evening in Shanghai.
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
TIMES = {SHORT: parse("*/15 * * * *"), DEEP: parse("30 3 * * *"), WEEKLY: parse("30 4 * * 0")}
TABLE = Timetable("main", ZONE, TIMES)


def asked(ledger: SqliteLedger) -> list[str]:
    return [(job.args or {})["trigger"] for job in ledger.open_walks("main")]


def test_covered_runs_are_not_requested_twice(ledger: SqliteLedger) -> None:
    scheduler = Scheduler({"main": TABLE}, ledger, Clock(NOW))
    for trigger in (SHORT, SHORT, DEEP, SHORT, DEEP, WEEKLY, DEEP):
        scheduler.ask("main", trigger)
    assert asked(ledger) == [SHORT, DEEP, WEEKLY]
    # One that runs has begun already: what comes after it is for the next.
    assert ledger.take_job(NOW, WalksOf("main", ["main"])) is not None
    scheduler.ask("main", SHORT)
    assert [job.state for job in ledger.open_walks("main")] == ["running", "requested", "requested"]


def test_first_run_is_the_widest_missed_one(ledger: SqliteLedger) -> None:
    clock = Clock(NOW)
    scheduler = Scheduler({"main": TABLE}, ledger, clock)
    assert scheduler.first(TABLE) == SHORT, "a new ledger has missed nothing"
    for trigger in (DEEP, WEEKLY):
        ledger.request_job(RECONCILE, {"source": "main", "trigger": trigger}, NOW)
    assert scheduler.first(TABLE) == SHORT
    # 03:31 on Sunday in Shanghai: the nightly look is over, the weekly one is due at 04:30.
    clock.now = datetime(2026, 11, 21, 19, 31, tzinfo=UTC)
    assert scheduler.first(TABLE) == DEEP
    clock.now += timedelta(hours=1)
    assert scheduler.first(TABLE) == WEEKLY
    assert Scheduler({}, ledger, clock).first(Timetable("other", ZONE, TIMES)) == SHORT


def test_scheduler_requests_runs_until_stopped(ledger: SqliteLedger) -> None:
    scheduler = Scheduler({"main": TABLE}, ledger, Clock(NOW))
    scheduler.start()
    assert asked(ledger) == [SHORT]
    scheduler.stop()
    scheduler.stop()
    nothing = Scheduler({}, ledger, Clock(NOW))
    nothing.start()
    nothing.stop()
    wait_until(lambda: asked(ledger) == [SHORT], "nothing more is asked for")


def test_clock_put_back_does_not_delay_runs_for_a_year(ledger: SqliteLedger) -> None:
    scheduler = Scheduler({"main": TABLE}, ledger, Clock(datetime.now(UTC)))
    scheduler.correct_times(datetime.now(UTC))
    scheduler.start()
    try:
        kept = scheduler._scheduler
        assert kept is not None
        jobs = kept.get_jobs()
        right = {job.id: job.next_run_time for job in jobs}
        for job in jobs:
            job.modify(next_run_time=job.next_run_time + timedelta(days=400))
        scheduler.correct_times(datetime.now(UTC))
        found = {job.id: job.next_run_time for job in kept.get_jobs()}
        assert all(timedelta(0) <= found[one] - right[one] <= timedelta(minutes=15) for one in right)
        # By a clock that is put back a week the look of a week ago comes next; it is asked for at once.
        scheduler.correct_times(datetime.now(UTC) - timedelta(days=7))
        wait_until(lambda: asked(ledger) != [], "what is due by then is asked for")
    finally:
        scheduler.stop()
