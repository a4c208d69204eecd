"""Write policies: which of a call's fields go into an object that exists already."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.expression import as_text
from bridge.marks import NOTHING, digest_of, either, holds, is_empty, sent_last, short_of
from bridge.memory import Mark, Remembered, Sign
from bridge.plan import LOOKING, PlannedField, PlannedObject, Write

Present = Mapping[str, Any]
"""An object's fields as the CRM holds them now."""

_DIGEST = 8
# Of several calls the newest writes these, however often and in whatever order they come.
_NEWEST = {Write.ALWAYS, Write.UNLESS_EDITED}


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is sent, and who has written which field after that."""

    fields: Mapping[str, Any]
    marks: Mapping[str, Mark]
    appended: Mapping[str, Sign]
    kept: Mapping[str, Any] = field(default_factory=dict)
    """What goes along unchanged, where an update would empty what it leaves out."""


def told_digest(planned: PlannedObject, inline: Mapping[str, Any]) -> bytes:
    """The digest of all that a call tells an object; `inline` are the links that go with its fields."""
    fields = {
        name: [each.value, each.write] if each.default is None else [each.value, each.write, each.default]
        for name, each in planned.fields.items()
    }
    return digest_of([dict(planned.key), fields, inline])


def shown(chosen: Chosen, present: Present) -> dict[str, Mark]:
    """The marks of fields that an object holds already as they are chosen."""
    return {
        name: mark
        for name, mark in chosen.marks.items()
        if name not in chosen.fields or (name in present and _same(present[name], chosen.fields[name]))
    }


def maybe(planned: PlannedObject, fields: Mapping[str, Any]) -> dict[str, Mark]:
    """The marks of a new object that is being sent: what it will show, if it comes to be, nobody edited."""
    return {
        name: Mark("", NOTHING + digest_of(value))
        for name, value in fields.items()
        if name in planned.fields and planned.fields[name].write is Write.UNLESS_EDITED
    }


def unsure(remembered: Remembered, planned: PlannedObject, fields: Mapping[str, Any]) -> Remembered:
    """An object to which fields are being sent: until that is answered, it holds them or what it held."""
    marks = {
        name: Mark(mark.event, either(mark.digest, fields[name])) if name in fields else mark
        for name, mark in remembered.marks.items()
    }
    # What was never sent before was empty.
    return Remembered(remembered.crm_id, b"", {}, maybe(planned, fields) | marks)


def looks(planned: PlannedObject) -> bool:
    """Whether the CRM's present state decides about a field."""
    return any(each.write in LOOKING for each in planned.fields.values())


def settled(planned: PlannedObject, remembered: Remembered, appended: Mapping[str, Sign]) -> bool:
    """Whether an object that was last told the same holds it all: no newer call, nothing left to append."""
    return all(
        name in appended or is_empty(each.value)
        if each.write is Write.APPEND
        else each.write not in _NEWEST
        or name not in remembered.marks
        or sent_last(remembered.marks[name].digest, each.value)
        for name, each in planned.fields.items()
    )


def advanced(remembered: Remembered, planned: PlannedObject, event: str) -> Remembered:
    """The same object after a newer call that said the same; of what it did not say, nothing is newer."""
    marks = {
        name: Mark(max(event, mark.event), mark.digest)
        if name in planned.fields and planned.fields[name].write in _NEWEST
        else mark
        for name, mark in remembered.marks.items()
    }
    return Remembered(remembered.crm_id, remembered.digest, remembered.links, marks)


def for_new(planned: PlannedObject, event: str, *, nulls: bool = False) -> Chosen:
    """A new object gets every field; with `nulls` also those that are to be cleared."""
    fields = {name: each.value for name, each in planned.fields.items() if nulls or each.value is not None}
    appended = {
        name: _sign(each, None)
        for name, each in planned.fields.items()
        if each.write is Write.APPEND and not is_empty(each.value)
    }
    return Chosen(fields, _marks(planned, fields, event, {}), appended)


