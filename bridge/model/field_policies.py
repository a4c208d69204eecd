"""Write policies: when a field of an object that exists already is written. One class for each `WritePolicy`.

A class holds all that its policy decides: what is sent, whether the CRM is looked at before, what the mapping
must say beside it, and the words of a preview. New objects get every field, whatever its policy.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from bridge.model.appending import fingerprint_of, standing_anywhere, was_added, with_added
from bridge.model.crm_alterations import (
    CERTAIN_SHAPES,
    is_greater,
    probably_altered,
    same,
    surely_altered,
    unordered_shape,
    unreadable_shape,
)
from bridge.model.crm_objects import FieldWrite, Fingerprint
from bridge.model.field_digests import alteration_of, holds, is_empty, sent_last, unsettled
from bridge.model.plan import PlannedField
from bridge.model.write_policy import WritePolicy


class ShapeMismatch(Exception):
    """The CRM shows a field in a shape that its policy can neither compare nor add to."""

    def __init__(self, field: str, shape: str) -> None:
        super().__init__(f"field {field} is shown as {shape}")
        self.field = field
        self.shape = shape


class SendingCall(msgspec.Struct, frozen=True):
    """The call whose fields are sent to an object; `event` sorts by its time, then by its key."""

    event: str
    shared: bool
    """Whether other calls feed the object too."""
    in_doubt: bool = False
    """Whether an earlier attempt may have written already."""

    def wrote(self, last_write: FieldWrite) -> bool:
        """Whether this very call wrote a field last, perhaps under another time."""
        return not self.shared or _call_key(last_write.event) == _call_key(self.event)


# A Struct, because one is made for every field that is sent: a frozen dataclass takes five times as long.
class FieldView(msgspec.Struct, frozen=True):
    """One field before anything is sent: what the call says, what the CRM holds, what was sent last."""

    name: str
    field: PlannedField
    held: Any
    """What the CRM shows; None where it shows nothing, or was not looked at."""
    last_write: FieldWrite | None
    call: SendingCall
    is_added: bool = False
    """Whether this call has added its value to the field."""
    adding: Fingerprint | None = None
    """What this call may have added to it."""

    @property
    def holds_last_write(self) -> bool:
        """Whether the CRM still holds what was sent last."""
        return self.last_write is not None and holds(self.held, self.last_write.digest)


class FieldChoice(msgspec.Struct, frozen=True):
    """What becomes of one field. The default: it is left as it is."""

    value: Any = None
    send: bool = False
    """Whether `value` is sent."""
    is_ours: bool = False
    """Whether the field then holds `value`, and nothing that others wrote: it is noted as our last write."""
    goes_along: bool = False
    """Whether `value` is there already, and goes along where an update replaces all fields."""
    added: Fingerprint | None = None
    """The fingerprint of the value that is added, by which later attempts recognise it."""
    altered: tuple[Any, str] | None = None
    """What the CRM shows in place of what was sent, and the letter of its `Alteration`."""
    is_mixed: bool = False
    """Whether others' text stands there beside ours: nothing may ever replace it."""


LEFT_ALONE = FieldChoice()


class FieldPolicy(ABC):
    """When a field of an object that exists already is written."""

    policy: ClassVar[WritePolicy]
    written: ClassVar[str]
    """When it is written, in the words of a preview."""
    newest_wins: ClassVar[bool] = False
    """Whether the newest of the calls that feed a shared object writes it, however late the others come."""
    can_clear: ClassVar[bool] = False
    """Whether it is sent where the call has no value, so that `missing = "null"` clears the field."""
    takes_separator: ClassVar[bool] = False
    needs_default: ClassVar[bool] = False
    spots_edits: ClassVar[bool] = False
    """Whether a person's edit must be told from what the CRM made of our value.

    Then all 8 bytes of a digest are kept, not 3, and the field is read back after it is sent.
    """
    asks_only_if_empty: ClassVar[bool] = False
    """Whether any shape will do in which a CRM shows that something is there."""

    def needs_lookup(self, *, upserts: bool) -> bool:
        """Whether the CRM is looked at before anything is sent; `upserts`: it finds or creates by itself."""
        del upserts
        return True

    def added_to_new(self, field: PlannedField) -> Fingerprint | None:
        """What is added to the field of a new object; None: the value is set, and not added."""
        del field
        return None

    def is_settled(self, field: PlannedField, last_write: FieldWrite | None, *, is_added: bool) -> bool:
        """Whether a field needs no request, where the object was last sent exactly what the call says now."""
        del field, last_write, is_added
        return True

    @abstractmethod
    def choose(self, view: FieldView) -> FieldChoice:
        """What becomes of a field.

        Raises:
            ShapeMismatch: what the CRM shows can be neither compared nor added to.
        """

    def shape_mismatch(self, field: PlannedField, held: Any) -> str:
        """What is wrong with the shape in which a CRM shows a field; empty: nothing."""
        return unreadable_shape(field.value, held, only_presence=self.asks_only_if_empty)

    def _refuse_mismatch(self, view: FieldView) -> None:
        if shape := self.shape_mismatch(view.field, view.held):
            raise ShapeMismatch(view.name, shape)


