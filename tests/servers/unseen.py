"""Ruiyun CRM (睿云), which does not exist: a CRM nobody has a connector for.

What follows is its API page. A connector can be written from it alone.

GENERAL
    Every call is an HTTP POST of a JSON object in UTF-8 to https://<your host>/api/…, and is answered with
    HTTP 200 and {"errorCode": 0, "errorMessage": "success", "data": {…}}. A call that failed is HTTP 200 as
    well: only errorCode tells. Do not rely on errorMessage; it may change, but for the field's name in it.

    Every body but that of /api/auth carries "token" and "companyId" beside its own content.

    POST /api/auth  {"appKey": "…", "appSecret": "…"}
        data: {"token": "…", "companyId": "880012345678901234", "expiresIn": 3600}
        The token is good for expiresIn seconds. A token that is no longer good: errorCode 4001 on any call;
        ask for a new one and send the call again. Earlier tokens stay good until they expire.
        Do not ask more than 20 times a minute (5001).

    Ids are integers of 18 digits, sent and expected as strings (JavaScript cannot hold them).
    Times are "yyyy-MM-dd HH:mm:ss" in Beijing time. Unknown fields are ignored. A field that is not in an
    update keeps its value; null or "" empties it.

CUSTOMERS
    POST /api/customer/query   {"filter": {"mobile": "15800000000"}, "page": 1, "pageSize": 20}
        data: {"total": 1, "page": 1, "pageSize": 20, "rows": [{"id": "…", "mobile": …, …}]}
        filter: any of mobile, name, ownerNo; all must be equal; {} lists all. Newest first. pageSize 1 to
        50. An id can be asked for with {"filter": {"id": "…"}}. A new record can be found after up to 5
        seconds.
    POST /api/customer/create  {"data": {"mobile": "…", "name": "…", …}}      data: {"id": "…"}
    POST /api/customer/update  {"id": "…", "data": {"grade": "HOT"}}          data: {"id": "…"}

    mobile          text, 20    required, unique; digits as they are dialled in China: 15800000000
    name            text, 50    required
    company         text, 100
    grade           enum        HOT, WARM, COLD, DEAD
    tags            list of texts, at most 10
    remark          text, 500
    ownerNo         text, 32    the staff number of whom it belongs to
    lastCallTime    time
    callCount       integer

CALLS
    POST /api/call/query, /api/call/create, /api/call/update: as for customers; filter: callNo, mobile, id.

    callNo          text, 64    required, unique: your own number of the call
    mobile          text, 20    required
    direction       enum        OUT, IN
    result          enum        ANSWERED, NO_ANSWER, BUSY, REJECTED, FAILED
    startTime       time        required
    seconds         integer     talking time
    summary         text, 200
    dialogue        text, 4000
    recordUrl       text, 255

    POST /api/link  {"callId": "…", "customerId": "…"}        data: {}
        Puts a call into a customer's history. A call belongs to one customer; linking it to another moves
        it. Linked to this one already: errorCode 2003, nothing changes.

ERRORS
    0       success
    1400    the body is no JSON object, or a part of it is missing
    1404    no such interface
    2001    a record with this mobile (callNo) exists. Which one is not said: query it.
    2002    no record has this id
    2003    linked already
    3001    a text is too long:                 "field remark: longer than 500"
    3002    not one of the enum's values:       "field grade: unknown value LUKEWARM"
    3003    a required field is missing:        "field name: required"
    3004    a value of the wrong kind:          "field startTime: not a time"
    4001    the token is missing, unknown or expired
    4002    appKey or appSecret is wrong
    4003    the token does not belong to this companyId
    5000    the system is busy. The request may or may not have been carried out.
    5001    too many requests: more than 100 in 10 seconds. The body has "retryAfterMs".
    5002    the day's allowance is used up; it is renewed at 00:00 Beijing time.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, ClassVar

from tests.servers.base import CALL, CONTACT, Field, Record, VendorServer, by_name
from tests.servers.wire import Answer, Asked, Refused

_CUSTOMER_FIELDS = (
    Field("mobile", length=20, required=True, unique=True),
    Field("name", length=50, required=True),
    Field("company", length=100),
    Field("grade", type="choice", options=("HOT", "WARM", "COLD", "DEAD")),
    Field("tags", type="texts", length=10),
    Field("remark", length=500),
    Field("ownerNo", length=32),
    Field("lastCallTime", type="datetime"),
    Field("callCount", type="integer"),
)
_CALL_FIELDS = (
    Field("callNo", length=64, required=True, unique=True),
    Field("mobile", length=20, required=True),
    Field("direction", type="choice", options=("OUT", "IN")),
    Field("result", type="choice", options=("ANSWERED", "NO_ANSWER", "BUSY", "REJECTED", "FAILED")),
    Field("startTime", type="datetime", required=True),
    Field("seconds", type="integer"),
    Field("summary", length=200),
    Field("dialogue", length=4000),
    Field("recordUrl", length=255),
)
_KINDS = {"customer": CONTACT, "call": CALL}
_FILTERS = {CONTACT: {"id", "mobile", "name", "ownerNo"}, CALL: {"id", "callNo", "mobile"}}
_COMPANY = "880012345678901234"
_FIRST_ID = 730_000_000_000_000_000
_TIME = "%Y-%m-%d %H:%M:%S"

MALFORMED, NO_PATH, DUPLICATE, GONE, LINKED = 1400, 1404, 2001, 2002, 2003
TOO_LONG, UNKNOWN_VALUE, MISSING, WRONG_KIND = 3001, 3002, 3003, 3004
BAD_TOKEN, BAD_SECRET, WRONG_COMPANY = 4001, 4002, 4003
BUSY, TOO_FAST, DAILY = 5000, 5001, 5002


class UnseenCrm(VendorServer):
    """One company. Busy answers carry nothing out, unless `busy_after_commit` asked for the other kind."""

    name: ClassVar[str] = "Ruiyun"
    has_quota: ClassVar[bool] = True

    def __init__(
        self,
        *,
        contact_fields: Iterable[Field] = (),
        call_fields: Iterable[Field] = (),
        lifetime: int = 3600,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.fields = {
            CONTACT: by_name(_CUSTOMER_FIELDS, contact_fields),
            CALL: by_name(_CALL_FIELDS, call_fields),
        }
        self.secrets = {"app_key": "rk-20417", "app_secret": "b2c9e1f0a7d84653"}
        self.settings = {"company_id": _COMPANY}
        self.requests_a_window: int | None = 100
        """Calls within 10 seconds; None: without limit."""
        self.tokens_a_minute: int | None = 20
        self._lifetime = lifetime
        self._links: dict[str, str] = {}
        self._times: dict[str, list[datetime]] = {}
        self._busy_after = 0

    def busy_after_commit(self, n: int = 1) -> None:
        """Carry the next n writes out, and say 5000 all the same."""
        with self._lock:
            self._busy_after += n

    def new_id(self, kind: str) -> str:
        """More than a double can hold."""
        del kind
        return str(_FIRST_ID + 7 * self.number())

    def linked_contacts(self, call: dict[str, Any]) -> list[str]:
        """At most one."""
        return [self._links[call["id"]]] if call["id"] in self._links else []

    def kind_of(self, asked: Asked) -> str:
        """By the path alone: everything is a POST."""
        if asked.path == "/api/auth":
            return "token"
        return "read" if asked.path.endswith("/query") else "write"

    def unauthorized(self, asked: Asked) -> Answer | None:
        """Token and company stand in the body."""
        body = asked.json()
        if not isinstance(body, dict):
            return _error(MALFORMED, "not a JSON object")
        if not self.is_valid(str(body.get("token"))):
            return _error(BAD_TOKEN, "token invalid or expired")
        if body.get("companyId") != _COMPANY:
            return _error(WRONG_COMPANY, "companyId does not match the token")
        return None

    def limit_answer(self, wait: float) -> Answer:
        """The wait stands in the body."""
        code = {"errorCode": TOO_FAST, "errorMessage": "too many requests"}
        return Answer(200, code | {"retryAfterMs": int(wait * 1000)})

    def quota_answer(self) -> Answer:
        """Until midnight in Beijing."""
        return _error(DAILY, "daily allowance used up")

    def error_answer(self, status: int) -> Answer:
        """HTTP stays 200."""
        return _error(BUSY, f"system busy, please try again later ({status})")

    def carry_out(self, asked: Asked) -> Answer:
        """What the page above says."""
        body = asked.json()
        if not isinstance(body, dict):
            return _error(MALFORMED, "not a JSON object")
        if asked.path == "/api/auth":
            return self._token(body)
        if self._is_over("", self.requests_a_window, 10):
            return self.limit_answer(1)
        answer = self._dispatch(asked.segments, body)
        if self._busy_after and self.kind_of(asked) == "write":
            self._busy_after -= 1
            return self.error_answer(500)
        return answer

    def _dispatch(self, path: tuple[str, ...], body: dict[str, Any]) -> Answer:
        match path:
            case ("api", ("customer" | "call") as name, "query"):
                return self._query(_KINDS[name], body)
            case ("api", ("customer" | "call") as name, "create"):
                fields = self._checked(_KINDS[name], _part(body, "data"), {}, None)
                return _good({"id": self.create(_KINDS[name], fields).id})
            case ("api", ("customer" | "call") as name, "update"):
                record = self._held(_KINDS[name], body.get("id"))
                fields = self._checked(_KINDS[name], _part(body, "data"), record.fields, record)
                self.change(record, fields)
                return _good({"id": record.id})
            case ("api", "link"):
                return self._link(body)
        return _error(NO_PATH, "no such interface")

    def _token(self, body: dict[str, Any]) -> Answer:
        if self._is_over("token", self.tokens_a_minute, 60):
            return self.limit_answer(60)
        expected = self.secrets["app_key"], self.secrets["app_secret"]
        if (body.get("appKey"), body.get("appSecret")) != expected:
            return _error(BAD_SECRET, "appKey or appSecret is wrong")
        token = self.issue_token("ry_", self._lifetime)
        return _good({"token": token, "companyId": _COMPANY, "expiresIn": self._lifetime})

    def _is_over(self, what: str, most: int | None, seconds: float) -> bool:
        if most is None:
            return False
        since = self.clock() - timedelta(seconds=seconds)
        times = self._times[what] = [at for at in self._times.get(what, ()) if at > since]
        if len(times) >= most:
            return True
        times.append(self.clock())
        return False

    def _query(self, kind: str, body: dict[str, Any]) -> Answer:
        wanted = _part(body, "filter")
        page, size = body.get("page", 1), body.get("pageSize", 20)
        if not set(wanted) <= _FILTERS[kind]:
            return _error(MALFORMED, f"filter knows {', '.join(sorted(_FILTERS[kind]))}")
        if not isinstance(page, int) or not isinstance(size, int) or page < 1 or not 1 <= size <= 50:
            return _error(MALFORMED, "page is 1 or more, pageSize 1 to 50")
        rows = [{"id": record.id, **record.fields} for record in self.indexed(kind)]
        rows = [row for row in rows if all(row.get(name) == value for name, value in wanted.items())]
        rows.sort(key=lambda row: row["id"], reverse=True)
        shown = rows[(page - 1) * size : page * size]
        return _good({"total": len(rows), "page": page, "pageSize": size, "rows": shown})

    def _checked(
        self, kind: str, given: dict[str, Any], held: dict[str, Any], record: Record | None
    ) -> dict[str, Any]:
        known = self.fields[kind]
        refused = self.refused_field(given)
        if refused is not None:
            raise Refused(_error(WRONG_KIND, f"field {refused}: not acceptable"))
        given = {name: value for name, value in given.items() if name in known}
        for name, value in (held | given).items():
            if name in given and value not in (None, ""):
                _check_value(known[name], value)
        for field in known.values():
            value = (held | given).get(field.name)
            if field.required and value in (None, ""):
                raise Refused(_error(MISSING, f"field {field.name}: required"))
            if field.unique and any(other is not record for other in self.find(kind, field.name, value)):
                raise Refused(_error(DUPLICATE, f"a record with this {field.name} exists"))
        return given

    def _link(self, body: dict[str, Any]) -> Answer:
        call = self._held(CALL, body.get("callId"))
        customer = self._held(CONTACT, body.get("customerId"))
        if self._links.get(call.id) == customer.id:
            return _error(LINKED, "linked already")
        self._links[call.id] = customer.id
        return _good({})

    def _held(self, kind: str, identity: Any) -> Record:
        if not isinstance(identity, str) or identity not in self.objects[kind]:
            raise Refused(_error(GONE, "no record has this id"))
        return self.objects[kind][identity]


def _check_value(field: Field, value: Any) -> None:
    right = isinstance(value, str)
    match field.type:
        case "integer":
            right = isinstance(value, int) and not isinstance(value, bool)
        case "texts":
            right = isinstance(value, list) and all(isinstance(one, str) for one in value)
        case "datetime":
            right = _is_time(value)
    if not right:
        kind = "time" if field.type == "datetime" else field.type
        raise Refused(_error(WRONG_KIND, f"field {field.name}: not a {kind}"))
    if field.options and value not in field.options:
        raise Refused(_error(UNKNOWN_VALUE, f"field {field.name}: unknown value {value}"))
    if field.length and len(value) > field.length:
        raise Refused(_error(TOO_LONG, f"field {field.name}: longer than {field.length}"))


def _is_time(value: Any) -> bool:
    try:
        return isinstance(value, str) and datetime.strptime(value, _TIME).strftime(_TIME) == value  # noqa: DTZ007  # Beijing's
    except ValueError:
        return False


def _part(body: dict[str, Any], name: str) -> dict[str, Any]:
    part = body.get(name)
    if not isinstance(part, dict):
        raise Refused(_error(MALFORMED, f"{name} is missing"))
    return part


def _good(data: dict[str, Any]) -> Answer:
    return Answer(200, {"errorCode": 0, "errorMessage": "success", "data": data})


def _error(code: int, message: str) -> Answer:
    return Answer(200, {"errorCode": code, "errorMessage": message})