def for_existing(
    planned: PlannedObject,
    present: Present | None,
    remembered: Remembered | None,
    event: str,
    appended: Mapping[str, Sign],
    *,
    whole: bool,
    doubted: bool = False,
    adding: Mapping[str, Sign] | None = None,
) -> Chosen:
    """The fields that an existing object gets from a call.

    `event` sorts by the call's time, then its key. With `whole` an update replaces all
    fields, so what did not change is `kept`. `doubted`: an attempt may have
    written already, so a text that is there was appended by it; where it is
    known what that sent, by `adding`, that is looked for and not what the call says now.
    """
    choice = _Choice(remembered.marks if remembered is not None else {}, present or {}, event, appended)
    choice.adding = adding or {}
    for name, each in planned.fields.items():
        if each.write is Write.APPEND:
            choice.append(name, each, shared=planned.shared, doubted=doubted)
        elif planned.shared and each.write in _NEWEST:
            choice.newest(name, each)
        else:
            choice.by_policy(name, each)
    marks = _marks(planned, choice.told, event, choice.marks)
    return Chosen(choice.fields, marks, choice.appended, choice.kept(planned) if whole else {})


class _Choice:
    """The fields chosen so far."""

    def __init__(
        self, marks: Mapping[str, Mark], present: Present, event: str, appended: Mapping[str, Sign]
    ) -> None:
        self.marks = dict(marks)
        self.present = present
        self.fields: dict[str, Any] = {}
        self.told: dict[str, Any] = {}
        """What each field holds of ours after this, alone."""
        self._settled: list[str] = []
        self.appended = dict(appended)
        self.adding: Mapping[str, Sign] = {}
        self._event = event
        self._caller = _caller(event)

    def append(self, name: str, each: PlannedField, *, shared: bool, doubted: bool) -> None:
        """Behind what is there, unless this call has told it already."""
        held, sent = self.present.get(name), self.adding.get(name)
        if name in self.appended:
            return
        mark = self.marks.get(name)
        ours = mark is not None and bool(mark.digest) and (not shared or _caller(mark.event) == self._caller)
        if sent is None and ours and not is_empty(each.value):
            # It wrote the field when that was not yet appended to.
            self.appended[name] = _unplaced(_sign(each, held))
            return
        if sent is not None and _stands(sent, each.separator, held):
            # Each call once: what it says by now is not added to what it said then.
            self.appended[name] = sent
        elif not is_empty(each.value):
            sign = _sign(each, held)
            if sent is None and doubted and _stands(_unplaced(sign), each.separator, held):
                self.appended[name] = _unplaced(sign)
            else:
                self.appended[name] = sign
                self.fields[name] = _appended(each, held)
                if is_empty(held) or (mark is not None and holds(held, mark.digest)):
                    self.told[name] = self.fields[name]
                else:
                    # Somebody else's text stands there too: nothing may ever replace that.
                    self.marks.pop(name, None)

    def kept(self, planned: PlannedObject) -> dict[str, Any]:
        """The fields that the CRM holds already, as it holds them."""
        known = {name: planned.fields[name].value for name in self._settled}
        return {**known, **{name: self.present[name] for name in planned.fields if name in self.present}}

    def newest(self, name: str, each: PlannedField) -> None:
        """Written by the newest call."""
        mark = self.marks.get(name)
        if mark is not None and self._event < mark.event:
            return
        if each.write is Write.UNLESS_EDITED and not _untouched(each, mark, self.present.get(name)):
            return
        self._settled.append(name)
        self.told[name] = each.value
        if mark is None or not sent_last(mark.digest, each.value):
            self.fields[name] = each.value

    def by_policy(self, name: str, each: PlannedField) -> None:
        """Written where the policy says so."""
        mark, held = self.marks.get(name), self.present.get(name)
        if _by_policy(each, mark, held):
            self.fields[name] = self.told[name] = each.value
        elif mark is None and not is_empty(held) and _same(held, each.value):
            # It holds what we would send: what a policy of another day takes for ours.
            self.told[name] = each.value


def _untouched(each: PlannedField, mark: Mark | None, held: Any) -> bool:
    """Whether a field still holds what we last sent; an empty one that we never wrote counts as such."""
    if _same(held, each.value):
        return True
    return is_empty(held) if mark is None else holds(held, mark.digest)


