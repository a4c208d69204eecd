"""Write policies: which of a call's fields go into an object that exists already."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.delivery.appending import sign_of, stands, unplaced, with_added
from bridge.model.crm_alterations import (
    PLAUSIBLE,
    SOMETHING,
    WORDS,
    Alteration,
    alteration,
    is_greater,
    misfit,
    probably_altered,
    same,
    surely_altered,
)
from bridge.model.crm_objects import FieldWrite, Fingerprint, KnownObject
from bridge.model.field_digests import (
    NOTHING,
    alteration_of,
    as_sent,
    digest_of,
    holds,
    is_empty,
    sent_last,
    short_of,
    unsettled,
    with_altered,
    with_possible,
)
from bridge.model.plan import LOOKING, PlannedField, PlannedObject, WritePolicy

Present = Mapping[str, Any]
"""An object's fields as the CRM holds them now."""

# Of several calls the newest writes these, however often and in whatever order they come.
_NEWEST = {WritePolicy.ALWAYS, WritePolicy.UNLESS_EDITED}


class ShapeMismatch(Exception):
    """A field is shown in a shape that its policy can neither compare nor add to."""

    def __init__(self, field: str, shape: str) -> None:
        super().__init__(f"field {field} is shown as {shape}")
        self.field = field
        self.shape = shape


@dataclass(frozen=True, slots=True)
class FieldSelection:
    """What is sent, and who has written which field after that."""

    fields: Mapping[str, Any]
    last_writes: Mapping[str, FieldWrite]
    appended: Mapping[str, Fingerprint]
    kept: Mapping[str, Any] = field(default_factory=dict)
    """What goes along unchanged, where an update would empty what it leaves out."""
    altered: Mapping[str, str] = field(default_factory=dict)
    """Fields that the CRM shows otherwise than they were sent, and how."""


def sent_digest(planned: PlannedObject, inline: Mapping[str, Any]) -> bytes:
    """The digest of all that a call tells an object; `inline` are the links that go with its fields."""
    fields = {
        name: [each.value, each.write] if each.default is None else [each.value, each.write, each.default]
        for name, each in planned.fields.items()
    }
    return digest_of([dict(planned.key), fields, inline])


def shown(chosen: FieldSelection, present: Present) -> dict[str, FieldWrite]:
    """The marks of fields that an object holds already as they are chosen."""
    return {
        name: last_write
        for name, last_write in chosen.last_writes.items()
        if name not in chosen.fields or (name in present and same(present[name], chosen.fields[name]))
    }


def maybe(planned: PlannedObject, fields: Mapping[str, Any]) -> dict[str, FieldWrite]:
    """The marks of a new object that is being sent: what it will show, if it comes to be, nobody edited."""
    return {
        name: FieldWrite("", NOTHING + digest_of(value))
        for name, value in fields.items()
        if name in planned.fields and planned.fields[name].write is WritePolicy.UNLESS_EDITED
    }


def unsure(remembered: KnownObject, planned: PlannedObject, fields: Mapping[str, Any]) -> KnownObject:
    """An object to which fields are being sent: until that is answered, it holds them or what it held."""
    last_writes = {
        name: FieldWrite(last_write.event, with_possible(last_write.digest, fields[name]))
        if name in fields
        else last_write
        for name, last_write in remembered.last_writes.items()
    }
    # What was never sent before was empty.
    return KnownObject(remembered.crm_id, b"", {}, maybe(planned, fields) | last_writes)


def looks(planned: PlannedObject) -> bool:
    """Whether the CRM's present state decides about a field."""
    return any(each.write in LOOKING for each in planned.fields.values())


def settled(planned: PlannedObject, remembered: KnownObject, appended: Mapping[str, Fingerprint]) -> bool:
    """Whether an object that was last told the same holds it all: no newer call, nothing left to append."""
    return all(
        name in appended or is_empty(each.value)
        if each.write is WritePolicy.APPEND
        else each.write not in _NEWEST
        or name not in remembered.last_writes
        or sent_last(remembered.last_writes[name].digest, each.value)
        for name, each in planned.fields.items()
    )


def advanced(remembered: KnownObject, planned: PlannedObject, event: str) -> KnownObject:
    """The same object after a newer call that said the same; of what it did not say, nothing is newer."""
    last_writes = {
        name: FieldWrite(max(event, last_write.event), last_write.digest)
        if name in planned.fields and planned.fields[name].write in _NEWEST
        else last_write
        for name, last_write in remembered.last_writes.items()
    }
    return KnownObject(remembered.crm_id, remembered.digest, remembered.links, last_writes)


def select_for_new(planned: PlannedObject, event: str, *, nulls: bool = False) -> FieldSelection:
    """A new object gets every field; with `nulls` also those that are to be cleared."""
    fields = {name: each.value for name, each in planned.fields.items() if nulls or each.value is not None}
    appended = {
        name: sign_of(each, None)
        for name, each in planned.fields.items()
        if each.write is WritePolicy.APPEND and not is_empty(each.value)
    }
    return FieldSelection(fields, _marks(planned, fields, event, {}), appended)


