"""A clock that stood wrong by 400 days and was put right: nothing that it set holds anything up."""

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from bridge.budget import LONGEST_PAUSE, Budget
from bridge.connector.schema import LimitSection
from bridge.horizon import OVERLAP, ReconcileRules, plan_run
from bridge.instants import LONGEST_WAIT, bounded, past
from bridge.ledger.sqlite import SqliteLedger
from bridge.model import DeliveryState, Lane, Settlement
from bridge.patience import Schedule, next_attempt_at
from bridge.rate_limit import Window
from bridge.runs import Operator
from bridge.upkeep import Upkeep
from tests.ledger_steps import NOW, SOURCES, TO_CRM, arrival, judge_all, leased, news
from tests.servers.clock import Clock

FAR = timedelta(days=400)
HOUR = timedelta(hours=1)


@pytest.fixture
def ledger(ledger_path: Path) -> Iterator[SqliteLedger]:
    with closing(SqliteLedger(ledger_path, create=True)) as made:
        yield made


def test_what_lies_further_ahead_than_anything_waits_is_over() -> None:
    assert bounded(None, NOW) is None
    for at in (NOW - FAR, NOW, NOW + LONGEST_WAIT):
        assert bounded(at, NOW) == at
    assert bounded(NOW + LONGEST_WAIT + timedelta(microseconds=1), NOW) is None
    assert bounded(datetime.max.replace(tzinfo=UTC), NOW) is None
    assert [past(at, NOW) for at in (None, NOW - FAR, NOW, NOW + HOUR)] == [None, NOW - FAR, NOW, None]


# -- accounts ------------------------------------------------------------------------------
LIMITS = {"default": LimitSection(rate=("5/10s",), daily=10, reset="00:00 UTC")}


def paused(clock: Clock) -> Budget:
    """An account whose breaker is open, whose class is paused, and whose quota and rate are used up."""
    budget = Budget(LIMITS, clock)
    for _ in range(5):
        budget.take("default", Lane.LIVE)
        budget.done("default")
    budget.refused("default", 3600.0)
    budget.fault("401", at_once=True)
    assert budget.closed_for(clock.now) > 0
    return budget


@pytest.mark.parametrize("restarted", [True, False])
def test_an_account_that_was_paused_by_a_wrong_clock_goes_on(restarted: bool) -> None:
    clock = Clock()
    clock.now += FAR
    budget = paused(clock)
    saved = json.loads(json.dumps(budget.state()))
    clock.now -= FAR
    if restarted:
        budget = Budget(LIMITS, clock, saved)
    assert budget.closed_for(clock.now) == 0
    assert budget.probe()
    budget.well()
    assert budget.take("default", Lane.LIVE) == 0
    shown = budget.state()
    limit = datetime.fromisoformat(shown["classes"]["default"]["day_ends_at"])
    assert limit <= clock.now + timedelta(days=1)
    assert shown["breaker"]["open_until"] is None


def test_a_pause_that_was_set_rightly_is_kept() -> None:
    clock = Clock()
    budget = paused(clock)
    again = Budget(LIMITS, clock, json.loads(json.dumps(budget.state())))
    assert 0 < again.closed_for(clock.now) <= LONGEST_PAUSE.total_seconds()
    assert again.take("default", Lane.LIVE) > 3000
    # Behind by 400 days: what was to wait for an hour waits no longer than for that.
    clock.now -= FAR
    assert again.closed_for(clock.now) == 0


def test_a_window_forgets_what_went_in_the_future() -> None:
    window = Window(2, 10.0)
    for at in (1e6, 1e6 + 1):
        window.note(at)
    assert window.wait(1e6 + 2) > 0
    assert window.wait(100.0) == 0
    window.note(100.0)
    assert window.wait(100.0) == 0


