"""A world for deliveries: one ledger file, two workers, a CRM in memory, a clock, and all that can go wrong.

Workers run in threads of their own, but only one at a time and from request to request: a test says
who goes on. A crash is an exception that nothing catches; what was in memory is dropped, and the file
opened again.
"""

import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import unquote
from zoneinfo import ZoneInfo

import httpx

from bridge.config.destination_files import load_pair
from bridge.crm.account import Account
from bridge.crm.tokens import Tokens
from bridge.delivery.call_comparison import ReplayTarget
from bridge.delivery.destination import Destination, Routes, SharedAccount
from bridge.delivery.replay import replay
from bridge.delivery.retry import RetryPolicy
from bridge.delivery.worker import WorkerSettings
from bridge.intake.judge import Judge, SourceRules
from bridge.ledger import Window
from bridge.lib.clocks import Clocks
from bridge.lib.documents import document_of
from bridge.lib.errors import LedgerError
from bridge.lib.stored_times import bounded
from bridge.mapping.event_order import event_of
from bridge.model.calls import Via
from bridge.model.crm_objects import SyncedObject
from bridge.model.deliveries import Lease, LockKey, Settlement
from bridge.model.plan import Plan, PlannedObject
from bridge.model.write_policy import WritePolicy
from bridge.record.arrival import arrival_of
from bridge.record.call import Call
from bridge.sandbox.search_crm import PlainState, TokenDesk
from bridge.sandbox.upsert_crm import Refusal
from tests.delivery.simulated_parts import Crash, Fuse, Parts, Said, Sleep, Trouble, Walker, check_contact
from tests.fixtures.ledger_calls import call_keys, filed_all
from tests.fixtures.origins import MAIN, named
from tests.servers.clock import Clock, JumpingClock

DATA = Path(__file__).parents[1] / "data" / "plain"
ZONE = ZoneInfo("Asia/Shanghai")
LAG = timedelta(milliseconds=300)
RETRY = RetryPolicy(timedelta(seconds=10), timedelta(minutes=5), timedelta(days=5))
ORIGIN = MAIN
SECRET = "secret-of-the-world"
PHONES = ("15899770631", "15899770632", "15899770633")
UNFINISHED = ("due", "leased")
Contents = dict[str, list[dict[str, Any]]]


class Network(httpx.BaseTransport):
    """The CRM in memory."""

    def __init__(self, world: "World") -> None:
        self._world = world

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """One request, with what goes wrong with it."""
        return self._world.exchange(request)


_PAIRS: dict[str, Destination] = {}


def destination_of(folder: Path, connector: str, mapping: str) -> Destination:
    """A destination of two texts, compiled once."""
    place = f"{connector}\0{mapping}"
    if place not in _PAIRS:
        folder.mkdir(exist_ok=True)
        paths = folder / "mapping.toml", folder / "connector.toml"
        for path, text in zip(paths, (mapping, connector), strict=True):
            path.write_text(text, "utf-8")
        pair = load_pair(*paths)
        assert pair.mapping is not None, [str(each) for each in pair.problems]
        assert pair.connector is not None
        account = Account("crm account", "http://crm.test", {"token": SECRET}, {}, 5.0)
        _PAIRS[place] = Destination("crm", pair.mapping, pair.connector, account)
    return _PAIRS[place]