def select_for_existing(
    planned: PlannedObject,
    present: Present | None,
    remembered: KnownObject | None,
    event: str,
    appended: Mapping[str, Fingerprint],
    *,
    whole: bool,
    doubted: bool = False,
    adding: Mapping[str, Fingerprint] | None = None,
) -> FieldSelection:
    """The fields that an existing object gets from a call.

    `event` sorts by the call's time, then its key. With `whole` an update replaces all
    fields, so what did not change is `kept`. `doubted`: an attempt may have
    written already, so a text that is there was appended by it; where it is
    known what that sent, by `adding`, that is looked for and not what the call says now.

    Raises:
        Misfit: what the CRM shows for a field cannot be compared, or added to.
    """
    choice = _Choice(remembered.last_writes if remembered is not None else {}, present or {}, event, appended)
    choice.adding = adding or {}
    for name, each in planned.fields.items():
        if each.write is WritePolicy.APPEND:
            choice.append(name, each, shared=planned.shared, doubted=doubted)
        elif planned.shared and each.write in _NEWEST:
            choice.newest(name, each)
        else:
            choice.by_policy(name, each)
    last_writes = _marks(planned, choice.told, event, choice.last_writes)
    for name, (held, kind) in choice.altered.items():
        last_writes[name] = FieldWrite(
            last_writes[name].event, with_altered(last_writes[name].digest, held, kind)
        )
    words = {name: WORDS[kind] for name, (_, kind) in choice.altered.items() if kind in WORDS}
    return FieldSelection(
        choice.fields, last_writes, choice.appended, choice.kept(planned) if whole else {}, words
    )


def checked(chosen: FieldSelection, shown: Present, *, certain: bool) -> FieldSelection:
    """What was sent, beside what the CRM shows after it; `certain`: nobody else can have written it."""
    last_writes, found = dict(chosen.last_writes), dict(chosen.altered)
    for name, value in chosen.fields.items():
        if name not in shown:
            continue
        kind, last_write = alteration(value, shown[name]), last_writes.get(name)
        if kind is None or (not certain and kind not in PLAUSIBLE):
            if kind is None and last_write is not None:
                last_writes[name] = FieldWrite(last_write.event, as_sent(last_write.digest))
            continue
        if last_write is not None:
            last_writes[name] = FieldWrite(
                last_write.event, with_altered(last_write.digest, shown[name], kind)
            )
        if kind is not Alteration.FORM:
            found[name] = WORDS[kind]
    return FieldSelection(chosen.fields, last_writes, chosen.appended, chosen.kept, found)


def to_check(planned: PlannedObject, chosen: FieldSelection) -> list[str]:
    """The fields of which it must be known what the CRM made of them: later looks are compared with that."""
    return [
        name
        for name, value in chosen.fields.items()
        if not is_empty(value) and planned.fields[name].write is WritePolicy.UNLESS_EDITED
    ]


