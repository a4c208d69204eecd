"""The bench of the conformance suite: one source, one CRM server, one ledger and a simulated clock."""

import json
import random
import re
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from structlog.testing import capture_logs

from bridge.config.destination_files import DestinationFiles, load_pair
from bridge.crm.account import Account
from bridge.crm.connector import Connector, shipped_connectors
from bridge.crm.tokens import Tokens
from bridge.delivery.budget import Budget
from bridge.delivery.destination import Destination, Routes, SharedAccount
from bridge.delivery.locks import KeyLocks
from bridge.delivery.pipeline import DeliveryPipeline, PipelineSettings, Surroundings
from bridge.delivery.retry import RetryPolicy
from bridge.delivery.worker import Worker
from bridge.intake.judge import Judge
from bridge.intake.new_calls import SourceRules
from bridge.ledger import ProgressNote
from bridge.ledger.sqlite import SqliteLedger
from bridge.lib.clocks import Clocks
from bridge.lib.documents import document_of
from bridge.lib.toml_file import load_toml
from bridge.model.calls import Via
from bridge.record.arrival import arrival_of
from tests.fixtures.ledger_calls import filed_all
from tests.fixtures.origins import MAIN
from tests.servers.base import VendorServer
from tests.servers.clock import Clock
from tests.servers.wire import Logged

TOP = Path(__file__).parents[3]
EXAMPLE: dict[str, Any] = json.loads((TOP / "tests/data/callback.json").read_text("utf-8"))
PHONE = "15899770637"
OTHER_PHONE = "13800138000"
ZONE = ZoneInfo("Asia/Shanghai")
_COMPILED: dict[tuple[str, str], DestinationFiles] = {}
# Real daemons try for days; a quota may last one.
RETRY = RetryPolicy(timedelta(seconds=10), timedelta(minutes=5), timedelta(days=5))


@dataclass(frozen=True)
class ConnectorCase:
    """One connector, the server that stands for its CRM, and how the two call things.

    `name`: the contact's field that the starter mapping feeds from `call.name`; `phone`: the one that holds
    its number; `note`: the call's field that is fed from `call.remark`; `key`: the one that holds `call.key`.
    """

    connector: str
    server: Callable[[Clock], VendorServer]
    name: str
    phone: str
    note: str
    key: str
    contact_path: str
    """A regular expression of the requests (`path query-as-JSON`) that concern contacts."""
    forms: tuple[str, ...]
    """How people write +8615899770637 there, so that it is found all the same."""
    required: Mapping[str, Any] = field(default_factory=dict)
    """What a contact that a person makes has beside its number."""
    contact_key: str = ""
    """The contact's unique field that holds our key, where the CRM refuses a second one with it."""
    refreshes: bool = True
    """Whether a token that expired is renewed; else a person has to."""
    limit_wait: float | None = None
    """The connector's own wait at a rate limit, where the CRM does not say how long."""
    unique: bool = True
    """Whether the CRM itself knows our key at once, however far its search index lags."""
    upserts_calls: bool = False
    """Whether a call that a person deleted is silently made anew by the CRM's own upsert."""
    checks_links: bool = True
    """Whether the CRM refuses to link to what is not there."""
    written_as: Callable[[str], Any] = str
    """How the CRM holds a text that was sent."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """What the suite needs changed in the starter mapping: dotted path → value."""
    own: Path | None = None
    """A connector file instead of the shipped one."""
    starter: Path | None = None
    """A mapping instead of the starter mapping."""

    @property
    def connector_path(self) -> Path:
        """The connector's file."""
        return self.own or shipped_connectors()[self.connector]

    @property
    def mapping_path(self) -> Path:
        """The starter mapping."""
        return self.starter or TOP / f"mappings/{self.connector}.toml"


class BenchLedger(SqliteLedger):
    """`meanwhile` happens once, after the look-ups and before what makes something new is sent."""

    meanwhile: Callable[[], object] | None = None

    def note(self, notes: Sequence[ProgressNote]) -> None:
        """What must be on disk before a request that is not idempotent."""
        super().note(notes)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()


