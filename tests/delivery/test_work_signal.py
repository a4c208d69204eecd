"""What idle workers wait at: each event wakes one of them, and none is lost."""

import threading

import pytest

from bridge.delivery.work_signal import WorkSignal

LONG = 60.0


class Waiting:
    """A thread that waits once."""

    def __init__(self, signal: WorkSignal, seconds: float = LONG) -> None:
        seen, before = signal.events, signal.idle
        self.thread = threading.Thread(target=signal.wait, args=(seen, seconds))
        self.thread.start()
        while signal.idle == before and self.thread.is_alive():
            self.thread.join(0.001)

    @property
    def is_over(self) -> bool:
        """Whether it was woken, looked at without waiting for long."""
        self.thread.join(0.05)
        return not self.thread.is_alive()


def test_each_event_wakes_the_one_that_became_idle_last() -> None:
    signal = WorkSignal()
    waiting = [Waiting(signal) for _ in range(3)]
    signal.deliveries_due()
    waiting[2].thread.join()
    assert [each.is_over for each in waiting] == [False, False, True]
    signal.keys_freed()
    waiting[1].thread.join()
    assert not waiting[0].is_over
    signal.wake_all()
    waiting[0].thread.join()
    assert (signal.owed, signal.freed) == (1, 1)


@pytest.mark.parametrize("event", ["deliveries_due", "keys_freed", "more_ready", "wake_all"])
def test_event_between_a_look_and_a_wait_is_not_lost(event: str) -> None:
    signal = WorkSignal()
    seen = signal.events
    getattr(signal, event)()
    waiting = threading.Thread(target=signal.wait, args=(seen, LONG), daemon=True)
    waiting.start()
    waiting.join(LONG / 4)
    assert not waiting.is_alive()


def test_one_of_the_idle_looks_again_after_a_short_time_and_hands_that_on() -> None:
    signal = WorkSignal()
    first = Waiting(signal, 0.02)
    second = Waiting(signal, 0.02)
    first.thread.join()
    second.thread.join()
    assert signal.events == 1, "who looks wakes another one, who looks next time"
