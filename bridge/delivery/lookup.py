"""What a way asks of a CRM, and its look-ups: an object found by its key, or read by its id."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar

from bridge.crm.connector import ObjectType
from bridge.crm.connector.compiling import Answer, Condition, Values
from bridge.crm.connector.request import Find, Link, Read, Request
from bridge.crm.connector.steps import Poll, Step
from bridge.crm.key_matching import has_key, key_shown, object_id
from bridge.delivery.write_policy import FieldSelection, Present, checked, looks, to_check
from bridge.lib.errors import DeliveryError, Gone, InDoubt, Permanent
from bridge.lib.expression import ExpressionError, as_text
from bridge.lib.masking import LONGEST_MESSAGE
from bridge.lib.phone import mask_phones_in, of_crm
from bridge.model.crm_state import CrmState, Progress
from bridge.model.plan import PlannedObject

T = TypeVar("T")
_OF_STRANGERS = (
    "Its search does not go by this key: correct find in the connector, or give it a where, which decides in"
    " place of this check"
)


class Journal(Protocol):
    """What a delivery knows of earlier requests, and where it notes its own."""

    def recall(self, planned: PlannedObject) -> CrmState | None:
        """The object as it was last left."""

    def progress(self, name: str) -> Progress:
        """How far this delivery came with an object of its plan."""

    def note(self, name: str, progress: Progress, *, durable: bool) -> None:
        """How far it is now; `durable`: on disk before anything is sent."""

    def unsure(self, planned: PlannedObject, state: CrmState) -> None:
        """What is known of an object while a request is on its way; on disk before that is sent."""


@dataclass(frozen=True, slots=True)
class CrmRequest:
    """A request that a way waits for."""

    of: Step | Poll | Find | Read | Link
    names: Values
    what: str

    @property
    def request(self) -> Request:
        """The request, alone."""
        assert self.of.request is not None  # noqa: S101 -- an inline link is never asked for
        return self.of.request


@dataclass(frozen=True, slots=True)
class CrmReply:
    """What was answered; of an item of a batch, with its part already taken out."""

    answer: Answer
    id: str | None = None
    hits: Sequence[Any] | None = None
    fields: Present | None = None


RequestFlow = Generator[CrmRequest, CrmReply, T]


@dataclass(frozen=True, slots=True)
class Setting:
    """What all ways of one delivery have in common; `event` is its call's place among calls."""

    journal: Journal
    event: str
    clock: Callable[[], datetime]


class ObjectJournal:
    """How far a delivery came with one object, and where that is noted."""

    def __init__(self, journal: Journal, name: str, progress: Progress) -> None:
        self._memory = journal
        self._name = name
        self.progress = progress

    def set(self, progress: Progress, *, durable: bool = False) -> None:
        """How far it is now; `durable`: on disk before anything is sent."""
        self.progress = progress
        self._memory.note(self._name, progress, durable=durable)


def refuse_doubt(planned: PlannedObject, progress: Progress) -> None:
    """Of what must not be sent twice nobody knows whether it arrived, unless a person has looked."""
    if not progress.absent:
        raise InDoubt(
            f"object {planned.name}, {progress.way}: sent at {progress.sent_at:%Y-%m-%d %H:%M:%S} UTC, and"
            " nothing tells whether it was processed",
            cause=f"object {planned.name}, {progress.way}: nothing tells whether it was processed",
        )


def parked(what: str, message: str, cause: str, remedy: str) -> Permanent:
    """A fault that waits for a person, who is told what to do."""
    error = Permanent(f"{message}. {remedy}", cause=f"{what}: {cause}")
    error.says = remedy
    return error


@dataclass(frozen=True, slots=True)
class FoundObject:
    """An object that the CRM has, with its fields as far as they were told."""

    id: str
    present: Present


