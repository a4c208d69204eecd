"""What a world for deliveries is made of: a ledger that fails, workers that go on when told, a clock."""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from bridge.delivery.budget import Budget
from bridge.delivery.locks import KeyLocks
from bridge.delivery.worker import Worker
from bridge.ledger import EndedAttempt, ProgressNote
from bridge.ledger.sqlite import SqliteLedger
from bridge.lib.errors import LedgerBusy
from bridge.model.calls import Arrival, Filed
from bridge.model.crm_objects import SyncedObject
from bridge.model.deliveries import Lease, Settlement
from tests.servers.clock import Clock

MOST_WAITS = 2000


class Crash(BaseException):
    """What a power cut does: no code of ours handles it."""


class Fuse:
    """Burns at an operation that was chosen; from then on nothing can be done any more."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.busy: int | None = None
        self.burnt = False
        self.spent: list[str] = []

    def tick(self) -> None:
        """One operation."""
        if self.left is not None:
            self.left -= 1
            self.burnt = self.burnt or self.left < 0
        if self.burnt:
            raise Crash

    def write(self) -> None:
        """One operation of the ledger, which may be busy."""
        self.tick()
        if self.busy is not None:
            self.busy -= 1
            if self.busy < 0:
                self.busy = None
                self.spent.append("busy")
                raise LedgerBusy("the ledger is busy, as the test wants it")


class WatchedLedger(SqliteLedger):
    """A ledger that can fail at every write, before its commit or after it."""

    fuse: Fuse
    settled: Callable[[Lease, Settlement], None]
    fed: Callable[[Lease, Sequence[SyncedObject]], None]
    in_hand: dict[int, set[int]]
    _values: dict[int, Mapping[str, Any]]
    """What was leased: a worker forgets it once it is mapped."""

    def _hand(self) -> set[int]:
        return self.in_hand.setdefault(threading.get_ident(), set())

    def submit(self, arrivals: Sequence[Arrival]) -> Future[list[Filed]]:
        self.fuse.write()
        filed = super().submit(arrivals)
        filed.result(10)
        self.fuse.tick()
        return filed

    def lease(self, destinations: Sequence[str], sources: Sequence[str], now: datetime) -> Lease | None:
        self.fuse.write()
        lease = super().lease(destinations, sources, now)
        self._taken([lease] if lease is not None else [])
        self.fuse.tick()
        return lease

    def _taken(self, leases: Sequence[Lease]) -> None:
        self._values = {**getattr(self, "_values", {}), **{each.delivery_id: each.values for each in leases}}
        self._hand().update(each.delivery_id for each in leases)

    def lease_more(self, destination: str, sources: Sequence[str], now: datetime, limit: int) -> list[Lease]:
        leases = super().lease_more(destination, sources, now, limit)
        self._taken(leases)
        self.fuse.tick()
        return leases

    def give_back(self, lease: Lease, due_at: datetime) -> bool:
        self.fuse.write()
        is_due = super().give_back(lease, due_at)
        self._hand().discard(lease.delivery_id)
        return is_due

    def note(self, notes: Sequence[ProgressNote]) -> None:
        self.fuse.write()
        super().note(notes)
        for each in notes:
            self.fed(each.lease, each.objects)
        self.fuse.tick()

    def save_token(self, account: str, saved: Mapping[str, Any]) -> None:
        self.fuse.write()
        super().save_token(account, saved)
        self.fuse.tick()

    def settle_soon(self, settled: Sequence[EndedAttempt], now: datetime) -> Future[None]:
        try:
            self.fuse.write()
        except LedgerBusy as busy:
            refused: Future[None] = Future()
            refused.set_exception(busy)
            return refused
        written = super().settle_soon(settled, now)
        written.result()
        for lease, settlement, _ in settled:
            self._hand().discard(lease.delivery_id)
            self.settled(replace(lease, values=self._values[lease.delivery_id]), settlement)
        self.fuse.tick()
        return written


class Walker:
    """A worker's thread, which goes on only when it is told to, up to its next pause."""

    def __init__(self, act: Callable[[], bool]) -> None:
        self._act = act
        self._go, self._back = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._back.acquire()
        self._error: BaseException | None = None
        self._ended = False
        self.under_way = False
        self.busy = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def step(self) -> None:
        """Up to the next pause, or to the end of the attempt."""
        self.under_way = True
        self._go.release()
        self._back.acquire()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def pause(self) -> None:
        """In the thread: wait to be told."""
        self._back.release()
        self._go.acquire()

    def end(self) -> None:
        """The thread is not needed any more; nothing is under way."""
        self._ended = True
        self._go.release()
        self.thread.join()

    def _run(self) -> None:
        while True:
            self._go.acquire()
            if self._ended:
                return
            try:
                self.busy = self._act()
            except BaseException as error:  # noqa: BLE001 -- handed to who told us to go
                self._error = error
            self.under_way = False
            self._back.release()