class World:
    """One source, one CRM; `folder` is the disk, which outlives a crash."""

    def __init__(
        self,
        folder: Path,
        *,
        batches: bool = False,
        on_deleted: str = "park",
        parts: Parts | None = None,
        seed: int = 7,
        sources: Sequence[str] = ("main",),
    ) -> None:
        self.sources = list(sources)
        self.folder, self.parts = folder, parts or Parts()
        self.time = Clock()
        self.clock = JumpingClock(self.time)
        """Ours. The CRM has one of its own, which nobody puts back."""
        self.crm = PlainState(self.time, LAG)
        self.desk = TokenDesk(SECRET)
        self.happened: Counter[str] = Counter()
        self.acknowledged: set[str] = set()
        self.violations: list[str] = []
        self.requests: list[tuple[str, str, Any]] = []
        self.troubles: list[Trouble] = []
        self.said: dict[str, Said] = {}
        self.deleted: set[str] = set()
        self.skipped: set[str] = set()
        """Calls that a person skipped."""
        self.fed: dict[int, dict[str, LockKey]] = {}
        """What each delivery feeds, as it was settled."""
        self.in_hand: dict[int, set[int]] = {}
        """The deliveries in the hands of each worker's thread."""
        self.forgot = False
        self.changed_mapping = False
        self.not_before: datetime | None = None
        self.late_effects = False
        self._batches, self._on_deleted = batches, on_deleted
        self._rng = Random(seed)  # noqa: S311 -- spreads retries, guards nothing
        self._in_flight: dict[int, set[LockKey]] = {}
        self._walkers = [Walker(lambda n=number: self._deliver_one(n)) for number in range(2)]  # type: ignore[misc]
        self.fuse = Fuse()
        self.sent = 0
        self._open(create=True)

    # -- a daemon's life ---------------------------------------------------------------
    def _open(self, *, create: bool = False) -> None:
        self.fuse = Fuse()
        self.ledger = self.parts.ledger(self.folder / "ledger.db", create=create)
        self.ledger.fuse, self.ledger.settled = self.fuse, self._settled
        self.ledger.in_hand, self.ledger.fed = self.in_hand, self._feeds
        self.in_hand.clear()
        connector = (DATA / "connector.toml").read_text("utf-8")
        if self._batches:
            connector += (DATA / "batches.toml").read_text("utf-8")
        self.destination = destination_of(
            self.folder / "files", self.parts.connector(connector), self._mapping()
        )
        self.ledger.start_destinations({source: ["crm"] for source in self.sources}, self.clock())
        rules = SourceRules(MAIN, ("crm",), self.destination.mapping.fields_read(MAIN.dialect))
        since = self.ledger.skipped_before()
        self._judge = Judge(self.ledger, dict.fromkeys(self.sources, rules), destinations_since=since)
        offset = self.clock.offset

        def steady() -> datetime:
            return self.time.now + offset

        account = self.destination.account
        tokens = Tokens(
            account.name, self.destination.connector.auth.tokens, account.secrets, self.ledger, self.clock
        )
        self.budget = self.parts.budget(self.destination.connector.file.limits, self.clock)
        self.locks = self.parts.locks()
        shared = SharedAccount(tokens, self.budget)
        self._workers = [
            self.parts.worker(
                self.ledger,
                Routes(
                    dict.fromkeys(self.sources, ORIGIN), {"crm": self.destination}, {account.name: shared}
                ),
                self.locks,
                WorkerSettings(RETRY),
                clocks=Clocks(self.clock, steady),
                rng=self._rng,
                stop=Sleep(self.clock),
                network=lambda: Network(self),
            )
            for _ in self._walkers
        ]
        self.ledger.release_leases(steady())
        for delivery_id, lines in self.ledger.in_doubt().items():
            self.locks.acquire(delivery_id, lines, 0)
            self.locks.hold_until(delivery_id, self.clock())

    def _mapping(self) -> str:
        text = (DATA / "mapping.toml").read_text("utf-8").replace('"park"', f'"{self._on_deleted}"')
        if self.changed_mapping:
            text = text.replace(
                'grade = "{{ call.grade }}"',
                'grade = { value = "{{ call.grade }}", map = { A = "hot", B = "warm", C = "cold" } }',
                1,
            ).replace('remark = { value = "{{ call.remark }}", write = "unless_edited" }\n', "")
        return text

    def restart(self, *, late_effects: bool = False) -> None:
        """The process ends where it stands, and another one begins on the same file."""
        self.fuse.burnt, self.late_effects = True, late_effects
        for walker in self._walkers:
            if walker.under_way:
                self.happened["crash"] += 1
                with suppress(Crash):
                    walker.step()
        assert not any(walker.under_way for walker in self._walkers)
        for worker in self._workers:
            worker.close()
        self.ledger.close()
        self.not_before, self.late_effects = None, False
        self._in_flight.clear()
        self.happened["restart"] += 1
        self._open()

    def attempt(self, act: Callable[[], object]) -> None:
        """Do something; a crash in it is followed by a restart."""
        try:
            act()
        except Crash:
            self.happened["crash"] += 1
            self.restart(late_effects=bool(self.sent % 2))
        except LedgerError:
            self.happened["busy"] += 1

    def close(self) -> None:
        """No daemon any more."""
        self.fuse.burnt = True
        for walker in self._walkers:
            with suppress(Crash):
                while walker.under_way:
                    walker.step()
            walker.end()
        for worker in self._workers:
            worker.close()
        self.ledger.close()

    # -- steps ---------------------------------------------------------------------------
    def record(self, body: Mapping[str, Any], via: Via = Via.CALLBACK, source: str = "main") -> None:
        """The platform tells of a call, and is answered."""
        payload = json.dumps(body).encode()
        filed_all(self.ledger, [arrival_of(named(source), via, payload, self.clock())])
        self.acknowledged.add(body["uuid"].lower())

    def judge(self) -> int:
        """Verdicts on what waits."""
        return self._judge.judge_waiting(self.clock())

    def go_on(self, number: int, requests: int = 10_000) -> None:
        """One worker goes on for so many requests, or to the end of its attempt."""
        walker = self._walkers[number]
        for _ in range(2 * requests):
            walker.step()
            if not walker.under_way:
                return

    @property
    def under_way(self) -> list[int]:
        """The workers that have been interrupted."""
        return [number for number, walker in enumerate(self._walkers) if walker.under_way]

    def _deliver_one(self, number: int) -> bool:
        return self._workers[number].deliver_one(self.clock())

    def drain(self, rounds: int = 400) -> None:
        """Nothing new goes wrong, and time passes until nothing is due."""
        for number in self.under_way:
            self.attempt(lambda n=number: self.go_on(n))  # type: ignore[misc]
        self.fuse.left = self.fuse.busy = None
        for number in range(rounds):
            while self.judge():
                pass
            for walker, _ in enumerate(self._walkers):
                self.go_on(walker)
            if any(each.busy for each in self._walkers):
                continue
            due = [each["due_at"] for each in self.deliveries() if each["state"] in UNFINISHED]
            if not due:
                return
            now = self.clock.now
            times = [bounded(datetime.fromisoformat(at), now) or now for at in due if at is not None]
            wait = min(times) - now
            # What waits for a line asks again every second; a clock put back may hold a pause for a day.
            self.clock.pass_by(max(wait.total_seconds(), 1.0 if number < rounds / 2 else 1800.0))
        raise AssertionError(f"still under way: {self.deliveries()}")

    def jump(self, by: timedelta) -> None:
        """Somebody puts the system's clock forward or back."""
        self.happened["jump"] += 1
        self.clock.now += by
        # A pause that is told by the clock ends with it, and the CRM says it again.
        self.not_before = None

    def skip(self, which: int) -> None:
        """A person says that a call is not to be delivered, whatever comes."""
        rows = self.deliveries()
        if not rows:
            return
        row = rows[which % len(rows)]
        self.happened["skip"] += 1
        self.happened["skip in doubt"] += row["id"] in self.ledger.in_doubt() and row["state"] == "due"
        held = self.ledger.hold([row["id"]], "", self.clock(), skip=True)
        for delivery_id in held.now:
            self.locks.release(delivery_id)
        self.skipped.update([row["key"]] if held.now or held.later else [])

    def replay(self, *, force: bool) -> dict[str, Any]:
        """A person asks for what differs, or for all."""
        self.happened["replay"] += 1
        self.forgot = self.forgot or force
        target = ReplayTarget(
            "crm",
            self.destination.mapping,
            self.destination.connector.objects,
            self.destination.account.name,
            self.sources,
        )
        origins = dict.fromkeys(self.sources, ORIGIN)
        return replay(self.ledger, target, origins, Window(), self.clock(), force=force)

    # -- what people do in the CRM ----------------------------------------------------------
    def contact_of(self, phone: str) -> dict[str, Any] | None:
        """The CRM's contact with a number."""
        found = [one for one in self.crm.contents()["contacts"] if one["phone"] == phone]
        return found[0] if found else None

    def edit(self, phone: str, name: str, value: str) -> None:
        """A person edits a field of a contact."""
        one = self.contact_of(phone)
        if one is None:
            return
        self.happened["hand edit"] += 1
        self.crm.carry_out("PATCH", ["contacts", one["id"]], {}, {name: value})
        said = self.said.setdefault(phone, Said())
        said.by_hand[name] = value
        if self.under_way:
            said.unsure.add(name)
        else:
            said.unsure.discard(name)

    def delete(self, phone: str) -> None:
        """A person deletes a contact."""
        one = self.contact_of(phone)
        if one is None:
            return
        self.happened["deletion"] += 1
        self.crm.carry_out("DELETE", ["contacts", one["id"]], {}, None)
        self.deleted.add(phone)
        self.said.pop(phone, None)

    # -- the network ---------------------------------------------------------------------
    def exchange(self, request: httpx.Request) -> httpx.Response:
        """A request on its way through the network, the CRM, and back."""
        self.fuse.tick()
        self.sent += 1
        segments = [unquote(part) for part in request.url.raw_path.decode().split("?")[0].split("/")[1:]]
        content = json.loads(request.content) if request.content else None
        self.requests.append((request.method, request.url.path, content))
        if segments == ["token"]:
            return httpx.Response(200, json=self.desk.issue(content)[1])
        me = threading.get_ident()
        if self.not_before is not None and self.time.now < self.not_before:
            self.violations.append("a request before the Retry-After was over")
        held = self.locks.holders()
        for delivery_id in self.in_hand.get(me, ()):
            fed = set(self.fed.get(delivery_id, {}).values())
            # One that is skipped asks nothing, and needs no lines.
            if delivery_id in held.values() and any(held.get(line) != delivery_id for line in fed):
                self.violations.append(f"delivery {delivery_id} has fed {fed}, and holds only {held}")
        reads = request.method == "GET" or segments[-1] == "search"
        walker = self._walker()
        lines = self._lines_of(segments, request.url.params, content)
        self._arrive(id(walker), lines)
        trouble = self._trouble("read" if reads else "write")
        try:
            self._pause(walker)
        except Crash:
            # It is on the wire, and may arrive though its sender is dead.
            if self.late_effects:
                self._effect(request, segments, content)
            raise
        response = self._answer(request, segments, content, trouble)
        self._pause(walker)
        self._in_flight.pop(id(walker), None)
        self.fuse.tick()
        if "retry-after" in response.headers:
            self.not_before = self.time.now + timedelta(seconds=int(response.headers["retry-after"]))
        if trouble in ("lost", "cut"):
            raise httpx.ReadError("the connection was lost", request=request)
        return response

    def _answer(
        self, request: httpx.Request, segments: list[str], content: Any, trouble: str
    ) -> httpx.Response:
        if not self.desk.takes(request.headers["authorization"].removeprefix("Bearer ")):
            return httpx.Response(401, json={"error": {"code": "unauthorized", "message": "expired"}})
        match trouble:
            case "cut":
                return httpx.Response(204)
            case "429" | "503":
                wait = 30 if trouble == "503" else 7
                return httpx.Response(int(trouble), headers={"retry-after": str(wait)})
            case "422" | "500" | "502":
                return httpx.Response(int(trouble))
        response = self._effect(request, segments, content)
        return httpx.Response(502 if trouble == "502 late" else 500) if "late" in trouble else response

    def _effect(self, request: httpx.Request, segments: list[str], content: Any) -> httpx.Response:
        before = {one["id"]: dict(one) for one in self.crm.contents()["contacts"]}
        try:
            status, answer = self.crm.carry_out(
                request.method, segments, dict(request.url.params.items()), content
            )
        except Refusal as refusal:
            error = {"code": refusal.code, "message": refusal.message, "field": refusal.field}
            return httpx.Response(refusal.status, json={"error": error})
        for one in self.crm.contents()["contacts"]:
            if one["id"] not in before:
                self.said[one["phone"]] = Said()
            owner = self.locks.holders().get(("crm account", "contact", one["phone"]))
            if request.method != "GET" and owner is not None:
                written = self.said.setdefault(one["phone"], Said()).open.setdefault(owner, {})
                was = before.get(one["id"], {})
                written |= {name: value for name, value in one.items() if was.get(name) != value}
        return httpx.Response(status, json=answer)

    def _trouble(self, kind: str) -> str:
        for planned in list(self.troubles):
            if planned.strikes(kind):
                self.troubles.remove(planned)
                self.happened[planned.kind] += 1
                return planned.kind
        return ""

    def _walker(self) -> Walker | None:
        here = threading.current_thread()
        return next((walker for walker in self._walkers if walker.thread is here), None)

    def _pause(self, walker: Walker | None) -> None:
        if walker is not None:
            walker.pause()
            if self.fuse.burnt:
                raise Crash

    def _arrive(self, who: int, lines: set[LockKey]) -> None:
        for other, held in self._in_flight.items():
            if other != who and held & lines:
                self.violations.append(f"two requests of one line at once: {held & lines}")
        self._in_flight[who] = lines

    def _lines_of(self, segments: list[str], query: Mapping[str, str], content: Any) -> set[LockKey]:
        kind = segments[0]
        key = "phone" if kind == "contacts" else "call_key"
        by_id = {one["id"]: one[key] for one in self.crm.contents()[kind]}
        items = [query, content or {}, *((content or {}).get("items") or [])]
        keys = {item[key] for item in items if key in item}
        keys |= {by_id[part] for part in (*segments, *(item.get("id") for item in items)) if part in by_id}
        return {("crm account", kind, each) for each in keys}

    # -- what should be -------------------------------------------------------------------
    def _settled(self, lease: Lease, settlement: Settlement) -> None:
        call = Call.of(lease.values, lease.key, named(lease.source))
        plan = self.destination.mapping.plan(call)
        if not isinstance(plan, Plan):
            return
        done = {each.object for each in settlement.done}
        self._feeds(lease, settlement.done)
        for planned in plan.objects:
            if planned.name in done and planned.name == "contact":
                self._said_of(planned, event_of(call, lease.first_seen_at), lease.key)
                self.said[str(planned.key["phone"])].settle(lease.delivery_id, planned.fields.keys())

    def _feeds(self, lease: Lease, done: Sequence[SyncedObject]) -> None:
        lines = {each.object: ("crm account", each.type, each.key) for each in done}
        self.fed.setdefault(lease.delivery_id, {}).update(lines)

    def _said_of(self, planned: PlannedObject, event: str, key: str) -> None:
        said = self.said.setdefault(str(planned.key["phone"]), Said())
        for name, each in planned.fields.items():
            if each.write in (WritePolicy.ALWAYS, WritePolicy.UNLESS_EDITED):
                before = said.newest.get(name)
                if before is not None and event < before[0]:
                    continue
                if each.write is WritePolicy.ALWAYS and before is not None and before[1] != each.value:
                    if name in said.unsure:
                        # It may have been written before the person edited it, and settled after.
                        said.unsure.discard(name)
                    else:
                        said.by_hand.pop(name, None)
                said.strayed.pop(name, None)
                said.newest[name] = (event, each.value)
            elif each.value is not None:
                said.every.setdefault(name, []).append(
                    key if each.write is WritePolicy.APPEND else each.value
                )

    def deliveries(self) -> list[dict[str, Any]]:
        """All deliveries as they stand."""
        return [document_of(row) for row in self.ledger.list_deliveries(None, None, 100)]

    def check(self) -> None:
        """What must hold at every moment."""
        assert not self.violations, self.violations
        keys = [key for source in self.sources for key in call_keys(self.ledger, source)]
        assert self.acknowledged <= set(keys)
        contents = self.crm.contents()
        for kind, key in (("contacts", "phone"), ("calls", "call_key")):
            several = {each: n for each, n in Counter(one[key] for one in contents[kind]).items() if n > 1}
            assert not several, f"more than one of {kind}: {several}"
        balance = self.ledger.balance("crm", self.sources, Window())
        parts = balance.delivered + balance.skipped + balance.parked + balance.under_way
        assert balance.ledger == parts == len(keys), balance

    def check_quiet(self) -> None:
        """What must hold once all is done."""
        self.check()
        rows = self.deliveries()
        assert {row["key"] for row in rows} >= self.acknowledged
        for row in rows:
            assert row["state"] in ("delivered", "skipped", "parked"), row
            assert (row["key"] in self.skipped) <= (row["state"] == "skipped"), row
            if row["state"] == "parked":
                if self.happened["jump"] and "given up" in row["reason"]:
                    # The clock was put forward by more than the patience, after many tries.
                    continue
                assert self.deleted, row
                assert self._on_deleted == "park", row
                assert "deleted" in row["reason"], row
        contents = self.crm.contents()
        contacts = {one["phone"]: one for one in contents["contacts"]}
        for phone, one in contacts.items():
            if phone in self.said:
                deleted = phone in self.deleted
                check_contact(phone, one, self.said[phone], deleted=deleted, forgot=self.forgot)
        calls = {one["call_key"]: one for one in contents["calls"]}
        for row in rows:
            if row["state"] == "delivered":
                self._check_call(row, calls.get(row["key"]), contacts)

    def _check_call(
        self, row: Mapping[str, Any], one: Mapping[str, Any] | None, contacts: Mapping[str, Mapping[str, Any]]
    ) -> None:
        assert one is not None, f"missing: {row}"
        assert row["delivered"] == row["wanted"], row
        (found,) = self.ledger.list_calls([row["key"]], 2)
        state = self.ledger.show_call(found.id).record
        phone = state["phone"]
        expected = {"grade": state["status"], "remark": state["mark"], "talk_seconds": state["talktimes"]}
        held = {name: one.get(name) for name in expected}
        assert held == expected, f"call {row['key']}: {held}, expected {expected}"
        contact = contacts.get(f"+86{phone}")
        if contact is not None and f"+86{phone}" not in self.deleted:
            assert one["contact_id"] == contact["id"], f"call {row['key']} is linked to {one['contact_id']}"


def body_of(number: int, stamp: int, phone: str, **fields: Any) -> dict[str, Any]:
    """A small record of call `number`, changed at minute `stamp`."""
    uuid = f"{number:08x}-18d6-11f0-88c8-2f2b0aba51d7"
    changed = datetime(2026, 11, 20, 8) + timedelta(minutes=stamp)  # noqa: DTZ001 -- as the platform writes it
    started = datetime(2026, 11, 20, 7) + timedelta(minutes=number * 7 % 5)  # noqa: DTZ001
    return {
        "uuid": uuid,
        "sn": f"account|{number}",
        "phone": phone,
        "started_at": f"{started:%Y-%m-%d %H:%M:%S}",
        "created_at": f"{started:%Y-%m-%d %H:%M:%S}",
        "updated_at": f"{changed:%Y-%m-%d %H:%M:%S}",
        **fields,
    }
