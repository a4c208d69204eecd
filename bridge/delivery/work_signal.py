"""Tells the delivery workers that there may be something to do."""

import threading

_RESTS = 30.0
"""Seconds after which an idle worker that nobody wakes looks again, though another one looks more often."""


class WorkSignal:
    """What idle workers wait at; each event wakes one of them, who wakes the next where there is more to do.

    The one that became idle last is woken first, so that no more workers have connections and memory than
    there is work for. `wait` is told what was seen, so no event between a look and a wait is lost.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[threading.Lock] = []
        self._one_looks = False
        """Whether one of the idle ones looks again after a short time."""
        self.events = 0
        """How many events there were so far."""
        self.owed = 0
        """How often deliveries may have become due so far."""
        self.freed = 0
        """How often keys were freed so far."""

    @property
    def idle(self) -> int:
        """How many workers wait."""
        return len(self._idle)

    def deliveries_due(self) -> None:
        """Note that deliveries may have become due."""
        with self._lock:
            self.owed += 1
            self._wake_one()

    def keys_freed(self) -> None:
        """Note that keys were freed, which another delivery may wait for."""
        with self._lock:
            self.freed += 1
            self._wake_one()

    def more_ready(self) -> None:
        """Note that another worker could send something now."""
        with self._lock:
            self._wake_one()

    def wake_all(self) -> None:
        """Let every worker look, because the daemon stops; one that is about to wait does not."""
        with self._lock:
            self._wake_one()
            while self._idle:
                self._wake_one()

    def _wake_one(self) -> None:
        self.events += 1
        if self._idle:
            self._idle.pop().release()

    def wait(self, seen: int, seconds: float) -> None:
        """Wait for an event after those that were `seen`; one of all that wait returns after `seconds`."""
        woken = threading.Lock()
        woken.acquire()
        with self._lock:
            if self.events != seen:
                return
            self._idle.append(woken)
            looks, self._one_looks = not self._one_looks, True
        woken.acquire(timeout=seconds if looks else _RESTS)
        with self._lock:
            if woken in self._idle:
                self._idle.remove(woken)
            if looks:
                # It may be busy for long: another one looks meanwhile.
                self._one_looks = False
                self._wake_one()
