"""Polls a CRM's jobs: a step that was answered "accepted, not done yet" is asked for until it has ended."""

from collections.abc import Callable
from datetime import datetime

from msgspec.structs import replace

from bridge.crm.connector.compiling import Condition, Values
from bridge.crm.connector.rates import bounded_number
from bridge.crm.connector.steps import Poll
from bridge.crm.key_matching import object_id
from bridge.delivery.crm_requests import CrmReply, CrmRequest, RequestFlow
from bridge.delivery.lookup import Lookup
from bridge.delivery.object_context import ObjectContext
from bridge.lib.errors import Gone, InDoubt, Permanent, StillRunning, Transient
from bridge.lib.expression import ExpressionError, as_text
from bridge.lib.masking import LONGEST_MASKED, LONGEST_MESSAGE
from bridge.lib.phone import mask_phones_in
from bridge.lib.values import parse_duration
from bridge.model.sync_progress import Located, Running

# Bounds for a connector's `wait`, in seconds: by mistake it might be 0, or a month.
SHORTEST_POLL_WAIT = 1.0
LONGEST_POLL_WAIT = 3600.0
# Seconds between two look-ups for the object of a job that cannot be polled.
LOOKED_FOR_EVERY = 30.0
"""Seconds between look-ups for the object of a job that cannot be polled."""


class JobFailed(Permanent):
    """The job has failed, and nothing was written."""


class JobUnknown(InDoubt):
    """The CRM no longer knows the job, so nothing tells what became of it."""


class JobPoller:
    """Polls the job that a step of an object began, once an attempt, over as many attempts as it takes."""

    def __init__(self, context: ObjectContext, lookup: Lookup) -> None:
        self._context = context
        self._lookup = lookup

    def poll_of(self, run: Running) -> Poll | None:
        """How the job is polled that the current step begins; None: the step begins none."""
        steps = self._context.kind.steps_of(run.method)
        return steps[run.step].poll if run.step < len(steps) else None

    def resume(self, run: Running) -> RequestFlow[None]:
        """Poll the job that an earlier attempt began; once it has ended, its step is done.

        Raises:
            Pending: it still runs.
            JobFailed: it failed.
            InDoubt: nothing tells what became of it.
        """
        if run.absent:
            # A person has looked, and says that the job wrote nothing.
            self._context.journal.restart()
        elif self.poll_of(run) is None:
            # The connector has been changed, and the step begins no job any more.
            self._set(replace(run, polled=False))
        else:
            yield from self.poll(run)

    def poll(self, run: Running) -> RequestFlow[None]:
        """Poll once and note that the step is done; a job that runs on, failed or is lost ends the attempt.

        Raises: as `resume`.
        """
        context, poll, since = self._context, self.poll_of(run), run.sent_at
        assert poll is not None  # noqa: S101 -- the callers have looked
        assert since is not None  # noqa: S101 -- it was begun then
        label = f"{context.label}, {run.method}"
        names = {"key": dict(context.planned.key), "captured": run.captured, "id": run.crm_id}
        try:
            reply = yield from _poll_once(poll, names, label, since, context.clock)
        except JobFailed:
            context.journal.restart()
            raise
        except InDoubt as error:
            yield from self._look_for_lost(run, error)
            return
        captured = {name: pick.of_answer(reply.answer) for name, pick in poll.capture.items()}
        told = None if poll.id is None else poll.id.of_answer(reply.answer)
        crm_id = object_id(told) or run.crm_id
        steps = context.kind.steps_of(run.method)
        if crm_id is None and (poll.id or steps[run.step].id) is not None:
            # The job was done, so the object is there and can be found by its key.
            lost = InDoubt(f"{label}: the job has ended, and its answer carries no id")
            yield from self._look_for_lost(run, lost)
            return
        done = replace(
            run,
            step=run.step + 1,
            captured={**run.captured, **captured},
            crm_id=crm_id,
            sent_at=None,
            polled=False,
        )
        self._set(done, durable=done.step < len(steps))

    def _look_for_lost(self, run: Running, error: InDoubt) -> RequestFlow[None]:
        """Look for the object of a job that cannot be polled: if it is there, the job has ended."""
        kind, journal = self._context.kind, self._context.journal
        looks = kind.shows(run.method, run.step)
        found = (yield from self._lookup.find()) if looks else None
        if found is not None:
            journal.set(
                replace(journal.progress.restarted(Located(found.id)), adding=journal.progress.adding)
            )
            return
        repeats = looks or kind.steps_of(run.method)[run.step].request.idempotent
        if not isinstance(error, JobUnknown) or not repeats:
            # It still runs by the CRM's word, or nothing tells if it was done: it must not be sent again.
            raise error
        self._set(replace(run, polled=False))
        raise Transient(str(error), cause=error.cause, retry_after=LOOKED_FOR_EVERY) from error

    def wait(self, run: Running) -> None:
        """Wait while the lost job may still write, so that nothing is written twice.

        Raises:
            Pending: until the longest time that it may run, and the index's lag, have passed.
        """
        context, poll = self._context, self.poll_of(run)
        if poll is None:
            return
        since = run.sent_at or context.clock()
        left = (since + poll.longest + context.kind.index_lag - context.clock()).total_seconds()
        if left > 0:
            raise StillRunning(
                f"{context.label}: in doubt; it may come yet from a job that nobody can ask for",
                cause=f"{context.label}: a job that nobody can ask for may run yet",
                retry_after=min(left, LOOKED_FOR_EVERY),
            )

    def _set(self, run: Running, *, durable: bool = False) -> None:
        journal = self._context.journal
        journal.set(replace(journal.progress, state=run), durable=durable)