class _Choice:
    """The fields chosen so far."""

    def __init__(
        self,
        last_writes: Mapping[str, FieldWrite],
        present: Present,
        event: str,
        appended: Mapping[str, Fingerprint],
    ) -> None:
        self.last_writes = dict(last_writes)
        self.present = present
        self.fields: dict[str, Any] = {}
        self.told: dict[str, Any] = {}
        """What each field holds of ours after this, alone."""
        self._settled: list[str] = []
        self.appended = dict(appended)
        self.adding: Mapping[str, Fingerprint] = {}
        self.altered: dict[str, tuple[Any, str]] = {}
        """What is shown of a field, and what made it so."""
        self._event = event
        self._caller = _caller(event)

    def append(self, name: str, each: PlannedField, *, shared: bool, doubted: bool) -> None:
        """Behind what is there, unless this call has told it already."""
        held, sent = self.present.get(name), self.adding.get(name)
        if name in self.appended:
            return
        last_write = self.last_writes.get(name)
        ours = (
            last_write is not None
            and bool(last_write.digest)
            and (not shared or _caller(last_write.event) == self._caller)
        )
        if sent is None and ours and not is_empty(each.value):
            # It wrote the field when that was not yet appended to.
            self.appended[name] = unplaced(sign_of(each, held))
            return
        if sent is not None and stands(sent, each.separator, held):
            # Each call once: what it says by now is not added to what it said then.
            self.appended[name] = sent
        elif not is_empty(each.value):
            self._fits(name, each)
            sign = sign_of(each, held)
            if sent is None and doubted and stands(unplaced(sign), each.separator, held):
                self.appended[name] = unplaced(sign)
            else:
                self.appended[name] = sign
                self.fields[name] = with_added(each, held)
                if is_empty(held) or (last_write is not None and holds(held, last_write.digest)):
                    self.told[name] = self.fields[name]
                else:
                    # Somebody else's text stands there too: nothing may ever replace that.
                    self.last_writes.pop(name, None)

    def kept(self, planned: PlannedObject) -> dict[str, Any]:
        """The fields that the CRM holds already, as it holds them."""
        known = {name: planned.fields[name].value for name in self._settled}
        return {**known, **{name: self.present[name] for name in planned.fields if name in self.present}}

    def newest(self, name: str, each: PlannedField) -> None:
        """Written by the newest call."""
        last_write = self.last_writes.get(name)
        if last_write is not None and self._event < last_write.event:
            return
        if each.write is WritePolicy.UNLESS_EDITED and not self._untouched(name, each):
            return
        self._settled.append(name)
        self.told[name] = each.value
        if last_write is None or not sent_last(last_write.digest, each.value):
            self.fields[name] = each.value

    def by_policy(self, name: str, each: PlannedField) -> None:
        """Written where the policy says so."""
        last_write, held = self.last_writes.get(name), self.present.get(name)
        if each.write is WritePolicy.UNLESS_EDITED:
            written = self._untouched(name, each)
        elif each.write in LOOKING and is_empty(each.value):
            written = False
        else:
            if each.write in LOOKING and not (last_write is not None and holds(held, last_write.digest)):
                self._fits(name, each)
            written = _by_policy(each, last_write, held)
        if written:
            self.fields[name] = self.told[name] = each.value
        elif last_write is None and not is_empty(held) and same(held, each.value):
            # It holds what we would send: what a policy of another day takes for ours.
            self.told[name] = each.value

    def _untouched(self, name: str, each: PlannedField) -> bool:
        """Whether a field still holds what we last sent; an empty one that we never wrote counts as such."""
        last_write, held = self.last_writes.get(name), self.present.get(name)
        if same(held, each.value) or (last_write is not None and holds(held, last_write.digest)):
            return True
        if last_write is None:
            self._fits(name, each, known=False)
            return is_empty(held)
        kind = None
        if unsettled(last_write.digest, each.value):
            # The first look behind a write whose answer was lost.
            kind = probably_altered(each.value, held)
        elif sent_last(last_write.digest, each.value) and not alteration_of(last_write.digest):
            kind = surely_altered(each.value, held)
        if kind is None:
            self._fits(name, each)
            return False
        self.altered[name] = held, kind
        return True

    def _fits(self, name: str, each: PlannedField, *, known: bool = True) -> None:
        """Refuse a shape that says nothing; of what we never wrote only one that may mean nothing at all."""
        shape = misfit(each, self.present.get(name))
        if shape and (known or shape not in SOMETHING):
            raise ShapeMismatch(name, shape)


def _by_policy(each: PlannedField, last_write: FieldWrite | None, held: Any) -> bool:
    """Whether a field of an object that no other call feeds is written."""
    if each.write is WritePolicy.CREATE:
        return False
    if each.write is WritePolicy.IF_EMPTY:
        return is_empty(held) and not is_empty(each.value)
    if each.write is WritePolicy.WHILE_DEFAULT:
        return _is_default(each, last_write, held) and not is_empty(each.value)
    if each.write is WritePolicy.GREATEST:
        return is_greater(each.value, held)
    return each.write is WritePolicy.ALWAYS


def _is_default(each: PlannedField, last_write: FieldWrite | None, held: Any) -> bool:
    """Whether a field holds nothing, or the mapping's own default, or what the CRM made of that."""
    if same(held, each.value):
        return False
    if is_empty(held) or (not is_empty(each.default) and same(held, each.default)):
        return True
    if last_write is None or not sent_last(last_write.digest, each.default):
        return False
    return holds(held, last_write.digest) or probably_altered(each.default, held) is not None


def _caller(event: str) -> str:
    """Which call it is that an event belongs to."""
    return event.partition(" ")[2] or event


def _marks(
    planned: PlannedObject, told: Mapping[str, Any], event: str, before: Mapping[str, FieldWrite]
) -> dict[str, FieldWrite]:
    """What is known of an object's fields after they were told.

    Kept under every policy, for the mapping may have another one tomorrow. Of an object that one call
    feeds alone nobody asks which call wrote it, and of what is written without a look little is kept.
    """
    last_writes = dict(before)
    for name, value in told.items():
        known = last_writes.get(name)
        if known is not None and alteration_of(known.digest) and sent_last(known.digest, value):
            # Still what the CRM made of the same value.
            last_writes[name] = FieldWrite(event, known.digest)
        elif planned.shared or planned.fields[name].write is WritePolicy.UNLESS_EDITED:
            last_writes[name] = FieldWrite(event, digest_of(value))
        elif not is_empty(value):
            last_writes[name] = FieldWrite("", short_of(value))
        else:
            last_writes.pop(name, None)
    return last_writes
