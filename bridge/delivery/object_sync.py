"""Brings one CRM object to its planned state: settles doubt, looks it up, then creates or updates it."""

from bridge.delivery.crm_requests import RequestFlow
from bridge.delivery.object_context import ObjectContext
from bridge.delivery.step_runner import Synced
from bridge.delivery.write_operations import (
    Create,
    Creator,
    Operation,
    OperationResult,
    Replace,
    SyncParts,
    Update,
    Updater,
    Upsert,
    Upserter,
    forget_deleted,
)
from bridge.model.sync_progress import Located, Running, SyncMethod, SyncProgress


class ObjectSync:
    """Brings one CRM object to its planned state: look up, create or update.

    Safe to repeat after any lost answer: what is in doubt is settled before anything is sent again.
    """

    def __init__(self, context: ObjectContext) -> None:
        parts = SyncParts(context)
        self._context = context
        self._journal = context.journal
        self._parts = parts
        self._creator = Creator(parts)
        self._updater = Updater(parts)
        self._upserter = Upserter(parts)

    def run(self) -> RequestFlow[Synced]:
        """Bring the object to its planned state.

        Raises:
            DeliveryError: it failed; the journal knows how far it came.
        """
        operation = yield from self._first_operation()
        return (yield from self._run_from(operation))

    def replacement(self) -> RequestFlow[Synced | None]:
        """Find what replaced an object that seems to be gone; None: it is there, or no look-up can tell.

        Raises:
            DeliveryError: as `run`.
        """
        kind, gone = self._context.kind, self._journal.known_id
        if (kind.read is None and not kind.find) or gone is None:
            return None
        found = yield from self._parts.lookup.read(gone)
        if found is not None and found.id == gone:
            return None
        if not kind.upsert:
            return (yield from self._run_from(Replace(gone)))
        forget_deleted(self._context, gone)
        return (yield from self._run_from(Upsert()))

    def _run_from(self, result: OperationResult) -> RequestFlow[Synced]:
        """Run operations until the object is synced; `delivery.executor` bounds the requests they make."""
        while not isinstance(result, Synced):
            result = yield from self._run_one(result)
        return result

    def _run_one(self, operation: Operation) -> RequestFlow[OperationResult]:
        match operation:
            case Create():
                return (yield from self._creator.run(operation))
            case Update():
                return (yield from self._updater.run(operation))
            case Upsert():
                return (yield from self._upserter.run())
            case Replace(gone=gone):
                return (yield from self._replace(gone))

    def _first_operation(self) -> RequestFlow[Operation]:
        """The first operation, once earlier attempts' doubts are settled and the object is looked up."""
        kind, journal = self._context.kind, self._journal
        state = journal.progress.state
        if isinstance(state, Running) and state.polled:
            yield from self._parts.jobs.resume(state)
            state = journal.progress.state
            journal.may_have_arrived = journal.progress.sent_at is not None
        if isinstance(state, Running):
            if state.method is SyncMethod.CREATE:
                return (yield from self._resume_create(state))
            if journal.may_have_arrived:
                self._parts.doubts.settle_write(state)
        crm_id = journal.progress.crm_id or journal.known_id
        is_upserting = isinstance(state, Running) and state.method is SyncMethod.UPSERT
        if kind.upsert and (crm_id is None or not kind.update or is_upserting):
            return Upsert()
        if crm_id is not None:
            return Update(crm_id)
        found = yield from self._parts.lookup.find()
        if found is not None:
            return Update(found.id, found.present)
        if journal.may_be_unindexed:
            # This call or another one may have created it moments ago, and the index may lag.
            self._parts.doubts.believe_absent(None)
        return Create()

    def _resume_create(self, run: Running) -> RequestFlow[Operation]:
        """Go on with a create that was begun; what is in doubt is looked up first."""
        kind, journal = self._context.kind, self._journal
        if run.sent_at is not None and run.step < len(kind.create):
            if not kind.shows(run.method, run.step):
                self._parts.doubts.believe_person(run)
                return self._rest_of_create()
            if self._parts.jobs.poll_of(run) is None:
                self._parts.doubts.wait_for_index(run.sent_at)
            found = yield from self._parts.lookup.find()
            if found is None:
                self._parts.jobs.wait(run)
                journal.set(SyncProgress())
                return Create()
            if len(kind.create) == 1:
                journal.set(SyncProgress(Located(found.id), adding=journal.progress.adding))
                return Update(found.id, found.present)
            self._parts.doubts.continue_create(run, found)
        return self._rest_of_create()

    def _rest_of_create(self) -> Create:
        """The rest of a create that was begun; an update follows where the call has changed since."""
        state = self._journal.progress.state
        if not isinstance(state, Running) or state.step == 0:
            return Create()
        return Create(then_update=state.sent_digest != self._context.sent_digest)

    def _replace(self, gone: str) -> RequestFlow[Operation]:
        """Search once by the key for what took the place of an object that a person deleted or merged.

        Raises:
            Permanent: there is none, and the mapping does not say that it is to be made again.
        """
        journal = self._journal
        journal.gone.add(gone)
        found = None if journal.searched_successor else (yield from self._parts.lookup.by_key())
        journal.searched_successor = True
        if found is not None and found.id != gone:
            journal.forget()
            return Update(found.id, found.present)
        if found is not None:
            # The search still shows it: creating it again could make it twice, and perhaps nobody deleted it.
            raise self._parts.duplicates.contradicted(gone)
        forget_deleted(self._context, gone)
        return Upsert() if self._context.kind.upsert else Create()