def _poll_once(
    poll: Poll, names: Values, label: str, began_at: datetime, clock: Callable[[], datetime]
) -> RequestFlow[CrmReply]:
    """Poll a job once; the answer with which it ended well.

    Raises:
        Pending: it still runs; due again after the connector's `wait`, in seconds.
        JobFailed: it failed, with the CRM's reason.
        JobUnknown: the CRM no longer knows it.
        InDoubt: it runs for longer than `longest`.
    """
    try:
        reply = yield CrmRequest(poll, names, f"{label}, poll")
    except Gone as error:
        raise JobUnknown(
            f"{label}: the CRM no longer knows the job that it took: {error}",
            cause=f"{label}: the CRM no longer knows the job",
        ) from error
    answer = reply.answer.names
    if _decides(poll.failed, answer, label, "failed"):
        told = "" if poll.reason is None else as_text(poll.reason.of_answer(reply.answer) or "")
        reason = (
            mask_phones_in(" ".join(told[:LONGEST_MASKED].split()))[:LONGEST_MESSAGE] or "it gives no reason"
        )
        raise JobFailed(f"{label}: the job failed: {reason}", cause=f"{label}: the job failed: {reason}")
    if _decides(poll.until, answer, label, "until"):
        return reply
    if (clock() - began_at) > poll.longest:
        raise InDoubt(
            f"{label}: the job runs since {began_at:%Y-%m-%d %H:%M:%S} UTC, which is longer than any should",
            cause=f"{label}: the job runs for too long",
        )
    raise StillRunning(
        f"{label}: the job still runs", cause=f"{label}: the job still runs", retry_after=_wait(poll, reply)
    )


def _decides(condition: Condition | None, names: Values, label: str, key: str) -> bool:
    if condition is None:
        return False
    try:
        return condition.decides(names)
    except ExpressionError as error:
        raise Permanent(f"{label}, poll: {key} cannot be decided: {error}. Correct the connector") from error


def _wait(poll: Poll, reply: CrmReply) -> float:
    try:
        if "{{" not in poll.wait.text:
            seconds = parse_duration(poll.wait.text).total_seconds()
        else:
            told = bounded_number(poll.wait.of_answer(reply.answer), LONGEST_POLL_WAIT)
            seconds = SHORTEST_POLL_WAIT if told is None else told
    except (ValueError, ExpressionError):
        seconds = SHORTEST_POLL_WAIT
    return min(max(seconds, SHORTEST_POLL_WAIT), LONGEST_POLL_WAIT)