# -- deliveries ----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("due", "now", "taken"),
    [
        (NOW + FAR + HOUR, NOW + HOUR, True),
        (NOW + FAR + HOUR, NOW - FAR, True),
        (NOW + HOUR, NOW, False),
        (NOW + HOUR, NOW - FAR, True),
        (NOW + LONGEST_WAIT, NOW, False),
        (NOW + HOUR, NOW + FAR, True),
    ],
)
def test_a_delivery_waits_no_longer_than_anything_can(
    ledger: SqliteLedger, due: datetime, now: datetime, taken: bool
) -> None:
    news(ledger, "a")
    waits = Settlement(DeliveryState.DUE, "busy", "busy", due)
    ledger.settle(leased(ledger), waits, NOW, NOW)
    assert (ledger.lease(["crm"], SOURCES, now) is not None) is taken


SCHEDULE = Schedule(timedelta(seconds=10), HOUR, timedelta(days=5))


@pytest.mark.parametrize("attempt", range(1, 9))
def test_a_clock_that_is_put_forward_ends_nobodys_patience(attempt: int) -> None:
    def again(attempt: int, owed_at: datetime) -> datetime | None:
        return next_attempt_at(
            SCHEDULE, owed_at=owed_at, attempt=attempt, retry_after=None, now=NOW, chance=0.5
        )

    assert again(attempt, NOW - FAR) is not None
    assert again(10, NOW - FAR) is None
    assert again(10, NOW + FAR) is not None


# -- upkeep --------------------------------------------------------------------------------
def operator(ledger: SqliteLedger) -> Operator:
    kept = {"duplicates": timedelta(days=30)}
    return Operator(ledger, {}, kept, _Never(), {}, dict, print)  # type: ignore[arg-type]


class _Never:
    def is_set(self) -> bool:
        return False

    def wait(self, _seconds: float) -> bool:
        return False


def prune(ledger: SqliteLedger, now: datetime) -> Any:
    ledger.request_run("prune", {}, now)
    assert operator(ledger).carry_out(now)
    run = ledger.run(ledger._reader.execute("SELECT max(id) FROM runs").fetchone()[0])
    return run["result"]["removed"]["duplicates"]


def test_a_clock_that_is_ahead_costs_nothing_that_is_young(ledger: SqliteLedger) -> None:
    for name in ("a", "b"):
        for _ in range(3):
            ledger.record([arrival(name, at=NOW)])
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


def test_the_daily_prune_comes_though_the_last_one_was_in_the_future(ledger: SqliteLedger) -> None:
    ledger.request_run("prune", {}, NOW + FAR)
    ledger.take_run(NOW + FAR)
    Upkeep(ledger).look_after(NOW)
    run = ledger.take_run(NOW)
    assert run is not None
    assert run["kind"] == "prune"


# -- the list -----------------------------------------------------------------------------
RULES = ReconcileRules(
    "main",
    ZoneInfo("Asia/Shanghai"),
    frozenset(),
    timedelta(minutes=10),
    {"short": 3 * HOUR, "deep": 72 * HOUR, "weekly": timedelta(days=35)},
    None,
    1000,
)


def test_what_a_wrong_clock_has_covered_is_walked_again() -> None:
    plan = plan_run({}, RULES, NOW + FAR, NOW)
    assert plan.whole.since == NOW - timedelta(days=35) - OVERLAP
    assert plan.cover_until == plan.whole.until == NOW - timedelta(minutes=10)
    assert plan_run({}, RULES, NOW - HOUR, NOW).whole.since == NOW - 3 * HOUR


def test_coverage_of_the_future_gives_way_to_that_of_now(ledger: SqliteLedger) -> None:
    ledger.start_destinations(TO_CRM, NOW)

    def walk(until: datetime | None, now: datetime) -> datetime | None:
        run = ledger.request_run("reconcile", {"source": "main"}, now)
        ledger.end_walk(run, "done", {}, "main", until, now)
        return ledger.coverage("main", NOW, NOW).covered_until

    assert walk(NOW, NOW + HOUR) == NOW
    assert walk(NOW + FAR, NOW + FAR + HOUR) == NOW + FAR
    assert walk(None, NOW + HOUR) is None
    assert walk(NOW + FAR, NOW + FAR + HOUR) == NOW + FAR
    assert walk(NOW + HOUR, NOW + 2 * HOUR) == NOW + HOUR
    assert walk(NOW, NOW + 2 * HOUR) == NOW + HOUR
