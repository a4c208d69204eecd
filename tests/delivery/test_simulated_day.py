"""A day with the CRM down for six hours in the middle: on a simulated clock, with a real ledger."""

import gc
import json
import tracemalloc
from collections import Counter
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from structlog.testing import capture_logs

from bridge.crm.tokens import Tokens
from bridge.daemon.maintenance import LIVE_FOR
from bridge.daemon.receiving import MAINTENANCE_EVERY
from bridge.delivery.budget import Budget
from bridge.delivery.budget_store import BudgetStore
from bridge.delivery.destination import Routes, SharedAccount
from bridge.delivery.locks import KeyLocks
from bridge.delivery.pipeline import DeliveryPipeline, PipelineSettings, Surroundings
from bridge.delivery.request_sender import QUICK_TRIES
from bridge.intake.judge import Judge
from bridge.intake.new_calls import SourceRules
from bridge.ledger import Window
from bridge.ledger.sqlite import SqliteLedger
from bridge.lib.clocks import Clocks
from bridge.lib.stored_times import LONGEST_PAUSE
from bridge.model.balance import DestinationBalance
from bridge.model.calls import Via
from bridge.record.arrival import arrival_of
from bridge.sandbox.search_crm import SearchCrmState, TokenDesk
from tests.fixtures.delivery_simulation import DATA, LAG, ORIGIN, RETRY, SECRET, ZONE, destination_of
from tests.fixtures.ledger_calls import filed_all
from tests.fixtures.origins import MAIN
from tests.servers.clock import Clock, Waiting

pytestmark = pytest.mark.long

CALLS, CONTACTS, WORKERS = 1920, 600, 4
RATE, WITHIN = 10, 10.0
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
DOWN_AT, UP_AT = 9 * HOUR, 15 * HOUR
OUTAGE = ("no answer", "503", "refused")
LIMITS = f'\n[limits.default]\nrate = "{RATE}/{WITHIN:.0f}s"\nconcurrency = 4\n'
A_REQUEST_TAKES = 0.05


class Crm(httpx.BaseTransport):
    """The CRM, which is down for hours: it does not answer, then a gateway says so, then nobody listens."""

    def __init__(self, clock: Clock, chance: Random) -> None:
        self.state, self._desk = SearchCrmState(clock, LAG), TokenDesk(SECRET)
        self._clock, self._chance, self._begin = clock, chance, clock.now
        self.sent: list[float] = []
        self.made_at: dict[str, datetime] = {}
        """When each call's activity came to be."""

    def ill(self) -> str:
        """What is wrong with it now."""
        since = self._clock.now - self._begin
        if not DOWN_AT <= since < UP_AT:
            return ""
        return OUTAGE[int((since - DOWN_AT) / (UP_AT - DOWN_AT) * len(OUTAGE))]

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """One request."""
        self.sent.append(self._clock.now.timestamp())
        ill = self.ill()
        self._clock.pass_by(A_REQUEST_TAKES)
        if ill == "refused":
            raise httpx.ConnectError("nobody listens")
        if ill == "503":
            return httpx.Response(503)
        if ill == "no answer":
            self._clock.pass_by(5.0)
            if self._chance.random() < 0.5:
                self._answer(request)
            raise httpx.ReadTimeout("no answer")
        return self._answer(request)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        segments = [unquote(part) for part in request.url.path.split("/")[1:]]
        content = json.loads(request.content) if request.content else None
        if segments == ["token"]:
            return httpx.Response(200, json=self._desk.issue(content)[1])
        query = dict(request.url.params.items())
        status, answer = self.state.carry_out(request.method, segments, query, content)
        if (request.method, segments) == ("POST", ["calls"]):
            assert content is not None
            self.made_at[content["call_key"]] = self._clock.now
        return httpx.Response(status, json=answer)