def _by_policy(each: PlannedField, mark: Mark | None, held: Any) -> bool:
    """Whether a field of an object that no other call feeds is written."""
    if each.write is Write.CREATE:
        return False
    if each.write is Write.IF_EMPTY:
        return is_empty(held) and not is_empty(each.value)
    if each.write is Write.WHILE_DEFAULT:
        return _is_default(each, mark, held) and not is_empty(each.value)
    if each.write is Write.GREATEST:
        return _greater(each.value, held)
    return each.write is Write.ALWAYS or _untouched(each, mark, held)


def _is_default(each: PlannedField, mark: Mark | None, held: Any) -> bool:
    """Whether a field holds nothing, or the mapping's own default, or what the CRM made of that."""
    if _same(held, each.value):
        return False
    if is_empty(held) or (not is_empty(each.default) and _same(held, each.default)):
        return True
    return mark is not None and sent_last(mark.digest, each.default) and holds(held, mark.digest)


def _caller(event: str) -> str:
    """Which call it is that an event belongs to."""
    return event.partition(" ")[2] or event


def _appended(each: PlannedField, held: Any) -> Any:
    if isinstance(each.value, list):
        had = list(held) if isinstance(held, list) else []
        return [*had, *(item for item in each.value if item not in had)]
    return as_text(each.value) if is_empty(held) else f"{as_text(held)}{each.separator}{as_text(each.value)}"


def _sign(each: PlannedField, held: Any) -> Sign:
    """What a value is known by that is added to what a field holds."""
    if isinstance(each.value, list):
        return -1, len(each.value), b"".join(map(digest_of, each.value))
    text = _lines(as_text(each.value)).strip()
    sign = (0, len(text), digest_of(text))
    return (_times(sign, each.separator, held), *sign[1:])


def _unplaced(sign: Sign) -> Sign:
    """The same of a value of which nobody knows what stood there before: once is enough."""
    return (min(sign[0], 0), *sign[1:])


def _stands(sign: Sign, separator: str, held: Any) -> bool:
    """Whether a value was added already: it stands there once more than before."""
    before, _, digest = sign
    if before < 0:
        there = set(map(digest_of, held)) if isinstance(held, list) else set()
        return all(digest[at : at + _DIGEST] in there for at in range(0, len(digest), _DIGEST))
    return _times(sign, separator, held) > before


def _times(sign: Sign, separator: str, held: Any) -> int:
    """How often a text stands in another one, between separators."""
    _, size, digest = sign
    text, around = _lines(as_text(held)).strip(), _lines(separator)
    starts = [0, *(found.end() for found in re.finditer(f"(?={re.escape(around)})", text))]
    times = 0
    for number, start in enumerate(starts):
        begin = start + len(around) if number else 0
        end = begin + size
        ends_there = end == len(text) or (end < len(text) and text.startswith(around, end))
        times += ends_there and digest_of(text[begin:end]) == digest
    return times


def _lines(text: str) -> str:
    # CRMs change the ends of lines.
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _greater(value: Any, held: Any) -> bool:
    if is_empty(value):
        return False
    if is_empty(held):
        return True
    try:
        return float(value) > float(held)
    except (TypeError, ValueError):
        return as_text(value) > as_text(held)


def _same(held: Any, value: Any) -> bool:
    return held == value or as_text(held) == as_text(value) or (is_empty(held) and is_empty(value))


def _marks(
    planned: PlannedObject, told: Mapping[str, Any], event: str, before: Mapping[str, Mark]
) -> dict[str, Mark]:
    """What is known of an object's fields after they were told.

    Kept under every policy, for the mapping may have another one tomorrow. Of an object that one call
    feeds alone nobody asks which call wrote it, and of what is written without a look little is kept.
    """
    marks = dict(before)
    for name, value in told.items():
        full = planned.shared or planned.fields[name].write is Write.UNLESS_EDITED
        if full:
            marks[name] = Mark(event, digest_of(value))
        elif not is_empty(value):
            marks[name] = Mark("", short_of(value))
        else:
            marks.pop(name, None)
    return marks
