"""A job of a CRM: what answered "accepted, not done yet", and is asked until it has ended."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from bridge.crm.connector import ObjectType
from bridge.crm.connector.compiling import Condition, Values
from bridge.crm.connector.limits import told_number
from bridge.crm.connector.steps import Poll
from bridge.crm.key_matching import object_id
from bridge.delivery.lookup import CrmReply, CrmRequest, Lookup, ObjectJournal, RequestFlow, Setting
from bridge.lib.errors import Gone, InDoubt, Pending, Permanent, Transient
from bridge.lib.expression import ExpressionError, as_text
from bridge.lib.masking import LONGEST_MESSAGE, LONGEST_READ
from bridge.lib.phone import mask_phones_in
from bridge.lib.values import parse_duration
from bridge.model.crm_state import Progress
from bridge.model.plan import PlannedObject

# A connector's mistake must not ask without a pause, or come back after a month.
SHORTEST_WAIT = 1.0
LONGEST_WAIT = 3600.0
LOOKED_FOR_EVERY = 30.0
"""A job that cannot be asked for is looked for by its object, once in 30 seconds."""


class JobFailed(Permanent):
    """The job has ended without an effect."""


class JobUnknown(InDoubt):
    """The CRM no longer knows the job, and so does nobody what became of it."""


class JobPoller:
    """Follows the job that a step of an object began, over as many tries as it takes."""

    def __init__(
        self,
        setting: Setting,
        kind: ObjectType,
        planned: PlannedObject,
        looking: Lookup,
        journal: ObjectJournal,
    ) -> None:
        self._setting = setting
        self._kind = kind
        self._planned = planned
        self._looking = looking
        self._journal = journal
        self._what = f"object {planned.name}"

    def poll_of(self, progress: Progress) -> Poll | None:
        """How the job is asked for that a step begins."""
        steps = self._kind.steps_of(progress.way)
        return steps[progress.step].poll if progress.step < len(steps) else None

    def follow(self) -> RequestFlow[None]:
        """Ask for the job that an earlier try began; once it has ended, its step is done."""
        progress = self._journal.progress
        if progress.absent:
            # A person has looked: it came to nothing.
            self._journal.set(Progress(appended=progress.appended))
        elif self.poll_of(progress) is None:
            # The connector has changed since.
            self._journal.set(replace(progress, polled=False))
        else:
            yield from self.ask()

    def ask(self) -> RequestFlow[None]:
        """Ask once; what runs on, fails or is lost ends this try."""
        progress = self._journal.progress
        poll, since = self.poll_of(progress), progress.sent_at
        assert poll is not None  # noqa: S101 -- the callers have looked
        assert since is not None  # noqa: S101 -- it was begun then
        what = f"{self._what}, {progress.way}"
        names = {"key": dict(self._planned.key), "captured": progress.captured, "id": progress.crm_id}
        try:
            reply = yield from _ask_once(poll, names, what, since, self._setting.clock)
        except JobFailed:
            self._journal.set(Progress(appended=progress.appended))
            raise
        except InDoubt as error:
            yield from self._look_for_lost(error)
            return
        captured = {name: pick.of_answer(reply.answer) for name, pick in poll.capture.items()}
        told = None if poll.id is None else poll.id.of_answer(reply.answer)
        crm_id = object_id(told) or progress.crm_id
        step = self._kind.steps_of(progress.way)[progress.step]
        if crm_id is None and (poll.id or step.id) is not None:
            # It was done, so it is there, and has our key.
            lost = InDoubt(f"{what}: the job has ended, and its answer carries no id")
            yield from self._look_for_lost(lost)
            return
        done = replace(
            progress,
            step=progress.step + 1,
            captured={**progress.captured, **captured},
            crm_id=crm_id,
            sent_at=None,
            polled=False,
        )
        self._journal.set(done, durable=done.step < len(self._kind.steps_of(progress.way)))

    def _look_for_lost(self, error: InDoubt) -> RequestFlow[None]:
        """A job that cannot be asked for has ended where its object is there."""
        progress = self._journal.progress
        looks = self._kind.shows(progress.way, progress.step)
        found = (yield from self._looking.find()) if looks else None
        if found is not None:
            self._journal.set(Progress(crm_id=found.id, appended=progress.appended, adding=progress.adding))
            return
        repeats = looks or self._kind.steps_of(progress.way)[progress.step].request.idempotent
        if not isinstance(error, JobUnknown) or not repeats:
            # By the CRM's own word it runs on, or nothing tells whether it was done: it is not sent again.
            raise error
        self._journal.set(replace(progress, polled=False))
        raise Transient(str(error), cause=error.cause, retry_after=LOOKED_FOR_EVERY) from error

    def wait(self, progress: Progress) -> None:
        """What is not there may come yet, as long as the job may run; until then nothing is sent again."""
        poll, since = self.poll_of(progress), progress.sent_at or self._setting.clock()
        if poll is None:
            return
        left = (since + poll.longest + self._kind.index_lag - self._setting.clock()).total_seconds()
        if left > 0:
            raise Pending(
                f"{self._what}: in doubt; it may come yet from a job that nobody can ask for",
                cause=f"{self._what}: a job that nobody can ask for may run yet",
                retry_after=min(left, LOOKED_FOR_EVERY),
            )


def _ask_once(
    poll: Poll, names: Values, what: str, began_at: datetime, clock: Callable[[], datetime]
) -> RequestFlow[CrmReply]:
    """Ask a job once; the answer with which it ended well.

    Raises:
        Pending: it still runs; due again after the connector's `wait`.
        JobFailed: it failed, with the CRM's reason.
        JobUnknown: the CRM no longer knows it.
        InDoubt: it runs for longer than `longest`.
    """
    try:
        reply = yield CrmRequest(poll, names, f"{what}, poll")
    except Gone as error:
        raise JobUnknown(
            f"{what}: the CRM no longer knows the job that it took: {error}",
            cause=f"{what}: the CRM no longer knows the job",
        ) from error
    answer = reply.answer.names
    if _decides(poll.failed, answer, what, "failed"):
        told = "" if poll.reason is None else as_text(poll.reason.of_answer(reply.answer) or "")
        reason = (
            mask_phones_in(" ".join(told[:LONGEST_READ].split()))[:LONGEST_MESSAGE] or "it gives no reason"
        )
        raise JobFailed(f"{what}: the job failed: {reason}", cause=f"{what}: the job failed: {reason}")
    if _decides(poll.until, answer, what, "until"):
        return reply
    if (clock() - began_at) > poll.longest:
        raise InDoubt(
            f"{what}: the job runs since {began_at:%Y-%m-%d %H:%M:%S} UTC, which is longer than any should",
            cause=f"{what}: the job runs for too long",
        )
    raise Pending(
        f"{what}: the job still runs", cause=f"{what}: the job still runs", retry_after=_wait(poll, reply)
    )


def _decides(condition: Condition | None, names: Values, what: str, key: str) -> bool:
    if condition is None:
        return False
    try:
        return condition.decides(names)
    except ExpressionError as error:
        raise Permanent(f"{what}, poll: {key} cannot be decided: {error}. Correct the connector") from error


def _wait(poll: Poll, reply: CrmReply) -> float:
    try:
        if "{{" not in poll.wait.text:
            seconds = parse_duration(poll.wait.text).total_seconds()
        else:
            told = told_number(poll.wait.of_answer(reply.answer), LONGEST_WAIT)
            seconds = SHORTEST_WAIT if told is None else told
    except (ValueError, ExpressionError):
        seconds = SHORTEST_WAIT
    return min(max(seconds, SHORTEST_WAIT), LONGEST_WAIT)
