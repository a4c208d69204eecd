"""The sandbox platform's list API: login, sessions that expire, and pages of records.

Begin at `PlatformList`.
"""

import json
import random
import threading
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import md5
from typing import Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bridge.sandbox.platform_faults import BUSY, Disturbances, cut_page, shown_row, shown_total
from bridge.sandbox.records import PLATFORM_ZONE, Record, generate
from bridge.sandbox.server import HANG_UP

LoginKind = Literal["signed", "password"]
SIGNED_WITHIN = timedelta(minutes=15)
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class ListLogin:
    """One login: its secret, and the users whose records it lists."""

    secret: str
    users: tuple[str, ...] = ("demo",)


@dataclass(frozen=True, slots=True)
class ListAccess:
    """Who may ask for the list, how they log in, and how long a session lasts."""

    logins: Mapping[str, ListLogin]
    kind: LoginKind = "signed"
    session_lifetime: timedelta = timedelta(hours=2)


@dataclass(slots=True)
class _Session:
    login: ListLogin
    user: str
    ends_at: float


@dataclass(slots=True)
class _Rows:
    """Records in the order of their creation."""

    by_uuid: dict[str, Record] = field(default_factory=dict)
    order: list[tuple[str, str]] = field(default_factory=list)

    def put(self, record: Record) -> None:
        known = self.by_uuid.get(record["uuid"])
        if known is None or known["created_at"] != record["created_at"]:
            if known is not None:
                self.order.remove((known["created_at"], known["uuid"]))
            insort(self.order, (record["created_at"], record["uuid"]))
        self.by_uuid[record["uuid"]] = record

    def remove(self, uuid: str) -> None:
        known = self.by_uuid.pop(uuid)
        self.order.remove((known["created_at"], uuid))

    def between(self, start: str, end: str, faults: Disturbances) -> list[Record]:
        low = (bisect_left if faults.start == "inclusive" else bisect_right)(
            self.order, start, key=lambda order_entry: order_entry[0]
        )
        high = (bisect_right if faults.end == "inclusive" else bisect_left)(
            self.order, end, key=lambda order_entry: order_entry[0]
        )
        return [self.by_uuid[uuid] for _, uuid in self.order[low:high]]


