"""Settles requests in doubt before anything is sent again: by look-up, by waiting, or by a person's word."""

from datetime import datetime

from msgspec.structs import replace

from bridge.crm.connector.steps import captured_by
from bridge.delivery.job_poller import JobPoller
from bridge.delivery.lookup import FoundObject
from bridge.delivery.object_context import ObjectContext, refuse_doubt
from bridge.lib.errors import InDoubt, Transient
from bridge.model.sync_progress import Located, LookingAgain, Running, SyncProgress

_FINISH_BY_HAND = "Finish it in the CRM, then retry"


class DoubtSettler:
    """Decides whether and when a request may be sent again whose answer was lost."""

    def __init__(self, context: ObjectContext, jobs: JobPoller) -> None:
        self._context = context
        self._journal = context.journal
        self._jobs = jobs

    def settle_write(self, run: Running) -> None:
        """Allow an update or upsert to be sent again, once that can do no harm.

        Raises:
            InDoubt: it must not be sent twice, and no look-up can tell whether it was processed.
            Pending: its job may still run.
            Transient: the index may not show yet what was sent.
        """
        kind, steps = self._context.kind, self._context.kind.steps_of(run.method)
        if run.step >= len(steps):
            # Every step was processed; only the object's id is missing.
            return
        is_idempotent = steps[run.step].request.idempotent
        if not is_idempotent and not kind.shows(run.method, run.step):
            self.believe_person(run)
            return
        self._jobs.wait(run)
        if kind.read is None or not is_idempotent:
            self.wait_for_index(run.sent_at)

    def believe_person(self, run: Running) -> None:
        """Allow a step to be sent again that no look-up can show, once a person says that it did not arrive.

        Raises:
            InDoubt: nobody has said so.
        """
        refuse_doubt(self._context.planned, run)
        self._set(replace(run, sent_at=None, absent=False))

    def wait_for_index(self, sent_at: datetime | None) -> None:
        """Believe a look-up once the CRM's index must show what was sent.

        Raises:
            Transient: until then.
        """
        context = self._context
        since = sent_at or context.clock()
        wait = (since + context.kind.index_lag - context.clock()).total_seconds()
        if wait > 0:
            raise Transient(
                f"{context.label}: in doubt; a look-up counts only after the index has caught up",
                cause="in doubt until the index has caught up",
                retry_after=wait,
            )

    def believe_absent(self, crm_id: str | None) -> None:
        """Believe that an object which we wrote is gone, once the CRM's index must have caught up.

        Raises:
            Transient: until then.
        """
        progress = self._journal.progress
        if isinstance(progress.state, LookingAgain):
            self.wait_for_index(progress.state.since)
        elif self._context.kind.index_lag:
            looking = LookingAgain(crm_id, self._context.clock())
            self._journal.set(replace(progress.restarted(looking), adding=progress.adding))
            self.wait_for_index(looking.since)

    def continue_create(self, run: Running, found: FoundObject) -> None:
        """Go on after the first step of a create, whose answer was lost and whose object was found.

        Raises:
            InDoubt: later steps need more of the lost answer than the object's id.
        """
        first, *others = self._context.kind.create
        named = first.id.text if first.id is not None else None
        captured = {name: found.id for name, pick in first.capture.items() if pick.text == named}
        told = {*first.capture, *(first.poll.capture if first.poll is not None else ())}
        lost = {name for step in others for name in captured_by(step)} & told - captured.keys()
        if not lost:
            self._set(replace(run, step=1, captured=captured, crm_id=found.id, sent_at=None))
            return
        self._journal.set(SyncProgress(Located(found.id)))
        label = self._context.label
        error = InDoubt(
            f"{label}, create: found as {found.id}, but its answer was lost, and later steps need"
            f" {', '.join(sorted(lost))} of it. {_FINISH_BY_HAND}",
            cause=f"{label}, create: the answer that later steps need was lost",
        )
        error.says = _FINISH_BY_HAND
        raise error

    def _set(self, run: Running) -> None:
        self._journal.set(replace(self._journal.progress, state=run))
