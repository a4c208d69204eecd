"""Brings the objects of one plan into a CRM, one after the other, and makes their links."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from bridge.crm.connector import Connector, ObjectType
from bridge.delivery.crm_requests import CrmRequest, RequestFlow
from bridge.delivery.field_selection import is_settled, sent_digest, with_newer_event
from bridge.delivery.object_context import Journal, ObjectContext, ObjectJournal, refuse_doubt
from bridge.delivery.object_sync import ObjectSync
from bridge.lib.errors import DeliveryError, Gone, InDoubt
from bridge.model.crm_objects import Fingerprint, KnownObject, SyncedObject
from bridge.model.plan import Plan, PlannedObject
from bridge.model.sync_progress import Linking, Located, NotStarted, SyncProgress

Targets = Mapping[str, PlannedObject]
"""Link → the object at its other end, which comes earlier in the plan."""


class _ResolvedObject(msgspec.Struct, frozen=True):
    """An object whose inline links are known, because the objects before it are synced."""

    planned: PlannedObject
    kind: ObjectType
    inline: Mapping[str, Any]
    sent_digest: bytes


class PlanSync:
    """Brings the objects of one plan into the CRM, one after the other."""

    def __init__(
        self, connector: Connector, journal: Journal, event: str, clock: Callable[[], datetime]
    ) -> None:
        """`event` orders the call among all calls; `clock` dates requests."""
        self._connector = connector
        self._journal = journal
        self._event = event
        self._clock = clock
        self._synced: dict[str, SyncedObject] = {}
        self._resolved: dict[str, _ResolvedObject] = {}
        self.cursor = 0
        """How far it is in its plan: 2n while it syncs object n, 2n + 1 while it makes that one's links."""

    @property
    def done(self) -> tuple[SyncedObject, ...]:
        """The objects synced so far, also where a later one fails."""
        return tuple(self._synced.values())

    def run(self, plan: Plan) -> RequestFlow[None]:
        """Sync the whole plan.

        Raises:
            DeliveryError: at the first object that fails; `done` holds those before it.
        """
        objects = {planned.name: planned for planned in plan.objects}
        for number, planned in enumerate(plan.objects):
            self.cursor = 2 * number
            targets = {link: objects[name] for link, name in planned.links.items()}
            yield from self._sync_object(planned, targets)
            self.cursor += 1
            yield from self._make_links(planned, targets)

    # -- one object ------------------------------------------------------------------
    def _sync_object(
        self, planned: PlannedObject, targets: Targets, *, renewed: bool = False
    ) -> RequestFlow[None]:
        """Sync an object; a second time (`renewed`) where one that it links to was replaced in the CRM."""
        resolved = self._resolve(planned, targets)
        known = self._journal.recall(planned)
        progress = self._progress_of(planned)
        if known is not None and _is_synced(resolved, known, progress):
            # Nothing is sent, but this call may be newer: from now on its event counts.
            self._note_synced(planned, with_newer_event(known, planned, self._event))
            return
        try:
            synced = yield from self._object_sync(resolved, known, progress).run()
        except Gone:
            # The object itself may be there: a person may have deleted or merged one that it links to.
            has_successor = yield from self._renew(targets[link] for link in resolved.inline)
            if renewed or not has_successor:
                raise
            yield from self._sync_object(planned, targets, renewed=True)
            return
        links = known.links if known is not None and known.crm_id == synced.crm_id else {}
        links = {**links, **{link: to["id"] for link, to in resolved.inline.items()}}
        left = KnownObject(synced.crm_id, resolved.sent_digest, links, synced.sent.last_writes)
        self._note_synced(planned, left, synced.sent.altered)

    def _resolve(self, planned: PlannedObject, targets: Targets) -> _ResolvedObject:
        kind = self._connector.objects[planned.type]
        inline = {
            link: {"id": self._id(target), "key": dict(target.key)}
            for link, target in targets.items()
            if kind.link[link].request is None
        }
        resolved = _ResolvedObject(planned, kind, inline, sent_digest(planned, inline))
        self._resolved[planned.name] = resolved
        return resolved

    def _progress_of(self, planned: PlannedObject) -> SyncProgress:
        """How far earlier attempts came with an object.

        Raises:
            InDoubt: nothing tells whether a link was made, and no person has looked.
        """
        progress = self._journal.progress(planned.name)
        if progress.key and progress.key != planned.key_text:
            # The progress is of another object, which the call fed before its key changed.
            progress = progress.moved(planned.key_text)
            self._journal.note(planned.name, progress, durable=False)
        if isinstance(progress.state, Linking):
            refuse_doubt(planned, progress.state)
            progress = progress.restarted()
            self._journal.note(planned.name, progress, durable=False)
        return progress

    def _object_sync(
        self, resolved: _ResolvedObject, known: KnownObject | None, progress: SyncProgress
    ) -> ObjectSync:
        return ObjectSync(
            ObjectContext(
                resolved.kind,
                resolved.planned,
                resolved.inline,
                resolved.sent_digest,
                self._event,
                self._clock,
                ObjectJournal(self._journal, resolved.planned, known, progress),
            )
        )

    def _renew(self, objects: Iterable[PlannedObject]) -> RequestFlow[bool]:
        """Look up what replaced objects that may be gone; True where a replacement was found for any."""
        found = False
        for planned in objects:
            known = self._synced[planned.name].known
            progress = SyncProgress(appended=self._appended(planned))
            sync = self._object_sync(self._resolved[planned.name], known, progress)
            synced = yield from sync.replacement()
            if synced is not None:
                left = KnownObject(synced.crm_id, known.digest, {}, synced.sent.last_writes)
                self._note_synced(planned, left, synced.sent.altered)
                found = True
        return found

    # -- its links -------------------------------------------------------------------
    def _make_links(
        self, planned: PlannedObject, targets: Targets, *, renewed: bool = False
    ) -> RequestFlow[None]:
        """Make the links that the CRM lacks; a second time (`renewed`) where one end was replaced."""
        kind = self._connector.objects[planned.type]
        for link, target in targets.items():
            known, to_id = self._synced[planned.name].known, self._id(target)
            if kind.link[link].request is None or known.links.get(link) == to_id:
                continue
            to = {"id": to_id, "key": dict(target.key)}
            names = {"id": known.crm_id, "key": dict(planned.key), "to": to}
            request = CrmRequest(kind.link[link], names, f"object {planned.name}, link {link}")
            try:
                yield from self._send_link(planned, link, request)
            except Gone:
                # A person has deleted or merged one of the two since it was synced.
                if renewed or not (yield from self._renew_first(target, planned)):
                    raise
                yield from self._make_links(planned, targets, renewed=True)
                return
            made = {**known.links, link: to_id}
            self._note_synced(planned, KnownObject(known.crm_id, known.digest, made, known.last_writes))

    def _renew_first(self, *objects: PlannedObject) -> RequestFlow[bool]:
        """Renew these objects one by one, until a replacement is found for one; whether it was."""
        for planned in objects:
            if (yield from self._renew([planned])):
                return True
        return False

    def _send_link(self, planned: PlannedObject, link: str, request: CrmRequest) -> RequestFlow[None]:
        """Send a link; one that must not be made twice is noted on disk before."""
        known = self._synced[planned.name].known
        if known.links.get(link) is not None:
            # Until it is answered, nobody knows whether the old link or the new one holds: neither is kept.
            others = {name: to for name, to in known.links.items() if name != link}
            possible = KnownObject(known.crm_id, known.digest, others, known.last_writes)
            self._journal.note_possible(planned, possible)
        if request.request.idempotent:
            yield request
            return
        before = SyncProgress(appended=self._appended(planned))
        sending = replace(before, state=Linking(link, known.crm_id, self._clock()))
        self._journal.note(planned.name, sending, durable=True)
        try:
            yield request
        except InDoubt:
            raise
        except DeliveryError:
            self._journal.note(planned.name, before, durable=False)
            raise
        self._journal.note(planned.name, before, durable=False)

    def _id(self, planned: PlannedObject) -> str:
        return self._synced[planned.name].known.crm_id

    def _appended(self, planned: PlannedObject) -> Mapping[str, Fingerprint]:
        return self._journal.progress(planned.name).appended

    def _note_synced(
        self, planned: PlannedObject, known: KnownObject, altered: Mapping[str, str] | None = None
    ) -> None:
        before = self._synced.get(planned.name)
        all_altered = {**(before.altered if before is not None else {}), **(altered or {})}
        self._synced[planned.name] = SyncedObject(
            planned.name, planned.type, planned.key_text, known, planned.shared, all_altered
        )


def _is_synced(resolved: _ResolvedObject, known: KnownObject, progress: SyncProgress) -> bool:
    """Whether nothing need be sent: the CRM holds all of the object, and no attempt has begun since."""
    return (
        known.digest == resolved.sent_digest
        and isinstance(progress.state, NotStarted | Located)
        and is_settled(resolved.planned, known, progress.appended)
    )