class PlatformList:
    """What the platform answers to `POST /api/login` and `POST /api/crmList`."""

    def __init__(
        self,
        clock: Callable[[], datetime],
        access: ListAccess,
        *,
        disturbances: Disturbances | None = None,
        seed: int = 1,
    ) -> None:
        """Make an empty list; `seed` decides when disturbances happen."""
        self._clock = clock
        self._logins = dict(access.logins)
        self._kind = access.kind
        self._lifetime = access.session_lifetime
        self._rng = random.Random(seed)  # noqa: S311 -- disturbs a sandbox
        self._lock = threading.Lock()
        self._rows = _Rows()
        self._appeared: list[str] = []
        self._sessions: dict[str, _Session] = {}
        self._asked = 0
        self.disturbances = disturbances or Disturbances()
        self.happened: Counter[str] = Counter()
        """How often each disturbance occurred."""
        self.log: list[dict[str, Any]] = []
        self.routes = [
            Route("/api/login", self._guarded(self._log_in), methods=["POST"]),
            Route("/api/crmList", self._guarded(self._list), methods=["POST"]),
            Route("/_requests", self._show_requests),
            Route("/_faults", self._faults, methods=["GET", "POST", "DELETE"]),
            Route("/_end_sessions", self._end_sessions, methods=["POST"]),
        ]

    def put(self, record: Record) -> None:
        """Add a record, or replace the one with its uuid."""
        with self._lock:
            self._rows.put(record)

    def remove(self, uuid: str) -> None:
        """Take a record off the list."""
        with self._lock:
            self._rows.remove(uuid)

    def records(self) -> dict[str, Record]:
        """All listed records by uuid."""
        with self._lock:
            return dict(self._rows.by_uuid)

    def forget_sessions(self) -> None:
        """End all sessions."""
        with self._lock:
            self._sessions.clear()

    # -- the API --------------------------------------------------------------------
    def _guarded(
        self, answer: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint that logs its requests and fails as `disturbances` say."""

        async def endpoint(request: Request) -> Response:
            entry: dict[str, Any] = {"path": request.url.path}
            try:
                asked = json.loads(await request.body())
            except ValueError:
                asked = None
            with self._lock:
                self.log.append(entry)
                trouble = self._trouble()
                if trouble:
                    entry["answer"] = trouble
                    return self._fail(trouble, request)
                if not isinstance(asked, dict):
                    return JSONResponse({"code": 400, "msg": "the body is no JSON object"})
                answered = answer(asked, entry)
            entry.setdefault("answer", "ok" if "data" in answered else answered["msg"])
            return Response(_encoded(answered), media_type="application/json")

        return endpoint

    def _trouble(self) -> str:
        faults, drawn = self.disturbances, self._rng.random
        for name, happens in (
            ("down", faults.down),
            ("bad_gateways", drawn() < faults.bad_gateways),
            ("cut_connections", drawn() < faults.cut_connections),
        ):
            if happens:
                self.happened[name] += 1
                return name
        return ""

    @staticmethod
    def _fail(trouble: str, request: Request) -> Response:
        if trouble == "cut_connections":
            request.scope["extensions"][HANG_UP]()
        status = 503 if trouble == "down" else 502
        return Response("<html>Bad Gateway</html>", status, media_type="text/html")

    def _log_in(self, asked: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
        name = asked.get("api_access_id") if self._kind == "signed" else asked.get("username")
        login = self._logins.get(str(name))
        if login is None or not self._proven(asked, str(name), login.secret):
            return {"code": 1001, "msg": "sign error" if self._kind == "signed" else "wrong password"}
        entry["user"] = login.users[0]
        key = f"{self._rng.getrandbits(128):032x}"
        ends_at = (self._clock() + self._lifetime).timestamp()
        self._sessions[key] = _Session(login, login.users[0], ends_at)
        user = login.users[0]
        data = {
            "id": 7,
            "user_name": f"{user}1",
            "user_sn": f"SYSUSER|{user}",
            "api_key": key,
            "api_key_expire": int(ends_at),
            "team_sn": "SON",
            "team_name": "",
            "parent_sn": user,
            "expired": 0,
            "ai_count": 1,
            "caller_group": "",
            "job": "",
            "status": 1,
        }
        return {"code": 0, "msg": "login success", "data": data}

    def _proven(self, asked: dict[str, Any], name: str, secret: str) -> bool:
        if self._kind == "password":
            url = str(asked.get("url"))
            hexadecimal = len(url) == 8 and set(url) <= set("0123456789abcdef")
            return asked.get("password") == secret and asked.get("from") == "2" and hexadecimal
        stamp = str(asked.get("timestamp"))
        sign = md5(f"{name}{secret}{stamp}".encode()).hexdigest()  # noqa: S324 -- the platform's own
        try:
            local = datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S").replace(tzinfo=PLATFORM_ZONE)
        except ValueError:
            return False
        return asked.get("sign") == sign and abs(local - self._clock()) <= SIGNED_WITHIN

    def _list(self, asked: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
        entry |= {
            "start": asked.get("start_create_at"),
            "end": asked.get("end_create_at"),
            "page": asked.get("pageIndex"),
            "size": asked.get("pageSize"),
        }
        session = self._session(asked)
        if session is None:
            return {"code": 0, "msg": "session expired"}
        entry["user"] = session.user
        if self._rng.random() < self.disturbances.refusals:
            self.happened["refusals"] += 1
            return {"code": BUSY, "msg": "the system is busy"}
        page, size = asked.get("pageIndex"), asked.get("pageSize")
        start, end = _moment(asked.get("start_create_at")), _moment(asked.get("end_create_at"))
        if (
            type(page) is not int
            or type(size) is not int
            or page < 0
            or size < 1
            or start is None
            or end is None
        ):
            return {"code": 422, "msg": "pageIndex, pageSize, start_create_at or end_create_at is wrong"}
        return {"code": 0, "msg": "success", "data": self._page(session, (start, end), page, size, entry)}

    def _session(self, asked: dict[str, Any]) -> _Session | None:
        self._asked += 1
        session = self._sessions.get(str(asked.get("api_key")))
        if session is None or asked.get("user_sn") != f"SYSUSER|{session.user}":
            return None
        every = self.disturbances.session_dies_every
        if every and self._asked % every == 0:
            self.happened["session_dies_every"] += 1
            session.ends_at = 0
        return session if self._clock().timestamp() < session.ends_at else None

    def _page(
        self, session: _Session, window: tuple[str, str], page: int, size: int, entry: dict[str, Any]
    ) -> dict[str, Any]:
        faults = self.disturbances
        self._move_rows(*window)
        rows = self._rows.between(*window, faults)
        rows = [row for row in rows if str(row["user_sn"]).removeprefix("SYSUSER|") in session.login.users]
        if faults.order == "newest":
            rows.reverse()
        elif faults.order == "any":
            self._rng.shuffle(rows)
        if faults.page_cap and size > faults.page_cap:
            self.happened["page_cap"] += len(rows) > faults.page_cap
            size = faults.page_cap
        whole = rows[page * size : (page + 1) * size]
        cut = cut_page(whole, faults, self._rng)
        self.happened["empty_pages" if not cut else "short_pages"] += len(cut) < len(whole)
        rows_sent = [shown_row(row, faults, self._rng) for row in cut]
        self._count_changes(cut, rows_sent)
        total = shown_total(len(rows), faults, self._rng)
        self.happened["total"] += total != len(rows)
        entry |= {"rows": len(rows_sent), "total": total}
        return {"list": rows_sent} if total is None else {"list": rows_sent, "total": total}

    def _count_changes(self, rows: list[Record], rows_sent: list[dict[str, Any]]) -> None:
        for row, seen in zip(rows, rows_sent, strict=True):
            self.happened["dialogue_as_text"] += "talk_info" in seen and seen["talk_info"] != row["talk_info"]
            self.happened["types_as_text"] += any(
                type(value) is str and type(row.get(name)) is int for name, value in seen.items()
            )
            self.happened["fields_missing"] += not row.keys() <= seen.keys()
            self.happened["unknown_fields"] += not seen.keys() <= row.keys()

    def _move_rows(self, start: str, end: str) -> None:
        """Insert a row into the requested window, or delete one that was inserted before."""
        if self._rng.random() >= self.disturbances.rows_move:
            return
        if self._appeared and self._rng.random() < 0.5:
            self._rows.remove(self._appeared.pop())
            self.happened["rows_deleted"] += 1
            return
        # Three seconds inside, because requested windows overlap.
        low, high = _local(start) + 3 * _SECOND, _local(end) - 3 * _SECOND
        if high <= low:
            return
        created = low + self._rng.random() * (high - low)
        now = (created + timedelta(seconds=31)).replace(tzinfo=PLATFORM_ZONE)
        record = generate(1, self._rng.getrandbits(32), now)[0] | {
            "created_at": f"{created:%Y-%m-%d %H:%M:%S}"
        }
        self._rows.put(record)
        self._appeared.append(record["uuid"])
        self.happened["rows_inserted"] += 1

    # -- the controls ---------------------------------------------------------------
    async def _show_requests(self, _request: Request) -> Response:
        with self._lock:
            counts = Counter(f"POST {entry['path']}" for entry in self.log)
            return JSONResponse({"counts": counts, "requests": self.log})

    async def _faults(self, request: Request) -> Response:
        if request.method == "DELETE":
            self.disturbances = Disturbances()
        elif request.method == "POST":
            try:
                changes = msgspec.json.decode(await request.body(), type=dict[str, Any])
                # Disturbances that are not named stay as they are.
                laid_over = msgspec.to_builtins(self.disturbances) | changes
                self.disturbances = msgspec.convert(laid_over, Disturbances)
            except msgspec.DecodeError as error:
                return JSONResponse(
                    {"error": {"code": "invalid_request", "message": str(error)}}, status_code=422
                )
        return JSONResponse(msgspec.to_builtins(self.disturbances) | {"happened": self.happened})

    async def _end_sessions(self, _request: Request) -> Response:
        self.forget_sessions()
        return Response(status_code=204)


def _encoded(answered: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(answered)
    except (msgspec.MsgspecError, UnicodeError, OverflowError):
        return json.dumps(answered).encode()


def _local(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _moment(value: Any) -> str | None:
    """A time as records write it; a date alone is midnight."""
    try:
        return f"{_local(str(value)):%Y-%m-%d %H:%M:%S}"
    except ValueError:
        return None
