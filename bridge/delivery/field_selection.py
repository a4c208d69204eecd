"""Selects the fields that an object gets from a call, and tells what is known of each once they are sent."""

from collections.abc import Mapping
from typing import Any

import msgspec

from bridge.delivery.crm_requests import Fields
from bridge.model.crm_alterations import PLAUSIBLE, WORDS, Alteration, alteration, same
from bridge.model.crm_objects import FieldWrite, Fingerprint, KnownObject
from bridge.model.field_digests import (
    NOTHING,
    alteration_of,
    as_sent,
    digest_of,
    is_empty,
    sent_last,
    short_of,
    with_altered,
    with_possible,
)
from bridge.model.field_policies import POLICIES, FieldChoice, FieldPolicy, FieldView, SendingCall
from bridge.model.plan import PlannedObject


class FieldSelection(msgspec.Struct, frozen=True):
    """The fields that are sent, and what is known of each field after that."""

    fields: Mapping[str, Any]
    last_writes: Mapping[str, FieldWrite]
    appended: Mapping[str, Fingerprint]
    """Fields to which this call's value has been added."""
    kept: Mapping[str, Any] = {}
    """Fields that are sent unchanged, because the CRM's update empties those that are left out."""
    altered: Mapping[str, str] = {}
    """Fields that the CRM shows otherwise than they were sent, and how."""


class ObjectView(msgspec.Struct, frozen=True):
    """An object that exists already: what the CRM holds, what was last sent, what may be on its way."""

    present: Fields | None = None
    """Its fields as the CRM holds them; None where it was not looked at."""
    known: KnownObject | None = None
    appended: Mapping[str, Fingerprint] = {}
    """Fields to which this call has added its value."""
    adding: Mapping[str, Fingerprint] = {}
    """Fields to which it may have: the value is looked for as it was sent, even if the call has changed."""

    def field_view(self, name: str, planned: PlannedObject, call: SendingCall) -> FieldView:
        """One of its fields."""
        return FieldView(
            name,
            planned.fields[name],
            (self.present or {}).get(name),
            self.known.last_writes.get(name) if self.known is not None else None,
            call,
            is_added=name in self.appended,
            adding=self.adding.get(name),
        )


def sent_digest(planned: PlannedObject, inline: Mapping[str, Any]) -> bytes:
    """The digest of all that a call says of an object; `inline` are the links that go with its fields."""
    fields = {
        name: [each.value, each.write] if each.default is None else [each.value, each.write, each.default]
        for name, each in planned.fields.items()
    }
    return digest_of([dict(planned.key), fields, inline])


def needs_lookup(planned: PlannedObject, *, upserts: bool = False) -> bool:
    """Whether a field's policy must know what the CRM holds; `upserts`: the CRM itself finds or creates."""
    # An object has few different policies among its fields.
    policies = {each.write for each in planned.fields.values()}
    return any(POLICIES[each].needs_lookup(upserts=upserts) for each in policies)


def is_settled(planned: PlannedObject, known: KnownObject, appended: Mapping[str, Fingerprint]) -> bool:
    """Whether an object that was last sent the same needs nothing: no newer call, nothing left to append."""
    return all(
        POLICIES[each.write].is_settled(each, known.last_writes.get(name), is_added=name in appended)
        for name, each in planned.fields.items()
    )


def with_newer_event(known: KnownObject, planned: PlannedObject, event: str) -> KnownObject:
    """What is known after a newer call sent the same: its event counts for the fields that it has."""
    last_writes = {
        name: FieldWrite(max(event, last_write.event), last_write.digest)
        if name in planned.fields and POLICIES[planned.fields[name].write].newest_wins
        else last_write
        for name, last_write in known.last_writes.items()
    }
    return KnownObject(known.crm_id, known.digest, known.links, last_writes)


def select_for_new(planned: PlannedObject, event: str, *, nulls: bool = False) -> FieldSelection:
    """The fields of a new object: all of them; with `nulls` also those that are to be cleared."""
    fields = {name: each.value for name, each in planned.fields.items() if nulls or each.value is not None}
    added = {name: POLICIES[each.write].added_to_new(each) for name, each in planned.fields.items()}
    appended = {name: fingerprint for name, fingerprint in added.items() if fingerprint is not None}
    return FieldSelection(fields, _last_writes(planned, fields, event, {}), appended)


