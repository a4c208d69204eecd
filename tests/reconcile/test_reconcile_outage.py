"""Outages of the platform and of the daemon: the next scheduled run covers all that was missed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

from bridge.daemon.scheduler import DEEP, SHORT, WEEKLY, Scheduler, Timetable
from bridge.lib.crontab import parse, to_trigger
from bridge.lib.iso_times import stamp
from bridge.sandbox.records import PLATFORM_ZONE
from tests.fixtures.list_walk import row
from tests.fixtures.reconciliation_bench import HOUR, RULES, ReconciliationBench, reconciliation_bench
from tests.fixtures.served_platform import NOW, ServedPlatform, log_in, served_platform

MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)
SETTLE = 10 * MINUTE
TIMES = {SHORT: parse("*/15 * * * *"), DEEP: parse("30 3 * * *"), WEEKLY: parse("30 4 * * 0")}
TABLE = Timetable("main", PLATFORM_ZONE, TIMES)


@contextmanager
def site(path: Path) -> Iterator[tuple[ReconciliationBench, ServedPlatform]]:
    """A platform on a socket, and a ledger beside it; both go by one clock."""
    with served_platform() as served, reconciliation_bench(path) as world:
        world.clock = served.clock
        world.platform = served.platform.list
        world.rules = replace(RULES, settle=SETTLE)
        world.log_in = lambda: [log_in(served)]  # type: ignore[method-assign]
        yield world, served


def carry_out_all(world: ReconciliationBench) -> list[str]:
    """What a daemon's thread does with the runs that wait; the states in which they ended."""
    states = []
    while waiting := world.ledger.open_walks("main"):
        assert world.reconciler().carry_out()
        states.append(str(world.ledger.job(waiting[0].id).state))
    world.judge()
    return states


def live(world: ReconciliationBench, until: datetime) -> list[str]:
    """A daemon's time: a run is asked for at its start, and whenever the schedule says so."""
    scheduler = Scheduler({"main": TABLE}, world.ledger, world.clock)
    trigger = to_trigger(TIMES[SHORT], PLATFORM_ZONE)
    world.ledger.release_leases()
    scheduler.ask("main", scheduler.first(TABLE))
    states = carry_out_all(world)
    while (fires := trigger.get_next_fire_time(None, world.clock.now + SECOND)) <= until:
        world.clock.now = fires
        scheduler.ask("main", SHORT)
        states += carry_out_all(world)
    world.clock.now = until
    return states


def asked_since(served: ServedPlatform, start: int) -> list[tuple[datetime, datetime]]:
    """The windows that reached the platform, in order, without the second at either end."""
    times = [(one["start"], one["end"]) for one in served.asked()[start:] if "start" in one]
    read = [
        tuple(datetime.fromisoformat(text).replace(tzinfo=PLATFORM_ZONE) for text in pair) for pair in times
    ]
    return sorted({(since + SECOND, until - SECOND) for since, until in read})


def test_outages_of_platform_and_daemon_are_reconciled(ledger_path: Path) -> None:
    with site(ledger_path) as (world, served):
        assert live(world, NOW) == ["done"]
        assert world.covered() == NOW - SETTLE
        # Nothing of these hours is pushed: the platform is down, and makes calls all the same.
        lost = [row(number, NOW + number * MINUTE) for number in range(5 * 60)]
        world.list_now(*lost)
        served.disturb(down=True)
        states = live(world, NOW + 2 * HOUR)
        assert set(states) == {"failed"}
        assert len(states) == 1 + 2 * 4
        # The daemon is down until the fourth hour, and fails for another one.
        world.clock.now = NOW + 4 * HOUR
        states = live(world, NOW + 5 * HOUR - MINUTE)
        assert set(states) == {"failed"}
        assert world.covered() == NOW - SETTLE, "what failed covers nothing"
        assert world.receipts() == {}
        served.disturb()
        before = len(served.asked())
        states = live_on(world, NOW + 5 * HOUR)
        assert states == ["done"], "the next scheduled one is enough"
        last = world.ledger.counts().lists["main"].last
        settled = [one for one in lost if created_before(one, NOW + 5 * HOUR - SETTLE)]
        assert last is not None
        assert (last.missing, last.filled, last.complete) == (len(settled), len(settled), True)
        assert world.covered() == NOW + 5 * HOUR - SETTLE
        # By the platform's own log, the time that was missed was asked for without a hole.
        windows = asked_since(served, before)
        assert windows[0][0] <= NOW - SETTLE - 30 * MINUTE
        assert windows[-1][1] >= NOW + 5 * HOUR - SETTLE
        assert all(after[0] <= before[1] for before, after in pairwise(windows))
        found = world.audit(since=stamp(NOW - HOUR))
        assert (found["platform"], found["balanced"]) == (len(settled), True)


def live_on(world: ReconciliationBench, until: datetime) -> list[str]:
    """The daemon that lives already is asked once more by its schedule."""
    world.clock.now = until
    Scheduler({"main": TABLE}, world.ledger, world.clock).ask("main", SHORT)
    return carry_out_all(world)


def created_before(record: dict[str, object], until: datetime) -> bool:
    return datetime.fromisoformat(str(record["created_at"])).replace(tzinfo=PLATFORM_ZONE) < until


def test_daemon_down_overnight_starts_with_the_widest_missed_run(ledger_path: Path) -> None:
    with site(ledger_path) as (world, served):
        del served
        for trigger in (SHORT, DEEP, WEEKLY):
            Scheduler({"main": TABLE}, world.ledger, world.clock).ask("main", trigger)
        carry_out_all(world)
        # From Sunday afternoon to Monday noon: the nightly look of 03:30 was missed, the weekly one was not.
        world.clock.now = NOW + 20 * HOUR
        scheduler = Scheduler({"main": TABLE}, world.ledger, world.clock)
        assert scheduler.first(TABLE) == DEEP
        scheduler.ask("main", scheduler.first(TABLE))
        (run,) = world.ledger.open_walks("main")
        assert carry_out_all(world) == ["done"]
        since = datetime.fromisoformat(world.ledger.job(run.id).result["since"])
        assert since <= world.clock.now - RULES.lookbacks["deep"]
