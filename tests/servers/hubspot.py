"""HubSpot: contacts and calls on both generations of paths, as the cited facts and its OpenAPI files say."""

import re
from collections.abc import Iterable
from typing import Any, ClassVar

from tests.servers.base import CALL, CONTACT, Clock, Field, Record, VendorServer, by_name
from tests.servers.hubspot_answers import (
    LIMIT_HEADERS,
    association,
    batch_answer,
    envelope,
    iso,
    item_error,
    missing,
    properties_refused,
    property_problem,
    refusal,
    shuffled,
)
from tests.servers.hubspot_fields import CALLS, CONTACTS, invalid, lets_pass, national, property_entry
from tests.servers.hubspot_requests import (
    body,
    canonical,
    filter_property,
    inputs,
    is_dated,
    links,
    needed,
    pairs,
    properties,
)
from tests.servers.openapi import load
from tests.servers.wire import Answer, Asked, Refused

TOKEN = "pat-na1-of-the-tests"
_TYPES = {"contacts": CONTACT, "0-1": CONTACT, "calls": CALL, "0-48": CALL}
_DATED_LINK = r"^/crm/objects/20\d\d-\d\d(?=/[^/]+/[^/]+/associations/)"
_HTML = {"content-type": "text/html"}
_READS = {("search",), ("batch", "read")}


