"""The sandbox CRM without upserts: a search that lags, create, update and link; two objects may share a key.

Begin at `SearchCrmState.carry_out()`.
"""

import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from bridge.sandbox.upsert_crm import ObjectFields, Refusal

_KINDS = {"contacts": ("phone", "c"), "calls": ("call_key", "k")}


class SearchCrmState:
    """The CRM's contents; every request is atomic and may come from any thread."""

    def __init__(self, clock: Callable[[], datetime], lag: timedelta = timedelta(0)) -> None:
        """Hold nothing; a new object is found `lag` after it was created."""
        self._clock = clock
        self._lag = lag
        self._lock = threading.Lock()
        self._held: dict[str, dict[str, ObjectFields]] = {kind: {} for kind in _KINDS}
        self._made_at: dict[str, datetime] = {}
        self._last = 0

    def carry_out(  # noqa: PLR0911 -- a table of what can be asked
        self, method: str, segments: list[str], query: Mapping[str, str], content: Any
    ) -> tuple[int, Any]:
        """Carry out a request and return status and answer.

        Raises:
            Refusal: the CRM does not carry it out.
        """
        with self._lock:
            match method, segments:
                case "GET", ["contacts" | "calls" as kind]:
                    return 200, {"items": self._found(kind, [query])}
                case "POST", ["contacts" | "calls" as kind]:
                    return 201, self._created(kind, content)
                case "POST", ["contacts" | "calls" as kind, "search"]:
                    return 200, {"items": self._found(kind, _items(content))}
                case "POST", ["contacts" | "calls" as kind, "batch"]:
                    return 200, {"results": [self._alone(kind, item) for item in _items(content)]}
                case "GET", ["contacts" | "calls" as kind, identity]:
                    return 200, dict(self._one(kind, identity))
                case "PATCH", ["contacts" | "calls" as kind, identity]:
                    return 200, self._changed(kind, identity, content)
                case "DELETE", ["contacts" | "calls" as kind, identity]:
                    del self._held[kind][self._one(kind, identity)["id"]]
                    return 204, None
                case "PUT", ["calls", identity, "contact"]:
                    return 200, self._linked(identity, _fields(content).get("contact_id"))
        raise Refusal(404, "not_found", f"there is nothing to {method} here")

    def contents(self) -> dict[str, list[ObjectFields]]:
        """Copies of everything, taken at one moment."""
        with self._lock:
            return {kind: [dict(record) for record in held.values()] for kind, held in self._held.items()}

    def _found(self, kind: str, wanted: list[Any]) -> list[ObjectFields]:
        seen = self._clock() - self._lag
        return [
            dict(record)
            for record in self._held[kind].values()
            if self._made_at[record["id"]] <= seen
            and any(
                all(record.get(name) == value for name, value in conditions.items()) for conditions in wanted
            )
        ]

    def _created(self, kind: str, content: Any) -> ObjectFields:
        fields = _fields(content)
        key, prefix = _KINDS[kind]
        if not isinstance(fields.get(key), str) or not fields[key]:
            raise Refusal(422, "invalid_key", f"{key} is a text", key)
        self._last += 1
        identity = f"{prefix}_{self._last}"
        blank: ObjectFields = {"contact_id": None} if kind == "calls" else {}
        self._held[kind][identity] = {**blank, **fields, "id": identity}
        self._made_at[identity] = self._clock()
        return dict(self._held[kind][identity])

    def _alone(self, kind: str, item: Any) -> ObjectFields:
        """Carry out one item of a batch: with an `id` it is changed, else created."""
        try:
            fields = _fields(item)
            if "id" not in fields:
                return self._created(kind, fields)
            return self._changed(kind, str(fields["id"]), fields)
        except Refusal as refusal:
            return {"error": {"code": refusal.code, "message": refusal.message, "field": refusal.field}}

    def _changed(self, kind: str, identity: str, content: Any) -> ObjectFields:
        record = self._one(kind, identity)
        record.update({**_fields(content), "id": record["id"]})
        return dict(record)

    def _linked(self, identity: str, contact_id: Any) -> ObjectFields:
        call = self._one("calls", identity)
        call["contact_id"] = self._one("contacts", str(contact_id))["id"]
        return dict(call)

    def _one(self, kind: str, identity: str) -> ObjectFields:
        found = self._held[kind].get(identity)
        if found is None:
            raise Refusal(404, "not_found", f"there is no {identity!r} among the {kind}")
        return found


class TokenDesk:
    """Issues tokens for a secret, and checks them."""

    def __init__(self, secret: str | None, good_for: int = 0) -> None:
        """Give tokens for this secret (None: for any), each good for so many requests (0: for ever)."""
        self._secret = secret
        self._good_for = good_for
        self._lock = threading.Lock()
        self._used: dict[str, int] = {}

    def issue(self, content: Any) -> tuple[int, Any]:
        """Issue a new token; earlier ones stay valid until they are used up.

        Raises:
            Refusal: the secret is wrong.
        """
        secret = content.get("token") if isinstance(content, dict) else None
        if not secret or (self._secret is not None and secret != self._secret):
            raise Refusal(403, "wrong_secret", "this is not the secret", "token")
        with self._lock:
            token = f"token-{len(self._used) + 1:06}"
            self._used[token] = 0
        return 200, {"access_token": token, "expires_in": 3600}

    def takes(self, token: str) -> bool:
        """Use a token for one request; whether it is still valid."""
        with self._lock:
            if token not in self._used:
                return False
            self._used[token] += 1
            return not self._good_for or self._used[token] <= self._good_for

    def expire(self) -> None:
        """End all tokens that were issued until now."""
        with self._lock:
            self._used = dict.fromkeys(self._used, self._good_for or 1)
            self._good_for = self._good_for or 1


def _fields(content: Any) -> ObjectFields:
    if not isinstance(content, dict):
        raise Refusal(400, "invalid_json", "the body is a JSON object of fields")
    return dict(content)


def _items(content: Any) -> list[Any]:
    items = _fields(content).get("items")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise Refusal(400, "invalid_json", "items is a list of JSON objects", "items")
    return items
