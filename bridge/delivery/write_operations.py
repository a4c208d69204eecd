"""How an object is written: created, updated, or upserted where the CRM has an upsert of its own.

Each operation returns that the object is `Synced`, or which operation comes next: a create that the CRM
refuses as a duplicate becomes an update, an update of what is gone becomes a look-up for its successor.
"""

import msgspec
from msgspec.structs import replace

from bridge.delivery.crm_requests import Fields, RequestFlow
from bridge.delivery.doubt_settler import DoubtSettler
from bridge.delivery.duplicate_resolver import DuplicateResolver
from bridge.delivery.field_selection import (
    FieldSelection,
    ObjectView,
    held_already,
    needs_lookup,
    select_for_existing,
    select_for_new,
)
from bridge.delivery.job_poller import JobPoller
from bridge.delivery.lookup import FoundObject, Lookup
from bridge.delivery.object_context import ObjectContext, parking_error
from bridge.delivery.step_runner import StepRunner, Synced
from bridge.lib.errors import Deleted, Duplicate, Gone, Permanent
from bridge.model.crm_objects import KnownObject
from bridge.model.failures import NO_LONGER_THERE
from bridge.model.field_policies import ShapeMismatch
from bridge.model.sync_progress import Running, SyncMethod

NOTHING_THERE = (
    "The CRM has no such place: check base_url and the connector's paths. Where they are right, what it is"
    " linked to was deleted in the CRM"
)


class Create(msgspec.Struct, frozen=True):
    """Create the object; `then_update` where the call has changed since its first step was sent."""

    then_update: bool = False


class Update(msgspec.Struct, frozen=True):
    """Update the object with this id; `present` are its fields, None where they were not read yet."""

    crm_id: str
    present: Fields | None = None


class Upsert(msgspec.Struct, frozen=True):
    """Send the CRM's own upsert."""


class Replace(msgspec.Struct, frozen=True):
    """The object with this id is gone: a person deleted or merged it."""

    gone: str


Operation = Create | Update | Upsert | Replace
OperationResult = Synced | Operation


class SyncParts:
    """The parts that all operations on one object share."""

    def __init__(self, context: ObjectContext) -> None:
        self.context = context
        self.lookup = Lookup(context)
        self.jobs = JobPoller(context, self.lookup)
        self.doubts = DoubtSettler(context, self.jobs)
        self.duplicates = DuplicateResolver(context, self.lookup)
        self.steps = StepRunner(context, self.lookup, self.jobs)


class _WriteOperation:
    """What the operations that write have in common."""

    def __init__(self, parts: SyncParts) -> None:
        self._parts = parts
        self._context = parts.context
        self._journal = parts.context.journal
        self._lookup = parts.lookup

    def _unchanged(self, crm_id: str, selection: FieldSelection) -> Synced:
        """The object is in its planned state already; what an earlier attempt began is dropped."""
        self._journal.set(replace(self._journal.progress.restarted(), appended=selection.appended))
        return Synced(crm_id, selection)


class Creator(_WriteOperation):
    """Creates the object."""

    def run(self, operation: Create) -> RequestFlow[OperationResult]:
        """Create the object, or find the record that the CRM says it is a duplicate of."""
        context, journal = self._context, self._journal
        selection = select_for_new(context.planned, context.event)
        try:
            synced = yield from self._parts.steps.run(SyncMethod.CREATE, selection)
        except Gone as error:
            error.says = error.says or NOTHING_THERE
            raise
        except Duplicate as error:
            if journal.progress.steps_done > 0:
                raise
            journal.restart()
            found = yield from self._parts.duplicates.find(error)
            if found is None:
                raise self._parts.duplicates.not_seen(error) from error
            return Update(found.id, found.present)
        return Update(synced.crm_id) if operation.then_update else synced


class Updater(_WriteOperation):
    """Updates an object that is there."""

    def run(self, operation: Update) -> RequestFlow[OperationResult]:
        """Send the fields that the write policies choose, if any."""
        crm_id, present = operation.crm_id, operation.present
        self._journal.keep_if(crm_id)
        if present is None and self._lookup.reads_fields:
            found = yield from self._read(crm_id)
            if found is None:
                return Replace(crm_id)
            # The key may be another object's now, because a person merged or exchanged them.
            crm_id, present = found.id, found.present
            self._journal.keep_if(crm_id)
        selection = select_fields(self._context, present)
        if self._journal.may_have_arrived and self._journal.known_id is None:
            # Values of ours that the object shows are noted as ours now, in case the rest is refused.
            before = self._journal.known.last_writes if self._journal.known is not None else {}
            held = held_already(selection, present or {})
            self._journal.known = KnownObject(crm_id, last_writes={**before, **held})
        if self._is_done(selection):
            return self._unchanged(crm_id, selection)
        try:
            return (yield from self._parts.steps.run(SyncMethod.UPDATE, selection, crm_id))
        except Gone:
            if self._context.inline:
                # An object that it links to may be gone, and not the object itself.
                found = yield from self._lookup.read(crm_id)
                if found is not None and found.id == crm_id:
                    raise
            return Replace(crm_id)

    def _read(self, crm_id: str) -> RequestFlow[FoundObject | None]:
        """The object as the CRM holds it; None: it is gone, or was merged into another person's record."""
        found = yield from self._lookup.read(crm_id)
        if found is None and self._context.kind.read is None:
            self._parts.doubts.believe_absent(crm_id)
        if found is not None and found.id != crm_id and self._lookup.has_key(found) is False:
            return None
        return found

    def _is_done(self, selection: FieldSelection) -> bool:
        context, state = self._context, self._journal.progress.state
        is_begun = isinstance(state, Running) and state.continues(SyncMethod.UPDATE, context.sent_digest)
        return not selection.fields and not is_begun and not (context.kind.update and links_changed(context))


