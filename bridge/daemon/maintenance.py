"""Maintenance: what the daemon does for its ledger every 30 s without being asked."""

import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from bridge.daemon.loop import GiveWay
from bridge.ledger import JobQueue, UpkeepLedger
from bridge.lib.memory import give_memory_back
from bridge.lib.stored_times import past
from bridge.model.jobs import PRUNE

log = structlog.get_logger("bridge.upkeep")

# A delivery that has been owed for 10 minutes leaves the live lane, so that calls of this minute go first.
LIVE_FOR = timedelta(minutes=10)
PRUNE_EVERY = timedelta(days=1)
WARN_FREE = 10
"""Low disk space is warned of at so many times the floor at which callbacks are refused."""
WARN_WAL = 1 << 30
"""Bytes. A write-ahead log of this size means that another process keeps it from being folded in."""
REPACKED_FOR = 10.0
"""Seconds of one turn that may go into packing records again; the rest of the half minute is others'."""
PACKING_WAITS = 1.0
"""Seconds that each step of packing gives way to callbacks at the door: while they press without an end, ten
steps of 200 records are made every half minute."""


class MaintainedLedger(UpkeepLedger, JobQueue, Protocol):
    """What maintenance asks of a ledger."""


class Maintenance:
    """Watches space and lanes, makes dictionaries, asks for the daily `prune`, gives memory back."""

    def __init__(
        self,
        ledger: MaintainedLedger,
        destinations: Sequence[str] = (),
        stop: threading.Event | None = None,
        pressed: Callable[[], bool] = lambda: False,
    ) -> None:
        """`stop` ends what takes long; `pressed` tells if callbacks wait at the door."""
        self._ledger = ledger
        self._destinations = destinations
        self._stop = stop or threading.Event()
        self._give_way = GiveWay(pressed, self._stop, PACKING_WAITS)
        self._warned: frozenset[str] = frozenset()

    def maintain(self, now: datetime) -> None:
        """One step: look after everything once."""
        self._watch_space()
        give_memory_back()
        if self._ledger.demote(self._destinations, now - LIVE_FOR):
            log.info("delivery.demoted")
        if self._ledger.retrain(now):
            log.info("ledger.dictionary_made")
            give_memory_back()
        self._pack()
        last = past(self._ledger.last_requested_at(PRUNE), now)
        if last is None or now - last >= PRUNE_EVERY:
            self._ledger.request_job(PRUNE, {}, now)

    def _pack(self) -> None:
        """Pack records again, for 10 s at most."""
        until = time.monotonic() + REPACKED_FOR

        def pause(seconds: float) -> bool:
            """Give way to callbacks, then pause as long as the step took: half of the time stays free."""
            self._give_way.restart()
            self._give_way.wait()
            return not self._stop.wait(seconds) and time.monotonic() < until

        if count := self._ledger.repack(pause):
            log.info("ledger.repacked", count=count)
        if pause(0):
            self._ledger.pack_smaller(pause)

    def _watch_space(self) -> None:
        """Warn once when disk space gets short, and say once when there is enough again."""
        space = self._ledger.space()
        short = frozenset(
            name
            for name, is_short in (
                ("ledger.disk_low", space.free_bytes < WARN_FREE * space.floor_bytes),
                ("ledger.wal_large", space.log_bytes > WARN_WAL),
            )
            if is_short
        )
        told = {
            "ledger_bytes": space.ledger_bytes,
            "wal_bytes": space.log_bytes,
            "free_bytes": space.free_bytes,
            "floor_bytes": space.floor_bytes,
        }
        for name in short - self._warned:
            log.warning(name, **told)
        if self._warned - short:
            log.info("ledger.space_again", **told)
        self._warned = short