def _sent(view: FieldView) -> FieldChoice:
    return FieldChoice(view.field.value, send=True, is_ours=True)


def _not_sent(view: FieldView) -> FieldChoice:
    """Left as it is; where it holds what we would send anyway, it is noted as ours for later policies."""
    value = view.field.value
    if view.last_write is None and not is_empty(view.held) and same(view.held, value):
        return FieldChoice(value, is_ours=True)
    return LEFT_ALONE


class _NewestWins(FieldPolicy):
    """Of several calls that feed a shared object the newest writes the field."""

    newest_wins = True
    can_clear = True

    def is_settled(self, field: PlannedField, last_write: FieldWrite | None, *, is_added: bool) -> bool:
        del is_added
        return last_write is None or sent_last(last_write.digest, field.value)

    def _is_older(self, view: FieldView) -> bool:
        last_write, call = view.last_write, view.call
        return call.shared and last_write is not None and call.event < last_write.event

    def _written(self, view: FieldView) -> FieldChoice:
        """Sent, unless a shared object was last sent the same: then only its event is noted."""
        if not view.call.shared:
            return _sent(view)
        last_write, value = view.last_write, view.field.value
        differs = last_write is None or not sent_last(last_write.digest, value)
        return FieldChoice(value, send=differs, is_ours=True, goes_along=True)


class Always(_NewestWins):
    """Written whenever it differs from what was sent last."""

    policy = WritePolicy.ALWAYS
    written = "whenever it differs from what was sent last"

    def needs_lookup(self, *, upserts: bool) -> bool:
        """Never: it is decided by what was sent last."""
        del upserts
        return False

    def choose(self, view: FieldView) -> FieldChoice:
        """Send the value, unless a newer call has written the field, or it was last sent the same."""
        return LEFT_ALONE if self._is_older(view) else self._written(view)


class UnlessEdited(_NewestWins):
    """Written while the CRM still holds what was sent last, or what it made of that."""

    policy = WritePolicy.UNLESS_EDITED
    written = "only while the CRM still holds what was sent last"
    spots_edits = True

    def choose(self, view: FieldView) -> FieldChoice:
        """Send the value unless a person has edited the field since the last write."""
        if self._is_older(view):
            return LEFT_ALONE
        if same(view.held, view.field.value) or view.holds_last_write:
            return self._written(view)
        if view.last_write is None:
            # An empty field that we never wrote counts as not edited.
            shape = self.shape_mismatch(view.field, view.held)
            if shape and shape not in CERTAIN_SHAPES:
                raise ShapeMismatch(view.name, shape)
            return self._written(view) if is_empty(view.held) else LEFT_ALONE
        kind = self._alteration(view, view.last_write)
        if kind is None:
            self._refuse_mismatch(view)
            return LEFT_ALONE
        return msgspec.structs.replace(self._written(view), altered=(view.held, kind))

    def _alteration(self, view: FieldView, last_write: FieldWrite) -> str | None:
        """What the CRM made of the value that we sent; None: a person may have written what it shows."""
        value = view.field.value
        if unsettled(last_write.digest, value):
            # This is the first look after a write whose answer was lost.
            return probably_altered(value, view.held)
        if sent_last(last_write.digest, value) and not alteration_of(last_write.digest):
            return surely_altered(value, view.held)
        return None


class OnCreate(FieldPolicy):
    """Written only with a new object."""

    policy = WritePolicy.CREATE
    written = "only with a new object"

    def needs_lookup(self, *, upserts: bool) -> bool:
        """Only where the CRM upserts: else it is known whether the object is new."""
        return upserts

    def choose(self, view: FieldView) -> FieldChoice:
        """Leave the field as it is."""
        return _not_sent(view)