class ConformanceBench:
    """One ledger that feeds one CRM; `worker` is built here and nowhere else."""

    def __init__(
        self,
        folder: Path,
        case: ConnectorCase,
        server: VendorServer,
        clock: Clock,
        changes: Mapping[str, Any],
    ) -> None:
        self.case, self.server, self.clock = case, server, clock
        self._began = time.monotonic()
        self._exits = ExitStack()
        self._events = self._exits.enter_context(capture_logs())
        self.ledger = BenchLedger(folder / "ledger.db", create=True)
        mapping = folder / "mapping.toml"
        mapping.write_text(changed(case.mapping_path, {**case.changes, **changes}), "utf-8")
        pair = compiled(mapping.read_text("utf-8"), mapping, case.connector_path)
        assert pair.problems == (), [str(problem) for problem in pair.problems]
        assert pair.mapping is not None
        assert pair.connector is not None
        self.connector: Connector = pair.connector
        account = account_of(pair.connector, server)
        self.destination = Destination("crm", pair.mapping, pair.connector, account)
        self._judge = Judge(
            self.ledger,
            {"main": SourceRules(MAIN, ("crm",), pair.mapping.fields_read(MAIN.dialect))},
            destinations_since={},
        )
        tokens = Tokens(account.name, pair.connector.auth.tokens, account.secrets, self.ledger, clock)
        self._account = SharedAccount(tokens, Budget(pair.connector.file.limits, self._flowing))
        self._locks = KeyLocks()
        self._stop = threading.Event()
        # No waiting inside an attempt: what must wait is due later, and the clock is moved.
        self._stop.set()
        self._fed = 0
        self._pipeline = DeliveryPipeline(
            self.ledger,
            Routes(
                {"main": MAIN},
                {"crm": self.destination},
                {self.destination.account.name: self._account},
            ),
            self._locks,
            PipelineSettings(RETRY),
            Surroundings(
                Clocks(self.clock, self.clock),
                random.Random(7),  # noqa: S311 -- spreads retries, guards nothing
                self._stop,
            ),
        )
        self.worker = self.new_worker()

    def _flowing(self) -> datetime:
        """The budget waits within a request, so its time must not stand still."""
        return self.clock.now + timedelta(seconds=time.monotonic() - self._began)

    def follow(self, other: "ConformanceBench | None") -> None:
        """Go on where another one has ended: what the platform sends is newer."""
        self._fed = other._fed if other is not None else 0

    def new_worker(self) -> Worker:
        """One more worker of the same daemon."""
        worker = self._pipeline.new_worker()
        self._exits.callback(worker.close)
        return worker

    # -- what happens -----------------------------------------------------------------
    def feed(self, number: int = 1, **changes: Any) -> None:
        """The platform pushes call `number`, newer than all before."""
        self._fed += 1
        uuid = uuid_of(number)
        at = datetime(2025, 4, 14, 10, 20, 50) + timedelta(minutes=self._fed)  # noqa: DTZ001
        record = {
            **EXAMPLE,
            "id": 1000 + number,
            "sn": f"account|{number}",
            "uuid": uuid,
            "base_info": f"{uuid}out",
            "started_at": f"2025-04-14 10:{19 + number}:13",
            "updated_at": f"{at:%Y-%m-%d %H:%M:%S}",
            **changes,
        }
        body = json.dumps(record).encode()
        filed_all(self.ledger, [arrival_of(MAIN, Via.CALLBACK, body, self.clock())])
        assert self._judge.judge_waiting(self.clock()) == 1

    def attempt(self) -> None:
        """Deliver what is due now; the clock stands still."""
        while self.worker.deliver_one(self.clock()):
            pass

    def drain(self, within: timedelta = timedelta(hours=3)) -> None:
        """Deliver until nothing is due any more, the clock running to what waits."""
        ends = self.clock.now + within
        self.attempt()
        while due := [moment(each["due_at"]) for each in self.deliveries() if each["state"] == "due"]:
            then = max(min(due), self.clock.now + timedelta(seconds=1))
            if then > ends:
                return
            self.clock.now = then
            self.attempt()

    def send(self, number: int = 1, **changes: Any) -> list[Logged]:
        """Feed a call and deliver it; the requests that took."""
        before = len(self.server.log())
        self.feed(number, **changes)
        self.drain()
        assert self.state(number) == "delivered", self.reason(number)
        return self.server.log()[before:]

    # -- what is seen -----------------------------------------------------------------
    def deliveries(self) -> list[dict[str, Any]]:
        """All deliveries, in the order in which the calls came."""
        rows: list[dict[str, Any]] = [
            document_of(row) for row in self.ledger.list_deliveries(None, None, 100)
        ]
        return sorted(rows, key=lambda row: int(row["id"]))

    def delivery(self, number: int = 1) -> dict[str, Any]:
        """The delivery of one call."""
        return next(row for row in self.deliveries() if row["key"] == uuid_of(number))

    def state(self, number: int = 1) -> str:
        """Its state."""
        return str(self.delivery(number)["state"])

    def reason(self, number: int = 1) -> str:
        """Why it is in it."""
        return str(self.delivery(number)["reason"] or "")

    def wait(self, number: int = 1) -> float:
        """The seconds until it is tried again."""
        return (moment(self.delivery(number)["due_at"]) - self.clock.now).total_seconds()

    def contact(self, number: int | None = None) -> dict[str, Any]:
        """The only contact; or the only one of a call that has a number of its own."""
        digits = "" if number is None else phone_of(number)
        (only,) = [
            each
            for each in self.server.contacts()
            if digits in re.sub(r"\D", "", str(each.get(self.case.phone, "")))
        ]
        return only

    def call(self, number: int = 1) -> dict[str, Any]:
        """The only call object of one call."""
        (only,) = [each for each in self.server.calls() if each.get(self.case.key) == uuid_of(number)]
        return only

    def settled(self, calls: int = 1) -> None:
        """Everything is there exactly once, and linked."""
        states = {self.state(number): self.reason(number) for number in range(1, calls + 1)}
        assert set(states) == {"delivered"}, states
        contact = self.contact()
        assert len(self.server.calls()) == calls
        for number in range(1, calls + 1):
            assert self.call(number)["contact_ids"] == [contact["id"]]

    def alone(self, number: int) -> None:
        """A call with a number of its own is there exactly once, and linked."""
        assert self.state(number) == "delivered", self.reason(number)
        assert self.call(number)["contact_ids"] == [self.contact(number)["id"]]

    def writes(self, since: int = 0) -> list[Logged]:
        """The requests that write."""
        return [entry for entry in self.server.log()[since:] if entry.kind == "write"]

    def close(self) -> None:
        """Close all, after a last look at what must never be shown and at what the vendor does not allow."""
        shown = self._messages()
        self._exits.close()
        self.ledger.close()
        for secret in self.server.secrets.values():
            assert secret not in shown
        for phone in (PHONE, OTHER_PHONE, "158 9977 06", "158-9977-06", "138001380", "158997706"):
            assert phone not in shown
        assert self.server.violations == []

    def _messages(self) -> str:
        attempts = [self.ledger.show_call(row).attempts for row in range(1, len(self.deliveries()) + 1)]
        reasons = [row["reason"] for row in self.deliveries()]
        return json.dumps([reasons, attempts, self._events], default=str, ensure_ascii=False)


