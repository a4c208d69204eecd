"""EspoCRM as its source and running servers of 7.4.6 and 9.2.7 behave: the sources are
`crm-apis.md` section 4 and `crm-servers.md`.

Guessed, because no source says it: an unknown `where` type or attribute is a 400 without a body; a revoked
key is a 401 like a wrong one; a client too fast meets a proxy's 429 (EspoCRM itself has no limit).
Read in its repository: a link to a record that is not there is a 403, `lastName` is required, and
`Metadata?key=entityDefs.Call.fields` answers that part alone.
"""

import base64
import binascii
import hashlib
import hmac
import json
import math
import re
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any, ClassVar

from tests.servers import espocrm_fields
from tests.servers.base import CALL, CONTACT, Field, Record, VendorServer, by_name
from tests.servers.espocrm_search import UnknownItem, as_items, holds, php_query
from tests.servers.wire import Answer, Asked, Refused

LEAD = "lead"
_KINDS = {"Contact": CONTACT, "Lead": LEAD, "Call": CALL}
_ENTITIES = {kind: entity for entity, kind in _KINDS.items()}
_LARGEST_PAGE = 200
_FAILED_LOGINS = (10, timedelta(seconds=60))
_TIME = "%Y-%m-%d %H:%M:%S"
_LINKS = {"contactsIds": CONTACT, "leadsIds": LEAD}

_DEFAULTS = {LEAD: {"status": "New"}, CALL: {"status": "Planned", "direction": "Outbound"}}


