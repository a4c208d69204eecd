"""The sandbox CRM: an HTTP server that keeps objects in memory, with or without upserts, and fails on demand.

Begin at `SandboxCrm`; `upsert_crm.py` and `search_crm.py` hold what its two forms can do.
"""

import asyncio
import hmac
import threading
from collections import Counter, deque
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import unquote

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from bridge.lib.clocks import now_utc
from bridge.sandbox.faults import Fault, FaultList, Rates, Trouble
from bridge.sandbox.search_crm import SearchCrmState, TokenDesk
from bridge.sandbox.server import HANG_UP
from bridge.sandbox.upsert_crm import ObjectFields, Refusal, UpsertCrmState

_LOGGED = 1000
_METHODS = ["GET", "PUT", "PATCH", "POST", "DELETE"]
_TEMPLATES = {
    ("PUT", "contacts"): "/contacts/{phone}",
    ("PUT", "calls"): "/calls/{call_key}",
    ("", "contacts"): "/contacts/{id_or_phone}",
    ("", "calls"): "/calls/{id_or_key}",
}
_LINK = "/calls/{call_id_or_key}/contact"


class _Faults(msgspec.Struct, forbid_unknown_fields=True):
    faults: list[Fault]


class SandboxCrm:
    """One CRM account.

    Any bearer token is good, unless one is given; a request without one is refused, so that a
    forgotten header shows here and not at the customer's CRM. Paths that start with `/_` need none.

    With `upserts=False` it can only search (what is new is seen `lag` seconds later), create, update
    and link, and `POST /token` changes the secret for a token that is good for `token_uses` requests.
    """

    def __init__(
        self,
        token: str | None = None,
        *,
        upserts: bool = True,
        lag: float = 0.0,
        token_uses: int = 0,
        rates: Rates | None = None,
        clock: Callable[[], datetime] = now_utc,
    ) -> None:
        """Make an empty CRM; `lag` is in seconds, `rates` are the shares of requests that go wrong."""
        self._token = token
        self._clock = clock
        self._state = UpsertCrmState()
        self._plain = None if upserts else SearchCrmState(clock, timedelta(seconds=lag))
        self._desk = None if upserts else TokenDesk(token, token_uses)
        self._faults = FaultList(rates)
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._log: deque[dict[str, Any]] = deque(maxlen=_LOGGED)
        self.app = Starlette(
            routes=[
                Route("/_contents", self._show_contents),
                Route("/_requests", self._show_requests),
                Route("/_log", self._show_log),
                Route("/_faults", self._change_faults, methods=["POST", "DELETE"]),
                Route("/{path:path}", self._serve, methods=_METHODS),
            ]
        )

    def add_fault(
        self,
        *,
        status: int | None = None,
        times: int = 1,
        path: str = "",
        method: str = "",
        retry_after: int | None = None,
        after_effect: bool = False,
        lost_answer: bool = False,
        delay: float = 0.0,
    ) -> None:
        """Add a fault for the next `times` requests whose path starts with `path`; see `Fault`."""
        self._faults.add(
            Fault(
                status=status,
                times=times,
                path=path,
                method=method,
                retry_after=retry_after,
                after_effect=after_effect,
                lost_answer=lost_answer,
                delay=delay,
            )
        )

    def clear_faults(self) -> None:
        """Forget all faults: from now on every request is answered well."""
        self._faults.clear()

    def contents(self) -> dict[str, list[ObjectFields]]:
        """All contacts and calls, as flat objects."""
        return (self._plain or self._state).contents()

    def requests(self) -> dict[str, Any]:
        """The number of requests, in total and by method and path; refused ones count too."""
        with self._lock:
            return {"total": self._counts.total(), "by": dict(self._counts)}

    def log(self) -> list[dict[str, Any]]:
        """The last 1000 requests as they arrived; `status` is null while, or when, there is no answer.

        A request was on the wire from `time` to `ended`, and its effect was done at `effect`.
        """
        with self._lock:
            return [dict(entry) for entry in self._log]

    async def _show_contents(self, _request: Request) -> Response:
        return JSONResponse(self.contents())

    async def _show_requests(self, _request: Request) -> Response:
        return JSONResponse(self.requests())

    async def _show_log(self, _request: Request) -> Response:
        return JSONResponse({"requests": self.log()})

    async def _change_faults(self, request: Request) -> Response:
        if request.method == "DELETE":
            self.clear_faults()
            return Response(status_code=204)
        try:
            asked = msgspec.json.decode(await request.body(), type=_Faults)
        except msgspec.DecodeError as error:
            return _refused(Refusal(422, "invalid_fault", str(error), "faults"))
        for fault in asked.faults:
            self._faults.add(fault)
        return JSONResponse({"added": len(asked.faults)})

    async def _serve(self, request: Request) -> Response:
        body = await request.body()
        # The raw path, because a call key may hold a slash that was sent as %2F.
        raw_path: bytes = request.scope["raw_path"]
        segments = [unquote(part) for part in raw_path.decode("ascii").split("/")[1:]]
        entry = self._arrived(request.method, segments, body)
        is_login = self._desk is not None and segments == ["token"]
        if not is_login and not self._is_allowed(request):
            refusal = Refusal(401, "unauthorized", "a valid bearer token is needed")
            return self._answered(entry, _refused(refusal), Trouble())
        trouble = self._faults.take(request.method, entry["path"])
        response: Response | None = None
        if trouble.has_effect:
            response = self._carry_out(request, segments, body)
            entry["effect"] = self._clock().isoformat()
        if trouble.delay:
            await asyncio.sleep(trouble.delay)
        if response is None or trouble.fault is not None:
            response = _FaultResponse(trouble.fault)
        return self._answered(entry, response, trouble)

    def _answered(self, entry: dict[str, Any], response: Response, trouble: Trouble) -> Response:
        with self._lock:
            entry["status"] = response.status_code or None
            entry["ended"] = self._clock().isoformat()
            entry["fault"] = trouble.described()
        return response

    def _arrived(self, method: str, segments: list[str], body: bytes) -> dict[str, Any]:
        try:
            content = msgspec.json.decode(body)
        except msgspec.DecodeError:
            content = None
        entry = {
            "method": method,
            "path": "/" + "/".join(segments),
            "status": None,
            "time": self._clock().isoformat(),
            "effect": None,
            "ended": None,
            "keys": list(content) if isinstance(content, dict) else [],
            "fault": None,
        }
        with self._lock:
            self._counts[f"{method} {_template(method, segments)}"] += 1
            self._log.append(entry)
        return entry

    def _is_allowed(self, request: Request) -> bool:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            return False
        if self._desk is not None:
            return self._desk.takes(token.strip())
        return self._token is None or hmac.compare_digest(token.strip().encode(), self._token.encode())

    def _carry_out(self, request: Request, segments: list[str], body: bytes) -> Response:
        try:
            if self._plain is None or self._desk is None:
                return self._dispatch(request.method, segments, body)
            content = _content(body)
            if segments == ["token"]:
                status, answer = self._desk.issue(content)
            else:
                query = dict(request.query_params)
                status, answer = self._plain.carry_out(request.method, segments, query, content)
            return JSONResponse(answer, status_code=status) if answer is not None else Response(None, status)
        except Refusal as refusal:
            return _refused(refusal)

    def _dispatch(self, method: str, segments: list[str], body: bytes) -> Response:
        match method, segments:
            case "PUT", ["contacts", phone]:
                return _upserted(*self._state.put_contact(phone, _fields(body)))
            case "PUT", ["calls", key]:
                return _upserted(*self._state.put_call(key, _fields(body)))
            case "PUT", ["calls", call, "contact"]:
                return JSONResponse(self._state.link(call, _fields(body).get("contact_id")))
            case "GET", ["contacts" | "calls" | "fields" as kind, reference]:
                return JSONResponse(self._state.get(kind, reference))
            case "PATCH", ["contacts" | "calls" as kind, reference]:
                return JSONResponse(self._state.edit(kind, reference, _fields(body)))
            case "DELETE", ["contacts" | "calls" as kind, reference]:
                self._state.delete(kind, reference)
                return Response(status_code=204)
        raise Refusal(404, "not_found", f"there is nothing to {method} here")


