"""The sandbox CRM with upserts: contacts by phone, call activities by key, and their links.

Begin at `UpsertCrmState`.
"""

import re
import threading
from typing import Any

ObjectFields = dict[str, Any]

_PHONE = re.compile(r"\+[1-9]\d{6,14}", re.ASCII)
_GRADE_LENGTH = 32
_TEXT_LENGTH = 65_535


class Refusal(Exception):  # it is an answer of the CRM, not a fault of the program
    """The CRM refuses a request; the attributes are those of its JSON answer."""

    def __init__(self, status: int, code: str, message: str, field: str = "") -> None:
        """Refuse with an HTTP status, a code, a message, and the field it is about."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.field = field


class ObjectStore:
    """All objects of one type, found by id or key."""

    def __init__(self, name: str, key: str, prefix: str) -> None:
        """Keep objects of a name; `key` is their key's field, `prefix` begins their ids."""
        self.name = name
        self.key = key
        self._prefix = prefix
        self._last = 0
        self._by_id: dict[str, ObjectFields] = {}
        self._by_key: dict[str, ObjectFields] = {}

    def find(self, reference: str, field: str = "") -> ObjectFields:
        """The object with this id or key; refuses with 404."""
        found = self._by_id.get(reference) or self._by_key.get(reference)
        if found is None:
            raise Refusal(404, "not_found", f"there is no {self.name} {reference!r}", field)
        return found

    def upsert(self, key: str, fields: ObjectFields, blank: ObjectFields) -> tuple[ObjectFields, bool]:
        """Set the given fields, creating the object if needed; also returns whether it was created."""
        known = self._by_key.get(key)
        created = known is None
        if known is None:
            known = {"id": f"{self._prefix}_{self._last + 1}", self.key: key, **blank}
        self._refuse_other(known, fields, (self.key, "id"))
        if created:
            self._last += 1
            self._by_id[known["id"]] = self._by_key[key] = known
        known.update(fields)
        return known, created

    def edit(self, reference: str, fields: ObjectFields) -> ObjectFields:
        """Change fields of an object that exists, its key included."""
        known = self.find(reference)
        self._refuse_other(known, fields, ("id",))
        key: object = fields.get(self.key, known[self.key])
        if not isinstance(key, str) or not key:
            raise Refusal(422, "invalid_key", f"{self.key} is a text", self.key)
        if self._by_key.get(key, known) is not known:
            raise Refusal(409, "conflict", f"another {self.name} has this {self.key}", self.key)
        del self._by_key[known[self.key]]
        known.update(fields)
        self._by_key[key] = known
        return known

    def delete(self, reference: str) -> str:
        """Remove the object and return its id."""
        known = self.find(reference)
        del self._by_key[known[self.key]]
        del self._by_id[known["id"]]
        return str(known["id"])

    def all(self) -> list[ObjectFields]:
        """Copies of all objects, oldest first."""
        return [dict(known) for known in self._by_id.values()]

    def _refuse_other(self, known: ObjectFields, fields: ObjectFields, names: tuple[str, ...]) -> None:
        for name in names:
            if fields.get(name, known[name]) != known[name]:
                raise Refusal(422, "read_only", f"{name} of this {self.name} is {known[name]!r}", name)


class UpsertCrmState:
    """The CRM's contents and rules; every method is atomic and may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._contacts = ObjectStore("contact", "phone", "c")
        self._calls = ObjectStore("call", "call_key", "k")

    def put_contact(self, phone: str, fields: ObjectFields) -> tuple[ObjectFields, bool]:
        """Create or update the contact with this phone."""
        _refuse_phone(phone)
        _refuse_long(fields)
        with self._lock:
            known, created = self._contacts.upsert(phone, fields, {})
            return dict(known), created

    def put_call(self, key: str, fields: ObjectFields) -> tuple[ObjectFields, bool]:
        """Create or update the call activity with this key."""
        _refuse_long(fields)
        with self._lock:
            if "contact_id" in fields:
                raise Refusal(
                    422, "read_only", "calls are linked with PUT /calls/{call}/contact", "contact_id"
                )
            known, created = self._calls.upsert(key, fields, {"contact_id": None})
            return dict(known), created

    def link(self, call: str, contact_id: object) -> ObjectFields:
        """Link a call to a contact; a second time changes nothing."""
        with self._lock:
            known = self._calls.find(call)
            known["contact_id"] = self._contacts.find(str(contact_id), "contact_id")["id"]
            return dict(known)

    def get(self, kind: str, reference: str) -> ObjectFields:
        """One object by id or key; with the kind `fields`, the description of a type's fields."""
        if kind == "fields":
            return {"fields": _field_descriptions(reference)}
        with self._lock:
            return dict(self._kind(kind).find(reference))

    def edit(self, kind: str, reference: str, fields: ObjectFields) -> ObjectFields:
        """Change fields as a person does by hand."""
        _refuse_long(fields)
        if kind == "contacts" and "phone" in fields:
            _refuse_phone(fields["phone"])
        with self._lock:
            if kind == "calls" and fields.get("contact_id") is not None:
                self._contacts.find(str(fields["contact_id"]), "contact_id")
            return dict(self._kind(kind).edit(reference, fields))

    def delete(self, kind: str, reference: str) -> None:
        """Remove an object; calls of a removed contact stay, unlinked."""
        with self._lock:
            gone = self._kind(kind).delete(reference)
            if kind == "contacts":
                for call in self._calls.all():
                    if call["contact_id"] == gone:
                        self._calls.find(call["id"])["contact_id"] = None

    def contents(self) -> dict[str, list[ObjectFields]]:
        """Copies of everything, taken at one moment."""
        with self._lock:
            return {"contacts": self._contacts.all(), "calls": self._calls.all()}

    def _kind(self, kind: str) -> ObjectStore:
        return self._contacts if kind == "contacts" else self._calls


def _field_descriptions(kind: str) -> list[ObjectFields]:
    """The fields with rules of their own; any other field takes any value, text up to 65,535 characters."""
    if kind not in ("contacts", "calls"):
        raise Refusal(404, "not_found", f"there are no {kind}")
    fields: list[ObjectFields] = [
        {"name": "id", "type": "text", "read_only": True},
        {"name": "phone" if kind == "contacts" else "call_key", "type": "text", "read_only": False},
        {"name": "grade", "type": "text", "read_only": False, "length": _GRADE_LENGTH},
    ]
    linked = {"name": "contact_id", "type": "text", "read_only": True}
    return [*fields, linked] if kind == "calls" else fields


def _refuse_phone(phone: object) -> None:
    if not isinstance(phone, str) or not _PHONE.fullmatch(phone):
        raise Refusal(422, "invalid_phone", "a phone is E.164, such as +8615812345678", "phone")


def _refuse_long(fields: ObjectFields) -> None:
    for name, value in fields.items():
        limit = _GRADE_LENGTH if name == "grade" else _TEXT_LENGTH
        if isinstance(value, str) and len(value) > limit:
            raise Refusal(422, "too_long", f"{name} has {len(value)} characters, at most {limit} fit", name)
