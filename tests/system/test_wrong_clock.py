"""A system clock that was wrong by 400 days and was corrected: no time it stored delays or loses anything."""

import json
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from bridge.admin.status import accounts_now
from bridge.crm.connector.schema import LimitSection
from bridge.daemon.maintenance import Maintenance
from bridge.daemon.operator_jobs import PRUNE_STEP, OperatorJobs
from bridge.delivery.budget import Budget
from bridge.delivery.doubt_clock import DoubtClock
from bridge.delivery.rate_limit import SlidingWindow
from bridge.delivery.retry import RetryPolicy, next_attempt_at
from bridge.ledger.accounts import KeptBudget
from bridge.ledger.sqlite import SqliteLedger
from bridge.lib.clocks import Clocks
from bridge.lib.iso_times import stamp
from bridge.lib.stored_times import LONGEST_PAUSE, LONGEST_STORED_WAIT
from bridge.model.deliveries import DeliveryState, Lane, Settlement
from bridge.model.jobs import JobState
from bridge.model.sync_progress import Running, SyncMethod, SyncProgress
from bridge.reconcile.coverage import OVERLAP, ReconcileRules, choose_range
from tests.fixtures.delivery_simulation import PHONES, DeliverySimulation, body_of
from tests.fixtures.ledger_calls import (
    NOW,
    SOURCES,
    TO_CRM,
    arrival,
    filed_all,
    judge_all,
    leased,
    news,
    settle,
)
from tests.fixtures.origins import MAIN
from tests.fixtures.simulation_parts import RequestFault
from tests.servers.clock import Clock

FAR = timedelta(days=400)
HOUR = timedelta(hours=1)


# -- accounts ------------------------------------------------------------------------------
LIMITS = {"default": LimitSection(rate=("5/10s",), daily=10, reset="00:00 UTC")}


def paused(clock: Clock) -> Budget:
    """An account whose breaker is open, whose class is paused, and whose quota and rate are used up."""
    budget = Budget(LIMITS, clock)
    for _ in range(5):
        budget.reserve("default", Lane.LIVE)
        budget.finish("default")
    budget.refused("default", 3600.0)
    budget.failed("401", at_once=True)
    assert budget.paused_for(clock.now) > 0
    return budget


@pytest.mark.parametrize("restarted", [True, False])
def test_account_paused_by_a_wrong_clock_resumes(restarted: bool) -> None:
    clock = Clock()
    clock.now += FAR
    budget = paused(clock)
    saved = json.loads(json.dumps(budget.state()))
    clock.now -= FAR
    if restarted:
        budget = Budget(LIMITS, clock, saved)
    assert budget.paused_for(clock.now) == 0
    assert budget.admit()
    budget.answered()
    assert budget.reserve("default", Lane.LIVE) == 0
    shown = budget.state()
    day_ends_at = shown["classes"]["default"]["day_ends_at"]
    assert day_ends_at is not None
    assert datetime.fromisoformat(day_ends_at) <= clock.now + timedelta(days=1)
    assert shown["breaker"]["open_until"] is None


def test_valid_pause_is_kept() -> None:
    clock = Clock()
    budget = paused(clock)
    again = Budget(LIMITS, clock, json.loads(json.dumps(budget.state())))
    assert 0 < again.paused_for(clock.now) <= LONGEST_PAUSE.total_seconds()
    assert again.reserve("default", Lane.LIVE) > 3000
    # Behind by 400 days: what was to wait for an hour waits no longer than for that.
    clock.now -= FAR
    assert again.paused_for(clock.now) == 0


def test_rate_window_forgets_requests_of_the_future() -> None:
    window = SlidingWindow(2, 10.0)
    for at in (1e6, 1e6 + 1):
        window.note(at)
    assert window.wait(1e6 + 2) > 0
    assert window.wait(100.0) == 0
    window.note(100.0)
    assert window.wait(100.0) == 0


def test_status_shows_no_pause_of_the_future() -> None:
    clock = Clock()
    clock.now += FAR
    saved = {"own": KeptBudget(paused(clock).state(), clock.now)}
    (told,) = accounts_now(saved, clock.now)
    assert told["paused"]["until"] > stamp(clock.now)
    assert told["limits"][0]["paused_until"] is not None
    clock.now -= FAR
    (told,) = accounts_now(saved, clock.now)
    assert told["paused"]["until"] == stamp(clock.now)
    assert told["limits"][0]["paused_until"] is None