class HubSpot(VendorServer):
    """One portal with a static token.

    Properties beside HubSpot's own are given at construction, `unique=True` where they shall be
    `hasUniqueValue`. `scopes` may be changed at any time.
    """

    name: ClassVar[str] = "HubSpot"
    has_quota: ClassVar[bool] = True

    def __init__(
        self,
        *,
        contact_fields: Iterable[Field] = (),
        call_fields: Iterable[Field] = (),
        clock: Clock | None = None,
        index_lag: float = 0.0,
    ) -> None:
        files = load("hubspot", "contacts.json", "calls.json", "associations-v4.json")
        super().__init__(clock=clock, index_lag=index_lag, static_token=TOKEN, description=files)
        self.secrets = {"token": TOKEN}
        self.fields = {CONTACT: by_name(CONTACTS, contact_fields), CALL: by_name(CALLS, call_fields)}
        self.scopes = {"crm.objects.contacts.read", "crm.objects.contacts.write"}
        self._links: dict[str, list[str]] = {}

    def new_id(self, kind: str) -> str:
        return str((15_000_000_000 if kind == CONTACT else 68_000_000_000) + self.number())

    def linked_contacts(self, call: dict[str, Any]) -> list[str]:
        return [found for found in self._links.get(call["id"], []) if found in self.objects[CONTACT]]

    def kind_of(self, asked: Asked) -> str:
        path = canonical(asked)
        return "read" if asked.method == "GET" or (path and tuple(path[2:]) in _READS) else "write"

    def described_path(self, asked: Asked) -> str | None:
        if "properties" in asked.segments[:3]:
            return None
        path = re.sub(_DATED_LINK, "/crm/v4/objects", asked.raw_path)
        path = re.sub(r"^/crm/objects/20\d\d-\d\d", "/crm/v3/objects", path)
        return re.sub(r"^/crm/associations/20\d\d-\d\d", "/crm/v4/associations", path)

    def unauthorized(self, asked: Asked) -> Answer | None:
        if not self.is_valid(asked.token("Bearer") or ""):
            return envelope(
                401,
                "INVALID_AUTHENTICATION",
                "Authentication credentials not found. This API supports OAuth 2.0 authentication.",
            )
        scope = f"crm.objects.contacts.{self.kind_of(asked)}"
        if scope in self.scopes:
            return None
        error = {
            "message": "One or more of the following scopes are required.",
            "context": {"requiredGranularScopes": [scope]},
        }
        message = "This app hasn't been granted all required scopes to make this call."
        return envelope(403, "MISSING_SCOPES", message, errors=[error])

    def limit_answer(self, wait: float) -> Answer:
        answer = envelope(429, "RATE_LIMITS", "You have reached your ten_secondly_rolling limit.")
        answer.body.update(errorType="RATE_LIMIT", policyName="TEN_SECONDLY_ROLLING")
        return Answer(429, answer.body, {"retry-after": str(max(1, round(wait)))})

    def quota_answer(self) -> Answer:
        answer = envelope(429, "RATE_LIMITS", "You have reached your daily limit.")
        answer.body.update(errorType="RATE_LIMIT", policyName="DAILY")
        return Answer(429, answer.body, {"x-hubspot-ratelimit-daily-remaining": "0"})

    def error_answer(self, status: int) -> Answer:
        if status in {502, 503, 504}:
            return Answer(status, "<html><body>upstream unavailable</body></html>", _HTML)
        messages = {423: "The record is locked by another request", 500: "internal error"}
        return envelope(
            status, "LOCKED" if status == 423 else "INTERNAL_ERROR", messages.get(status, "error")
        )

    def finish(self, asked: Asked, answer: Answer) -> Answer:
        if asked.segments[-1] == "search":
            return answer
        return Answer(answer.status, answer.body, {**LIMIT_HEADERS, **answer.headers})

    def carry_out(self, asked: Asked) -> Answer:  # noqa: PLR0911  # one line for each operation
        match asked.method, canonical(asked):
            case "GET", ["properties", name] if name in _TYPES:
                fields = self.fields[_TYPES[name]].values()
                return Answer(200, {"results": [property_entry(field) for field in fields]})
            case "POST", ["objects", name, "search"] if name in _TYPES:
                return self._search(_TYPES[name], body(asked))
            case "POST", ["objects", name, "batch", step] if name in _TYPES:
                return self._batch(_TYPES[name], step, asked)
            case "POST", ["objects", name] if name in _TYPES:
                return self._create_one(_TYPES[name], body(asked))
            case "GET" | "PATCH", ["objects", name, reference] if name in _TYPES:
                return self._one(_TYPES[name], reference, asked)
            case "PUT", ["default", one, one_id, other, other_id] if {one, other} <= set(_TYPES):
                return self._link_answer(_TYPES[one], _TYPES[other], [(one_id, other_id)], single=True)
            case "POST", ["associate", one, other] if {one, other} <= set(_TYPES):
                return self._link_answer(_TYPES[one], _TYPES[other], pairs(asked))
        raise Refused(Answer(404, "<html><body>404 Not Found</body></html>", _HTML))

    # One object.

    def _one(self, kind: str, reference: str, asked: Asked) -> Answer:
        record = self._by(kind, asked.param("idProperty"), reference)
        if record is None:
            raise Refused(missing(reference))
        if asked.method == "GET":
            return Answer(200, self._shown(kind, record, asked))
        self._written(kind, properties(body(asked)), record)
        return Answer(200, self._shown(kind, record))

    def _create_one(self, kind: str, content: dict[str, Any]) -> Answer:
        record = self._created(kind, content)
        return Answer(201, self._shown(kind, record))

    def _created(self, kind: str, content: dict[str, Any]) -> Record:
        given, wanted = properties(content), links(content)
        for to, types in wanted:
            if kind != CALL or types != [("HUBSPOT_DEFINED", 194)]:
                raise Refused(refusal(f"invalid association types {types}"))
            if to not in self.objects[CONTACT]:
                raise Refused(missing(to))
        record = self._written(kind, given, None)
        self._links.setdefault(record.id, []).extend(to for to, _ in wanted)
        return record

    def _written(self, kind: str, given: dict[str, Any], record: Record | None) -> Record:
        """Create or change a record, if all its properties are good."""
        problems = [invalid(self.fields[kind].get(name), name, value) for name, value in given.items()]
        refused = self.refused_field(given)
        if refused is not None:
            problems.append(property_problem(refused, "INVALID_STRING", f"{refused} was not valid"))
        if any(problems):
            raise Refused(properties_refused(problem for problem in problems if problem))
        if record is None and kind == CALL and not given.get("hs_timestamp"):
            message = "Error creating CALL. Some required properties were not set."
            raise Refused(refusal(message, ["hs_timestamp"]))
        for name, field in self.fields[kind].items():
            holders = self.find(kind, name, given[name]) if field.unique and given.get(name) else []
            other = next((holder for holder in holders if holder is not record), None)
            if other is not None and name == "email":
                message = f"Contact already exists. Existing ID: {other.id}"
                raise Refused(envelope(409, "CONFLICT", message))
            if other is not None:
                place = f"propertyName={name}, value={given[name]}"
                whom = record.id if record else "new object"
                where = f"PropertyValueCoordinates{{{place}}} on {whom}"
                message = f"Cannot set {where}. {other.id} already has that value."
                raise Refused(refusal(message))
        if record is None:
            return self.create(kind, given)
        self.change(record, given)
        return record

    def _by(self, kind: str, id_property: str | None, value: str) -> Record | None:
        if not id_property or id_property == "hs_object_id":
            return self.objects[kind].get(value)
        field = self.fields[kind].get(id_property)
        if field is None or not field.unique:
            raise Refused(refusal(f"{id_property} is not a unique property"))
        return next(iter(self.find(kind, id_property, value)), None)

    def _shown(
        self, kind: str, record: Record, asked: Asked | None = None, names: list[str] | None = None
    ) -> dict[str, Any]:
        if asked is not None:
            names = [part for key, value in asked.query if key == "properties" for part in value.split(",")]
        held = self._values(kind, record)
        if names:
            held = {name: held.get(name) for name in {*names, "hs_object_id"} if name in self.fields[kind]}
        shown = {
            "id": record.id,
            "properties": held,
            "createdAt": iso(record.created),
            "updatedAt": iso(record.changed),
            "archived": False,
        }
        if asked is not None and asked.param("associations") == "contacts":
            found = [{"id": to, "type": "call_to_contact"} for to in self._links.get(record.id, [])]
            shown["associations"] = {"contacts": {"results": found}}
        return shown

    def _values(self, kind: str, record: Record) -> dict[str, Any]:
        changed = "lastmodifieddate" if kind == CONTACT else "hs_lastmodifieddate"
        calculated = national(record.fields) if kind == CONTACT else {}
        made = "createdate" if kind == CONTACT else "hs_createdate"
        own = {"hs_object_id": record.id, made: iso(record.created), changed: iso(record.changed)}
        return {**record.fields, **calculated, **own}

    # Many.

    def _search(self, kind: str, content: dict[str, Any]) -> Answer:
        shapes = {"filterGroups": list, "properties": list, "limit": int, "after": str, "sorts": list}
        groups, names, limit, at, _ = (needed(content, key, shape) for key, shape in shapes.items())
        after = int(at) if at.isdigit() else 0
        if (at and not at.isdigit()) or len(groups) > 6 or not 1 <= limit <= 200 or after >= 10_000:
            raise Refused(refusal("at most 6 filterGroups, a limit of 200 and 10000 results"))
        wanted = [
            [(entry, self._search_field(kind, entry)) for entry in needed(group, "filters", list)]
            for group in groups
        ]
        found = [
            record
            for record in self.indexed(kind)
            if any(
                all(lets_pass(entry, self._values(kind, record).get(name)) for entry, name in group)
                for group in wanted
            )
        ]
        results = [self._shown(kind, record, names=names) for record in found[after : after + limit]]
        answer: dict[str, Any] = {"total": len(found), "results": results}
        if after + limit < len(found):
            answer["paging"] = {"next": {"after": str(after + limit)}}
        return Answer(200, answer)

    def _search_field(self, kind: str, entry: dict[str, Any]) -> str:
        name = filter_property(entry)
        if name not in self.fields[kind]:
            raise Refused(refusal(f"There was a problem with the request: property {name} does not exist"))
        return name

    def _batch(self, kind: str, step: str, asked: Asked) -> Answer:
        given = inputs(asked)
        if step == "read":
            return self._batch_read(kind, given, asked)
        if step not in {"create", "update", "upsert"}:
            raise Refused(refusal(f"no such batch operation {step}"))
        identities = [(entry.get("idProperty"), entry.get("id")) for entry in given]
        if step != "create" and len(set(identities)) < len(identities):
            raise Refused(refusal("Duplicate IDs found in batch input"))
        # Each input names itself, or there is no answer by parts: all or nothing then.
        traces = [entry.get("objectWriteTraceId") for entry in given]
        in_parts = all(traces) and len(set(traces)) == len(traces)
        before = self._kept(kind)
        results, errors = [], []
        for entry in given:
            try:
                results.append(self._batch_item(kind, step, entry))
            except Refused as refused:
                if not in_parts:
                    self._put_back(kind, before)
                    raise
                context = {"objectWriteTraceId": [entry["objectWriteTraceId"]]}
                if refused.answer.status == 404:
                    context["ids"] = [str(entry.get("id"))]
                errors.append(item_error(refused.answer, context, kind))
        status = 201 if step == "create" else 200
        return batch_answer(status, shuffled(results), errors, dated=is_dated(asked))

    def _batch_read(self, kind: str, given: list[dict[str, Any]], asked: Asked) -> Answer:
        content = body(asked)
        names = [*needed(content, "properties"), *needed(content, "propertiesWithHistory")]
        wanted = [needed(entry, "id", str) for entry in given]
        found = {value: self._by(kind, content.get("idProperty"), value) for value in wanted}
        absent = [value for value, record in found.items() if record is None]
        errors = [item_error(missing(kind), {"ids": absent}, kind)] if absent else []
        read = [self._shown(kind, record, names=names) for record in found.values() if record]
        return batch_answer(200, shuffled(read), errors, dated=is_dated(asked))

    def _batch_item(self, kind: str, step: str, entry: dict[str, Any]) -> dict[str, Any]:
        given, is_new = properties(entry), True
        if step == "create":
            record = self._created(kind, entry)
        else:
            value, id_property = needed(entry, "id", str), entry.get("idProperty")
            if step == "upsert" and not id_property:
                raise Refused(refusal("idProperty must be set"))
            known = self._by(kind, id_property, value)
            if known is None and step == "update":
                raise Refused(missing(value))
            is_new = known is None
            key = {str(id_property): value} if is_new else {}
            record = self._written(kind, {**key, **given}, known)
        shown = self._shown(kind, record)
        if entry.get("objectWriteTraceId"):
            shown["objectWriteTraceId"] = entry["objectWriteTraceId"]
        return {**shown, "new": is_new} if step == "upsert" else shown

    def _kept(self, kind: str) -> list[Record]:
        return [Record(of.id, dict(of.fields), of.created, of.changed) for of in self.objects[kind].values()]

    def _put_back(self, kind: str, kept: list[Record]) -> None:
        self.objects[kind] = {record.id: record for record in kept}

    def _link_answer(
        self, one: str, other: str, linked: list[tuple[str, str]], *, single: bool = False
    ) -> Answer:
        results: list[dict[str, Any]] = []
        errors: list[dict[str, Any]] = []
        for pair in linked:
            absent = [of for kind, of in zip((one, other), pair, strict=True) if of not in self.objects[kind]]
            if one == other or absent:
                if single:
                    raise Refused(missing(absent[0] if absent else pair[0]))
                errors.append(item_error(missing(str(absent)), {"ids": absent}, one))
                continue
            call, contact = pair if one == CALL else pair[::-1]
            contacts = self._links.setdefault(call, [])
            if contact not in contacts:
                contacts.append(contact)
            forth, back = (194, 193) if one == CALL else (193, 194)
            results += [association(*pair, forth), association(*pair[::-1], back)]
        return batch_answer(200, results, errors, dated=True)
