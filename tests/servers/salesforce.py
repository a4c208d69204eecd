"""Salesforce: contacts, leads and tasks over REST, as the cited facts say."""

import re
from collections.abc import Iterable
from datetime import timedelta
from functools import partial
from typing import Any, ClassVar

from tests.servers.base import CALL, CONTACT, Clock, Field, Record, VendorServer, by_name
from tests.servers.query import Malformed, parse
from tests.servers.salesforce_answers import body, duplicates, errors, missing
from tests.servers.salesforce_fields import OBJECTS, described, invalid
from tests.servers.salesforce_login import Login
from tests.servers.wire import Answer, Asked, Refused

LEAD = "lead"
_KINDS = {"Contact": CONTACT, "Task": CALL, "Lead": LEAD}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_PREFIXES = {CONTACT: "003", CALL: "00T", LEAD: "00Q"}
_VERSIONS = range(31, 68)
_MOST = 200
_ROLLED_BACK = "Record rolled back because not all records were valid and the request was using AllOrNone"
_FIND = re.compile(r"FIND \{(.+)\} IN PHONE FIELDS RETURNING (.+)", re.IGNORECASE)


class Salesforce(VendorServer):
    """One organisation; login and instance are one address, which `instance_url` names.

    `Field(unique=True)` is an External ID that is Unique too, `external=True` one that is not.
    With `duplicate_rule` on fields of contacts, equal ones are refused unless the header allows them.
    `lead` is a third kind beside contact and call.
    """

    name: ClassVar[str] = "Salesforce"
    has_quota: ClassVar[bool] = True

    def __init__(
        self,
        *,
        contact_fields: Iterable[Field] = (),
        call_fields: Iterable[Field] = (),
        clock: Clock | None = None,
        index_lag: float = 0.0,
        assertions: bool = False,
        duplicate_rule: tuple[str, ...] = (),
        page_size: int = 2000,
    ) -> None:
        super().__init__(clock=clock, index_lag=index_lag)
        self._login = Login(assertions=assertions)
        self.secrets, self.settings = self._login.secrets(), self._login.settings()
        self.objects[LEAD], self.deleted[LEAD] = {}, set()
        own = {CONTACT: contact_fields, CALL: call_fields}
        self.fields = {kind: by_name(OBJECTS[name], own.get(kind, ())) for name, kind in _KINDS.items()}
        self._duplicate_rule = duplicate_rule
        self._page_size = page_size
        self._rest: dict[str, tuple[list[dict[str, Any]], int]] = {}
        self._usage = 17

    def seed_lead(self, **fields: Any) -> str:
        """A lead that was there long before; its id."""
        with self._lock:
            return self.create(LEAD, fields, created=self.clock() - timedelta(days=1)).id

    def new_id(self, kind: str) -> str:
        return f"{_PREFIXES[kind]}5g00000{self.number():06d}AA"

    def linked_contacts(self, call: dict[str, Any]) -> list[str]:
        return [call["WhoId"]] if call.get("WhoId") in self.objects[CONTACT] else []

    def kind_of(self, asked: Asked) -> str:
        if asked.path == "/services/oauth2/token":
            return "token"
        return "read" if asked.method == "GET" else "write"

    def unauthorized(self, asked: Asked) -> Answer | None:
        if asked.path.rstrip("/") == "/services/data" or self.is_valid(asked.token("Bearer") or ""):
            return None
        return errors(401, "INVALID_SESSION_ID", "Session expired or invalid")

    def limit_answer(self, wait: float) -> Answer:
        del wait  # Salesforce does not say how long.
        message = "ConcurrentRequests (Concurrent API Requests) Limit exceeded."
        return errors(403, "REQUEST_LIMIT_EXCEEDED", message)

    def quota_answer(self) -> Answer:
        return errors(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")

    def error_answer(self, status: int) -> Answer:
        if status in {502, 504}:
            return Answer(status, "<html><body>upstream</body></html>", {"content-type": "text/html"})
        codes = {503: "SERVER_UNAVAILABLE", 500: "UNKNOWN_EXCEPTION", 400: "UNABLE_TO_LOCK_ROW"}
        return errors(status, codes.get(status, "UNKNOWN_EXCEPTION"), "the request could not be served")

    def finish(self, asked: Asked, answer: Answer) -> Answer:
        if self.kind_of(asked) == "token":
            return answer
        self._usage += 1
        usage = {"sforce-limit-info": f"api-usage={self._usage}/5000"}
        return Answer(answer.status, answer.body, {**usage, **answer.headers})

    def carry_out(self, asked: Asked) -> Answer:
        match asked.method, asked.segments:
            case "POST", ("services", "oauth2", "token"):
                return self._token(asked)
            case "GET", ("services", "data"):
                return Answer(200, [{"version": f"{number}.0"} for number in _VERSIONS])
            case method, ("services", "data", version, *rest):
                found = re.fullmatch(r"v(\d+)\.0", version)
                if found is None or int(found[1]) > _VERSIONS[-1]:
                    raise Refused(missing())
                if int(found[1]) < _VERSIONS[0]:
                    raise Refused(errors(410, "UNSUPPORTED_API_VERSION", f"{version} is no longer supported"))
                return self._rest_call(method, rest, asked)
        return missing()

    def _rest_call(  # noqa: C901, PLR0911  # one line for each operation
        self, method: str, rest: list[str], asked: Asked
    ) -> Answer:
        match method, rest:
            case "GET", ["query"]:
                return self._query(asked)
            case "GET", ["query", place] if place in self._rest:
                return self._page(asked, *self._rest.pop(place))
            case "GET", ["search"]:
                return self._find_phone(asked)
            case "GET", ["limits"]:
                left = {"Max": 5000, "Remaining": 5000 - self._usage}
                return Answer(200, {"DailyApiRequests": left})
            case "GET", ["sobjects", name, "describe"]:
                fields = [described(Field("Id", readonly=True)), *map(described, self._fields(name).values())]
                return Answer(200, {"name": name, "fields": fields})
            case "GET", ["sobjects", name, reference]:
                return Answer(
                    200, self._shown(_kind(name), self._by_id(name, reference), self._names(name, asked))
                )
            case "POST", ["sobjects", name]:
                record = self._written(_kind(name), body(asked), None, asked)
                return Answer(201, {"id": record.id, "success": True, "errors": []})
            case "PATCH", ["sobjects", name, reference]:
                self._written(_kind(name), body(asked), self._by_id(name, reference), asked)
                return Answer(204)
            case "PATCH", ["sobjects", name, field, value]:
                return self._upsert(name, field, value, asked)
            case "POST" | "PATCH", ["composite", "sobjects", *upsert]:
                return self._collection(method, upsert, asked)
        return missing()

    def _token(self, asked: Asked) -> Answer:
        now = self.clock()
        refused = self._login.refused(asked.form(), now)
        if refused is not None:
            return refused
        body = {
            "access_token": self.issue_token("00D5g000000TEST!"),
            "signature": "c2lnbmF0dXJl",
            "scope": "api",
            "instance_url": self.url,
            "id": f"{self.url}/id/00D5g000000TESTEAA/0055g000000TESTAAA",
            "token_type": "Bearer",
            "issued_at": str(int(now.timestamp() * 1000)),
        }
        return Answer(200, body)

    # Reading: SOQL reads the database, SOSL an index.

    def _query(self, asked: Asked) -> Answer:
        try:
            query = parse(asked.param("q") or "")
        except Malformed as error:
            raise Refused(errors(400, "MALFORMED_QUERY", str(error))) from error
        if query.source not in _KINDS:
            message = f"sObject type '{query.source}' is not supported."
            raise Refused(errors(400, "INVALID_TYPE", message))
        self._known_names(query.source, query.fields)
        kind = _KINDS[query.source]
        every = self.objects[kind].values()
        found = [of for of in every if query.where is None or query.where(partial(self._value, of))]
        end = None if query.limit is None else query.offset + query.limit
        records = [self._shown(kind, of, list(query.select)) for of in found[query.offset : end]]
        return self._page(asked, records, len(records))

    def _page(self, asked: Asked, records: list[dict[str, Any]], total: int) -> Answer:
        page, rest = records[: self._page_size], records[self._page_size :]
        body: dict[str, Any] = {"totalSize": total, "done": not rest, "records": page}
        if rest:
            place = f"01g5g00000{self.number():05d}AAA-{self._page_size}"
            self._rest[place] = (rest, total)
            body["nextRecordsUrl"] = f"/services/data/{asked.segments[2]}/query/{place}"
        return Answer(200, body)

    def _find_phone(self, asked: Asked) -> Answer:
        found = _FIND.fullmatch(asked.param("q") or "")
        if found is None:
            raise Refused(errors(400, "MALFORMED_SEARCH", "No such search"))
        wanted = {_digits(part) for part in found[1].split(" OR ")}
        results = []
        for name, written in re.findall(r"\b(Contact|Lead)\b(?:\(([^)]*)\))?", found[2]):
            listed = re.split(r"\s+(?:WHERE|LIMIT)\s+", written, flags=re.IGNORECASE)[0]
            names = [part.strip() for part in listed.split(",") if part.strip()] or ["Id"]
            self._known_names(name, names)
            results += [
                self._shown(_KINDS[name], record, names)
                for record in self.indexed(_KINDS[name])
                if wanted & {_digits(record.fields.get(field, "")) for field in self._phones(name)}
            ]
        return Answer(200, {"searchRecords": results})

    def _phones(self, name: str) -> list[str]:
        return [field.name for field in self._fields(name).values() if field.type == "phone"]

    def _value(self, record: Record, name: str) -> Any:
        fields = record.fields
        own = {
            "Id": record.id,
            "Name": " ".join(filter(None, [fields.get("FirstName"), fields.get("LastName")])) or None,
            "CreatedDate": record.created.strftime("%Y-%m-%dT%H:%M:%S.000+0000"),
            "LastModifiedDate": record.changed.strftime("%Y-%m-%dT%H:%M:%S.000+0000"),
            "IsConverted": False,
        }
        return own[name] if name in own else fields.get(name)

    def _shown(self, kind: str, record: Record, names: list[str]) -> dict[str, Any]:
        address = f"/services/data/v67.0/sobjects/{_NAMES[kind]}/{record.id}"
        values = {name: self._value(record, name) for name in names}
        return {"attributes": {"type": _NAMES[kind], "url": address}, **values}

    def _names(self, name: str, asked: Asked) -> list[str]:
        given = [field for field in (asked.param("fields") or "").split(",") if field]
        self._known_names(name, given)
        return given or ["Id", *self._fields(name)]

    def _known_names(self, name: str, names: Iterable[str]) -> None:
        unknown = sorted(set(names) - {"Id", *self._fields(name)})
        if unknown:
            message = f"No such column '{unknown[0]}' on entity '{name}'."
            raise Refused(errors(400, "INVALID_FIELD", message))

    def _fields(self, name: str) -> dict[str, Field]:
        return self.fields[_kind(name)]

    def _by_id(self, name: str, reference: str) -> Record:
        kind = _kind(name)
        if reference in self.deleted[kind]:
            raise Refused(errors(404, "ENTITY_IS_DELETED", "entity is deleted"))
        if reference not in self.objects[kind]:
            raise Refused(missing())
        return self.objects[kind][reference]

    # Writing.

    def _upsert(self, name: str, field: str, value: str, asked: Asked) -> Answer:
        given = body(asked)
        held = self._holders(name, field, value)
        if len(held) > 1:
            return Answer(300, [f"/services/data/v67.0/sobjects/{name}/{record.id}" for record in held])
        if field in given:
            message = f"The {field} field should not be specified in the sobject data."
            raise Refused(errors(400, "INVALID_FIELD", message, [field]))
        known = held[0] if held else None
        record = self._written(_kind(name), given if known else {field: value, **given}, known, asked)
        done = {"id": record.id, "success": True, "errors": [], "created": known is None}
        return Answer(200 if known else 201, done)

    def _holders(self, name: str, field: str, value: Any) -> list[Record]:
        found = self._fields(name).get(field)
        if found is None or not (found.unique or found.external):
            message = f"Provided external ID field does not exist or is not accessible: {field}"
            raise Refused(errors(404, "NOT_FOUND", message))
        return self.find(_kind(name), field, value)

    def _one_holder(self, name: str, field: str, value: Any) -> Record | None:
        if value is None:
            raise Refused(errors(400, "MISSING_ARGUMENT", f"{field} not specified", [field]))
        held = self._holders(name, field, value)
        if len(held) > 1:
            message = f"{field}: more than one record found for external id field"
            raise Refused(errors(400, "DUPLICATE_EXTERNAL_ID", message))
        return held[0] if held else None

    def _collection(self, method: str, upsert: list[str], asked: Asked) -> Answer:
        content = body(asked)
        records: Any = content.get("records")
        whole = isinstance(records, list) and all(isinstance(of, dict) for of in records)
        if not whole or len(upsert) not in {0, 2} or (upsert and method != "PATCH"):
            raise Refused(errors(400, "JSON_PARSER_ERROR", "an array of records is needed"))
        if len(records) > _MOST:
            message = f"record limit reached. cannot submit more than {_MOST} records into this call"
            raise Refused(errors(400, "EXCEEDED_ID_LIMIT", message))
        together = content.get("allOrNone", asked.param("allOrNone") == "true")
        kept = {
            kind: {of.id: Record(of.id, dict(of.fields), of.created, of.changed) for of in held.values()}
            for kind, held in self.objects.items()
        }
        results = [self._collected(method, upsert, entry, asked) for entry in records]
        if together and not all(result["success"] for result in results):
            self.objects.update(kept)
            undone = {
                "statusCode": "ALL_OR_NONE_OPERATION_ROLLED_BACK",
                "message": _ROLLED_BACK,
                "fields": [],
            }
            results = [
                {"success": False, "errors": [undone]} if result["success"] else result for result in results
            ]
        return Answer(200, results)

    def _collected(
        self, method: str, upsert: list[str], entry: dict[str, Any], asked: Asked
    ) -> dict[str, Any]:
        attributes = entry.get("attributes")
        name = str(attributes.get("type")) if isinstance(attributes, dict) else ""
        given = {key: value for key, value in entry.items() if key not in {"attributes", "id", "Id"}}
        known: Record | None = None
        try:
            if upsert:
                known = self._one_holder(upsert[0], upsert[1], given.get(upsert[1]))
            elif method == "PATCH":
                known = self._by_id(name, str(entry.get("id", entry.get("Id"))))
            record = self._written(_kind(name), given, known, asked)
        except Refused as refused:
            found = [
                {"statusCode": of["errorCode"], "message": of["message"], "fields": of.get("fields", [])}
                for of in refused.answer.body
            ]
            return {"success": False, "errors": found}
        done = {"id": record.id, "success": True, "errors": []}
        return {**done, "created": known is None} if upsert else done

    def _written(self, kind: str, given: dict[str, Any], record: Record | None, asked: Asked) -> Record:
        fields = {name: value for name, value in given.items() if name != "attributes"}
        self._judge(kind, fields, record)
        refused = self.refused_field(fields)
        if refused is not None:
            code, message = "FIELD_CUSTOM_VALIDATION_EXCEPTION", f"{refused} is not allowed here"
            raise Refused(errors(400, code, message, [refused]))
        self._judge_duplicates(kind, fields, record, asked)
        if record is None:
            return self.create(kind, fields)
        self.change(record, fields)
        return record

    def _judge(self, kind: str, fields: dict[str, Any], record: Record | None) -> None:
        known, name = self.fields[kind], _NAMES[kind]
        for field in fields:
            if field not in known:
                message = f"No such column '{field}' on sobject of type {name}"
                raise Refused(errors(400, "INVALID_FIELD", message))
            if known[field].readonly or (known[field].create_only and record is not None):
                message = f"Unable to create/update fields: {field}. Please check the security settings."
                raise Refused(errors(400, "INVALID_FIELD_FOR_INSERT_UPDATE", message, [field]))
        needed = [field.name for field in known.values() if field.required]
        absent = [field for field in needed if not fields.get(field, record is not None)]
        if absent:
            message = f"Required fields are missing: [{', '.join(absent)}]"
            raise Refused(errors(400, "REQUIRED_FIELD_MISSING", message, absent))
        for field, value in fields.items():
            wrong = invalid(known[field], value)
            if wrong is not None:
                names = [] if wrong[0] == "JSON_PARSER_ERROR" else [field]
                raise Refused(errors(400, *wrong, names))
        self._judge_links(kind, fields)

    def _judge_links(self, kind: str, fields: dict[str, Any]) -> None:
        who = fields.get("WhoId")
        if kind != CALL or who is None:
            return
        if who not in self.objects[CONTACT] and who not in self.objects[LEAD]:
            message = "Name ID: id value of incorrect type or of a deleted record"
            raise Refused(errors(400, "INVALID_CROSS_REFERENCE_KEY", message, ["WhoId"]))
        if who in self.objects[LEAD] and fields.get("WhatId"):
            message = "Related To ID: cannot be set when the name is a lead"
            raise Refused(errors(400, "FIELD_INTEGRITY_EXCEPTION", message, ["WhatId"]))

    def _judge_duplicates(
        self, kind: str, fields: dict[str, Any], record: Record | None, asked: Asked
    ) -> None:
        for name, field in self.fields[kind].items():
            held = self.find(kind, name, fields[name]) if field.unique and fields.get(name) else []
            other = next((of for of in held if of is not record), None)
            if other is not None:
                message = f"duplicate value found: {name} duplicates value on record with id: {other.id}"
                raise Refused(errors(400, "DUPLICATE_VALUE", message, []))
        allowed = "allowsave=true" in asked.headers.get("sforce-duplicate-rule-header", "").lower()
        for name in () if allowed or kind != CONTACT else self._duplicate_rule:
            held = self.find(kind, name, fields[name]) if fields.get(name) else []
            others = [of for of in held if of is not record]
            if others:
                raise Refused(duplicates(others))


def _kind(name: str) -> str:
    if name not in _KINDS:
        raise Refused(missing())
    return _KINDS[name]


def _digits(text: Any) -> str:
    return re.sub(r"\D", "", str(text))
