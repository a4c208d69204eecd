"""What has ended is settled by one thread, which lets it gather for a moment first."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Literal, cast

import pytest

from bridge.daemon.delivering import Delivering, DeliveringLoops, workers_for
from bridge.daemon.loop import DeliveryWakeups
from bridge.delivery.completer import Completer
from bridge.delivery.locks import KeyLocks
from bridge.delivery.stages import SettledDelivery
from bridge.delivery.work_signal import WorkSignal
from bridge.ledger import Ledger, open_ledger
from bridge.model.deliveries import DeliveryState, Lease, Settlement
from tests.fixtures.ledger_calls import MINUTE, NOW, SOURCES, news


class Moment(threading.Event):
    """The daemon's end; an attempt ends while somebody waits for it."""

    completer: Completer
    ends_meanwhile: list[SettledDelivery]

    def wait(self, timeout: float | None = None) -> bool:
        del timeout
        self.completer.hand_over(self.ends_meanwhile)
        return self.is_set()


class ScriptedCompleter(Completer):
    """Hears of its first ended attempt when it begins to wait; when it waits again, the daemon ends."""

    first: list[SettledDelivery]
    stop: threading.Event

    def wait(self, seconds: float) -> None:
        del seconds
        if not self.first:
            self.stop.set()
        self.hand_over(self.first)
        self.first = []


def ended(lease: Lease) -> SettledDelivery:
    return SettledDelivery(lease, NOW, 0, Settlement(DeliveryState.DELIVERED))


def minutes() -> Iterator[datetime]:
    return (NOW + number * MINUTE for number in itertools.count(1))


def attempts_ended_at(ledger: Ledger, call_id: int) -> list[datetime]:
    return [attempt.ended_at for attempt in ledger.show_call(call_id).attempts]


def test_attempts_that_end_within_a_moment_are_settled_in_one_commit(tmp_path: Path) -> None:
    with closing(open_ledger(tmp_path / "ledger.db", create=True)) as ledger:
        calls = [news(ledger, key) for key in ("a", "b")]
        first, second = ledger.lease(["crm"], SOURCES, NOW, 2)
        stop, clock = Moment(), minutes()
        completer = ScriptedCompleter(ledger, KeyLocks(), lambda: next(clock), stop, WorkSignal())
        completer.first, completer.stop = [ended(first)], stop
        stop.completer, stop.ends_meanwhile = completer, [ended(second)]
        stages = cast(Delivering, SimpleNamespace(pipeline=SimpleNamespace(completer=completer)))
        loops = DeliveringLoops(stages, DeliveryWakeups(stop=stop), lambda: NOW)
        loops.complete()
        assert [attempts_ended_at(ledger, call_id) for call_id in calls] == [[NOW + MINUTE]] * 2


@pytest.mark.parametrize(
    ("configured", "accounts", "expected"),
    [
        pytest.param("auto", 1, 48, id="as many as may be useful"),
        pytest.param("auto", 0, 0, id="nothing to deliver to"),
        pytest.param(1, 1, 1, id="one account"),
        pytest.param(2, 3, 6, id="each account has its own, though another one hangs"),
        pytest.param(30, 3, 48, id="no more than may be useful"),
        pytest.param(100, 3, 100, id="but as many as are configured"),
    ],
)
def test_number_of_workers_is_each_account_s_own(
    configured: Literal["auto"] | int, accounts: int, expected: int
) -> None:
    assert workers_for(configured, accounts) == expected


@pytest.mark.parametrize(
    ("idle", "more"), [(0, ["deliver-4", "deliver-5"]), (1, [])], ids=["all are busy", "one is idle"]
)
def test_another_worker_is_started_whenever_all_are_busy(tmp_path: Path, idle: int, more: list[str]) -> None:
    with closing(open_ledger(tmp_path / "ledger.db", create=True)) as ledger:
        news(ledger, "a")
        (lease,) = ledger.lease(["crm"], SOURCES, NOW, 1)
        stop, started = Moment(), list[str]()
        completer = ScriptedCompleter(ledger, KeyLocks(), lambda: NOW, stop, WorkSignal())
        completer.first, completer.stop = [ended(lease)], stop
        stop.completer, stop.ends_meanwhile = completer, []
        stages = cast(Delivering, SimpleNamespace(pipeline=SimpleNamespace(completer=completer), workers=6))
        wakeups = DeliveryWakeups(stop=stop)
        waiting = [threading.Thread(target=wakeups.signal.wait, args=(0, 60)) for _ in range(idle)]
        for thread in waiting:
            thread.start()
        while wakeups.signal.idle < idle:
            waiting[0].join(0.001)
        loops = DeliveringLoops(stages, wakeups, lambda: NOW, started.extend)
        assert {name for name in loops.all() if name.startswith("deliver")} == {
            f"deliver-{number}" for number in range(4)
        }
        loops.complete()
        wakeups.signal.wake_all()
    assert started == more
