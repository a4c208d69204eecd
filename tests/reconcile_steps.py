"""Plain steps for the tests of reconciliation: a platform, a ledger with its judge, and runs between them."""

import random
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from bridge.intake.judge import Judge, SourceRules
from bridge.ledger import Row
from bridge.ledger.sqlite import SqliteLedger
from bridge.model.calls import Via
from bridge.model.listing import AUDIT
from bridge.reconcile.audit import AuditRules, SourceAudit, balances, whole_balance
from bridge.reconcile.counts import Result
from bridge.reconcile.coverage import ReconcileRules
from bridge.reconcile.run import Reconciler
from bridge.reconcile.window import Between
from bridge.record.arrival import arrival_of
from bridge.record.platform_record import BOOKKEEPING, FIELDS, canonical
from bridge.sandbox.platform_list import PlatformList
from bridge.sandbox.records import PLATFORM_ZONE, Record, later_edit
from bridge.source import Page, Source
from tests.source_steps import NOW, Clock, made
from tests.walk_steps import Shelf, shelf

HOUR = timedelta(hours=1)
RULES = ReconcileRules(
    name="main",
    zone=PLATFORM_ZONE,
    reads=frozenset(),
    settle=timedelta(0),
    lookbacks={"short": 3 * HOUR, "deep": 72 * HOUR, "weekly": 35 * 24 * HOUR},
    start_at=None,
    page_size=50,
)
NOTHING = {"missing": 0, "revised": 0, "stale": 0, "conflicting": 0, "deferred": 0, "filled": 0}


@dataclass
class World:
    """A platform on one side, a ledger on the other."""

    ledger: SqliteLedger
    platform: PlatformList
    clock: Clock
    stop: threading.Event = field(default_factory=threading.Event)
    rules: ReconcileRules = RULES
    shelves: list[Shelf] = field(default_factory=list)
    users: Sequence[str] = ("demo",)
    meanwhile: Callable[[Page], None] = lambda _page: None
    """What happens while a page is on its way."""

    def __post_init__(self) -> None:
        sources = {"main": SourceRules(PLATFORM_ZONE, "CN", ("crm",))}
        self.ledger.start_destinations({"main": ("crm",)}, NOW)
        self._judge = Judge(self.ledger, sources, destinations_since={})

    def judge(self) -> None:
        while self._judge.judge_waiting(self.clock()):
            pass

    def push(self, *records: Record) -> None:
        """Callbacks, and their verdicts."""
        bodies = [msgspec.json.encode(record) for record in records]
        zone = PLATFORM_ZONE
        self.ledger.record([arrival_of("main", Via.CALLBACK, body, self.clock(), zone) for body in bodies])
        self.judge()

    def list_now(self, *records: Record) -> None:
        """What the platform's list shows from now on."""
        for record in records:
            self.platform.put(record)

    def log_in(self) -> Sequence[Source]:
        self.shelves = [Meanwhile(self.platform, user, self.meanwhile) for user in self.users]
        return self.shelves

    def reconciler(self) -> Reconciler:
        return Reconciler(
            self.rules,
            self.ledger,
            self.log_in,
            sources=["main"],
            clock=self.clock,
            stop=self.stop,
            catch_up=self.judge,
            audit=self._audited,
        )

    def _audited(self, run: Row, sources: Sequence[Source], go_on: Callable[[], None]) -> Result:
        rules = AuditRules(
            source="main",
            zone=PLATFORM_ZONE,
            settle=self.rules.settle,
            lookback=3 * HOUR,
            start_at=None,
            page_size=self.rules.page_size,
            destinations=("crm",),
        )
        return SourceAudit(rules, self.ledger, run, self.clock, go_on).carry_out(sources)

    def audit(self, **args: Any) -> dict[str, Any]:
        """One audit to its end: the whole balance, with what the source counted laid over it."""
        run_id = self.ledger.request_run(AUDIT, {"source": "main", **args}, self.clock())
        assert self.reconciler().carry_out()
        run = self.ledger.run(run_id)
        assert run["state"] == "done", run["result"]
        balance = whole_balance({"main": run["result"]}, {}, None)
        counts = balance["sources"]["main"]
        theirs = counts["platform"] + counts["ledger_only"]
        assert theirs == counts["ledger"] + counts["quarantined"] + counts["platform_only"]
        crm = balance["destinations"]["crm"]
        assert crm["ledger"] == counts["ledger"]
        assert balances(crm)
        assert set(counts["ids"]["ledger_only"]) <= counts["explanations"].keys()
        assert all(len(counts["ids"][name]) == counts[name] for name in counts["ids"])
        found: dict[str, Any] = balance | counts
        return found

    def reconcile(self, **args: Any) -> dict[str, Any]:
        """One run to its end, its findings judged; its result."""
        run_id = self.ledger.request_run("reconcile", {"source": "main", **args}, self.clock())
        assert self.reconciler().carry_out()
        self.judge()
        run = self.ledger.run(run_id)
        assert run["state"] == "done", run["result"]
        result: dict[str, Any] = run["result"]
        outcomes = ("matched", "missing", "revised", "stale", "conflicting", "deferred")
        assert result["seen"] == sum(result[name] for name in outcomes)
        return result

    def asked(self) -> list[Between]:
        """The windows that the last run asked for."""
        return [Between(entry["since"], entry["until"]) for one in self.shelves for entry in one.asked]

    def receipts(self) -> dict[str, int]:
        counted: dict[str, int] = self.ledger.counts()["receipts"]
        return counted

    def state(self, uuid: str) -> dict[str, Any]:
        (call,) = self.ledger.list_calls([uuid], 2)
        state: dict[str, Any] = self.ledger.show_call(call["id"])["record"]
        return state

    def covered(self) -> datetime | None:
        return self.ledger.coverage("main", NOW, NOW).covered_until

    def gaps(self, now: datetime = NOW) -> int:
        return self.ledger.coverage("main", now - 24 * HOUR, now).gaps

    def assert_agrees(self, only: Collection[str] | None = None) -> None:
        """The ledger has every listed call, and says of it what the list says, as far as that speaks."""
        for uuid, record in self.platform.records().items():
            if only is not None and uuid not in only:
                continue
            assert differences(record, self.state(uuid)) == {}, uuid