class Sleep(threading.Event):
    """Waits by the world's clock."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._waits = 0

    def wait(self, timeout: float | None = None) -> bool:
        """Time passes at once."""
        self._waits += 1
        assert self._waits < MOST_WAITS, "something waits for ever"
        self._clock.pass_by(timeout or 0.0)
        return self.is_set()


class ImpatientLocks(KeyLocks):
    """Locks for which nobody waits: who holds them goes on only when it is told to."""

    def acquire(self, owner: int, keys: Any, timeout: float) -> bool:
        """Now or not."""
        del timeout
        return super().acquire(owner, keys, 0.0)


@dataclass
class Trouble:
    """What goes wrong with one request, once `after` others went well; `on` is any, read or write."""

    kind: str
    after: int = 0
    on: str = "any"

    def strikes(self, kind: str) -> bool:
        """Whether this request is the one."""
        if self.on not in ("any", kind):
            return False
        self.after -= 1
        return self.after < 0


@dataclass
class Said:
    """What settled deliveries have said of one contact, since the CRM made it."""

    newest: dict[str, tuple[str, Any]] = field(default_factory=dict)
    every: dict[str, list[Any]] = field(default_factory=dict)
    by_hand: dict[str, Any] = field(default_factory=dict)
    unsure: set[str] = field(default_factory=set)
    """Fields that a person edited while a request was under way."""
    open: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Deliveries that wrote to it, and have not been settled since; with what they changed."""
    strayed: dict[str, Any] = field(default_factory=dict)
    """What a delivery wrote that was settled under a mapping without the field."""

    def settle(self, delivery_id: int, fields: Collection[str]) -> None:
        """A delivery has ended that mapped these fields."""
        written = self.open.pop(delivery_id, {})
        self.strayed |= {name: value for name, value in written.items() if name not in fields}


@dataclass(frozen=True)
class Parts:
    """What is built by which hands: a planted fault gives another one."""

    worker: Callable[..., Worker] = Worker
    ledger: type[WatchedLedger] = WatchedLedger
    locks: type[KeyLocks] = ImpatientLocks
    budget: Callable[..., Budget] = Budget
    connector: Callable[[str], str] = str
    """What is changed in the connector's text."""


def check_contact(phone: str, one: Mapping[str, Any], said: Said, *, deleted: bool, forgot: bool) -> None:
    """A contact holds what its policies make of what was said."""
    for name, (_, value) in said.newest.items():
        held = one.get(name)
        if name == "remark" and forgot:
            # Nobody knows any more what was sent.
            continue
        if said.open:
            # Written by a delivery that then went elsewhere, or was skipped: as good as a person's.
            continue
        if name in said.strayed:
            known = (value, said.strayed[name], said.by_hand.get(name, value))
            assert held in known, f"{name} of {phone}: {held!r}; {said}"
        elif name not in said.by_hand:
            assert held == value, f"{name} of {phone}: {held!r}, expected {value!r}; {said}"
        elif name == "remark" and name not in said.unsure:
            assert held == said.by_hand[name], f"{name} of {phone}: {held!r}, not as a person edited it"
        else:
            assert held in (value, said.by_hand[name]), f"{name} of {phone}: {held!r}; {said}"
    # What a call appends changes with it; its key, with which that begins, is there once.
    notes = [line.split(" ")[0] for line in str(one.get("notes") or "").split("\n")]
    assert len(notes) == len(set(notes)), f"notes of {phone}: {notes}"
    if not deleted:
        # A call that had added its own to what a person deleted does not add it to another one.
        assert set(said.every.get("notes", [])) <= set(notes), f"notes of {phone}: {notes}; {said}"
    longest = said.every.get("longest", [0])
    assert (one.get("longest") or 0) >= max(longest), f"longest of {phone}: {one}; {said}"
    if said.every.get("company") and "company" not in said.by_hand:
        assert one.get("company"), f"company of {phone}: {one}; {said}"
