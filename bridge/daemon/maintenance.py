"""Upkeep: what the daemon does for its ledger without being asked."""

import ctypes
from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog

from bridge.ledger import Ledger
from bridge.lib.stored_times import past
from bridge.model.jobs import PRUNE

log = structlog.get_logger("bridge.upkeep")

# A call that is owed for longer is no live one: those of now go before it.
LIVE_FOR = timedelta(minutes=10)
PRUNE_EVERY = timedelta(days=1)
# Said long before callbacks are refused, and when another process keeps the log from ending.
WARN_FREE = 10
WARN_WAL = 1 << 30


class Maintenance:
    """Watches space and lanes, makes dictionaries, asks for the daily `prune`, gives memory back."""

    def __init__(self, ledger: Ledger, destinations: Sequence[str] = ()) -> None:
        self._ledger = ledger
        self._destinations = destinations
        # Of glibc, which keeps what was freed, scattered over a heap for each thread; others have none.
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._warned: frozenset[str] = frozenset()

    def maintain(self, now: datetime) -> None:
        """One step."""
        self._watch_space()
        self._give_back()
        if self._ledger.demote(self._destinations, now - LIVE_FOR):
            log.info("delivery.demoted")
        if self._ledger.retrain(now):
            log.info("ledger.dictionary_made")
            self._give_back()
        last = past(self._ledger.last_requested_at(PRUNE), now)
        if last is None or now - last >= PRUNE_EVERY:
            self._ledger.request_job(PRUNE, {}, now)

    def _give_back(self) -> None:
        """Memory that is free goes back to the system."""
        if self._trim is not None:
            self._trim(0)

    def _watch_space(self) -> None:
        """Say once when space gets short, and once when it is there again."""
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