class Meanwhile(Shelf):
    """A list during whose answers something else happens."""

    def __init__(self, platform: PlatformList, user: str, meanwhile: Callable[[Page], None]) -> None:
        super().__init__(platform, user)
        self._meanwhile = meanwhile

    def page(self, since: datetime, until: datetime, index: int, size: int) -> Page:
        page = super().page(since, until, index, size)
        self._meanwhile(page)
        return page


def differences(record: Record, state: dict[str, Any]) -> dict[str, Any]:
    """In which fields of meaning a ledger's state is not what the platform's record says."""
    theirs, ours = canonical(record, PLATFORM_ZONE), canonical(state, PLATFORM_ZONE)
    names = (FIELDS.keys() - BOOKKEEPING.keys() - {"talk_info"}) & ours.keys()
    found = {name: (theirs.get(name), ours[name]) for name in names if theirs.get(name) != ours[name]}
    spoken = [len(one.get("talk_info") or ()) for one in (theirs, ours)]
    return found if spoken[0] == spoken[1] or "talk_info" not in ours else found | {"talk_info": spoken}


@contextmanager
def new_world(path: Path, records: Sequence[Record] = (), **options: Any) -> Iterator[World]:
    """A ledger that knows nothing, beside a list with these records."""
    ledger = SqliteLedger(path, create=True)
    disturbances = options.pop("disturbances", None)
    platform = shelf(records, disturbances, options.pop("seed", 1))
    try:
        yield World(ledger, platform, Clock(), **options)
    finally:
        ledger.close()


def edited_later(record: Record, seed: int = 1) -> Record:
    """The record after a person worked on it."""
    return later_edit(record, random.Random(seed), NOW)  # noqa: S311 -- sample data


def calls(count: int, seed: int = 1) -> list[Record]:
    """Records of the last two hours, created before now."""
    return made(count, seed)