def select_for_existing(
    planned: PlannedObject, view: ObjectView, event: str, *, whole: bool = False, in_doubt: bool = False
) -> FieldSelection:
    """The fields that an existing object gets from a call, each by its write policy.

    `event` is the call's time, then its key. With `whole` an update replaces all fields, so what does not
    change is `kept`. `in_doubt`: an earlier attempt may have written already.

    Raises:
        ShapeMismatch: what the CRM shows for a field can be neither compared nor added to.
    """
    call = SendingCall(event, planned.shared, in_doubt)
    choices = {
        name: POLICIES[each.write].choose(view.field_view(name, planned, call))
        for name, each in planned.fields.items()
    }
    fields = {name: choice.value for name, choice in choices.items() if choice.send}
    added = {name: choice.added for name, choice in choices.items() if choice.added is not None}
    altered = {name: choice.altered for name, choice in choices.items() if choice.altered is not None}
    return FieldSelection(
        fields,
        _noted(planned, view.known, choices, event),
        {**view.appended, **added},
        _kept(planned, view.present or {}, choices) if whole else {},
        {name: WORDS[kind] for name, (_, kind) in altered.items() if kind in WORDS},
    )


def _noted(
    planned: PlannedObject, known: KnownObject | None, choices: Mapping[str, FieldChoice], event: str
) -> dict[str, FieldWrite]:
    """What is known of an object's fields once the choices are sent."""
    mixed = {name for name, choice in choices.items() if choice.is_mixed}
    last_writes = known.last_writes if known is not None else {}
    before = {name: last_write for name, last_write in last_writes.items() if name not in mixed}
    ours = {name: choice.value for name, choice in choices.items() if choice.is_ours}
    noted = _last_writes(planned, ours, event, before)
    for name, choice in choices.items():
        if choice.altered is not None:
            digests = with_altered(noted[name].digest, *choice.altered)
            noted[name] = FieldWrite(noted[name].event, digests)
    return noted


def _kept(planned: PlannedObject, present: Fields, choices: Mapping[str, FieldChoice]) -> dict[str, Any]:
    """The fields that the CRM holds already, as it holds them."""
    known = {name: choice.value for name, choice in choices.items() if choice.goes_along}
    return {**known, **{name: present[name] for name in planned.fields if name in present}}


def _last_writes(
    planned: PlannedObject, ours: Mapping[str, Any], event: str, before: Mapping[str, FieldWrite]
) -> dict[str, FieldWrite]:
    """What is known of an object's fields after some of them hold `ours`.

    Kept under every policy, for the mapping may have another one tomorrow. Where one call feeds the object
    alone, nobody asks which call wrote a field, and 3 bytes of its digest are enough.
    """
    last_writes = dict(before)
    for name, value in ours.items():
        known = last_writes.get(name)
        if known is not None and alteration_of(known.digest) and sent_last(known.digest, value):
            # The CRM still shows the same altered form of the same value.
            last_writes[name] = FieldWrite(event, known.digest)
        elif planned.shared or _policy(planned, name).spots_edits:
            last_writes[name] = FieldWrite(event, digest_of(value))
        elif not is_empty(value):
            last_writes[name] = FieldWrite("", short_of(value))
        else:
            last_writes.pop(name, None)
    return last_writes


# -- while a request is on its way, and after its answer ----------------------------------------------


def possible_writes(planned: PlannedObject, fields: Fields) -> dict[str, FieldWrite]:
    """What a new object may hold while its create is unanswered, so that it is not taken for an edit."""
    return {
        name: FieldWrite("", NOTHING + digest_of(value))
        for name, value in fields.items()
        if name in planned.fields and _policy(planned, name).spots_edits
    }


def with_possible_writes(known: KnownObject, planned: PlannedObject, fields: Fields) -> KnownObject:
    """What an object may hold while an update is unanswered: the new values, or those before."""
    last_writes = {
        name: FieldWrite(last_write.event, with_possible(last_write.digest, fields[name]))
        if name in fields
        else last_write
        for name, last_write in known.last_writes.items()
    }
    # Fields that were never sent before were empty.
    return KnownObject(known.crm_id, b"", {}, possible_writes(planned, fields) | last_writes)


def held_already(selection: FieldSelection, present: Fields) -> dict[str, FieldWrite]:
    """What is known of the fields that an object holds already as they were selected."""
    return {
        name: last_write
        for name, last_write in selection.last_writes.items()
        if name not in selection.fields or (name in present and same(present[name], selection.fields[name]))
    }


def checked(sent: FieldSelection, shown: Fields, *, certain: bool) -> FieldSelection:
    """What was sent, with the alterations that the CRM shows; `certain`: nobody else can have written."""
    last_writes, found = dict(sent.last_writes), dict(sent.altered)
    for name, value in sent.fields.items():
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
    return FieldSelection(sent.fields, last_writes, sent.appended, sent.kept, found)


def to_read_back(planned: PlannedObject, sent: FieldSelection) -> list[str]:
    """The fields that are read back after a write: later look-ups are compared with the CRM's form."""
    return [
        name
        for name, value in sent.fields.items()
        if not is_empty(value) and _policy(planned, name).spots_edits
    ]


def _policy(planned: PlannedObject, name: str) -> FieldPolicy:
    return POLICIES[planned.fields[name].write]