class Lookup:
    """Looks one object up. What an answer does not say is never taken for "not there", or for "empty"."""

    def __init__(self, kind: ObjectType, planned: PlannedObject) -> None:
        self._kind = kind
        self._planned = planned
        self._names: dict[str, Any] = {"key": dict(planned.key), "fields": list(planned.fields)}
        self._what = f"object {planned.name}"
        self._strangers: DeliveryError | None = None
        """That a search has shown records of other keys only."""
        self.reads_fields = looks(planned) or kind.whole
        """Whether the CRM's present fields decide about what is sent."""

    def find(self) -> RequestFlow[FoundObject | None]:
        """By its key, one way after the other."""
        self._strangers = None
        for find in self._kind.find:
            found = yield from self._find_by(find)
            if found is not None:
                return found
        if self._strangers is not None:
            raise self._strangers
        return None

    def by_key(self) -> RequestFlow[FoundObject | None]:
        """By its key, however the connector can."""
        if self._kind.find or self._kind.read is None or self._kind.read.id is None:
            return (yield from self.find())
        return (yield from self.read(None))

    def read(self, crm_id: str | None) -> RequestFlow[FoundObject | None]:
        """By its id; where that cannot be, by its key."""
        read = self._kind.read
        if read is None:
            return (yield from self.find())
        try:
            reply = yield CrmRequest(read, {**self._names, "id": crm_id}, f"{self._what}, read")
        except Gone:
            return None
        told = crm_id if read.id is None else object_id(read.id.of_answer(reply.answer))
        fields = read.fields.of_answer(reply.answer) if reply.fields is None else reply.fields
        return FoundObject(told or crm_id or "", self._fields(fields, "read", read.fields.text))

    def in_our_form(self, fields: Any) -> Present | None:
        """The fields that an answer carries, as the mapping would send them; None where it carries none."""
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
                message = f"{self._what}, field {name}: read_as cannot read what the CRM shows"
                said = mask_phones_in(str(error))[:LONGEST_MESSAGE]
                raise Permanent(f"{message}: {said}. Correct the connector", cause=message) from error
        return found

    def checked(
        self, chosen: FieldSelection, crm_id: str, shown: Present | None, *, fresh: bool
    ) -> RequestFlow[FieldSelection]:
        """What was sent, with what the CRM made of it, by its answer or by a look right behind it.

        Of what is `fresh` a search that lags knows nothing; of the rest it may show what was there before,
        which harms nothing.
        """
        if shown is not None:
            return checked(chosen, shown, certain=True)
        unseen = fresh and self._kind.read is None and self._kind.index_lag
        if not to_check(self._planned, chosen) or unseen or not self._kind.readable:
            return chosen
        try:
            found = yield from (self.find() if self._kind.read is None else self.read(crm_id))
        except DeliveryError:
            # It was written: that nobody can look now harms nothing.
            return chosen
        if found is None or found.id != crm_id:
            return chosen
        return checked(chosen, found.present, certain=False)

    def _find_by(self, find: Find) -> RequestFlow[FoundObject | None]:
        try:
            reply = yield CrmRequest(find, self._names, f"{self._what}, find")
        except Gone:
            return None
        hits = [hit for hit in self._hits(find, reply) if self._counts(find.where, hit)]
        if find.where is None and reply.hits is None:
            hits = self._ours(find, hits)
        if not hits:
            return None
        hit = choose_hit(find, hits, self._what)
        crm_id = find.id.of(hit, {"hit": hit})
        if (told := object_id(crm_id)) is None:
            raise Permanent(f"{self._what}, find: a hit carries no id at {find.id.text!r}")
        fields = find.fields.of(hit, {"hit": hit})
        return FoundObject(told, self._fields(fields, "find", find.fields.text))

    def has_key(self, found: FoundObject) -> bool | None:
        """Whether what the CRM shows of an object carries the key; None: it does not tell."""
        return has_key(self._names["key"], found.present)

    def shown_key(self, found: FoundObject) -> str:
        """What the CRM shows where the key should stand."""
        return key_shown(self._names["key"], found.present)

    def _ours(self, find: Find, hits: list[Any]) -> list[Any]:
        """The hits that may have the key; a search that shows only others has not searched for it."""
        key = self._names["key"]
        told = [(has_key(key, self._fields_of(find, hit), hit), hit) for hit in hits]
        ours = [hit for verdict, hit in told if verdict] or [hit for verdict, hit in told if verdict is None]
        if hits and not ours:
            crm_id = as_text(find.id.of(hits[0], {"hit": hits[0]}))
            shown = key_shown(key, self._fields_of(find, hits[0]))
            self._strangers = Permanent(
                f"{self._what}, find: the CRM answers with records of other keys, such as {of_crm(crm_id)}"
                f" ({shown}): nobody knows whether ours is there. {_OF_STRANGERS}",
                cause=f"{self._what}, find: records of other keys",
            )
            self._strangers.says = _OF_STRANGERS
        return ours

    @staticmethod
    def _fields_of(find: Find, hit: Any) -> Mapping[str, Any]:
        fields = find.fields.of(hit, {"hit": hit})
        return fields if isinstance(fields, Mapping) else {}

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
            f"{self._what}, find: the answer carries no list at {find.hits.text!r}, so nobody knows whether"
            ' it is there. Correct hits, or write it so that none is an empty list: "{{ body.items or [] }}"',
            cause=f"{self._what}, find: no list in the answer",
        )

    def _counts(self, where: Condition | None, hit: Any) -> bool:
        if where is None:
            return True
        try:
            return where.decides({"hit": hit, "key": self._names["key"]})
        except ExpressionError as error:
            raise Permanent(f"{self._what}, find: where cannot be decided: {error}") from error

    def _fields(self, fields: Any, way: str, place: str) -> Present:
        present = self.in_our_form(fields)
        if present is not None:
            return present
        if self.reads_fields:
            raise Permanent(
                f"{self._what}, {way}: the answer carries no fields at {place!r}, and without them nobody"
                " knows what a person wrote there. Correct the connector",
                cause=f"{self._what}, {way}: no fields in the answer",
            )
        return {}


def choose_hit(find: Find, hits: Sequence[Any], what: str) -> Any:
    """Which of several hits is the object."""
    if len(hits) == 1 or find.section.several == "first":
        return hits[0]
    if find.section.several == "park" or find.by is None:
        raise Permanent(
            f"{what}, find: the CRM has {len(hits)} with this key. Merge them, then retry",
            cause=f"{what}: several in the CRM with one key",
        )
    placed = [(by, hit) for hit in hits if (by := find.by.of(hit, {"hit": hit})) not in (None, "")]
    if not placed:
        return hits[0]
    ordered = sorted(placed, key=lambda pair: _order(pair[0]))
    return ordered[0 if find.section.several == "oldest" else -1][1]


def _order(value: Any) -> tuple[int, float, str]:
    if isinstance(value, int | float):
        # As it is: JSON has integers beyond every float.
        return 0, value, ""
    return 1, 0.0, as_text(value)