# -- deliveries ----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("due", "now", "taken"),
    [
        (NOW + FAR + HOUR, NOW + HOUR, True),
        (NOW + FAR + HOUR, NOW - FAR, True),
        (NOW + HOUR, NOW, False),
        (NOW + HOUR, NOW - FAR, True),
        (NOW + LONGEST_STORED_WAIT, NOW, False),
        (NOW + HOUR, NOW + FAR, True),
    ],
)
def test_delivery_waits_no_longer_than_the_longest_wait(
    ledger: SqliteLedger, due: datetime, now: datetime, taken: bool
) -> None:
    news(ledger, "a")
    waits = Settlement(DeliveryState.DUE, "busy", "busy", due)
    settle(ledger, leased(ledger), waits, NOW, NOW)
    assert bool(ledger.lease(["crm"], SOURCES, now, 1)) is taken


RETRY = RetryPolicy(timedelta(seconds=10), HOUR, timedelta(days=5))


@pytest.mark.parametrize("attempt", range(1, 9))
def test_clock_put_forward_gives_up_no_delivery(attempt: int) -> None:
    def again(attempt: int, owed_at: datetime) -> datetime | None:
        return next_attempt_at(RETRY, owed_at=owed_at, attempt=attempt, retry_after=None, now=NOW, jitter=0.5)

    assert again(attempt, NOW - FAR) is not None
    assert again(10, NOW - FAR) is None
    assert again(10, NOW + FAR) is not None


# -- upkeep --------------------------------------------------------------------------------
def operator(ledger: SqliteLedger) -> OperatorJobs:
    kept = {"duplicates": timedelta(days=30)}
    return OperatorJobs(ledger, kept, _Never(), {}, dict, print, print)  # type: ignore[arg-type]


class _Never:
    def is_set(self) -> bool:
        return False

    def wait(self, _seconds: float) -> bool:
        return False


def prune(ledger: SqliteLedger, now: datetime) -> Any:
    ledger.request_job("prune", {}, now)
    assert operator(ledger).carry_out(now)
    with ledger.reading():
        newest = ledger._reader.execute("SELECT max(id) FROM runs").fetchone()[0]
    run = ledger.job(newest)
    return run.result["removed"]["duplicates"]


def test_clock_ahead_prunes_no_young_rows(ledger: SqliteLedger) -> None:
    for name in ("a", "b"):
        for _ in range(3):
            filed_all(ledger, [arrival(name, at=NOW)])
        judge_all(ledger)
    ledger._write().run(lambda c: c.execute("UPDATE receipts SET verdict = 'duplicate' WHERE id > 2"))
    assert prune(ledger, NOW) == 0
    # An hour of it, and a person who prunes again and again.
    for _ in range(5):
        assert prune(ledger, NOW + FAR) == 0
    assert prune(ledger, NOW + HOUR) == 0
    # Right again, it goes on as it should.
    for day in range(1, 40):
        now = NOW + timedelta(days=day)
        removed = prune(ledger, now)
        assert (removed > 0) is (day == 31)


def test_prune_job_without_a_time_counts_from_its_request(
    ledger: SqliteLedger,
) -> None:
    earlier = ledger.request_job("prune", {}, NOW)
    ledger.take_job(NOW)
    ledger.end_job(earlier, JobState.DONE, {"removed": {}}, NOW)
    prune(ledger, NOW + FAR)
    last = ledger.last_done("prune")
    assert last is not None
    assert last.result["as_of"] == stamp(NOW + PRUNE_STEP)


def test_daily_prune_runs_though_the_last_was_in_the_future(ledger: SqliteLedger) -> None:
    ledger.request_job("prune", {}, NOW + FAR)
    ledger.take_job(NOW + FAR)
    Maintenance(ledger).maintain(NOW)
    run = ledger.take_job(NOW)
    assert run is not None
    assert run.kind == "prune"


# -- the list -----------------------------------------------------------------------------
RULES = ReconcileRules(
    MAIN,
    frozenset(),
    timedelta(minutes=10),
    {"short": 3 * HOUR, "deep": 72 * HOUR, "weekly": timedelta(days=35)},
    None,
    1000,
)


def test_coverage_set_by_a_wrong_clock_is_walked_again() -> None:
    plan = choose_range({}, RULES, NOW + FAR, NOW)
    assert plan.whole.since == NOW - timedelta(days=35) - OVERLAP
    assert plan.cover_until == plan.whole.until == NOW - timedelta(minutes=10)
    assert choose_range({}, RULES, NOW - HOUR, NOW).whole.since == NOW - 3 * HOUR


