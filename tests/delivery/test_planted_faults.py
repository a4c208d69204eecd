"""The model test sees what it is there for: each of the planted faults makes it red."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta

import pytest
from msgspec.structs import replace

from bridge.delivery.budget import Budget
from bridge.delivery.completer import Completer
from bridge.delivery.destination_queue import Turn
from bridge.delivery.dispatcher import Dispatcher
from bridge.delivery.locks import KeyLocks
from bridge.delivery.pipeline import DeliveryPipeline
from bridge.delivery.stages import SettledDelivery
from bridge.ledger import EndedAttempt, ProgressNote
from bridge.ledger.operators import HeldDeliveries
from bridge.model.crm_objects import FieldWrite, KnownObject
from bridge.model.deliveries import Lane, Lease, LockKey, Settlement
from tests.fixtures.delivery_machine import SEED, run
from tests.fixtures.simulation_parts import Parts, WatchedLedger

pytestmark = pytest.mark.long

EXAMPLES = 3000


def connector(old: str, new: str) -> Callable[[str], str]:
    """What is wrong in the connector."""

    def change(text: str) -> str:
        return text.replace(old, new)

    return change


def refused_502(text: str) -> str:
    """A gateway's answer is taken for the CRM's own no."""
    return text + '\n[[outcomes]]\nstatus = 502\nthen = "unprocessed"\n'


class Timeless(WatchedLedger):
    """Forgets when the call was that wrote a field."""

    def settle(self, settled: Sequence[EndedAttempt], now: datetime) -> None:
        super().settle([each._replace(settlement=timeless(each.settlement)) for each in settled], now)


def timeless(settlement: Settlement) -> Settlement:
    """The same, with no event beside any field."""
    done = tuple(replace(each, known=without_events(each.known)) for each in settlement.done)
    return replace(settlement, done=done)


def without_events(left: KnownObject) -> KnownObject:
    """As if the field had been written before all calls."""
    last_writes = {name: FieldWrite("", mark.digest) for name, mark in left.last_writes.items()}
    return KnownObject(left.crm_id, left.digest, left.links, last_writes)


class Impatient(WatchedLedger):
    """Takes a lease from a worker that has had it for half a minute."""

    def lease(
        self,
        destinations: Sequence[str],
        sources: Sequence[str],
        now: datetime,
        limit: int,
        *,
        lane: Lane | None = None,
    ) -> list[Lease]:
        old = int((now - timedelta(seconds=30)).timestamp() * 1_000_000)
        self._write().run(
            lambda connection: connection.execute(
                "UPDATE deliveries SET state = 'due', due_at = changed_at"
                " WHERE state = 'leased' AND changed_at < ?",
                (old,),
            )
        )
        return super().lease(destinations, sources, now, limit, lane=lane)


class Tardy(WatchedLedger):
    """Writes an intent down when all is over."""

    late: tuple[ProgressNote, ...] = ()

    def note(self, notes: Sequence[ProgressNote]) -> None:
        self.late = (*self.late, *notes)

    def settle(self, settled: Sequence[EndedAttempt], now: datetime) -> None:
        late, self.late = self.late, ()
        super().note(late)
        super().settle(settled, now)


class Deaf(WatchedLedger):
    """Does not hear of a revision that comes while a call is delivered."""

    def settle(self, settled: Sequence[EndedAttempt], now: datetime) -> None:
        super().settle(settled, now)
        ids = [lease.delivery_id for lease, settlement, _ in settled if settlement.state == "delivered"]
        self._write().run(
            lambda connection: connection.executemany(
                "UPDATE deliveries SET state = 'delivered', due_at = NULL, delivered = wanted WHERE id = ?",
                [(each,) for each in ids],
            )
        )


class Forgetful(WatchedLedger):
    """Does not say which objects a call fed before its key changed."""

    def lease(
        self,
        destinations: Sequence[str],
        sources: Sequence[str],
        now: datetime,
        limit: int,
        *,
        lane: Lane | None = None,
    ) -> list[Lease]:
        leases = super().lease(destinations, sources, now, limit, lane=lane)
        return [replace(lease, previous=()) for lease in leases]


class Hasty(Budget):
    """Does not wait as long as it was asked to."""

    def refused(self, name: str, wait: float | None, *, quota: bool = False) -> None:
        del wait
        super().refused(name, None, quota=quota)


class Freeing(WatchedLedger):
    """Lets go of what is in doubt as soon as a person skips it."""

    def hold(self, ids: Sequence[int], reason: str, now: datetime, *, skip: bool) -> HeldDeliveries:
        held = super().hold(ids, reason, now, skip=skip)
        doubtful = [each for each in self.in_doubt() if each in held.later]
        gone = "UPDATE deliveries SET state = 'skipped', due_at = NULL WHERE id = ? AND state = 'due'"
        self._write().run(lambda connection: connection.executemany(gone, [(each,) for each in doubtful]))
        return HeldDeliveries(now=[*held.now, *doubtful], later=[])


class EarlyCompleter(Completer):
    """Frees the keys of a delivery before its outcome is on disk."""

    def hand_over(self, ended: Sequence[SettledDelivery]) -> None:
        for each in ended:
            self._free_keys(each)
        super().hand_over(ended)


class LossyCompleter(Completer):
    """Loses every fifth outcome."""

    handed = 0

    def hand_over(self, ended: Sequence[SettledDelivery]) -> None:
        self.handed += len(ended)
        super().hand_over(ended[1:] if self.handed % 5 == 0 else ended)


class GenerousLocks(KeyLocks):
    """Gives a key to everybody who asks."""

    def acquire(self, owner: int, keys: Iterable[LockKey]) -> bool:
        super().acquire(owner, keys)
        return True


class FreeingDispatcher(Dispatcher):
    """Frees the keys of a turn that the ledger broke off, though a request of it may be in doubt."""

    def abandon(self, turn: Turn, now: datetime) -> None:
        super().abandon(turn, now)
        for each in turn.attempts:
            self._locks.release(each.delivery.lease.delivery_id)


class EarlyPipeline(DeliveryPipeline):
    """See `EarlyCompleter`."""

    completers = EarlyCompleter


class LossyPipeline(DeliveryPipeline):
    """See `LossyCompleter`."""

    completers = LossyCompleter


class FreeingPipeline(DeliveryPipeline):
    """See `FreeingDispatcher`."""

    dispatchers = FreeingDispatcher


UNSKIP = "UPDATE deliveries SET person = NULL WHERE state = 'skipped'"


class Unskipping(WatchedLedger):
    """A revision undoes what a person said."""

    def hold(self, ids: Sequence[int], reason: str, now: datetime, *, skip: bool) -> HeldDeliveries:
        held = super().hold(ids, reason, now, skip=skip)
        self._write().run(lambda connection: connection.execute(UNSKIP))
        return held


FAULTS = {
    "a look-up is trusted before index_lag": Parts(connector=connector('index_lag = "300ms"', "")),
    "the event time is not stored": Parts(ledger=Timeless),
    "a lease is returned by the wall clock": Parts(ledger=Impatient),
    "an intent is committed after sending": Parts(ledger=Tardy),
    "a revision during delivery is lost": Parts(ledger=Deaf),
    "a key that changes takes one line": Parts(ledger=Forgetful),
    "Retry-After is dropped": Parts(budget=Hasty),
    "502 is read as refused": Parts(connector=refused_502),
    "the results of a batch are shifted by one": Parts(
        connector=connector('results = "results"', 'results = "{{ body.results[1:] + body.results[:1] }}"')
    ),
    "a sticky skip is undone by a revision": Parts(ledger=Unskipping),
    "what is skipped in doubt frees its lines": Parts(ledger=Freeing),
    "keys are free before the outcome is on disk": Parts(pipeline=EarlyPipeline),
    "an outcome is lost on its way to the ledger": Parts(pipeline=LossyPipeline),
    "a delivery goes out without its keys": Parts(locks=GenerousLocks),
    "a turn that is broken off frees its keys": Parts(pipeline=FreeingPipeline),
}
QUICK = ("502 is read as refused", "a sticky skip is undone by a revision")


@pytest.mark.parametrize(
    "fault", [pytest.param(each, marks=() if each in QUICK else pytest.mark.slow) for each in FAULTS]
)
def test_model_test_detects_the_planted_fault(fault: str) -> None:
    with pytest.raises(AssertionError):
        run(EXAMPLES, SEED, FAULTS[fault], shrink=False)
