"""What the tests of connectors share: a CRM of a few lines behind a socket, and a ledger beside it."""

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit
from zoneinfo import ZoneInfo

from bridge.crm.client import Crm
from bridge.crm.connector import Connector
from bridge.crm.rendering import Account
from bridge.crm.tokens import Tokens
from bridge.delivery.lookup import Memory
from bridge.delivery.plan_sync import Effect, ask_alone
from bridge.intake.judge import Judge, SourceRules
from bridge.ledger import Note
from bridge.ledger.sqlite import SqliteLedger
from bridge.lib.errors import DeliveryError, Transient
from bridge.lib.toml_file import TomlFile
from bridge.model.calls import DeliveryState, Lease, Settlement, Via
from bridge.model.crm_state import Progress, Remembered
from bridge.model.plan import Plan, PlannedField, PlannedObject
from bridge.record.arrival import arrival_of

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
ZONE = ZoneInfo("Asia/Shanghai")
Reply = tuple[int, Any, Mapping[str, str]]
HANG_UP: Reply = (0, None, {})
"""In place of an answer: the connection is closed."""


@dataclass
class Seen:
    """One request as it arrived; names of headers in lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw) if self.raw else None

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.raw.decode()))


Answering = Callable[[Seen], Reply]


@dataclass
class Server:
    """Answers as `answer` says; `log` is what came."""

    url: str = ""
    answer: Answering = lambda _seen: (200, {}, {})
    log: list[Seen] = field(default_factory=list)

    def told(self) -> list[str]:
        """The requests in short, since this was last asked."""
        told = [f"{seen.method} {seen.path}" for seen in self.log]
        self.log.clear()
        return told


@contextmanager
def serving() -> Iterator[Server]:
    """A server on loopback."""
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _all(self) -> None:
            parts = urlsplit(self.path)
            raw = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            query = dict(parse_qsl(parts.query, keep_blank_values=True))
            seen = Seen(self.command, unquote(parts.path), query, headers, raw)
            server.log.append(seen)
            status, body, more = server.answer(seen)
            if status == 0:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            text = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response_only(status)
            for name, value in more.items():
                self.send_header(name, value)
            if "content-length" not in {name.lower() for name in more}:
                self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = do_PATCH = _all  # noqa: N815 -- http.server's names

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        httpd.daemon_threads = True
        server.url = f"http://127.0.0.1:{httpd.server_port}"
        thread = threading.Thread(target=lambda: httpd.serve_forever(0.01), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            httpd.shutdown()
            thread.join()


@cache
def connector_of(text: str) -> Connector:
    """A connector of a text: compiled once, for it takes longer than most tests."""
    return Connector(TomlFile(Path("own.toml"), text))


class NoStore:
    """Keeps tokens as long as it lives."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}
        self.saves: list[dict[str, Any]] = []

    def load_token(self, account: str) -> Mapping[str, Any] | None:
        found = self.kept.get(account)
        return None if found is None else dict(json.loads(found))

    def save_token(self, account: str, saved: Mapping[str, Any]) -> None:
        self.kept[account] = json.dumps(saved)
        self.saves.append(json.loads(self.kept[account]))


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def tick(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def crm_of(
    connector: Connector,
    url: str,
    secrets: Mapping[str, str] | None = None,
    *,
    tokens: Tokens | None = None,
    clock: Clock | None = None,
    settings: Mapping[str, str] | None = None,
    timeout: float = 5.0,
) -> Crm:
    """A client for one account."""
    clock = clock or Clock()
    account = Account("own", url, secrets or {}, settings or {}, timeout)
    if tokens is None:
        tokens = Tokens("own", connector.auth.tokens, account.secrets, NoStore(), clock)
    return Crm(connector, account, tokens, clock)


def planned(name: str, key: Mapping[str, Any], fields: Mapping[str, Any], **more: Any) -> PlannedObject:
    """An object; a field is a value, or a pair of value and policy."""
    made = {
        field_name: PlannedField(*content) if isinstance(content, tuple) else PlannedField(content)
        for field_name, content in fields.items()
    }
    return PlannedObject(name, name, key, made, **more)


class LeaseMemory:
    """What one attempt remembers, in the ledger."""

    def __init__(self, ledger: SqliteLedger, lease: Lease, plan: Plan) -> None:
        self._ledger, self._lease = ledger, lease
        self.left = dict(lease.progress)
        self._known = ledger.recall(lease, "own", plan.objects)

    def recall(self, planned: PlannedObject) -> Remembered | None:
        return self._known.get(planned.name)

    def progress(self, name: str) -> Progress:
        return self.left.get(name, Progress())

    def note(self, name: str, progress: Progress, *, durable: bool) -> None:
        self.left[name] = progress
        if durable:
            self._ledger.note([Note(self._lease, "own", self.worth_keeping(), ())])

    def unsure(self, planned: PlannedObject, remembered: Remembered) -> None:
        pass

    def worth_keeping(self) -> dict[str, Progress]:
        return {name: each for name, each in self.left.items() if each != Progress()}


class Crash(BaseException):
    """The process ends here."""


class Bench:
    """A ledger, a CRM and the calls between them; each call is one delivery."""

    def __init__(self, path: Path, connector: str | Connector, server: Server) -> None:
        self.path = path
        self.server = server
        self.clock = Clock()
        self.connector = connector_of(connector) if isinstance(connector, str) else connector
        self.ledger = SqliteLedger(path, create=True)
        self.crm = crm_of(self.connector, server.url, clock=self.clock)
        self._calls: list[str] = []
        self.slow = 0.0
        """How long a request waits for its turn, in seconds."""
        self.crash_after: int | None = None
        """The number of requests after which the process dies with the next answer unread."""

    def close(self) -> None:
        self.crm.close()
        self.ledger.close()

    def restart(self) -> None:
        """As after a crash: what was not durable is gone."""
        self.ledger.close()
        self.ledger = SqliteLedger(self.path)
        self.ledger.release_leases()

    def feed(self, call: str) -> None:
        """A call that is due."""
        number = f"{len(self._calls):012d}"
        self._calls.append(call)
        body = json.dumps(
            {
                "uuid": f"db57f262-18d6-11f0-88c8-{number}",
                "sn": call,
                "created_at": "2025-04-14 10:00:00",
                "updated_at": "2025-04-14 10:00:00",
            }
        ).encode()
        rules = SourceRules(ZONE, "CN", ("crm",), frozenset())
        self.ledger.record([arrival_of("main", Via.CALLBACK, body, self.clock.now, ZONE)])
        assert Judge(self.ledger, {"main": rules}, destinations_since={}).judge_waiting(self.clock.now) == 1

    def deliver(self, *objects: PlannedObject, event: str = "5", call: str = "c1") -> str:
        """One attempt at a call; how it ended: `delivered`, or the fault's name."""
        if call not in self._calls:
            self.feed(call)
        key = f"db57f262-18d6-11f0-88c8-{self._calls.index(call):012d}"
        lease = self._lease_of(key)
        plan = Plan(objects)
        memory: Memory = LeaseMemory(self.ledger, lease, plan)
        assert isinstance(memory, LeaseMemory)
        effect = Effect(self.connector, memory, event, self.clock)
        self.error: DeliveryError | None = None
        try:
            ask_alone(effect.steps(plan), self._ask)
        except DeliveryError as error:
            self.error = error
        # A delivery that is done is due again here, so that it can be repeated.
        settlement = Settlement(
            DeliveryState.DUE,
            due_at=self.clock.now,
            account="own",
            done=tuple(effect.done),
            progress=memory.worth_keeping(),
        )
        self.ledger.settle(lease, settlement, self.clock.now, self.clock.now)
        self.left = memory.worth_keeping()
        return "delivered" if self.error is None else type(self.error).__name__

    def _ask(self, *asked: Any) -> Any:
        self.clock.tick(self.slow)
        answer = self.crm.ask(*asked)
        if self.crash_after is not None:
            self.crash_after -= 1
            if self.crash_after < 0:
                self.crash_after = None
                raise Crash
        return answer

    def _lease_of(self, key: str) -> Lease:
        others: list[Lease] = []
        while True:
            lease = self.ledger.lease(["crm"], ["main"], self.clock.now)
            assert lease is not None
            if lease.key == key:
                break
            others.append(lease)
        for other in others:
            self.ledger.give_back(other, self.clock.now)
        return lease

    @property
    def in_doubt(self) -> bool:
        """Whether the delivery holds its lines."""
        return any(each.sent_at is not None for each in self.left.values())

    @property
    def wait(self) -> float | None:
        assert isinstance(self.error, Transient)
        return self.error.retry_after


class SearchCrm:
    """A CRM without upserts: search, create, read, update, link; it can refuse, forget to answer, and lag."""

    def __init__(self, server: Server, clock: Clock, lag: float = 0) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.links: list[dict[str, Any]] = []
        self.script: list[tuple[str, Reply | str]] = []
        """Requests that go wrong: the beginning of one, and the answer.

        `lost`: carried out without one; `pass`: as ever.
        """
        self._born: dict[str, datetime] = {}
        self._clock = clock
        self._lag = timedelta(seconds=lag)
        self._numbers = iter(range(1, 1000))
        server.answer = self.answer

    def next(self, request: str, answer: Reply | str) -> None:
        self.script.append((request, answer))

    def make(self, **fields: Any) -> str:
        """A person makes an object, long ago."""
        crm_id = str(next(self._numbers))
        self.objects[crm_id] = fields
        self._born[crm_id] = NOW - timedelta(days=9)
        return crm_id

    def answer(self, seen: Seen) -> Reply:
        short = f"{seen.method} {seen.path}"
        for number, (start, scripted) in enumerate(self.script):
            if short.startswith(start):
                del self.script[number]
                if scripted == "pass":
                    break
                if scripted == "lost":
                    self._carry_out(seen)
                    return HANG_UP
                assert not isinstance(scripted, str)
                return scripted
        return self._carry_out(seen)

    def _carry_out(self, seen: Seen) -> Reply:
        _, kind, *rest = seen.path.split("/")
        if kind == "links":
            if {seen.json["id"], seen.json["to"]} - self.objects.keys():
                return 404, {"error": "no such object"}, {}
            self.links.append(seen.json)
            return 200, {}, {}
        if seen.method == "GET" and not rest:
            return 200, {"items": self._search(seen.query["key"])}, {}
        if seen.method == "POST":
            crm_id = self.make(**seen.json)
            self._born[crm_id] = self._clock.now
            return 201, {"data": {"id": int(crm_id)}}, {}
        if rest[0] not in self.objects:
            return 404, {"error": "no such object"}, {}
        if seen.method == "PATCH":
            self.objects[rest[0]] |= seen.json
        return 200, {"data": self.objects[rest[0]]}, {}

    def _search(self, key: str) -> list[dict[str, Any]]:
        return [
            {"id": crm_id, "fields": fields}
            for crm_id, fields in self.objects.items()
            if fields.get("key") == key and self._born[crm_id] + self._lag <= self._clock.now
        ]

    def held(self) -> Sequence[dict[str, Any]]:
        return list(self.objects.values())
