"""The one loop of all threads: when it goes on at once, when it waits, and what ends it."""

import threading
from collections.abc import Callable, Iterator

import pytest

from bridge.daemon.loop import DeliveryWakeups, GiveWay, ReceivingWakeups, attempt, repeat
from bridge.lib.errors import LedgerBusy, LedgerError
from bridge.model.calls import Filed, Quarantined


class Script:
    """Steps that come out as told, and what happened in which order; the loop is stopped after the last."""

    def __init__(self, *outcomes: bool | LedgerError | None) -> None:
        self.stop = threading.Event()
        self.happened: list[str] = []
        self._outcomes: Iterator[bool | LedgerError | None] = iter(outcomes)
        self._left = len(outcomes)

    def step(self) -> bool | None:
        self._left -= 1
        if self._left == 0:
            self.stop.set()
        self.happened.append("step")
        outcome = next(self._outcomes)
        if isinstance(outcome, LedgerError):
            raise outcome
        return outcome

    def wait(self) -> None:
        self.happened.append("wait")

    def busy(self, error: LedgerError) -> None:
        self.happened.append(str(error))

    def run(self) -> list[str]:
        repeat(self.step, self.stop, wait=self.wait, busy=self.busy)
        return self.happened


@pytest.mark.parametrize(
    ("outcomes", "happened"),
    [
        ([True, True], ["step", "step"]),
        ([True, False, True], ["step", "step", "wait", "step"]),
        ([None, True], ["step", "wait", "step"]),
        ([LedgerBusy("disk full"), True], ["step", "disk full", "wait", "step"]),
    ],
    ids=["goes on at once after work", "waits after no work", "a step that tells nothing", "a busy ledger"],
)
def test_loop_waits_only_if_a_step_found_no_work(
    outcomes: list[bool | LedgerError | None], happened: list[str]
) -> None:
    assert Script(*outcomes).run() == happened


def test_loop_stopped_before_it_begins_does_nothing() -> None:
    script = Script(True)
    script.stop.set()
    assert script.run() == []


def test_error_that_is_not_the_ledgers_ends_the_loop() -> None:
    def step() -> bool:
        raise ValueError("a fault")

    told: list[str] = []
    with pytest.raises(ValueError, match="a fault"):
        repeat(step, threading.Event(), wait=lambda: told.append("wait"), busy=lambda _: told.append("busy"))
    assert told == []


def test_one_attempt_tells_whether_it_found_work() -> None:
    assert attempt(lambda: True, lambda _: None)
    assert not attempt(lambda: None, lambda _: None)


class Door:
    """Callbacks press for so many looks."""

    def __init__(self, looks: float) -> None:
        self.looks = looks

    def pressed(self) -> bool:
        self.looks -= 1
        return self.looks >= 0


@pytest.mark.parametrize(
    ("looks", "at_most", "left"),
    [(2, 60.0, -1), (0, 60.0, -1), (100, 0.0, 99)],
    ids=["until nobody presses", "at once where nobody presses", "no longer than it may"],
)
def test_work_gives_way_to_callbacks_for_a_while(looks: int, at_most: float, left: int) -> None:
    door = Door(looks)
    GiveWay(door.pressed, threading.Event(), at_most).wait()
    assert door.looks == left


def test_stopping_daemon_gives_way_to_no_callbacks() -> None:
    door, stop = Door(100), threading.Event()
    stop.set()
    GiveWay(door.pressed, stop, 60.0).wait()
    assert door.looks == 99


def test_stopping_wakes_every_thread() -> None:
    receiving, delivering = ReceivingWakeups(), DeliveryWakeups()
    waits: list[Callable[[], object]] = [
        lambda: receiving.stop.wait(60),
        lambda: receiving.arrived.wait(60),
        lambda: delivering.stop.wait(60),
        lambda: delivering.signal.wait(delivering.signal.events, 60),
    ]
    threads = [threading.Thread(target=wait) for wait in waits]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        # A thread that has not begun to wait for deliveries yet is woken by the next call.
        receiving.stop_all()
        delivering.stop_all()
        for thread in threads:
            thread.join(0.01)
    assert receiving.stop.is_set()
    assert delivering.stop.is_set()


NEW, JOINED = Filed(1, "a", is_new=True, owes=True), Filed(1, "a")
SKIPPED = Filed(1, "a", is_new=True)
QUARANTINED_ONE = Filed(None, trouble=Quarantined.UNIDENTIFIED)


@pytest.mark.parametrize(
    ("filed", "judge", "deliveries"),
    [
        ([NEW, NEW], False, 1),
        ([JOINED], True, 0),
        ([NEW, JOINED], True, 1),
        ([SKIPPED], False, 0),
        ([QUARANTINED_ONE], False, 0),
    ],
    ids=["new calls", "a second record", "both", "a new call that is left out", "quarantined"],
)
def test_filing_wakes_who_has_work(filed: list[Filed], judge: bool, deliveries: int) -> None:
    woken: list[int] = []
    wakeups = ReceivingWakeups(wake_deliveries=lambda: woken.append(1))
    wakeups.wake_after_filing(filed)
    assert wakeups.arrived.is_set() is judge
    assert len(woken) == deliveries