class _FaultResponse(JSONResponse):
    """The answer that a fault asks for; where the answer is lost, the connection is dropped."""

    def __init__(self, fault: Fault | None) -> None:
        status = fault.status if fault is not None else None
        error = {"code": "fault_on_demand", "message": f"{status} was asked for at /_faults", "field": ""}
        super().__init__({"error": error}, status_code=status or 0)
        if fault is not None and fault.retry_after is not None:
            self.headers["retry-after"] = str(fault.retry_after)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.status_code:
            await super().__call__(scope, receive, send)
            return
        hang_up = scope.get("extensions", {}).get(HANG_UP)
        if hang_up is None:
            raise RuntimeError("lost answers need a LocalServer, which can drop a connection")
        hang_up()
        while (await receive())["type"] != "http.disconnect":
            pass


def _template(method: str, segments: list[str]) -> str:
    match segments:
        case ["contacts" | "calls" as kind, reference] if reference:
            return _TEMPLATES.get((method, kind)) or _TEMPLATES["", kind]
        case ["calls", _, "contact"]:
            return _LINK
        case ["fields", "contacts" | "calls"]:
            return "/fields/{kind}"
        case ["contacts" | "calls" | "token" as whole]:
            return f"/{whole}"
    return "(unknown path)"


def _content(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body) if body else None
    except msgspec.DecodeError as error:
        raise Refusal(400, "invalid_json", str(error)) from error


def _fields(body: bytes) -> ObjectFields:
    fields = _content(body)
    if not isinstance(fields, dict):
        raise Refusal(400, "invalid_json", "the body is a JSON object of fields")
    return fields


def _upserted(content: ObjectFields, created: bool) -> Response:
    return JSONResponse(content, status_code=201 if created else 200)


def _refused(refusal: Refusal) -> Response:
    error = {"code": refusal.code, "message": refusal.message, "field": refusal.field}
    headers = {"www-authenticate": "Bearer"} if refusal.status == 401 else None
    return JSONResponse({"error": error}, status_code=refusal.status, headers=headers)