class Day:
    """All parts of a daemon, driven by hand."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.rng = Clock(), Random(20261122)  # noqa: S311 -- repeatable
        self.begin = self.clock.now
        self.crm = Crm(self.clock, self.rng)
        self.ledger = SqliteLedger(folder / "ledger.db", create=True)
        connector = (DATA / "connector.toml").read_text("utf-8") + LIMITS
        mapping = (DATA / "mapping.toml").read_text("utf-8")
        destination = destination_of(folder / "files", connector, mapping)
        self.ledger.start_destinations({"main": ["crm"]}, self.clock())
        rules = SourceRules(MAIN, ("crm",), destination.mapping.fields_read(MAIN.dialect))
        self.judge = Judge(self.ledger, {"main": rules}, destinations_since={})
        account = destination.account
        tokens = Tokens(
            account.name, destination.connector.auth.tokens, account.secrets, self.ledger, self.clock
        )
        self.budget = Budget(destination.connector.file.limits, self.clock)
        shared, stop = SharedAccount(tokens, self.budget), Waiting(self.clock)
        pipeline = DeliveryPipeline(
            self.ledger,
            Routes({"main": ORIGIN}, {"crm": destination}, {account.name: shared}),
            KeyLocks(),
            PipelineSettings(RETRY),
            Surroundings(Clocks(self.clock, self.clock), self.rng, stop, lambda: self.crm),
        )
        self.workers = [pipeline.new_worker() for _ in range(WORKERS)]
        self.budget_store = BudgetStore(self.ledger, {account.name: self.budget})
        self.coming = sorted(self._records(), key=lambda each: each[0])
        self.arrived: dict[str, datetime] = {}
        self.looked_at = self.clock.now
        self.said: list[MutableMapping[str, Any]] = []
        """What was logged."""

    def _records(self) -> Iterator[tuple[datetime, dict[str, Any]]]:
        """Calls all day, every fifth with a revision within the hour; each with when its callback comes."""
        for number in range(CALLS):
            at = self.begin + number * DAY / CALLS
            phone = f"158{self.rng.randrange(CONTACTS):08d}"
            yield at, record(number, at, at, phone, self.rng)
            if number % 5 == 0:
                later = at + timedelta(minutes=self.rng.uniform(1, 59))
                yield later, record(number, at, later, phone, self.rng)

    def go_on(self, until: datetime) -> None:
        """Callbacks, verdicts, deliveries, upkeep, until then."""
        while self.clock.now < until:
            self._arrive()
            if self.clock.now - self.looked_at > timedelta(seconds=MAINTENANCE_EVERY):
                self.looked_at = self.clock.now
                self.ledger.demote(["crm"], self.clock.now - LIVE_FOR)
                self.budget_store.save_changed(self.clock.now)
            busy = [worker.deliver_one(self.clock.now) for worker in self.workers]
            if not any(busy):
                following = self.coming[0][0] if self.coming else until
                idle = (min(following, until) - self.clock.now).total_seconds()
                self.clock.pass_by(min(max(idle, 0.1), 5.0))

    def _arrive(self) -> None:
        while self.coming and self.coming[0][0] <= self.clock.now:
            at, body = self.coming.pop(0)
            self.arrived.setdefault(body["uuid"], at)
            payload = json.dumps(body).encode()
            filed_all(self.ledger, [arrival_of(MAIN, Via.CALLBACK, payload, self.clock())])
        self.judge.judge_waiting(self.clock())

    def counts(self) -> DestinationBalance:
        """Deliveries by state; that all of them stand under one heading is told by the balance."""
        balance = self.ledger.balance("crm", ["main"], Window())
        parts = balance.delivered + balance.skipped + balance.parked + balance.under_way
        assert balance.ledger == parts == len(self.arrived), balance
        return balance

    def sent_between(self, since: timedelta, until: timedelta) -> int:
        begin = self.begin.timestamp()
        return sum(since.total_seconds() <= at - begin < until.total_seconds() for at in self.crm.sent)


@contextmanager
def day_in(folder: Path) -> Iterator[Day]:
    day = Day(folder)
    with capture_logs() as day.said:
        try:
            yield day
        finally:
            for worker in day.workers:
                worker.close()
            day.ledger.close()


def record(number: int, at: datetime, changed: datetime, phone: str, chance: Random) -> dict[str, Any]:
    started, updated = (f"{each.astimezone(ZONE):%Y-%m-%d %H:%M:%S}" for each in (at, changed))
    return {
        "uuid": f"{number:08x}-18d6-11f0-88c8-2f2b0aba51d7",
        "sn": f"account|{number}",
        "phone": phone,
        "started_at": started,
        "created_at": started,
        "updated_at": updated,
        "status": chance.choice("ABCD"),
        "mark": chance.choice("xyz"),
        "talktimes": chance.randrange(600),
        "source": f"task {number}",
    }


def memory_of_ours() -> int:
    """Bytes that are allocated by the product's own lines; the CRM is in this process too, and grows."""
    gc.collect()
    ours = tracemalloc.Filter(True, "*/bridge/*")
    theirs = tracemalloc.Filter(False, "*/bridge/sandbox/*")
    found = tracemalloc.take_snapshot().filter_traces((ours, theirs))
    return sum(each.size for each in found.traces)