class _Comparing(FieldPolicy):
    """Written where the CRM's value compares in some way with ours; an empty value never is."""

    def choose(self, view: FieldView) -> FieldChoice:
        if is_empty(view.field.value):
            return _not_sent(view)
        if not view.holds_last_write:
            self._refuse_mismatch(view)
        return _sent(view) if self._writes(view) else _not_sent(view)

    @abstractmethod
    def _writes(self, view: FieldView) -> bool:
        """Whether a value that is not empty is written over what the CRM holds."""


class IfEmpty(_Comparing):
    """Written only while the CRM holds nothing there."""

    policy = WritePolicy.IF_EMPTY
    written = "only while the CRM holds nothing there"
    asks_only_if_empty = True

    def _writes(self, view: FieldView) -> bool:
        return is_empty(view.held)


class WhileDefault(_Comparing):
    """Written while the CRM holds nothing there, or still the mapping's own default."""

    policy = WritePolicy.WHILE_DEFAULT
    written = "only while the CRM holds nothing there, or still the mapping's own default"
    needs_default = True
    asks_only_if_empty = True

    def _writes(self, view: FieldView) -> bool:
        held, default, last_write = view.held, view.field.default, view.last_write
        if same(held, view.field.value):
            return False
        if is_empty(held) or same(held, default):
            return True
        if last_write is None or not sent_last(last_write.digest, default):
            return False
        # What the CRM made of the default that we sent.
        return view.holds_last_write or probably_altered(default, held) is not None


class Greatest(_Comparing):
    """Written only where it is greater than what the CRM holds: by number, by moment, else by text."""

    policy = WritePolicy.GREATEST
    written = "only where it is greater than what the CRM holds"

    def shape_mismatch(self, field: PlannedField, held: Any) -> str:
        """What the CRM shows that is neither greater nor less than our value; empty: it can be compared."""
        return super().shape_mismatch(field, held) or unordered_shape(field.value, held)

    def _writes(self, view: FieldView) -> bool:
        return is_greater(view.field.value, view.held)


class Append(FieldPolicy):
    """Added behind what the CRM holds, once for each call."""

    policy = WritePolicy.APPEND
    written = "behind what the CRM holds, once for each call"
    takes_separator = True

    def added_to_new(self, field: PlannedField) -> Fingerprint | None:
        """The fingerprint of the value, so that a later attempt finds it in the field."""
        return None if is_empty(field.value) else fingerprint_of(field, None)

    def is_settled(self, field: PlannedField, last_write: FieldWrite | None, *, is_added: bool) -> bool:
        """Whether this call has added its value already."""
        del last_write
        return is_added or is_empty(field.value)

    def choose(self, view: FieldView) -> FieldChoice:
        """Add the value behind what the CRM holds, unless this call has added one before."""
        field, held, adding, last_write = view.field, view.held, view.adding, view.last_write
        if view.is_added:
            return LEFT_ALONE
        has_value = not is_empty(field.value)
        wrote = last_write is not None and bool(last_write.digest) and view.call.wrote(last_write)
        if adding is None and has_value and wrote:
            # This call wrote the field while the mapping had another policy: it is not added a second time.
            return FieldChoice(added=standing_anywhere(fingerprint_of(field, held)))
        if adding is not None and was_added(adding, field.separator, held):
            # A call adds once: its changed text is not added to the one that it added before.
            return FieldChoice(added=adding)
        return self._added(view) if has_value else LEFT_ALONE

    def _added(self, view: FieldView) -> FieldChoice:
        """Added, unless an attempt in doubt has done so already."""
        self._refuse_mismatch(view)
        field, held = view.field, view.held
        fingerprint = fingerprint_of(field, held)
        somewhere = standing_anywhere(fingerprint)
        if view.adding is None and view.call.in_doubt and was_added(somewhere, field.separator, held):
            return FieldChoice(added=somewhere)
        is_ours = is_empty(held) or view.holds_last_write
        return FieldChoice(
            with_added(field, held), send=True, is_ours=is_ours, added=fingerprint, is_mixed=not is_ours
        )


_WORDS = frozenset(WritePolicy)
_CLASSES = (Always(), OnCreate(), IfEmpty(), UnlessEdited(), Append(), Greatest(), WhileDefault())
POLICIES: Mapping[WritePolicy, FieldPolicy] = {each.policy: each for each in _CLASSES}


def policy_named(word: object) -> FieldPolicy | None:
    """The policy of a mapping's `write`; None: there is none of such a name."""
    return POLICIES.get(WritePolicy(word)) if isinstance(word, str) and word in _WORDS else None


def _call_key(event: str) -> str:
    """The call's key in an event, which is its time, a space, and its key."""
    return event.partition(" ")[2] or event
