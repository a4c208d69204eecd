"""纷享销客 (Fxiaoke) as its documents and probes of the live gateway say: `crm-apis.md`, section 6.

HTTP is 200 whatever happens; `errorCode` 0 is good. Guessed, because no source says it: the codes of
refused trace ids, values, duplicates, unknown objects and filters by unknown fields (all from outside the
published table, which is what "default: permanent" is for); `isDuplicateSearch` and `checkDuplicateSearch`
compare with the fields in `duplicate_check` (none at first), and the refusal names no id; unknown fields,
and an `owner` in an update, are dropped; too many token requests, and one beside another, are a 30004; an
error of the server is a −1 and nothing was carried out; records that are gone are refused; a `total` comes
whether it is asked for or not. Not here: pools (公海) and their claiming, `changeOwner`, files.
"""

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar

from starlette.requests import Request
from starlette.responses import Response

from tests.servers.base import CALL, CONTACT, Field, Record, VendorServer, by_name
from tests.servers.fxiaoke_fields import CALL as CALL_FIELDS
from tests.servers.fxiaoke_fields import LEAD, PERSON, described, is_fault
from tests.servers.wire import Answer, Asked, Refused

PERSONS = {"LeadsObj": LEAD, "ContactObj": PERSON}
_NEW_TOKEN = ("oauth2.0", "token")
_OLD_TOKEN = ("cgi", "corpAccessToken", "get", "V2")
_STANDARD = ("cgi", "crm", "v2")
_CUSTOM = ("cgi", "crm", "custom", "v2")
_LIFETIME = 7200
_SAME_TOKEN = 6600
_MINUTE = timedelta(minutes=1)
_UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_OK = {"errorCode": 0, "errorMessage": "OK"}

BUSY, BAD_SECRET, OFFSET = -1, 10006, 10013
BAD_TOKEN, NO_CREDENTIALS, WRONG_USER, WRONG_TENANT = 20016, 20017, 20006, 20014
DAILY, TOO_FAST = 30002, 30004
REFUSED_VALUE, DUPLICATE, BAD_TRACE, NO_OBJECT, MIXED = 201112008, 201112020, 201112031, 201112004, 201112033


@dataclass(frozen=True, slots=True)
class Triggered:
    """What a write set off: approval or workflow; both are on unless they are switched off."""

    object: str
    id: str
    flow: str