def most_within(sent: list[float], seconds: float) -> int:
    """The most requests in any such time."""
    most, first = 0, 0
    for last, at in enumerate(sent):
        while sent[first] <= at - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def check_state(day: Day) -> None:
    """Every call in the CRM once, every contact as its policies make it of its calls."""
    contents = day.crm.state.contents()
    calls = {one["call_key"]: one for one in contents["calls"]}
    contacts = {one["phone"]: one for one in contents["contacts"]}
    assert len(calls) == len(contents["calls"]) == CALLS
    assert len(contacts) == len(contents["contacts"])
    newest: dict[str, tuple[str, dict[str, Any]]] = {}
    longest: Counter[str] = Counter()
    notes: dict[str, set[str]] = {}
    for found in day.ledger.list_calls([], CALLS + 1):
        state = day.ledger.show_call(found.id).record
        key, phone = state["uuid"], f"+86{state['phone']}"
        one = calls[key]
        assert (one["grade"], one["remark"]) == (state["status"], state["mark"])
        assert one["contact_id"] == contacts[phone]["id"]
        newest[phone] = max(
            newest.get(phone, ("", {})), (state["started_at"], dict(state)), key=lambda each: each[0]
        )
        longest[phone] = max(longest[phone], state["talktimes"])
        notes.setdefault(phone, set()).add(key)
    assert contacts.keys() == newest.keys()
    for phone, one in contacts.items():
        assert one["grade"] == newest[phone][1]["status"]
        lines = [line.split(" ")[0] for line in one["notes"].split("\n")]
        assert (len(lines), set(lines)) == (len(notes[phone]), notes[phone])
        assert one["longest"] >= longest[phone]


def test_every_call_is_delivered_once_on_a_day_with_a_six_hour_outage(tmp_path: Path) -> None:
    with day_in(tmp_path) as day:
        at_hours: dict[int, DestinationBalance] = {}
        memory: dict[int, int] = {}
        tracemalloc.start()
        try:
            for hour in range(1, 25):
                day.go_on(day.begin + hour * HOUR)
                at_hours[hour] = day.counts()
                day.said.clear()
                if hour in (4, 15, 24):
                    memory[hour] = memory_of_ours()
                assert at_hours[hour].parked == 0
                if hour == 15:
                    owed = day.ledger.counts().owed["crm"]
        finally:
            tracemalloc.stop()
        day.go_on(day.begin + DAY + HOUR)
        assert day.counts().delivered == CALLS
        check_state(day)
        check_outage(day, at_hours)
        check_backlog(day)
        assert most_within(day.crm.sent, WITHIN) <= RATE + WORKERS, "tokens are asked for beside the rate"
        grown = max(memory.values()) - memory[4]
        print("memory of ours: " + ", ".join(f"{held:,} bytes at {hour} h" for hour, held in memory.items()))
        print(f"owed at the end of the outage: {owed.lanes}")
        # Of what went lately every class remembers when, as its rates need: ten thousand times at most.
        assert grown < 500_000, memory


def check_outage(day: Day, at_hours: dict[int, DestinationBalance]) -> None:
    """One delivery at a time finds out whether the CRM is well; then the backlog is gone within limits."""
    in_outage = day.sent_between(DOWN_AT, UP_AT)
    probes = (UP_AT - DOWN_AT) / (LONGEST_PAUSE * 0.9)
    print(f"{CALLS} calls, {in_outage} requests in the outage, {len(day.crm.sent)} in all")
    print(f"under way by the hour: {[each.under_way for each in at_hours.values()]}")
    assert at_hours[15].under_way >= CALLS * 0.24
    assert in_outage <= (probes + 20) * QUICK_TRIES
    assert at_hours[20].under_way <= 5


def check_backlog(day: Day) -> None:
    """What came after the outage goes ahead of the backlog, and that drains the oldest first."""
    up_at = day.begin + UP_AT
    backlog = sorted(
        (day.arrived[key], key)
        for key, made_at in day.crm.made_at.items()
        if day.begin + DOWN_AT <= day.arrived[key] < up_at - LIVE_FOR and made_at >= up_at
    )
    drained_at = max(day.crm.made_at[key] for _, key in backlog)
    waits = [
        (day.crm.made_at[key] - at).total_seconds()
        for key, at in day.arrived.items()
        if up_at + LONGEST_PAUSE <= at < drained_at
    ]
    made = [day.crm.made_at[key] for _, key in backlog]
    out_of_order = sum(one > other for one, other in pairwise(made))
    drained = (drained_at - up_at).total_seconds() / 60
    print(f"backlog of {len(backlog)} gone {drained:.0f} min after the outage, {out_of_order} out of order")
    print(f"{len(waits)} calls came meanwhile, and waited {max(waits):.1f} s at most")
    assert len(waits) >= 20
    assert max(waits) < 30
    assert out_of_order <= 0.05 * len(backlog)