class EspoCrm(VendorServer):
    """One site with one API user, who may assign to himself only.

    `login` is that user's authentication method, api_key or hmac; `person` says which entity
    `seed_contact` makes; `duplicate_check` are the fields an administrator chose for it.
    """

    name: ClassVar[str] = "EspoCRM"

    def _acl(self) -> dict[str, Any]:
        """What App/user tells of the role; a scope without any right is false."""
        table: dict[str, Any] = {}
        for entity in _KINDS:
            levels = {
                action: self.levels.get((entity, action), "yes" if action == "create" else "all")
                for action in ("create", "read", "edit")
            }
            levels |= {action: "no" for action in levels if (entity, action) in self.forbidden}
            table[entity] = False if set(levels.values()) == {"no"} else levels | {"delete": "no"}
        return {"table": table, "fieldTable": self.field_rights}

    def __init__(
        self,
        *,
        login: str = "api_key",
        version: tuple[int, int, int] = (9, 2, 7),
        person: str = "Contact",
        contact_fields: Iterable[Field] = (),
        call_fields: Iterable[Field] = (Field("cCallUuid", length=100),),
        duplicate_check: tuple[str, ...] = ("name", "emailAddress"),
        **common: Any,
    ) -> None:
        super().__init__(static_token="1f8a9b7c6d5e4f30a1b2c3d4e5f60718", **common)
        self.objects[LEAD] = {}
        self.deleted[LEAD] = set()
        custom = list(contact_fields)
        self.fields = {
            CONTACT: by_name(espocrm_fields.PERSON, custom),
            LEAD: by_name(espocrm_fields.PERSON, espocrm_fields.LEAD, custom),
            CALL: by_name(espocrm_fields.CALL, call_fields),
        }
        self.user_id = "64f0c1d2e3b4a5968"
        self.forbidden: set[tuple[str, str]] = set()
        """(entity, create | edit | read) without the right."""
        self.levels: dict[tuple[str, str], str] = {}
        """(entity, create | edit | read) → a level that the role gives in place of all."""
        self.field_rights: dict[str, dict[str, dict[str, str]]] = {}
        """Entity → field → read, edit: yes or no; what is not named is allowed."""
        self.duplicate_check = duplicate_check
        self._login = login
        self._version = version
        self._person = _KINDS[person]
        self._key = self._static_token or ""
        self._hmac_secret = "5f2d7c1b9e8a4630b7c6d5e4f3a29180"
        self._failed: list[datetime] = []
        self._versions: dict[str, int] = {}
        self.secrets = {"api_key": self._key}
        if login == "hmac":
            self.secrets["secret_key"] = self._hmac_secret
        self.settings = {"user_id": self.user_id}

    def contacts(self) -> list[dict[str, Any]]:
        """Contacts, then leads."""
        return [*super().contacts(), *self._copies(LEAD)]

    def seed_contact(self, **fields: Any) -> str:
        """A contact, or a lead where `person` says so, that was there long before."""
        fields = {"lastName": "Seeded", **fields}
        with self._lock:
            return self.create(self._person, fields, created=self.clock() - timedelta(days=1)).id

    def new_id(self, kind: str) -> str:
        """17 characters, which a client does not choose."""
        del kind
        return f"6740{self.number():013x}"

    def change(self, record: Record, fields: dict[str, Any]) -> None:
        """Every change is a version; numbers are kept as a primary one and a list."""
        fields = {name: value for name, value in fields.items() if name not in self._dropped}
        if "phoneNumberData" in fields and "phoneNumber" not in fields:
            data = fields["phoneNumberData"]
            first = next((one for one in data if one.get("primary")), data[0] if data else {})
            fields["phoneNumber"] = first.get("phoneNumber")
        elif "phoneNumber" in fields and "phoneNumberData" in record.fields:
            old = record.fields.get("phoneNumber")
            data = record.fields["phoneNumberData"]
            fields["phoneNumberData"] = [one for one in data if one["phoneNumber"] != old]
        super().change(record, fields)
        self._versions[record.id] = self._versions.get(record.id, 0) + 1

    def linked_contacts(self, call: dict[str, Any]) -> list[str]:
        """Contacts, then leads."""
        return [*call.get("contactsIds", ()), *call.get("leadsIds", ())]

    def kind_of(self, asked: Asked) -> str:
        """There are no token requests."""
        return "read" if asked.method == "GET" else "write"

    def unauthorized(self, asked: Asked) -> Answer | None:
        """A wrong key is a 401 without a body; too many of them lock the address out with a 403."""
        most, window = _FAILED_LOGINS
        self._failed = [at for at in self._failed if self.clock() - at < window]
        if len(self._failed) >= most:
            return Answer(403)
        if self.is_valid(self._key) and self._knows(asked):
            return None
        self._failed.append(self.clock())
        return Answer(401)

    def limit_answer(self, wait: float) -> Answer:
        """Only a proxy in front of it says so."""
        page = "<html><head><title>429 Too Many Requests</title></head></html>\r\n"
        return Answer(429, page, {"content-type": "text/html", "retry-after": str(math.ceil(wait))})

    def error_answer(self, status: int) -> Answer:
        """The body is empty."""
        return Answer(status)

    def carry_out(self, asked: Asked) -> Answer:
        """The REST API under `/api/v1/`."""
        api, rest = asked.segments[:2], asked.segments[2:]
        if api != ("api", "v1"):
            return Answer(404, "<html></html>", {"content-type": "text/html"})
        match asked.method, rest:
            case "GET", ("App", "user"):
                user = {"id": self.user_id, "userName": "callbridge", "type": "api"}
                return Answer(200, {"user": user, "acl": self._acl()})
            case "GET", ("Metadata",):
                return Answer(200, self._metadata(asked.param("key")))
            case "GET", ("OpenApi",) if self._version >= (9, 3, 0):
                return Answer(200, self._openapi())
            case _, (entity, *_) if entity in _KINDS:
                return self._entity(asked, entity, rest[1:])
        return Answer(404)

    def _entity(self, asked: Asked, entity: str, rest: tuple[str, ...]) -> Answer:
        kind = _KINDS[entity]
        match asked.method, rest:
            case (("GET" | "POST"), ()):
                return self._list(asked, kind) if asked.method == "GET" else self._create(asked, kind)
            case "GET", (identity,):
                return Answer(200, self._shown(kind, self._got(kind, identity)))
            case (("PUT" | "PATCH"), (identity,)):
                return self._update(asked, kind, self._got(kind, identity))
            case "DELETE", (identity,):
                self.delete(kind, self._got(kind, identity).id)
                return Answer(200, True)
            case (("GET" | "POST"), (identity, ("contacts" | "leads") as link)) if kind == CALL:
                return self._linked(asked, self._got(kind, identity), f"{link}Ids")
        return Answer(404)

    def _list(self, asked: Asked, kind: str) -> Answer:
        self._need_right(kind, "read")
        given = php_query(asked.query)
        try:
            given |= json.loads(given.get("searchParams", "{}"))
            size, offset = int(given.get("maxSize", 20)), int(given.get("offset", 0))
        except (TypeError, ValueError):
            return Answer(400)
        where = given.get("where")
        # 7.4 does not know the alias, and ignores it as any parameter it does not know.
        if where is None and self._version >= (9, 0, 0):
            where = given.get("whereGroup")
        if size > _LARGEST_PAGE:
            return Answer(403, None, {"x-status-reason": "Max size limit exceeded."})
        try:
            found = [
                record
                for record in self.indexed(kind)
                if all(holds(item, self._values(kind, record)) for item in as_items(where or []))
            ]
        except UnknownItem:
            return Answer(400)
        found.sort(key=lambda record: (record.created, record.id), reverse=given.get("order") != "asc")
        page = [self._shown(kind, record) for record in found[offset : offset + size]]
        select = given.get("select", given.get("attributeSelect"))
        if select:
            names = {"id", *(select if isinstance(select, list) else str(select).split(","))}
            page = [{name: value for name, value in one.items() if name in names} for one in page]
        total = len(found)
        if asked.headers.get("x-no-total", "").lower() == "true":
            total = -1 if len(found) > offset + size else -2
        return Answer(200, {"total": total, "list": page})

    def _create(self, asked: Asked, kind: str) -> Answer:
        self._need_right(kind, "create")
        fields = _DEFAULTS.get(kind, {}) | self._accepted(kind, _body(asked))
        self._check(kind, fields, fields)
        if kind != CALL and asked.headers.get("x-skip-duplicate-check", "").lower() != "true":
            alike = [self._shown(kind, record) for record in self._duplicates(kind, fields)]
            if alike:
                return Answer(409, alike[:5], {"x-status-reason": "duplicate"})
        return Answer(200, self._shown(kind, self.create(kind, fields)))

    def _update(self, asked: Asked, kind: str, record: Record) -> Answer:
        self._need_right(kind, "edit")
        seen = asked.headers.get("x-version-number")
        fields = self._accepted(kind, _body(asked))
        if seen is not None and int(seen) != self._versions[record.id]:
            return Answer(409, self._shown(kind, record), {"x-status-reason": "modified"})
        self._check(kind, fields, record.fields | fields)
        self.change(record, fields)
        return Answer(200, self._shown(kind, record))

    def _linked(self, asked: Asked, call: Record, field: str) -> Answer:
        kind = _LINKS[field]
        if asked.method == "GET":
            shown = [self._shown(kind, self._got(kind, one)) for one in call.fields.get(field, ())]
            return Answer(200, {"total": len(shown), "list": shown})
        body = _body(asked)
        ids = [str(one) for one in body.get("ids") or [body.get("id")]]
        for one in ids:
            self._need_link(kind, one)
        self.change(call, {field: list(dict.fromkeys([*call.fields.get(field, ()), *ids]))})
        return Answer(200, True)

    def _accepted(self, kind: str, given: dict[str, Any]) -> dict[str, Any]:
        """What is not a field one may write is dropped without a word, a client's id with it."""
        known = self.fields[kind]
        return {name: value for name, value in given.items() if name in known and not known[name].readonly}

    def _check(self, kind: str, given: dict[str, Any], whole: dict[str, Any]) -> None:
        refused = self.refused_field(given)
        if refused is not None:
            raise _invalid(refused, "valid")
        for name, field in self.fields[kind].items():
            value = whole.get(name)
            if field.required and value in (None, ""):
                raise _invalid(name.removesuffix("Id"), "required")
            if name in given and value not in (None, ""):
                fault = espocrm_fields.fault_of(field, value, international=self._version >= (9, 0, 0))
                if fault:
                    raise _invalid(name.removesuffix("Data"), fault)
        if given.get("assignedUserId") not in (None, "", self.user_id):
            raise Refused(Answer(403, None, {"x-status-reason": "Assignment not allowed"}))
        if kind == CALL:
            self._check_call(given, whole)

    def _check_call(self, given: dict[str, Any], whole: dict[str, Any]) -> None:
        if re.search("[<>=]", str(whole["name"])):
            raise _invalid("name", "pattern")
        if str(whole["dateEnd"]) < str(whole["dateStart"]):
            raise _invalid("dateEnd", "after")
        for name, kind in _LINKS.items():
            for one in given.get(name) or ():
                self._need_link(kind, one)
        if given.get("parentId") and whole.get("parentType") in _KINDS:
            self._need_link(_KINDS[whole["parentType"]], str(given["parentId"]))

    def _need_link(self, kind: str, identity: str) -> None:
        if identity not in self.objects[kind]:
            data = {"foreignEntityType": _ENTITIES[kind]}
            raise Refused(Answer(403, _translated("cannotRelateNonExisting", data)))

    def _need_right(self, kind: str, action: str) -> None:
        if (_ENTITIES[kind], action) in self.forbidden:
            raise Refused(Answer(403, None, {"x-status-reason": f"No {action} access"}))

    def _got(self, kind: str, identity: str) -> Record:
        if identity not in self.objects[kind]:
            raise Refused(Answer(404))
        return self.objects[kind][identity]

    def _duplicates(self, kind: str, fields: dict[str, Any]) -> list[Record]:
        fields = fields | {"name": _full_name(fields)}
        return [
            record
            for record in self.objects[kind].values()
            if any(
                fields.get(name) and fields[name] in self._values(kind, record)(name)
                for name in self.duplicate_check
            )
        ]

    def _values(self, kind: str, record: Record) -> Callable[[str], list[Any]]:
        def of(name: str) -> list[Any]:
            numbers = [record.fields.get("phoneNumber")]
            numbers += [one.get("phoneNumber") for one in record.fields.get("phoneNumberData", ())]
            match name:
                case "phoneNumber":
                    return numbers
                case "phoneNumberNumeric":
                    return [re.sub(r"\D", "", number) for number in numbers if number]
                case "contacts" | "leads" if kind == CALL:
                    return list(record.fields.get(f"{name}Ids", ()))
            shown = self._shown(kind, record)
            if name not in shown:
                raise UnknownItem(f"attribute {name}")
            return [shown[name]]

        return of

    def _shown(self, kind: str, record: Record) -> dict[str, Any]:
        """The whole record: every attribute, null where there is nothing."""
        shown: dict[str, Any] = dict.fromkeys(self.fields[kind]) | record.fields
        if kind != CALL:
            shown["name"] = _full_name(record.fields)
        elif record.fields.get("dateStart") and record.fields.get("dateEnd"):
            start, end = (datetime.strptime(record.fields[name], _TIME) for name in ("dateStart", "dateEnd"))  # noqa: DTZ007  # both in UTC
            shown["duration"] = int((end - start).total_seconds())
        made, changed = (at.strftime(_TIME) for at in (record.created, record.changed))
        known = {"id": record.id, "deleted": False, "createdAt": made, "modifiedAt": changed}
        return shown | known | {"createdById": self.user_id, "versionNumber": self._versions[record.id]}

    def _knows(self, asked: Asked) -> bool:
        if self._login == "api_key":
            return hmac.compare_digest(asked.headers.get("x-api-key", "").encode(), self._key.encode())
        try:
            given = base64.b64decode(asked.headers.get("x-hmac-authorization", ""), validate=True)
        except binascii.Error:
            return False
        key, _, signature = given.partition(b":")
        resource = "/".join(asked.segments[2:])
        signed = hmac.new(self._hmac_secret.encode(), f"{asked.method} /{resource}".encode(), hashlib.sha256)
        # The hexadecimal form since 8.4.1, the raw bytes as before.
        good = signature in (signed.hexdigest().encode(), signed.digest())
        return key == self._key.encode() and good

    def _metadata(self, key: str | None) -> Any:
        # What the user has no right to is left out.
        seen = [entity for entity, levels in self._acl()["table"].items() if levels]
        part: Any = {"entityDefs": {entity: {"fields": self._described(entity)} for entity in seen}}
        for name in key.split(".") if key else ():
            part = part.get(name) if isinstance(part, dict) else None
        return part

    def _described(self, entity: str) -> dict[str, Any]:
        described: dict[str, Any] = {}
        for name, field in self.fields[_KINDS[entity]].items():
            about: dict[str, Any] = {"type": espocrm_fields.TYPES.get(field.type, field.type)}
            about |= {"maxLength": field.length} if field.length else {}
            about |= {"options": list(field.options)} if field.options else {}
            about |= {"required": True} if field.required else {}
            about |= {"readOnly": True} if field.readonly else {}
            described[name.removesuffix("Ids").removesuffix("Id")] = about
        return described

    def _openapi(self) -> dict[str, Any]:
        schemas = {
            entity: {"type": "object", "properties": {name: {} for name in self.fields[kind]}}
            for entity, kind in _KINDS.items()
        }
        return {"openapi": "3.1.0", "paths": {}, "components": {"schemas": schemas}}


def _body(asked: Asked) -> dict[str, Any]:
    body = asked.json()
    if body is None:
        raise Refused(Answer(500))
    if not isinstance(body, dict):
        raise Refused(Answer(400))
    return body


def _full_name(fields: dict[str, Any]) -> str:
    return " ".join(str(fields[name]) for name in ("firstName", "lastName") if fields.get(name))


def _translated(label: str, data: dict[str, str]) -> dict[str, Any]:
    return {"messageTranslation": {"label": label, "scope": None, "data": data}, "message": None}


def _invalid(field: str, fault: str) -> Refused:
    body = _translated("validationFailure", {"field": field, "type": fault})
    return Refused(Answer(400, body, {"x-status-reason": "validationFailure"}))