class Fxiaoke(VendorServer):
    """One tenant with one app; `style` is new (tokens in headers) or old (tokens in the body).

    Contacts are `person` objects, LeadsObj or ContactObj; calls are the custom object `call_object`.
    """

    name: ClassVar[str] = "纷享销客"
    has_quota: ClassVar[bool] = True

    def __init__(
        self,
        *,
        style: str = "new",
        person: str = "LeadsObj",
        call_object: str = "object_call__c",
        contact_fields: Iterable[Field] = (),
        call_fields: Iterable[Field] = (),
        token_latency: float = 0.02,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.fields = {
            CONTACT: by_name(PERSONS[person], contact_fields),
            CALL: by_name(CALL_FIELDS, call_fields),
        }
        self.triggered: list[Triggered] = []
        self.duplicate_check: tuple[str, ...] = ()
        self.tokens_a_minute = 10
        self.calls_a_window: int | None = 100
        """Requests to one path within 20 seconds; None: without limit."""
        self._style = style
        self._kinds = {person: CONTACT, call_object: CALL}
        self.token_latency = token_latency
        """Seconds that a token takes: who asks for another within them is refused."""
        self._tokens_under_way = 0
        self._token_times: list[datetime] = []
        self._path_times: dict[str, list[datetime]] = {}
        self._current: tuple[str, datetime] | None = None
        self._trace_ids: set[str] = set()
        self.secrets = {"app_secret": "5d0c2f8e7a6b4c91", "permanent_code": "3F9A7C1E5B2D"}
        self.settings = {"app_id": "FSAID_1319ab0", "ea": "74255", "user_id": "1000"}
        self.settings |= {"person_object": person, "call_object": call_object}
        if style == "old":
            self.settings |= {"corp_id": "FSCID_8A7B6C5D", "open_user_id": "FSUID_0F1E2D3C"}

    def new_id(self, kind: str) -> str:
        """24 hexadecimal digits."""
        del kind
        return f"65f0a1b2c3{self.number():014x}"

    def linked_contacts(self, call: dict[str, Any]) -> list[str]:
        """Object references hold the `_id`."""
        return [str(call[name]) for name in ("lead__c", "contact__c") if call.get(name)]

    def kind_of(self, asked: Asked) -> str:
        """Everything is a POST; create and update write."""
        if asked.segments in {_NEW_TOKEN, _OLD_TOKEN}:
            return "token"
        return "write" if asked.segments[-1] in {"create", "update"} else "read"

    def unauthorized(self, asked: Asked) -> Answer | None:
        """Tokens of the one style or of the other, never of both; a trace id is good once."""
        body = asked.json()
        body = body if isinstance(body, dict) else {}
        in_header, in_body = "authorization" in asked.headers, "corpAccessToken" in body
        if self._style == "new" or asked.param("thirdTraceId") is not None:
            refused = self._refused_trace(asked)
            if refused is not None:
                return refused
        if in_header and in_body:
            return _error(MIXED, "both kinds of credentials")
        if not (in_header if self._style == "new" else in_body):
            return _error(NO_CREDENTIALS, "no credentials")
        return self._refused_headers(asked) if self._style == "new" else self._refused_body(asked, body)

    def limit_answer(self, wait: float) -> Answer:
        """It does not say for how long."""
        del wait
        return _error(TOO_FAST, "frequency limit")

    def quota_answer(self) -> Answer:
        """Until midnight."""
        return _error(DAILY, "daily quota is used up")

    def error_answer(self, status: int) -> Answer:
        """There is no other status than 200."""
        return _error(BUSY, f"system busy ({status})")

    def finish(self, asked: Asked, answer: Answer) -> Answer:
        """Every answer names a trace."""
        del asked
        return Answer(200, {**answer.body, "traceId": f"E-O.{self.settings['ea']}-{len(self._log)}"})

    def carry_out(self, asked: Asked) -> Answer:
        """What a healthy gateway does."""
        body = asked.json()
        if asked.method != "POST" or not isinstance(body, dict):
            return _error(NO_OBJECT, "POST a JSON object")
        if asked.segments == (_NEW_TOKEN if self._style == "new" else _OLD_TOKEN):
            return self._token(asked, body)
        if self._too_fast(asked.path):
            return self.limit_answer(1)
        return self._dispatch(asked.segments, body)

    def _dispatch(self, path: tuple[str, ...], body: dict[str, Any]) -> Answer:
        match path:
            case ("cgi", "user", "getByMobile") if self._style == "old":
                return Answer(200, _OK | {"empList": [{"openUserId": self.settings["open_user_id"]}]})
            case (*prefix, "object", "describe") if tuple(prefix) == _STANDARD:
                return self._describe(_part(body, "data").get("apiName"))
            case (*prefix, "data", ("query" | "get" | "create" | "update") as verb):
                return self._act(tuple(prefix), verb, body)
        return _error(NO_OBJECT, "no such interface")

    async def _serve(self, request: Request) -> Response:
        path = tuple(request.url.path.split("/")[1:])
        if path not in {_NEW_TOKEN, _OLD_TOKEN}:
            return await super()._serve(request)
        self._tokens_under_way += 1
        try:
            response = await super()._serve(request)
            await asyncio.sleep(self.token_latency)
            return response
        finally:
            self._tokens_under_way -= 1

    def _token(self, asked: Asked, body: dict[str, Any]) -> Answer:
        now = self.clock()
        self._token_times = [at for at in self._token_times if now - at < _MINUTE]
        if self._tokens_under_way > 1 or len(self._token_times) >= self.tokens_a_minute:
            return self.limit_answer(60)
        self._token_times.append(now)
        expected = {
            "appId": self.settings["app_id"],
            "appSecret": self.secrets["app_secret"],
            "permanentCode": self.secrets["permanent_code"],
        }
        if self._style == "new":
            expected["grantType"] = "app_secret"
            refused = self._refused_trace(asked)
            if refused is not None:
                return refused
        if any(body.get(name) != value for name, value in expected.items()):
            return _error(BAD_SECRET, "appId, appSecret or permanentCode is wrong")
        token, left = self._current_token(now)
        if self._style == "old":
            given = {"corpAccessToken": token, "corpId": self.settings["corp_id"], "expiresIn": left}
            return Answer(200, _OK | given)
        known = {"ea": self.settings["ea"], "openUserId": "FSUID_0F1E2D3C", "appId": self.settings["app_id"]}
        return Answer(200, _OK | known | {"accessToken": token, "expiresIn": left})

    def _current_token(self, now: datetime) -> tuple[str, int]:
        """The same one for 6600 seconds; then a new one, while the old one lives out its time."""
        if self._current is not None and self.is_valid(self._current[0]):
            age = int((now - self._current[1]).total_seconds())
            if age < _SAME_TOKEN:
                return self._current[0], _LIFETIME - age
        self._current = self.issue_token("fxat-", _LIFETIME), now
        return self._current[0], _LIFETIME

    def _refused_trace(self, asked: Asked) -> Answer | None:
        trace = (asked.param("thirdTraceId") or "").lower()
        if not _UUID4.fullmatch(trace) or trace in self._trace_ids:
            return _error(BAD_TRACE, "thirdTraceId must be a UUIDv4 that was not used before")
        self._trace_ids.add(trace)
        return None

    def _refused_body(self, asked: Asked, body: dict[str, Any]) -> Answer | None:
        if not self.is_valid(str(body["corpAccessToken"])):
            return _error(BAD_TOKEN, "corpAccessToken is invalid or expired")
        if body.get("corpId") != self.settings["corp_id"]:
            return _error(WRONG_TENANT, "corpId does not match")
        by_phone = asked.segments[-1] == "getByMobile"
        if not by_phone and body.get("currentOpenUserId") != self.settings["open_user_id"]:
            return _error(WRONG_USER, "currentOpenUserId is not a user")
        return None

    def _refused_headers(self, asked: Asked) -> Answer | None:
        if not self.is_valid(asked.token("Bearer") or ""):
            return _error(BAD_TOKEN, "accessToken is invalid or expired")
        if asked.headers.get("x-fs-ea") != self.settings["ea"]:
            return _error(WRONG_TENANT, "x-fs-ea does not match the token")
        if asked.headers.get("x-fs-userid") != self.settings["user_id"]:
            return _error(WRONG_USER, "x-fs-userid is not an employee")
        return None

    def _too_fast(self, path: str) -> bool:
        if self.calls_a_window is None:
            return False
        since = self.clock() - timedelta(seconds=20)
        times = self._path_times[path] = [at for at in self._path_times.get(path, ()) if at > since]
        if len(times) >= self.calls_a_window:
            return True
        times.append(self.clock())
        return False

    def _act(self, prefix: tuple[str, ...], verb: str, body: dict[str, Any]) -> Answer:
        data = _part(body, "data")
        fields = _part(data, "object_data") if verb in {"create", "update"} else data
        name = fields.get("dataObjectApiName")
        kind = self._kinds.get(str(name))
        if kind is None or prefix != (_CUSTOM if str(name).endswith("__c") else _STANDARD):
            return _error(NO_OBJECT, f"no object {name} under this path")
        if verb == "query":
            return self._query(kind, _part(data, "search_query_info"))
        if verb == "get":
            return Answer(200, _OK | {"data": _shown(self._held(kind, data.get("objectDataId")))})
        given = {one: value for one, value in fields.items() if one in self.fields[kind]}
        if verb == "update":
            record = self._held(kind, fields.get("_id"))
            given.pop("owner", None)
            self._check(kind, given, record.fields | given)
            self.change(record, given)
        else:
            self._check(kind, given, given)
            self._check_duplicates(kind, given, body, data)
            record = self.create(kind, given)
        self._trigger(str(name), record.id, body)
        # The documented answer of a custom object's create has no id in it.
        named = {} if kind == CALL or verb == "update" else {"dataId": record.id}
        return Answer(200, _OK | named)

    def _query(self, kind: str, info: dict[str, Any]) -> Answer:
        limit, offset = info.get("limit", 20), info.get("offset", 0)
        if not isinstance(limit, int) or not 1 <= limit <= 100:
            return _error(OFFSET, "limit is 1 to 100")
        if not isinstance(offset, int) or offset % limit or offset > 10_000:
            return _error(OFFSET, "offset is a multiple of limit, and at most 10000")
        filters = info.get("filters", [])
        for one in filters:
            if one.get("field_name") not in {"_id", "create_time", "last_modified_time", *self.fields[kind]}:
                return _error(NO_OBJECT, f"no field {one.get('field_name')}")
        found = [
            shown for shown in map(_shown, self.indexed(kind)) if all(_holds(one, shown) for one in filters)
        ]
        for order in reversed(info.get("orders", ())):
            name = order.get("fieldName")
            found.sort(key=lambda one: str(one.get(name, "")), reverse=not order.get("isAsc", True))
        page = found[offset : offset + limit]
        names = info.get("fieldProjection")
        if names:
            page = [{name: one[name] for name in names if name in one} for one in page]
        return Answer(200, _OK | {"data": {"dataList": page, "total": len(found), "offset": offset}})

    def _describe(self, name: Any) -> Answer:
        kind = self._kinds.get(str(name))
        if kind is None:
            return _error(NO_OBJECT, f"no object {name}")
        fields = {field.name: described(field) for field in self.fields[kind].values()}
        return Answer(200, _OK | {"data": {"describe": {"api_name": name, "fields": fields}}})

    def _check(self, kind: str, given: dict[str, Any], whole: dict[str, Any]) -> None:
        refused = self.refused_field(given)
        for name, field in self.fields[kind].items():
            value = whole.get(name)
            missing = field.required and value in (None, "")
            wrong = name in given and value not in (None, "") and is_fault(field, value)
            if missing or wrong or name == refused:
                raise Refused(_error(REFUSED_VALUE, f"字段[{name}]的值不符合要求"))

    def _check_duplicates(
        self, kind: str, given: dict[str, Any], body: dict[str, Any], data: dict[str, Any]
    ) -> None:
        options = data.get("optionInfo") or {}
        if not (options.get("isDuplicateSearch") or body.get("checkDuplicateSearch")):
            return
        for name in self.duplicate_check:
            if given.get(name) and self.find(kind, name, given[name]):
                raise Refused(_error(DUPLICATE, f"根据查重规则, 已存在{name}相同的数据"))

    def _trigger(self, name: str, identity: str, body: dict[str, Any]) -> None:
        for flow, switch in (("approval", "triggerApprovalFlow"), ("workflow", "triggerWorkFlow")):
            if body.get(switch, True):
                self.triggered.append(Triggered(name, identity, flow))

    def _held(self, kind: str, identity: Any) -> Record:
        if identity not in self.objects[kind]:
            raise Refused(_error(NO_OBJECT, f"数据不存在或已作废: {identity}"))
        return self.objects[kind][identity]


def _error(code: int, message: str) -> Answer:
    return Answer(200, {"errorCode": code, "errorMessage": message})


def _part(body: dict[str, Any], name: str) -> dict[str, Any]:
    part = body.get(name)
    if not isinstance(part, dict):
        raise Refused(_error(NO_OBJECT, f"{name} is missing"))
    return part


def _shown(record: Record) -> dict[str, Any]:
    """Null fields are left out."""
    made, changed = (int(at.timestamp() * 1000) for at in (record.created, record.changed))
    return {"_id": record.id, **record.fields, "create_time": made, "last_modified_time": changed}


def _holds(condition: dict[str, Any], shown: dict[str, Any]) -> bool:
    value, wanted = shown.get(condition.get("field_name", "")), condition.get("field_values", [])
    match condition.get("operator"):
        case "EQ" | "IN":
            return value in wanted
        case "GT":
            return value is not None and value > wanted[0]
        case "BETWEEN":
            return value is not None and bool(wanted[0] <= value <= wanted[1])
        case "MATCH":
            return value is not None and str(wanted[0]) in str(value)
    raise Refused(_error(NO_OBJECT, f"operator {condition.get('operator')}"))