@contextmanager
def bench_of(
    folder: Path, case: ConnectorCase, changes: Mapping[str, Any] | None = None
) -> Iterator[ConformanceBench]:
    """A bench with a server of its own."""
    clock = Clock()
    server = case.server(clock)
    server.__enter__()
    try:
        with bench_on(folder, case, server, clock, changes) as bench:
            yield bench
    finally:
        # It takes a fifth of a second to stop, and nobody needs to wait for it; its complaints come anyway.
        threading.Thread(target=server.__exit__, args=(None, None, None)).start()


@contextmanager
def bench_on(
    folder: Path,
    case: ConnectorCase,
    server: VendorServer,
    clock: Clock,
    changes: Mapping[str, Any] | None = None,
    *,
    after: ConformanceBench | None = None,
) -> Iterator[ConformanceBench]:
    """A bench with an empty ledger on a server that runs already; `after`: with the ledger of that one."""
    folder.mkdir(exist_ok=True)
    bench = ConformanceBench(folder, case, server, clock, changes or {})
    bench.follow(after)
    try:
        yield bench
    except BaseException:
        bench._exits.close()
        bench.ledger.close()
        raise
    bench.close()


def compiled(text: str, mapping: Path, connector: Path) -> DestinationFiles:
    """A mapping and its connector; compiled once for all benches that use the same."""
    place = (text, connector.read_text("utf-8"))
    if place not in _COMPILED:
        _COMPILED[place] = load_pair(mapping, connector)
    return _COMPILED[place]


def account_of(connector: Connector, server: VendorServer) -> Account:
    """What the configuration would give for this server."""
    settings = {
        name: server.settings.get(name, written.default or "")
        for name, written in connector.file.settings.items()
    }
    secrets = {name: server.secrets[name] for name in connector.secrets}
    return Account("crm account", server.url, secrets, settings, 5.0)


def uuid_of(number: int) -> str:
    """The name, and so the key, of call `number`."""
    return f"{number:08x}-18d6-11f0-88c8-2f2b0aba51d7"


def phone_of(number: int) -> str:
    """A number of its own for each call."""
    return f"138001380{number:02}"


def moment(text: str) -> datetime:
    """A time of the ledger."""
    return datetime.fromisoformat(text)


def changed(path: Path, changes: Mapping[str, Any]) -> str:
    """A TOML file with other values at dotted paths; None removes. The mapping's own tests are left out."""
    data = tomllib.loads(path.read_text("utf-8"))
    data.pop("tests", None)
    for place, value in changes.items():
        *parents, last = place.split(".")
        table = data
        for part in parents:
            inner = table.setdefault(part, {})
            if not isinstance(inner, dict):
                # `field = "text"` is short for a table.
                inner = table[part] = {"value": inner}
            table = inner
        if value is None:
            table.pop(last, None)
        else:
            table[last] = value
    return "".join(f"{json.dumps(name)} = {as_toml(value)}\n" for name, value in data.items())


def as_toml(value: Any) -> str:
    """A value as TOML on one line."""
    if isinstance(value, dict):
        pairs = (f"{json.dumps(name)} = {as_toml(each)}" for name, each in value.items())
        return "{ " + ", ".join(pairs) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(as_toml(each) for each in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def planted(folder: Path, case: ConnectorCase, old: str, new: str) -> Path:
    """A copy of a connector with one mistake."""
    text = case.connector_path.read_text("utf-8")
    assert old in text, old
    path = folder / "planted.toml"
    path.write_text(text.replace(old, new), "utf-8")
    Connector(load_toml(path))
    return path
