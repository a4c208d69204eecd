"""One object's way into a CRM: found, created or updated; once, whatever is lost on the way.

A way is a generator: it yields what it would ask, and is sent the reply or thrown the fault.
So one driver can ask for one call alone, and another for many calls together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from bridge.crm.connector import ObjectType
from bridge.crm.connector.steps import Step, captured_by
from bridge.delivery.duplicate_resolver import DuplicateResolver
from bridge.delivery.job_poller import JobPoller
from bridge.delivery.lookup import FoundObject, Lookup, ObjectJournal, RequestFlow, Setting, refuse_doubt
from bridge.delivery.step_runner import StepRunner
from bridge.delivery.write_policy import (
    FieldSelection,
    Present,
    ShapeMismatch,
    select_for_existing,
    select_for_new,
    shown,
)
from bridge.lib.errors import Deleted, Duplicate, Gone, InDoubt, Permanent, Transient
from bridge.model.crm_state import AGAIN, CrmState, Progress
from bridge.model.failures import NO_LONGER_THERE
from bridge.model.plan import PlannedObject

NOTHING_THERE = (
    "The CRM has no such place: check base_url and the connector's paths. Where they are right, what it is"
    " linked to was deleted in the CRM"
)
_LOOK = "look"
"""The way of a look-up that found nothing, and that counts only once the index has caught up."""


class ObjectSync:
    """The way of one object."""

    def __init__(
        self,
        setting: Setting,
        kind: ObjectType,
        planned: PlannedObject,
        inline: Mapping[str, Any],
        remembered: CrmState | None,
        progress: Progress,
        told: bytes,
    ) -> None:
        self._setting = setting
        self._kind = kind
        self._planned = planned
        self._inline = inline
        self._remembered = remembered
        self._told = told
        self._journal = ObjectJournal(setting.journal, planned.name, progress)
        self._what = f"object {planned.name}"
        self._looking = Lookup(kind, planned)
        self._job = JobPoller(setting, kind, planned, self._looking, self._journal)
        self._steps = StepRunner(
            setting, kind, planned, inline, told, journal=self._journal, looking=self._looking, job=self._job
        )
        # What was sent may have been processed already.
        self._doubted = progress.sent_at is not None and progress.way in ("create", "update", "upsert")
        # What a replay made us forget may be there all the same.
        self._forgotten = progress.way in (AGAIN, _LOOK) or (remembered is not None and not remembered.crm_id)
        # A create that was begun leaves marks of no event: that is looked up in its own way.
        self._left_unknown = progress.way in (AGAIN, _LOOK) or (
            self._forgotten
            and remembered is not None
            and all(each.event for each in remembered.last_writes.values())
        )
        self._looked_for_another = False
        self._gone: set[str] = set()
        """What the CRM said is not there, within this try."""
        self._duplicates = DuplicateResolver(setting, kind, planned, self._looking, self._journal, self._gone)

    @property
    def _progress(self) -> Progress:
        return self._journal.progress

    @property
    def _known_id(self) -> str | None:
        """Where it was left; a memory without an id only knows who wrote which field."""
        return (self._remembered.crm_id or None) if self._remembered is not None else None

    def go(self) -> RequestFlow[tuple[str, FieldSelection]]:
        """Take it; the CRM's id of the object, and what was chosen to be sent."""
        if self._progress.polled:
            yield from self._job.follow()
            self._doubted = self._progress.sent_at is not None
        if self._progress.way == "create":
            return (yield from self._go_on_creating())
        if self._doubted:
            self._settle_doubt(self._progress)
        crm_id = self._progress.crm_id or self._known_id
        if self._kind.upsert and (crm_id is None or not self._kind.update or self._progress.way == "upsert"):
            return (yield from self._upsert())
        if crm_id is not None:
            return (yield from self._update(crm_id, None))
        found = yield from self._looking.find()
        if found is None:
            if self._left_unknown:
                # It may have been made just now, by this call or by another one.
                self._believe_absent(None)
            return (yield from self._create())
        return (yield from self._update(found.id, found.present))

    def verify(self) -> RequestFlow[tuple[str, FieldSelection] | None]:
        """Something is gone in the CRM: None where it is not this object, else what came in its place."""
        assert self._remembered is not None  # noqa: S101 -- it was brought about before
        if self._kind.read is None and not self._kind.find:
            return None
        gone = self._remembered.crm_id
        found = yield from self._looking.read(gone)
        if found is not None and found.id == gone:
            return None
        if not self._kind.upsert:
            return (yield from self._replaced(gone))
        self._park_deleted(gone)
        return (yield from self._upsert())

    # -- what is in doubt -----------------------------------------------------------
    def _settle_doubt(self, progress: Progress) -> None:
        """An update or upsert of which nothing is known: whether it may be sent again, and when."""
        steps = self._kind.steps_of(progress.way)
        if progress.step >= len(steps):
            # All was processed; only its id is missing.
            return
        if not steps[progress.step].request.idempotent and not self._kind.shows(progress.way, progress.step):
            self._believe_person(progress)
            return
        self._job.wait(progress)
        if self._kind.read is None or not steps[progress.step].request.idempotent:
            self._wait_for_index(progress)

    def _believe_person(self, progress: Progress) -> None:
        """Nothing can look: a step is sent again only where a person says that it did not arrive."""
        refuse_doubt(self._planned, progress)
        self._set(replace(progress, sent_at=None, absent=False))

    def _wait_for_index(self, progress: Progress) -> None:
        since: datetime = progress.sent_at or self._setting.clock()
        wait = (since + self._kind.index_lag - self._setting.clock()).total_seconds()
        if wait > 0:
            raise Transient(
                f"{self._what}: in doubt; a look-up counts only after the index has caught up",
                cause="in doubt until the index has caught up",
                retry_after=wait,
            )

    # -- the CRM's own upsert -------------------------------------------------------
    def _upsert(self) -> RequestFlow[tuple[str, FieldSelection]]:
        crm_id = self._progress.crm_id or self._known_id
        present: Present | None = None
        if self._looking.reads_fields or self._creates_only():
            found = yield from self._look(crm_id)
            if found is None:
                crm_id, chosen = None, select_for_new(self._planned, self._setting.event)
            else:
                crm_id, present = found.id or crm_id, found.present
                chosen = self._chosen(present)
        elif self._planned.shared:
            chosen = self._chosen(None)
        else:
            chosen = select_for_new(self._planned, self._setting.event, nulls=True)
        known = crm_id is not None or present is not None
        rereads = self._progress.way == "upsert" and self._progress.step > 0
        if known and not chosen.fields and not self._links_changed() and not rereads:
            self._set(Progress(appended=chosen.appended))
            return crm_id or self._planned.key_text, chosen
        try:
            return (yield from self._sent("upsert", self._kind.upsert, chosen, crm_id))
        except Gone as error:
            if not known:
                error.says = error.says or NOTHING_THERE
            raise

    def _creates_only(self) -> bool:
        return any(each.write == "create" for each in self._planned.fields.values())

    def _look(self, crm_id: str | None) -> RequestFlow[FoundObject | None]:
        """The object as the CRM holds it; one that we left there and that is gone was deleted by a person."""
        if not self._kind.find and self._kind.read is None:
            raise Permanent(f"{self._what}: the connector cannot read it, so only `always` can be written")
        found = yield from (self._looking.find() if self._kind.find else self._looking.read(crm_id))
        if found is None and self._known_id is not None:
            if self._kind.find:
                self._believe_absent(crm_id)
            self._park_deleted(self._known_id)
        return found

    # -- find, create, update -------------------------------------------------------
    def _go_on_creating(self) -> RequestFlow[tuple[str, FieldSelection]]:
        """A create that was begun before: what is in doubt is looked up first."""
        progress = self._progress
        if progress.sent_at is None or progress.step >= len(self._kind.create):
            return (yield from self._finish_creating())
        if not self._kind.shows("create", progress.step):
            self._believe_person(progress)
            return (yield from self._finish_creating())
        if self._job.poll_of(progress) is None:
            self._wait_for_index(progress)
        found = yield from self._looking.find()
        if found is None:
            self._job.wait(progress)
            self._set(Progress())
            return (yield from self._create())
        if len(self._kind.create) > 1:
            self._take_up(progress, found)
            return (yield from self._finish_creating())
        self._set(Progress(crm_id=found.id, adding=progress.adding))
        return (yield from self._update(found.id, found.present))

    def _take_up(self, progress: Progress, found: FoundObject) -> None:
        """The first step was processed: the others go on with what a look-up tells of its answer."""
        first, *others = self._kind.create
        named = first.id.text if first.id is not None else None
        captured = {name: found.id for name, pick in first.capture.items() if pick.text == named}
        lost = {name for step in others for name in captured_by(step)} & {
            *first.capture,
            *(first.poll.capture if first.poll is not None else ()),
        } - captured.keys()
        if lost:
            self._set(Progress(crm_id=found.id))
            error = InDoubt(
                f"{self._what}, create: found as {found.id}, but its answer was lost, and later steps need"
                f" {', '.join(sorted(lost))} of it. Finish it in the CRM, then retry",
                cause=f"{self._what}, create: the answer that later steps need was lost",
            )
            error.says = "Finish it in the CRM, then retry"
            raise error
        self._set(replace(progress, step=1, captured=captured, crm_id=found.id, sent_at=None))

    def _finish_creating(self) -> RequestFlow[tuple[str, FieldSelection]]:
        """The steps that are left; where the call changed since the first of them, an update behind."""
        outdated = self._progress.step > 0 and self._progress.told != self._told
        crm_id, chosen = yield from self._create()
        return (yield from self._update(crm_id, None)) if outdated else (crm_id, chosen)

    def _create(self) -> RequestFlow[tuple[str, FieldSelection]]:
        chosen = select_for_new(self._planned, self._setting.event)
        try:
            return (yield from self._sent("create", self._kind.create, chosen))
        except Gone as error:
            error.says = error.says or NOTHING_THERE
            raise
        except Duplicate as error:
            if self._progress.step > 0:
                raise
            self._set(Progress(appended=self._progress.appended))
            found = yield from self._duplicates.find(error)
            if found is None:
                raise self._duplicates.not_seen(error) from error
            return (yield from self._update(found.id, found.present))

    def _update(self, crm_id: str, present: Present | None) -> RequestFlow[tuple[str, FieldSelection]]:
        self._keep_to(crm_id)
        if present is None and self._looking.reads_fields:
            found = yield from self._looking.read(crm_id)
            if found is None and self._kind.read is None:
                self._believe_absent(crm_id)
            # Merged into another person's record it is not ours any more.
            if found is None or (found.id != crm_id and self._looking.has_key(found) is False):
                return (yield from self._replaced(crm_id))
            # Perhaps another has this key now: a person merged or exchanged them.
            crm_id, present = found.id, found.present
            self._keep_to(crm_id)
        chosen = self._chosen(present)
        if self._doubted and self._known_id is None:
            # What it shows of ours is ours, though the rest may be refused.
            last_writes = self._remembered.last_writes if self._remembered is not None else {}
            self._remembered = CrmState(crm_id, last_writes={**last_writes, **shown(chosen, present or {})})
        before = self._progress
        begun = before.way == "update" and before.step > 0 and before.told == self._told
        if not chosen.fields and not begun and not (self._kind.update and self._links_changed()):
            self._set(Progress(appended=chosen.appended))
            return crm_id, chosen
        try:
            return (yield from self._sent("update", self._kind.update, chosen, crm_id))
        except Gone:
            if self._inline:
                # Perhaps what it is linked to is gone, and not the object itself.
                found = yield from self._looking.read(crm_id)
                if found is not None and found.id == crm_id:
                    raise
            return (yield from self._replaced(crm_id))

    def _keep_to(self, crm_id: str) -> None:
        """What is known of another object, which a person deleted or replaced, says nothing of this one."""
        if self._known_id not in (None, crm_id):
            self._remembered = None

    def _replaced(self, gone: str) -> RequestFlow[tuple[str, FieldSelection]]:
        """A person deleted or merged the object: it is looked up by its key, once."""
        self._gone.add(gone)
        found = None if self._looked_for_another else (yield from self._looking.by_key())
        self._looked_for_another = True
        if found is not None and found.id != gone:
            self._forget()
            return (yield from self._update(found.id, found.present))
        if found is not None:
            # Made again, it would be there twice; and nobody need have deleted it.
            raise self._duplicates.contradicted(gone)
        self._park_deleted(gone)
        return (yield from (self._upsert() if self._kind.upsert else self._create()))

    def _park_deleted(self, gone: str) -> None:
        """Unless the mapping says that what is no longer there is to be made again."""
        self._forget()
        if self._planned.on_deleted == "park":
            remedy = (
                'If somebody deleted it, skip the delivery, or say on_deleted = "recreate" in the mapping and'
                " retry. If the CRM was emptied or restored, callbridge replay --force makes all again"
            )
            error = Deleted(
                f"{self._what}: {gone} is no longer in the CRM, nor another with this key. {remedy}",
                cause=f"{self._what}: {NO_LONGER_THERE}",
            )
            error.says = remedy
            raise error

    def _forget(self) -> None:
        self._remembered = None
        self._set(Progress(appended=self._progress.appended))

    def _believe_absent(self, crm_id: str | None) -> None:
        """What we left there is not found by its key: that counts only after the index has caught up."""
        progress = self._progress
        if progress.way == _LOOK:
            self._wait_for_index(progress)
        elif self._kind.index_lag:
            now = self._setting.clock()
            progress = Progress(
                _LOOK, crm_id=crm_id, sent_at=now, appended=progress.appended, adding=progress.adding
            )
            self._set(progress)
            self._wait_for_index(progress)

    # -- small things ---------------------------------------------------------------
    def _sent(
        self, way: str, steps: Sequence[Step], chosen: FieldSelection, crm_id: str | None = None
    ) -> RequestFlow[tuple[str, FieldSelection]]:
        return (yield from self._steps.run(way, steps, chosen, crm_id, self._remembered))

    def _chosen(self, present: Present | None) -> FieldSelection:
        try:
            chosen = select_for_existing(
                self._planned,
                present,
                self._remembered,
                self._setting.event,
                self._progress.appended,
                whole=self._kind.whole,
                doubted=self._doubted or self._forgotten,
                adding=self._progress.adding,
            )
        except ShapeMismatch as error:
            raise self._misfit(error) from error
        if (self._doubted or self._forgotten or self._progress.adding) and present is not None:
            # What stands there already is not added again, whatever becomes of the rest.
            there = {name: sign for name, sign in chosen.appended.items() if name not in chosen.fields}
            self._set(replace(self._progress, appended=there))
        return chosen

    def _misfit(self, error: ShapeMismatch) -> Permanent:
        """Nothing is guessed of a shape that nobody has told us how to read."""
        field, write = error.field, self._planned.fields[error.field].write
        remedy = (
            f"Say in the connector how it is read: objects.{self._planned.type}.read_as = {{ {field} ="
            f' "{{{{ value… }}}}" }}, or write it by another policy than {write}; then retry'
        )
        message = f"{self._what}, field {field}: the CRM shows {error.shape} there"
        permanent = Permanent(
            f"{message}, to which {write} can compare or add nothing. {remedy}", cause=message
        )
        permanent.says = remedy
        return permanent

    def _links_changed(self) -> bool:
        before = self._remembered.links if self._remembered is not None else {}
        return any(before.get(link) != to["id"] for link, to in self._inline.items())

    def _set(self, progress: Progress, *, durable: bool = False) -> None:
        self._journal.set(progress, durable=durable)
