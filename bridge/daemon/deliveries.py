"""Where a daemon's deliveries run: on threads of this process, or in a process of their own."""

from collections.abc import Callable, Mapping
from typing import Protocol

from bridge.config.load import Config
from bridge.daemon.delivering import DeliveringLoops, build_delivering
from bridge.daemon.loop import DeliveryWakeups
from bridge.daemon.threads import Threads
from bridge.delivery.destination import Destination
from bridge.ledger import Ledger
from bridge.lib.clocks import Clocks


class Deliveries(Protocol):
    """Everything that delivers, as the daemon sees it."""

    def start(self, give_up: Callable[[], None]) -> None:
        """Begin to deliver what is due; `give_up` is called, from any thread, when a part has died."""

    @property
    def failed(self) -> str:
        """The name of a part that died; empty while all live."""

    def wake(self) -> None:
        """Look at once for what is due."""

    def respond(self) -> bool:
        """Whether they still answer."""

    def stop(self) -> None:
        """Begin nothing new; what is under way goes on to its end."""

    def hurry(self) -> None:
        """Let `join` wait no longer."""

    def join(self, within: float) -> None:
        """Wait up to `within` seconds for what is under way; what is unfinished is due at the next start."""


class DeliveryThreads:
    """Deliveries on threads of this process."""

    def __init__(
        self, config: Config, destinations: Mapping[str, Destination], clocks: Clocks, ledger: Ledger
    ) -> None:
        """`ledger.release_leases` has freed what a dead daemon held."""
        self._ledger = ledger
        self._wakeups = DeliveryWakeups()
        self._stages = build_delivering(config, destinations, ledger, clocks, self._wakeups)
        self._clock = clocks.wall
        self._threads: Threads | None = None

    @property
    def failed(self) -> str:
        """See `Deliveries`."""
        return self._threads.failed if self._threads is not None else ""

    def start(self, give_up: Callable[[], None]) -> None:
        """See `Deliveries`."""
        self._threads = Threads(give_up)
        loops = DeliveringLoops(self._stages, self._wakeups, self._clock, self._threads.start)
        loops.lock_what_is_in_doubt()
        self._threads.start(loops.all())

    def wake(self) -> None:
        """See `Deliveries`."""
        self._wakeups.wake()

    def respond(self) -> bool:
        """See `Deliveries`; returns once the thread that writes the ledger has answered."""
        # The result does not matter: a full disk is no reason for a restart, a writer that never answers is.
        self._ledger.writable()
        return True

    def stop(self) -> None:
        """See `Deliveries`."""
        self._wakeups.stop_all()

    def hurry(self) -> None:
        """See `Deliveries`."""
        self._wakeups.stop.set()
        if self._threads is not None:
            self._threads.hurry()

    def join(self, within: float) -> None:
        """See `Deliveries`."""
        if self._threads is not None:
            self._threads.join(within)