def test_coverage_in_the_future_is_replaced(ledger: SqliteLedger) -> None:
    ledger.start_destinations(TO_CRM, NOW)

    def walk(until: datetime | None, now: datetime) -> datetime | None:
        run = ledger.request_job("reconcile", {"source": "main"}, now)
        ledger.end_job(run, JobState.DONE, {}, now, covered_until=until)
        return ledger.coverage("main", NOW, NOW).covered_until

    assert walk(NOW, NOW + HOUR) == NOW
    assert walk(NOW + FAR, NOW + FAR + HOUR) == NOW + FAR
    assert walk(None, NOW + HOUR) is None
    assert walk(NOW + FAR, NOW + FAR + HOUR) == NOW + FAR
    assert walk(NOW + HOUR, NOW + 2 * HOUR) == NOW + HOUR
    assert walk(NOW, NOW + 2 * HOUR) == NOW + HOUR


# -- what is in doubt -----------------------------------------------------------------------
LAG = timedelta(seconds=30)


@pytest.mark.parametrize("jump", [-FAR, timedelta(0), FAR])
def test_index_lag_is_waited_out_whatever_the_clock_does(jump: timedelta) -> None:
    clock, time = Clock(), Clock()
    doubts = DoubtClock({"crm": LAG}, Clocks(clock, time))
    sent_at = time.now
    clock.now += jump
    assert doubts.shown_at("crm", None) is None
    assert doubts.shown_at("crm", sent_at) == clock.now + LAG
    time.pass_by(29.0)
    assert doubts.shown_at("crm", sent_at) == clock.now + timedelta(seconds=1)
    time.pass_by(1.0)
    assert doubts.shown_at("crm", sent_at) is None


def test_request_dated_in_the_future_counts_from_now(ledger: SqliteLedger) -> None:
    time = Clock()
    doubts = DoubtClock({"crm": LAG}, Clocks(time, time))
    news(ledger, "a", time.now)
    progress = {
        "contact": SyncProgress(Running(SyncMethod.CREATE, sent_at=time.now + FAR)),
        "call": SyncProgress(Running(SyncMethod.CREATE)),
    }
    lease = replace(leased(ledger, time.now), progress=progress)
    met = time.now
    for _ in range(3):
        believed = doubts.believed(lease).progress
        assert (believed["contact"].sent_at, believed["call"].sent_at) == (met, None)
        time.pass_by(LAG.total_seconds())
    assert doubts.shown_at("crm", believed["contact"].sent_at) is None
    lease = replace(lease, progress={"contact": SyncProgress(Running(SyncMethod.CREATE, sent_at=met))})
    assert doubts.believed(lease) is lease


def test_request_in_doubt_at_a_start_counts_as_sent_now(ledger: SqliteLedger) -> None:
    sent = {"contact": SyncProgress(Running(SyncMethod.CREATE, sent_at=NOW + FAR))}
    for name, progress in (
        ("doubt", sent),
        ("begun", {"contact": SyncProgress(Running(SyncMethod.CREATE, step=1))}),
    ):
        news(ledger, name)
        keys = (("hub", "contact", name),)
        waits = Settlement(DeliveryState.DUE, "lost", "lost", NOW + HOUR, progress=progress, held_keys=keys)
        settle(ledger, leased(ledger), waits, NOW, NOW)
    ledger.release_leases(NOW + 2 * HOUR)
    found = ledger.lease(["crm"], SOURCES, NOW + 3 * HOUR, 2)
    told = {each.key: each.progress["contact"].sent_at for each in found}
    assert told == {"doubt": NOW + 2 * HOUR, "begun": None}


def test_clock_put_forward_makes_no_second_object(tmp_path: Path) -> None:
    """The answer is lost, the index lags, and meanwhile a year passes by our clock."""
    for jump in (FAR, -FAR):
        folder = tmp_path / str(jump.days)
        folder.mkdir()
        with closing(DeliverySimulation(folder)) as world:
            world.troubles.append(RequestFault("lost", 0, "write"))
            world.record(body_of(1, 1, PHONES[0], status="A", mark="x", talktimes=1, source="t"))
            world.judge()
            for _ in range(6):
                world.go_on(0, 1)
                world.jump(jump)
                world.check()
            world.drain()
            world.check_quiet()
            assert [row["state"] for row in world.deliveries()] == ["delivered"]
