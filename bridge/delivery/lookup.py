"""Looks an object up in the CRM, by its key or by its id."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from bridge.crm.connector.compiling import Condition
from bridge.crm.connector.request import Find
from bridge.crm.key_matching import has_key, key_shown, object_id
from bridge.delivery.crm_requests import CrmReply, CrmRequest, Fields, RequestFlow
from bridge.delivery.field_selection import FieldSelection, checked, needs_lookup, to_read_back
from bridge.delivery.object_context import ObjectContext, parking_error
from bridge.lib.errors import DeliveryError, Gone, Permanent
from bridge.lib.expression import ExpressionError, as_text
from bridge.lib.masking import LONGEST_MESSAGE
from bridge.lib.phone import mask_phones_in, of_crm

_CORRECT_FIND = (
    "Its search does not go by this key: correct find in the connector, or give it a where, which decides in"
    " place of this check"
)


class FoundObject(msgspec.Struct, frozen=True):
    """An object that the CRM has; `present` are its fields, as far as the answer carried them."""

    id: str
    present: Fields


class Lookup:
    """Looks one object up; what an answer does not show is never taken for "not there" or for "empty"."""

    def __init__(self, context: ObjectContext) -> None:
        planned = context.planned
        self._kind = context.kind
        self._planned = planned
        self._names: dict[str, Any] = {"key": dict(planned.key), "fields": list(planned.fields)}
        self._label = context.label
        self._other_keys: DeliveryError | None = None
        """Raised where no search finds it, and one of them answered with records of other keys only."""
        self.reads_fields = needs_lookup(planned) or context.kind.whole
        """Whether the fields that the CRM holds decide about what is sent."""

    def find(self) -> RequestFlow[FoundObject | None]:
        """Search by the key, with each `find` of the connector in turn; None: the CRM does not have it.

        Raises:
            Permanent: an answer does not tell whether it is there.
        """
        self._other_keys = None
        for find in self._kind.find:
            found = yield from self._find_by(find)
            if found is not None:
                return found
        if self._other_keys is not None:
            raise self._other_keys
        return None

    def by_key(self) -> RequestFlow[FoundObject | None]:
        """Look it up by its key: by `find`, or by a `read` that tells the id itself."""
        if self._kind.find or self._kind.read is None or self._kind.read.id is None:
            return (yield from self.find())
        return (yield from self.read(None))

    def read(self, crm_id: str | None) -> RequestFlow[FoundObject | None]:
        """Read it by its id, or search by its key where the connector cannot read; None: it is not there."""
        read = self._kind.read
        if read is None:
            return (yield from self.find())
        try:
            reply = yield CrmRequest(read, {**self._names, "id": crm_id}, f"{self._label}, read")
        except Gone:
            return None
        told = crm_id if read.id is None else object_id(read.id.of_answer(reply.answer))
        fields = read.fields.of_answer(reply.answer) if reply.fields is None else reply.fields
        return FoundObject(told or crm_id or "", self._required(fields, "read", read.fields.text))

    def in_our_form(self, fields: Any) -> Fields | None:
        """The fields of an answer in the form in which the mapping sends them; None: it carries none.

        Raises:
            Permanent: the connector's `read_as` cannot read one of them.
        """
        if not isinstance(fields, Mapping):
            return None
        read_as = self._kind.read_as
        if not read_as:
            return fields
        found = dict(fields)
        for name in self._names["fields"]:
            how = read_as.get(name) or read_as.get("*")
            if how is None or name not in found:
                continue
            try:
                found[name] = how.fill({"value": found[name], "name": name})
            except ExpressionError as error:
                message = f"{self._label}, field {name}: read_as cannot read what the CRM shows"
                said = mask_phones_in(str(error))[:LONGEST_MESSAGE]
                raise Permanent(f"{message}: {said}. Correct the connector", cause=message) from error
        return found

    def read_back(
        self, sent: FieldSelection, crm_id: str, answered: Fields | None, *, fresh: bool
    ) -> RequestFlow[FieldSelection]:
        """What was sent, with how the CRM altered it, as its answer or a look-up right after it shows.

        A `fresh` object is not searched for, because the index lags. For others a lagging search may show the
        values before the write, which does no harm.
        """
        if answered is not None:
            return checked(sent, answered, certain=True)
        unseen = fresh and self._kind.read is None and self._kind.index_lag
        if not to_read_back(self._planned, sent) or unseen or not self._kind.readable:
            return sent
        try:
            found = yield from (self.find() if self._kind.read is None else self.read(crm_id))
        except DeliveryError:
            # It was written already, so a look-up that fails now does no harm.
            return sent
        if found is None or found.id != crm_id:
            return sent
        return checked(sent, found.present, certain=False)

    def has_key(self, found: FoundObject) -> bool | None:
        """Whether an object, as the CRM shows it, has our key; None: it does not show its key."""
        return has_key(self._names["key"], found.present)

    def shown_key(self, found: FoundObject) -> str:
        """What the CRM shows where the key should stand, phones masked."""
        return key_shown(self._names["key"], found.present)

    # -- reading a search's answer ---------------------------------------------------
    def _find_by(self, find: Find) -> RequestFlow[FoundObject | None]:
        try:
            reply = yield CrmRequest(find, self._names, f"{self._label}, find")
        except Gone:
            return None
        hits = [hit for hit in self._hits(find, reply) if self._counts(find.where, hit)]
        if find.where is None and reply.hits is None:
            hits = self._with_our_key(find, hits)
        if not hits:
            return None
        hit = _choose_hit(find, hits, self._label)
        crm_id = object_id(find.id.of(hit, {"hit": hit}))
        if crm_id is None:
            raise Permanent(f"{self._label}, find: a hit carries no id at {find.id.text!r}")
        fields = find.fields.of(hit, {"hit": hit})
        return FoundObject(crm_id, self._required(fields, "find", find.fields.text))

    def _hits(self, find: Find, reply: CrmReply) -> list[Any]:
        if reply.hits is not None:
            return list(reply.hits)
        hits = find.hits.of_answer(reply.answer)
        if isinstance(hits, Mapping):
            return [hits] if hits else []
        if isinstance(hits, list):
            return hits
        if hits is None and (reply.answer.empty or find.hits.is_null(reply.answer)):
            return []
        raise Permanent(
            f"{self._label}, find: the answer carries no list at {find.hits.text!r}, so nobody knows whether"
            ' it is there. Correct hits, or write it so that none is an empty list: "{{ body.items or [] }}"',
            cause=f"{self._label}, find: no list in the answer",
        )

    def _counts(self, where: Condition | None, hit: Any) -> bool:
        if where is None:
            return True
        try:
            return where.decides({"hit": hit, "key": self._names["key"]})
        except ExpressionError as error:
            raise Permanent(f"{self._label}, find: where cannot be decided: {error}") from error

    def _with_our_key(self, find: Find, hits: list[Any]) -> list[Any]:
        """The hits that have our key, or else those that do not show their key.

        Hits with other keys alone mean that the connector's search does not go by this key.
        """
        key = self._names["key"]
        judged = [(has_key(key, _fields_of(find, hit), hit), hit) for hit in hits]
        ours = [hit for verdict, hit in judged if verdict]
        ours = ours or [hit for verdict, hit in judged if verdict is None]
        if hits and not ours:
            crm_id = as_text(find.id.of(hits[0], {"hit": hits[0]}))
            shown = key_shown(key, _fields_of(find, hits[0]))
            self._other_keys = parking_error(
                f"{self._label}, find",
                f"{self._label}, find: the CRM answers with records of other keys, such as {of_crm(crm_id)}"
                f" ({shown}): nobody knows whether ours is there",
                "records of other keys",
                _CORRECT_FIND,
            )
        return ours

    def _required(self, fields: Any, operation: str, place: str) -> Fields:
        """The fields of an answer, which must carry some where they decide about what is sent."""
        present = self.in_our_form(fields)
        if present is not None:
            return present
        if self.reads_fields:
            raise Permanent(
                f"{self._label}, {operation}: the answer carries no fields at {place!r}, and without them"
                " nobody knows what a person wrote there. Correct the connector",
                cause=f"{self._label}, {operation}: no fields in the answer",
            )
        return {}


def _fields_of(find: Find, hit: Any) -> Fields:
    fields = find.fields.of(hit, {"hit": hit})
    return fields if isinstance(fields, Mapping) else {}


def _choose_hit(find: Find, hits: Sequence[Any], label: str) -> Any:
    """Which of several hits is the object, by the connector's `several`.

    Raises:
        Permanent: the connector leaves it to a person.
    """
    if len(hits) == 1 or find.section.several == "first":
        return hits[0]
    if find.section.several == "park" or find.by is None:
        raise Permanent(
            f"{label}, find: the CRM has {len(hits)} with this key. Merge them, then retry",
            cause=f"{label}: several in the CRM with one key",
        )
    dated = [(by, hit) for hit in hits if (by := find.by.of(hit, {"hit": hit})) not in (None, "")]
    if not dated:
        return hits[0]
    ordered = sorted(dated, key=lambda pair: _order(pair[0]))
    return ordered[0 if find.section.several == "oldest" else -1][1]


def _order(value: Any) -> tuple[int, float, str]:
    if isinstance(value, int | float):
        # Left as it is: JSON has integers that are too large for a float.
        return 0, value, ""
    return 1, 0.0, as_text(value)
