"""Zoho CRM v8: contacts, leads and calls, as the cited facts and its OpenAPI files say."""

from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any, ClassVar

from tests.servers.base import CALL, CONTACT, Clock, Field, Record, VendorServer, by_name
from tests.servers.openapi import load
from tests.servers.query import Malformed, parse
from tests.servers.wire import Answer, Asked, Refused
from tests.servers.zoho_fields import MODULES, invalid, needs_duration, settings_entry
from tests.servers.zoho_search import BadCriteria, criteria, digits

LEAD = "lead"
_KINDS = {"Contacts": CONTACT, "Calls": CALL, "Leads": LEAD}
_NAMES = {kind: module for module, kind in _KINDS.items()}
_MOST = 100
_ZONE = timezone(timedelta(hours=8))
_TOKENS, _TOKEN_WINDOW = 10, timedelta(minutes=10)
_USER = {"name": "Integration", "id": "554023000000235011"}


class Zoho(VendorServer):
    """One organisation; the accounts server and the API are one address, which `api_domain` names.

    `lead` is a third kind beside contact and call. A mixed batch answers 207, one that failed
    altogether `all_failed`; field names that Zoho does not know are passed over in silence.
    """

    name: ClassVar[str] = "Zoho"
    has_quota: ClassVar[bool] = True

    def __init__(
        self,
        *,
        contact_fields: Iterable[Field] = (),
        call_fields: Iterable[Field] = (),
        clock: Clock | None = None,
        index_lag: float = 0.0,
        all_failed: int = 400,
    ) -> None:
        files = load("zoho", "record.json", "coql.json")
        super().__init__(clock=clock, index_lag=index_lag, description=files)
        self.secrets = {
            "client_id": "1000.CLIENT",
            "client_secret": "client-secret-of-the-tests",
            "refresh_token": "1000.refresh-token-of-the-tests",
        }
        self.settings = {"accounts_url": self.url}
        self.objects[LEAD], self.deleted[LEAD] = {}, set()
        own = {CONTACT: contact_fields, CALL: call_fields}
        self.fields = {kind: by_name(MODULES[name], own.get(kind, ())) for name, kind in _KINDS.items()}
        self.all_failed = all_failed
        self._given: list[datetime] = []

    def seed_lead(self, **fields: Any) -> str:
        """A lead that was there long before; its id."""
        with self._lock:
            return self.create(LEAD, fields, created=self.clock() - timedelta(days=1)).id

    def new_id(self, kind: str) -> str:
        del kind
        return str(554_023_000_000_500_000 + self.number())

    def linked_contacts(self, call: dict[str, Any]) -> list[str]:
        found = (call.get("Who_Id") or {}).get("id")
        return [found] if found in self.objects[CONTACT] else []

    def kind_of(self, asked: Asked) -> str:
        if asked.path == "/oauth/v2/token":
            return "token"
        return "read" if asked.method == "GET" or asked.segments[-1] == "coql" else "write"

    def described_path(self, asked: Asked) -> str | None:
        return None if "settings" in asked.segments else asked.raw_path

    def unauthorized(self, asked: Asked) -> Answer | None:
        if not asked.headers.get("authorization"):
            return _error(401, "AUTHENTICATION_FAILURE", "Authentication failed")
        if not self.is_valid(asked.token("Zoho-oauthtoken") or ""):
            return _error(401, "INVALID_TOKEN", "invalid oauth token")
        return None

    def limit_answer(self, wait: float) -> Answer:
        reset = int((self.clock().timestamp() + wait) * 1000)
        answer = _error(429, "TOO_MANY_REQUESTS", "too many requests, please try again later")
        headers = {"x-ratelimit-limit": "10", "x-ratelimit-remaining": "0", "x-ratelimit-reset": str(reset)}
        return Answer(429, answer.body, headers)

    def quota_answer(self) -> Answer:
        return _error(429, "LIMIT_EXCEEDED", "the API credits of the last 24 hours are used up")

    def error_answer(self, status: int) -> Answer:
        if status in {502, 503, 504}:
            html = "<html><body>temporarily unavailable</body></html>"
            return Answer(status, html, {"content-type": "text/html"})
        codes = {423: "RECORD_LOCKED", 404: "INVALID_URL_PATTERN", 403: "NO_PERMISSION"}
        return _error(status, codes.get(status, "INTERNAL_ERROR"), "Internal server error occurred.")

    def carry_out(self, asked: Asked) -> Answer:  # noqa: C901, PLR0911  # one line for each operation
        match asked.method, asked.segments:
            case "POST", ("oauth", "v2", "token"):
                return self._token(asked)
            case "GET", ("crm", "v8", "settings", "fields"):
                kind = _kind(asked.param("module") or "")
                return Answer(
                    200, {"fields": [settings_entry(field) for field in self.fields[kind].values()]}
                )
            case "POST", ("crm", "v8", "coql"):
                return self._coql(asked.json())
            case "GET", ("crm", "v8", module, "search"):
                return self._search(_kind(module), asked)
            case "GET", ("crm", "v8", module):
                return self._list(_kind(module), asked)
            case "GET", ("crm", "v8", module, reference):
                record = self._by(_kind(module), reference, asked)
                return self._found(_kind(module), [record] if record else [], asked, single=True)
            case "POST", ("crm", "v8", module, "upsert"):
                return self._write(_kind(module), asked, "upsert")
            case "POST", ("crm", "v8", module):
                return self._write(_kind(module), asked, "insert")
            case "PUT", ("crm", "v8", module):
                return self._write(_kind(module), asked, "update")
            case "PUT", ("crm", "v8", module, reference):
                return self._write(_kind(module), asked, "update", reference)
        return _error(404, "INVALID_URL_PATTERN", "Please check if the URL trying to access is a correct one")

    # Tokens: what is wrong is said with 200.

    def _token(self, asked: Asked) -> Answer:
        form = {**dict(asked.query), **asked.form()}
        now = self.clock()
        self._given = [moment for moment in self._given if moment > now - _TOKEN_WINDOW]
        if form.get("grant_type") != "refresh_token":
            return Answer(200, {"error": "unsupported_grant_type"})
        errors = {
            "client_id": "invalid_client",
            "client_secret": "invalid_client_secret",
            "refresh_token": "invalid_code",
        }
        for name, error in errors.items():
            if form.get(name) != self.secrets[name]:
                return Answer(200, {"error": error})
        if len(self._given) >= _TOKENS:
            text = "You have made too many requests continuously. Please try again after some time."
            return Answer(400, {"error": "Access Denied", "error_description": text, "status": "failure"})
        self._given.append(now)
        token = {"access_token": self.issue_token("1000.access.", 3600), "api_domain": self.url}
        scope = "ZohoCRM.modules.ALL ZohoCRM.coql.READ ZohoCRM.settings.fields.READ"
        return Answer(200, {**token, "scope": scope, "token_type": "Bearer", "expires_in": 3600})

    # Reading: nothing found is 204 without a body.

    def _search(self, kind: str, asked: Asked) -> Answer:
        fields = self.fields[kind]
        criteria_text, email, phone, word = map(asked.param, ("criteria", "email", "phone", "word"))
        if criteria_text:
            try:
                matches = criteria(criteria_text, frozenset({*fields, "id"}))
            except BadCriteria as error:
                details = {"reason": str(error)}
                raise Refused(_error(400, "INVALID_QUERY", "Invalid query formed", details)) from error
            found = [of for of in self.indexed(kind) if matches({"id": of.id, **of.fields})]
        elif email or phone or word:
            kinds = {"phone"} if phone and not email else {"text"}
            wanted = digits(phone) if phone and not email else str(email or word).lower()
            names = [name for name, field in fields.items() if field.type in kinds]
            found = [
                record
                for record in self.indexed(kind)
                if any(digits(record.fields.get(name, "")).lower() == wanted for name in names)
            ]
        else:
            raise Refused(_error(400, "REQUIRED_PARAM_MISSING", "One of the expected parameter is missing"))
        return self._found(kind, found, asked)

    def _list(self, kind: str, asked: Asked) -> Answer:
        if not asked.param("fields"):
            details = {"param_name": "fields"}
            raise Refused(_error(400, "REQUIRED_PARAM_MISSING", "mandatory param missing", details))
        ids = (asked.param("ids") or "").split(",")
        every = self.objects[kind].values()
        return self._found(kind, [of for of in every if of.id in ids or ids == [""]], asked)

    def _found(self, kind: str, found: list[Record], asked: Asked, *, single: bool = False) -> Answer:
        page, size = int(asked.param("page") or 1), min(200, int(asked.param("per_page") or 200))
        shown = found[(page - 1) * size : page * size]
        if not shown:
            return Answer(204)
        names = [name for name in (asked.param("fields") or "").split(",") if name]
        data = [self._shown(kind, record, names) for record in shown]
        more = len(found) > page * size
        info = {"per_page": size, "count": len(shown), "page": page, "more_records": more}
        return Answer(200, {"data": data} if single else {"data": data, "info": info})

    def _coql(self, content: Any) -> Answer:
        text = content.get("select_query") if isinstance(content, dict) else None
        try:
            query = parse(str(text))
        except Malformed as error:
            details = {"line": 1, "column": 1, "near": str(error)}
            raise Refused(
                _error(400, "SYNTAX_ERROR", "error occurred while parsing the query", details)
            ) from error
        if query.where is None:
            raise Refused(_error(400, "SYNTAX_ERROR", "missing clause", {"clause": "where"}))
        kind = _kind(query.source)
        unknown = sorted(query.fields - {*self.fields[kind], "id"})
        if unknown:
            message, details = "column given seems to be invalid", {"column_name": unknown[0]}
            raise Refused(_error(400, "INVALID_QUERY", message, details))
        found = [of for of in self.objects[kind].values() if query.where(partial(_flat, of))]
        size = query.limit or 200
        page = found[query.offset : query.offset + size]
        if not page:
            return Answer(204)
        data = [self._shown(kind, record, list(query.select)) for record in page]
        more = len(found) > query.offset + size
        return Answer(200, {"data": data, "info": {"count": len(data), "more_records": more}})

    def _shown(self, kind: str, record: Record, names: list[str]) -> dict[str, Any]:
        times = {"Created_Time": _offset_time(record.created), "Modified_Time": _offset_time(record.changed)}
        held = {**dict.fromkeys(self.fields[kind]), **record.fields, **times}
        wanted = [name for name in names if name in held] or list(held)
        return {"id": record.id, **{name: held[name] for name in wanted}}

    def _by(self, kind: str, reference: str, asked: Asked) -> Record | None:
        external = asked.headers.get("x-external")
        if external is None:
            return self.objects[kind].get(reference)
        module, _, name = external.partition(".")
        if _KINDS.get(module) != kind or name not in self.fields[kind]:
            raise Refused(_error(400, "INVALID_DATA", "The value of the external field is invalid."))
        return next(iter(self.find(kind, name, reference)), None)

    # Writing: an item for each record, in their order.

    def _write(self, kind: str, asked: Asked, action: str, reference: str | None = None) -> Answer:
        content = asked.json()
        data = content.get("data") if isinstance(content, dict) else None
        if not isinstance(data, list) or not data or not all(isinstance(of, dict) for of in data):
            details = {"api_name": "data", "expected_data_type": "jsonarray"}
            raise Refused(_error(400, "INVALID_DATA", "body", details))
        if len(data) > _MOST:
            details = {"maximum_length": str(_MOST), "api_name": "data"}
            raise Refused(_error(400, "INVALID_DATA", "invalid data", details))
        checks = self._checks(kind, content.get("duplicate_check_fields"))
        items = []
        for index, given in enumerate(data):
            try:
                record = self._meant(kind, given, action, checks, reference, asked)
                items.append(self._item(kind, index, given, record, action))
            except Refused as refused:
                items.append(refused.answer.body)
        good = [item for item in items if item["status"] == "success"]
        done = 201 if action == "insert" else 200
        status = done if len(good) == len(items) else 207 if good else self.all_failed
        return Answer(status, {"data": items})

    def _checks(self, kind: str, given: Any) -> list[str]:
        usual = [] if kind == CALL else ["Email", "Phone", "Mobile"]
        allowed = {*usual, *(name for name, field in self.fields[kind].items() if field.unique)}
        if given is None:
            return usual[:1]
        wrong = [name for name in given if name not in allowed]
        if wrong:
            details = {"api_name": "duplicate_check_fields", "value": wrong[0]}
            raise Refused(_error(400, "INVALID_DATA", "invalid data", details))
        return list(given)

    def _meant(
        self, kind: str, given: Any, action: str, checks: list[str], reference: str | None, asked: Asked
    ) -> tuple[Record | None, str | None]:
        """Which record is written, None for a new one; and the field it was known by."""
        if action == "update":
            wanted = reference or str(given.get("id"))
            record = self._by(kind, wanted, asked) if reference else self.objects[kind].get(wanted)
            if record is None:
                raise Refused(
                    _item_error("INVALID_DATA", "the id given seems to be invalid", {"api_name": "id"})
                )
            return record, None
        for name in checks if action == "upsert" else ():
            held = self.find(kind, name, given[name]) if given.get(name) else []
            if held:
                return held[0], name
        return None, None

    def _item(
        self,
        kind: str,
        index: int,
        given: dict[str, Any],
        meant: tuple[Record | None, str | None],
        action: str,
    ) -> dict[str, Any]:
        record, known_by = meant
        fields = {name: value for name, value in given.items() if name in self.fields[kind]}
        self._judge(kind, index, fields, record)
        if record is None:
            record, did = self.create(kind, fields), "insert"
        else:
            self.change(record, fields)
            did = "update"
        details = {
            "id": record.id,
            "Created_Time": _offset_time(record.created),
            "Modified_Time": _offset_time(record.changed),
            "Created_By": _USER,
            "Modified_By": _USER,
        }
        message = "record added" if did == "insert" else "record updated"
        item: dict[str, Any] = {
            "code": "SUCCESS",
            "status": "success",
            "message": message,
            "details": details,
        }
        if action == "upsert":
            item.update(action=did, duplicate_field=known_by)
        return item

    def _judge(self, kind: str, index: int, fields: dict[str, Any], record: Record | None) -> None:
        def path(name: str) -> dict[str, str]:
            return {"api_name": name, "json_path": f"$.data[{index}].{name}"}

        needed = [name for name, field in self.fields[kind].items() if field.required]
        if kind == CALL and needs_duration(fields):
            needed.append("Call_Duration")
        for name in needed:
            if fields.get(name, "" if record is None else "kept") in (None, ""):
                raise Refused(_item_error("MANDATORY_NOT_FOUND", "required field not found", path(name)))
        for name, value in fields.items():
            wrong = invalid(self.fields[kind][name], value)
            if wrong is not None:
                raise Refused(_item_error("INVALID_DATA", "invalid data", {**path(name), **wrong}))
        self._judge_links(fields, path)
        refused = self.refused_field(fields)
        if refused is not None:
            raise Refused(_item_error("INVALID_DATA", "invalid data", path(refused)))
        for name, field in self.fields[kind].items():
            held = self.find(kind, name, fields[name]) if field.unique and fields.get(name) else []
            other = next((of for of in held if of is not record), None)
            if other is not None:
                module = {"api_name": _NAMES[kind], "id": "554023000000000131"}
                existing = {"id": other.id, "module": module, "Owner": _USER}
                details = {**path(name), "duplicate_record": existing}
                raise Refused(_item_error("DUPLICATE_DATA", "duplicate data", details))

    def _judge_links(self, fields: dict[str, Any], path: Any) -> None:
        who, what = fields.get("Who_Id"), fields.get("What_Id")
        if who is not None and who["id"] not in self.objects[CONTACT]:
            raise Refused(_item_error("INVALID_DATA", "the id given seems to be invalid", path("Who_Id")))
        if what is not None:
            module = fields.get("$se_module")
            if module is None:
                raise Refused(
                    _item_error("DEPENDENT_FIELD_MISSING", "Dependent Fields missing", path("$se_module"))
                )
            if what["id"] not in self.objects.get(_KINDS.get(module, ""), {}):
                raise Refused(
                    _item_error("INVALID_DATA", "the id given seems to be invalid", path("What_Id"))
                )


def _kind(module: str) -> str:
    if module not in _KINDS:
        raise Refused(_error(400, "INVALID_MODULE", "The module name given seems to be invalid"))
    return _KINDS[module]


def _error(status: int, code: str, message: str, details: dict[str, Any] | None = None) -> Answer:
    return Answer(status, {"code": code, "details": details or {}, "message": message, "status": "error"})


def _item_error(code: str, message: str, details: dict[str, Any]) -> Answer:
    return _error(400, code, message, details)


def _offset_time(moment: datetime) -> str:
    return moment.astimezone(_ZONE).isoformat(timespec="seconds")


def _flat(record: Record, name: str) -> Any:
    value = record.id if name == "id" else record.fields.get(name)
    return value.get("id") if isinstance(value, dict) else value
