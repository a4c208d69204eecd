"""What the local servers that stand for vendors' CRMs have in common.

A server holds one account. A test drives it over a real socket and asks it afterwards:

    with HubSpot(call_fields=[Field("call_key", unique=True)]) as server:
        ...                                    # give `url`, `secrets` and `settings` to the product
        server.lose_next_answer()
        ...
        assert server.calls() == [...] and not server.violations

To write one: subclass `VendorServer`, set `name`, and define `kind_of`, `unauthorized`, `carry_out`,
`limit_answer` and `error_answer` (and `quota_answer` with `has_quota = True`), each in the vendor's own
manner; keep records with `create`, `change`, `find`, `indexed`, ask `refused_field` once for every record
that is about to be written, and hand tokens out with `issue_token`. `carry_out` runs under a lock.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass, replace
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, ClassVar, Self

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.sandbox.server import LocalServer
from tests.servers.faults import Fault, Faults, Refusals
from tests.servers.openapi import Description
from tests.servers.wire import Answer, Asked, Dripped, HungUp, Logged, Refused, read_request

CONTACT = "contact"
CALL = "call"

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Field:
    """A field of an object, in what matters to who writes it.

    `type` is text, phone, integer, number, boolean, date, datetime, duration, choice or reference;
    `length` 0 is the vendor's own; `external` can be looked up by, unique or not.
    """

    name: str
    _: KW_ONLY
    type: str = "text"
    length: int = 0
    options: tuple[str, ...] = ()
    unique: bool = False
    external: bool = False
    required: bool = False
    readonly: bool = False
    create_only: bool = False


@dataclass(slots=True)
class Record:
    """One object as it is held."""

    id: str
    fields: dict[str, Any]
    created: datetime
    changed: datetime


class VendorServer(ABC):
    """One account at one vendor, on a port of its own; a context manager."""

    name: ClassVar[str]
    has_quota: ClassVar[bool] = False

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        index_lag: float = 0.0,
        static_token: str | None = None,
        description: Description | None = None,
    ) -> None:
        self.index_lag = index_lag
        self.secrets: dict[str, str] = {}
        self.settings: dict[str, str] = {}
        self.violations: list[str] = []
        self.objects: dict[str, dict[str, Record]] = {CONTACT: {}, CALL: {}}
        self.deleted: dict[str, set[str]] = {CONTACT: set(), CALL: set()}
        self.clock = clock or _now
        self._description = description
        self._static_token = static_token
        self._static_refused = False
        self._tokens: dict[str, datetime | None] = {}
        self._token_requests = 0
        self._last_id = 0
        self._log: list[Logged] = []
        self._faults = Faults()
        self._refusals = Refusals()
        self._dropped: set[str] = set()
        self._altered: dict[str, Callable[[Any], Any]] = {}
        self._broken: list[BaseException] = []
        self._lock = threading.RLock()
        methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        self._server = LocalServer(Starlette(routes=[Route("/{path:path}", self._serve, methods=methods)]))

    # What a destination is given, and what there is to see.

    @property
    def url(self) -> str:
        """The base address to give to the product."""
        return self._server.url

    @property
    def validating(self) -> bool:
        """Whether requests are held against the vendor's OpenAPI files; `violations` says what is wrong."""
        return self._description is not None

    def contacts(self) -> list[dict[str, Any]]:
        """Copies of the contacts: `id`, and the values under the vendor's names."""
        return self._copies(CONTACT)

    def calls(self) -> list[dict[str, Any]]:
        """Copies of the calls: `id`, `contact_ids` (whom it is linked to), and the vendor's names."""
        return [{**call, "contact_ids": self.linked_contacts(call)} for call in self._copies(CALL)]

    def log(self) -> list[Logged]:
        """All requests in the order they arrived; status None: no answer was given."""
        with self._lock:
            return [replace(entry) for entry in self._log]

    def token_requests(self) -> int:
        """How often a token was asked for, in vain or not."""
        with self._lock:
            return self._token_requests

    # What a person does there.

    def seed_contact(self, **fields: Any) -> str:
        """A contact that was there long before; its id."""
        with self._lock:
            return self.create(CONTACT, fields, created=self.clock() - timedelta(days=1)).id

    def edit(self, kind: str, record_id: str, **fields: Any) -> None:
        """A person changes a record, by hand; `kind` is contact or call."""
        with self._lock:
            self.change(self.objects[kind][record_id], fields)

    def delete(self, kind: str, record_id: str) -> None:
        """A person deletes a record."""
        with self._lock:
            del self.objects[kind][record_id]
            self.deleted[kind].add(record_id)

    # What shall go wrong. `on` is api (all but token requests), read, write, token or any; the first
    # `after` of these go well. Everything is refused in the vendor's own manner.

    def expire_token(self, after: int = 0) -> None:
        """Refuse all tokens given until then (a static one until `unexpire`), after so many requests more."""
        self._plan(Fault("expire", 1, "api", after))

    def unexpire(self) -> None:
        """The static token is good again."""
        with self._lock:
            self._static_refused = False

    def limit_next(self, n: int = 1, wait: float = 1, *, on: str = "api", after: int = 0) -> None:
        """Refuse the next n requests as too fast, for `wait` seconds where the vendor says how long."""
        self._plan(Fault("limit", n, on, after, wait=wait))

    def quota_next(self, n: int = 1, *, on: str = "api", after: int = 0) -> None:
        """Refuse the next n requests because the day's quota is used up; only where `has_quota`."""
        if not self.has_quota:
            raise NotImplementedError(f"{self.name} has no daily quota with an answer of its own")
        self._plan(Fault("quota", n, on, after))

    def fail_next(self, n: int = 1, status: int = 500, *, on: str = "api", after: int = 0) -> None:
        """Answer the next n requests with this status, and carry nothing out."""
        self._plan(Fault("fail", n, on, after, status=status))

    def lose_next_answer(self, n: int = 1, *, on: str = "write", after: int = 0) -> None:
        """Carry the next n writes out, and cut the connection without an answer."""
        self._plan(Fault("lose", n, on, after))

    def cut_next(self, n: int = 1, *, on: str = "api", after: int = 0) -> None:
        """Cut the connection of the next n requests before anything is carried out."""
        self._plan(Fault("cut", n, on, after))

    def drip_next(self, n: int = 1, pause: float = 0.05, *, on: str = "api", after: int = 0) -> None:
        """Carry the next n out and answer them a byte at a time, every `pause` seconds."""
        self._plan(Fault("drip", n, on, after, wait=pause))

    def refuse_next(self, n: int = 1, field: str | None = None, *, after: int = 0) -> None:
        """Refuse the next n records (not requests) for good, because of a field (default: their first)."""
        with self._lock:
            self._refusals.add(n, field, after)

    def refuse_value(self, field: str, value: Any) -> None:
        """Refuse for good every record with this value, in a batch or alone, until `heal`."""
        with self._lock:
            self._refusals.add_value(field, value)

    def drop_field(self, name: str) -> None:
        """From now on answer writes of this field with success, and do not keep its value."""
        with self._lock:
            self._dropped.add(name)

    def alter_field(self, name: str, made: Callable[[Any], Any]) -> None:
        """From now on keep something else than is written into this field."""
        with self._lock:
            self._altered[name] = made

    def heal(self) -> None:
        """Forget every fault: as a healthy CRM from now on. Tokens that expired stay expired."""
        with self._lock:
            self._faults.clear()
            self._refusals.clear()
            self._dropped.clear()
            self._altered.clear()

    # What a vendor defines.

    @abstractmethod
    def kind_of(self, asked: Asked) -> str:
        """`token`, `read` or `write`; a search by POST is a read."""

    @abstractmethod
    def unauthorized(self, asked: Asked) -> Answer | None:
        """Why this request is not let in, or None. `is_valid` knows the tokens."""

    @abstractmethod
    def carry_out(self, asked: Asked) -> Answer:
        """Do what a healthy vendor does; `Refused` may be raised with an answer."""

    @abstractmethod
    def limit_answer(self, wait: float) -> Answer:
        """Too many requests."""

    @abstractmethod
    def error_answer(self, status: int) -> Answer:
        """A status that was asked for with `fail_next`."""

    def quota_answer(self) -> Answer:
        """The day's quota is used up."""
        raise NotImplementedError

    def linked_contacts(self, call: dict[str, Any]) -> list[str]:
        """The ids of the contacts that a call belongs to."""
        raise NotImplementedError

    def described_path(self, asked: Asked) -> str | None:
        """The path to look up in the OpenAPI files, still encoded; None: not in them, let it pass."""
        return asked.raw_path

    def finish(self, asked: Asked, answer: Answer) -> Answer:
        """What the vendor adds to every answer: headers, say."""
        del asked
        return answer

    # What a vendor uses.

    def issue_token(self, prefix: str, lifetime: float | None = None) -> str:
        """A new token, good until it expires by the clock or by `expire_token`."""
        until = None if lifetime is None else self.clock() + timedelta(seconds=lifetime)
        token = f"{prefix}{self._token_requests:04d}"
        self._tokens[token] = until
        return token

    def is_valid(self, token: str) -> bool:
        """Whether a token is good now."""
        until = self._tokens.get(token)
        known = token in self._tokens and (until is None or until > self.clock())
        return known or (not self._static_refused and token == self._static_token)

    def number(self) -> int:
        """The next number of the account, for ids."""
        self._last_id += 1
        return self._last_id

    def new_id(self, kind: str) -> str:
        """An id as the vendor gives them."""
        del kind
        return str(self.number())

    def create(self, kind: str, fields: dict[str, Any], *, created: datetime | None = None) -> Record:
        """Keep a new record."""
        now = self.clock()
        record = Record(self.new_id(kind), {}, created or now, now)
        self.objects[kind][record.id] = record
        self.change(record, fields)
        return record

    def change(self, record: Record, fields: dict[str, Any]) -> None:
        """Lay values over a record, but for those that are dropped in silence; None and "" clear."""
        for name, value in fields.items():
            if name in self._dropped:
                continue
            if name in self._altered and value not in (None, ""):
                value = self._altered[name](value)  # noqa: PLW2901 -- it is this that is kept
            if value is None or value == "":
                record.fields.pop(name, None)
            else:
                record.fields[name] = value
        record.changed = self.clock()

    def find(self, kind: str, field: str, value: Any) -> list[Record]:
        """The records that hold a value now, index or not."""
        return [record for record in self.objects[kind].values() if record.fields.get(field) == value]

    def indexed(self, kind: str) -> list[Record]:
        """The records that a search sees: not what is newer than the index."""
        seen = self.clock() - timedelta(seconds=self.index_lag)
        return [record for record in self.objects[kind].values() if record.created <= seen]

    def refused_field(self, fields: dict[str, Any]) -> str | None:
        """The field for which this record shall be refused, or None; asked once for every record."""
        return self._refusals.take(fields)

    # How a request goes.

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop()
        if error is None and self._broken:
            raise AssertionError(f"the {self.name} server itself broke") from self._broken[0]

    async def _serve(self, request: Request) -> Response:
        asked = await read_request(request)
        with self._lock:
            return self._respond(asked)

    def _respond(self, asked: Asked) -> Response:
        kind = self.kind_of(asked)
        entry = asked.logged(kind)
        self._log.append(entry)
        self._token_requests += kind == "token"
        self._validate(asked, kind)
        early = self._faults.take(kind, before=True)
        if early is not None and early.what == "cut":
            return HungUp()
        if early is not None:
            self._expire()
        fault: Fault | None = None
        answer = None if kind == "token" else self.unauthorized(asked)
        if answer is None:
            fault = self._faults.take(kind, before=False)
            answer = self._faulty(fault) or self._carried_out(asked)
        if fault is not None and fault.what == "lose":
            return HungUp()
        answer = self.finish(asked, answer)
        entry.status = answer.status
        return Dripped(answer, fault.wait) if fault and fault.what == "drip" else answer.response()

    def _faulty(self, fault: Fault | None) -> Answer | None:
        match fault.what if fault else "":
            case "limit":
                return self.limit_answer(fault.wait if fault else 0)
            case "quota":
                return self.quota_answer()
            case "fail":
                return self.error_answer(fault.status if fault else 500)
        return None

    def _carried_out(self, asked: Asked) -> Answer:
        try:
            return self.carry_out(asked)
        except Refused as refused:
            return refused.answer
        except Exception as error:  # noqa: BLE001  # a mistake of ours must not pass for the vendor's 500
            self._broken.append(error)
            return self.error_answer(500)

    def _validate(self, asked: Asked, kind: str) -> None:
        path = self.described_path(asked)
        if self._description is None or kind == "token" or path is None:
            return
        found = self._description.violations(asked.method, path, asked.query, asked.headers, asked.body)
        self.violations += [f"{asked.method} {asked.raw_path}: {sentence}" for sentence in found]

    def _expire(self) -> None:
        self._tokens.clear()
        self._static_refused = True

    def _plan(self, fault: Fault) -> None:
        with self._lock:
            if fault.what == "expire" and not fault.after:
                self._expire()
            else:
                self._faults.add(fault)

    def _copies(self, kind: str) -> list[dict[str, Any]]:
        with self._lock:
            return [{"id": record.id, **record.fields} for record in self.objects[kind].values()]


def _now() -> datetime:
    return datetime.now(UTC)


def by_name(*groups: Iterable[Field]) -> dict[str, Field]:
    """Fields by their names; later ones replace earlier ones."""
    return {field.name: field for group in groups for field in group}