class Upserter(_WriteOperation):
    """Sends the CRM's own upsert."""

    def run(self) -> RequestFlow[Synced]:
        """Send what the write policies choose, if any, after a look-up where they need one.

        Raises:
            Permanent: a policy needs a look-up, and the connector has none.
        """
        context, planned = self._context, self._context.planned
        crm_id = self._journal.progress.crm_id or self._journal.known_id
        present: Fields | None = None
        if self._lookup.reads_fields or needs_lookup(planned, upserts=True):
            found = yield from self._look(crm_id)
            if found is None:
                crm_id, selection = None, select_for_new(planned, context.event)
            else:
                crm_id, present = found.id or crm_id, found.present
                selection = select_fields(context, present)
        elif planned.shared:
            selection = select_fields(context, None)
        else:
            selection = select_for_new(planned, context.event, nulls=True)
        is_known = crm_id is not None or present is not None
        if is_known and self._is_done(selection):
            return self._unchanged(crm_id or planned.key_text, selection)
        try:
            return (yield from self._parts.steps.run(SyncMethod.UPSERT, selection, crm_id))
        except Gone as error:
            if not is_known:
                error.says = error.says or NOTHING_THERE
            raise

    def _is_done(self, selection: FieldSelection) -> bool:
        state = self._journal.progress.state
        is_begun = isinstance(state, Running) and state.method is SyncMethod.UPSERT and state.step > 0
        return not selection.fields and not is_begun and not links_changed(self._context)

    def _look(self, crm_id: str | None) -> RequestFlow[FoundObject | None]:
        """The object as the CRM holds it; if it was there and is gone, a person has deleted it."""
        kind = self._context.kind
        if not kind.find and kind.read is None:
            raise Permanent(
                f"{self._context.label}: the connector cannot read it, so only `always` can be written"
            )
        found = yield from (self._lookup.find() if kind.find else self._lookup.read(crm_id))
        known_id = self._journal.known_id
        if found is None and known_id is not None:
            if kind.find:
                self._parts.doubts.believe_absent(crm_id)
            forget_deleted(self._context, known_id)
        return found


def select_fields(context: ObjectContext, present: Fields | None) -> FieldSelection:
    """The fields that an object gets which is there; `present` is what the CRM holds, None: not looked up.

    Raises:
        Permanent: a field is shown in a shape that its policy can neither compare nor add to.
    """
    journal = context.journal
    in_doubt = journal.may_have_arrived or journal.may_hold_ours
    try:
        view = ObjectView(present, journal.known, journal.progress.appended, journal.progress.adding)
        selection = select_for_existing(
            context.planned, view, context.event, whole=context.kind.whole, in_doubt=in_doubt
        )
    except ShapeMismatch as error:
        raise _cannot_read(context, error) from error
    if (in_doubt or journal.progress.adding) and present is not None:
        # What the object holds already is not appended again, even if the rest is refused.
        there = {name: each for name, each in selection.appended.items() if name not in selection.fields}
        journal.set(replace(journal.progress, appended=there))
    return selection


def _cannot_read(context: ObjectContext, error: ShapeMismatch) -> Permanent:
    """The failure of a field in a shape that the connector does not say how to read: nothing is guessed."""
    field, write = error.field, context.planned.fields[error.field].write
    message = f"{context.label}, field {field}: the CRM shows {error.shape} there"
    return parking_error(
        f"{context.label}, field {field}",
        f"{message}, to which {write} can compare or add nothing",
        f"the CRM shows {error.shape} there",
        f"Say in the connector how it is read: objects.{context.planned.type}.read_as = {{ {field} ="
        f' "{{{{ value… }}}}" }}, or write it by another policy than {write}; then retry',
    )


def links_changed(context: ObjectContext) -> bool:
    """Whether the links that travel among the fields differ from those that were last sent."""
    known = context.journal.known
    before = known.links if known is not None else {}
    return any(before.get(link) != to["id"] for link, to in context.inline.items())


def forget_deleted(context: ObjectContext, gone: str) -> None:
    """Forget an object that a person deleted, so that it is created again: with `on_deleted = "recreate"`.

    Raises:
        Deleted: the mapping does not.
    """
    context.journal.forget()
    if context.planned.on_deleted == "park":
        raise parking_error(
            context.label,
            f"{context.label}: {gone} is no longer in the CRM, nor another with this key",
            NO_LONGER_THERE,
            'If somebody deleted it, skip the delivery, or say on_deleted = "recreate" in the mapping and'
            " retry. If the CRM was emptied or restored, callbridge replay --force makes all again",
            Deleted,
        )
