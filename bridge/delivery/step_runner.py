"""Sends the steps of a create, update or upsert in order, each once in effect even after a lost answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec.structs import replace

from bridge.crm.connector.answer import dig
from bridge.crm.connector.compiling import Values
from bridge.crm.connector.steps import Step
from bridge.crm.key_matching import has_key, key_shown, object_id
from bridge.delivery.crm_requests import CrmReply, CrmRequest, Fields, RequestFlow
from bridge.delivery.field_selection import FieldSelection, possible_writes, with_possible_writes
from bridge.delivery.job_poller import JobPoller
from bridge.delivery.lookup import Lookup
from bridge.delivery.object_context import ObjectContext, parking_error
from bridge.lib.errors import DeliveryError, Duplicate, InDoubt, Permanent, Transient
from bridge.lib.expression import ExpressionError
from bridge.lib.phone import mask_phones_in, of_crm
from bridge.model.crm_objects import Fingerprint, KnownObject
from bridge.model.sync_progress import NOT_STARTED, Located, Running, SyncMethod, SyncProgress

REREAD_FOR = timedelta(hours=6)
"""How long a record whose creation told no id is looked for, its key locked, before a person is asked."""


class Synced(msgspec.Struct, frozen=True):
    """The CRM holds the object: its id, and what was sent of its fields, beside what the CRM made of it."""

    crm_id: str
    sent: FieldSelection


@dataclass(slots=True)
class _Run:
    """One pass over the steps of a method, from the one that an earlier attempt came to."""

    method: SyncMethod
    steps: Sequence[Step]
    sent: FieldSelection
    first_open: int
    """The first step that no earlier attempt has done."""
    adding: Mapping[str, Fingerprint]
    captured: dict[str, Any]
    crm_id: str | None
    answered: Fields | None = None
    """The object's fields, as far as the steps' answers have carried them."""


class StepRunner:
    """Sends the steps of one object, and notes before and after each how far they came."""

    def __init__(self, context: ObjectContext, lookup: Lookup, jobs: JobPoller) -> None:
        self._context = context
        self._journal = context.journal
        self._lookup = lookup
        self._jobs = jobs

    def run(self, method: SyncMethod, sent: FieldSelection, crm_id: str | None = None) -> RequestFlow[Synced]:
        """Send all steps; `crm_id` where the object is known to be there.

        Raises:
            DeliveryError: a step failed, or its outcome is unknown; the journal knows how far it came.
        """
        run = self._begin(method, sent, crm_id)
        for number in range(len(run.steps)):
            goes_on = yield from self._run_step(run, number)
            if not goes_on:
                break
        if run.crm_id is None and any(step.reread for step in run.steps):
            run.crm_id = yield from self._find_created(run)
        if run.crm_id is None and any(step.id is not None for step in run.steps):
            raise Permanent(
                f"{self._label(method)}: the step that tells the id was left out. Correct its `when`"
            )
        self._journal.set(SyncProgress(appended={**sent.appended, **run.adding}))
        # In a CRM without ids of its own the key is the id.
        found = run.crm_id if run.crm_id is not None else self._context.planned.key_text
        fresh = method is not SyncMethod.UPDATE
        return Synced(found, (yield from self._lookup.read_back(sent, found, run.answered, fresh=fresh)))

    def _begin(self, method: SyncMethod, sent: FieldSelection, crm_id: str | None) -> _Run:
        """Go on where earlier attempts stopped, or at the first step where these were sent other values."""
        state = self._journal.progress.state
        if not (isinstance(state, Running) and state.continues(method, self._context.sent_digest)):
            begun = NOT_STARTED if crm_id is None else Located(crm_id)
            # Written to the ledger with the first step: until then what stands there is still true.
            self._journal.progress = self._journal.progress.restarted(begun)
        begun_run, progress = self._running(method), self._journal.progress
        adding = progress.adding or {
            name: fingerprint for name, fingerprint in sent.appended.items() if name in sent.fields
        }
        steps = self._context.kind.steps_of(method)
        captured = dict(begun_run.captured)
        return _Run(method, steps, sent, begun_run.step, adding, captured, begun_run.crm_id)

    def _running(self, method: SyncMethod) -> Running:
        """The state of these steps, as it is or as it would begin."""
        state = self._journal.progress.state
        if isinstance(state, Running) and state.method is method:
            return state
        return Running(method, 0, self._journal.progress.crm_id, sent_digest=self._context.sent_digest)

    def _run_step(self, run: _Run, number: int) -> RequestFlow[bool]:
        """Send a step unless it is done or does not apply; whether the steps after it follow."""
        step = run.steps[number]
        names = {**self._names(run.sent), "id": run.crm_id, "captured": run.captured}
        label = self._label(run.method) + ("" if len(run.steps) == 1 else f" step {step.name}")
        request = CrmRequest(step, names, label)
        is_done = number < run.first_open
        if is_done and not _is_repeated(run.method, number, step):
            return True
        if not self._applies(step, names):
            return True
        if is_done:
            reply = yield request
            run.captured |= {name: pick.of_answer(reply.answer) for name, pick in step.capture.items()}
            return True
        reply, run.crm_id = yield from self._send(run, number, request)
        self._note_answered(run, step, reply)
        run.captured = run.captured | {
            name: pick.of_answer(reply.answer) for name, pick in step.capture.items()
        }
        if step.poll is not None:
            return (yield from self._follow_job(run, number))
        self._note_done(run, number)
        return True

    def _note_done(self, run: _Run, number: int) -> None:
        done = replace(
            self._running(run.method),
            step=number + 1,
            captured=dict(run.captured),
            crm_id=run.crm_id,
            sent_at=None,
        )
        durable = not run.steps[number].request.idempotent and number + 1 < len(run.steps)
        self._journal.set(replace(self._journal.progress, state=done), durable=durable)

    def _follow_job(self, run: _Run, number: int) -> RequestFlow[bool]:
        """Note the job that a step has begun, on disk before it is polled, and poll it."""
        job = replace(
            self._running(run.method),
            step=number,
            captured=dict(run.captured),
            crm_id=run.crm_id,
            sent_at=self._context.clock(),
            polled=True,
        )
        self._journal.set(replace(self._journal.progress, state=job), durable=True)
        yield from self._jobs.poll(job)
        state = self._journal.progress.state
        run.crm_id = self._journal.progress.crm_id
        if not isinstance(state, Running) or state.step <= number:
            # The job's answer is lost, and a look-up has found what it made: later steps lack what they need.
            return False
        run.captured = dict(state.captured)
        return True

    def _note_answered(self, run: _Run, step: Step, reply: CrmReply) -> None:
        """Keep what an answer to a write shows of the object; one that cannot be read shows nothing."""
        try:
            fields = self._lookup.in_our_form(step.fields.of_answer(reply.answer) if step.fields else None)
        except Permanent:
            return
        if fields is not None:
            run.answered = {**(run.answered or {}), **fields}

    def _applies(self, step: Step, names: Values) -> bool:
        try:
            return step.when is None or step.when.decides(names)
        except ExpressionError as error:
            raise Permanent(
                f"{self._context.label}, step {step.name}: `when` cannot be decided: {error}"
            ) from error

    def _find_created(self, run: _Run) -> RequestFlow[str]:
        """The id of an object whose creation did not tell it: it is looked for, and never made again."""
        context, label = self._context, self._context.label
        if self._journal.progress.sent_at is None:
            made = replace(self._running(run.method), step=len(run.steps), sent_at=context.clock())
            self._journal.set(replace(self._journal.progress, state=made))
        found = yield from self._lookup.find()
        since: datetime = self._journal.progress.sent_at or context.clock()
        if found is None and context.clock() >= since + REREAD_FOR + context.kind.index_lag:
            raise parking_error(
                label,
                f"{label}: created, and not found by its key for {REREAD_FOR}",
                "created, and not found by its key",
                "Look for it in the CRM: correct its key there, or the connector's find; then retry, which"
                " only looks for it",
            )
        if found is None:
            raise Transient(
                f"{label}: created, and not found by its key yet",
                cause=f"{label}: created, and not found by its key",
                retry_after=context.kind.look_again_after,
            )
        return found.id

    # -- one request -----------------------------------------------------------------
    def _send(self, run: _Run, number: int, request: CrmRequest) -> RequestFlow[tuple[CrmReply, str | None]]:
        """Send one step; its reply, and the object's id after it."""
        step, before = run.steps[number], self._journal.progress
        self._note_possible(run.method, request, before.crm_id)
        if run.adding or not request.request.idempotent or step.poll is not None:
            sending = replace(self._running(run.method), step=number, sent_at=self._context.clock())
            self._journal.set(replace(before, state=sending, adding=run.adding), durable=True)
        try:
            reply = yield request
            makes = run.method is SyncMethod.CREATE and number == 0
            return reply, self._believed_id(request, step, reply, before.crm_id, makes=makes)
        except InDoubt as error:
            self._note_sent_now()
            if self._journal.progress.sent_at is None or not self._context.kind.shows(run.method, number):
                raise
            raise Transient(
                f"{error}. It is looked up before anything is sent again",
                cause=error.cause,
                retry_after=self._context.kind.look_again_after,
                blame=error.blame,
            ) from error
        except DeliveryError as error:
            if (run.adding or step.poll is not None) and error.doubtful:
                self._note_sent_now()
            else:
                # The CRM refused it, so nothing is in doubt; a first step that was refused has begun nothing.
                self._journal.set(before if number else before.restarted())
            raise

    def _note_possible(self, method: SyncMethod, request: CrmRequest, crm_id: str | None) -> None:
        """Note what the object may hold once this request is sent, so that it is not taken for an edit."""
        known, planned, fields = self._journal.known, self._context.planned, request.names["fields"]
        if known is not None and known.crm_id and known.crm_id == crm_id:
            self._journal.note_possible(with_possible_writes(known, planned, fields))
        elif method is SyncMethod.CREATE and (last_writes := possible_writes(planned, fields)):
            self._journal.note_possible(KnownObject("", last_writes=last_writes))

    def _note_sent_now(self) -> None:
        """Count the doubt from now: it was noted before the request had to wait for its turn."""
        if self._journal.progress.sent_at is not None:
            self._journal.set(self._journal.progress.with_sent_at(self._context.clock()))

    # -- whose id an answer tells ------------------------------------------------------
    def _believed_id(
        self, request: CrmRequest, step: Step, reply: CrmReply, before: str | None, *, makes: bool
    ) -> str | None:
        """The object's id by an answer, unless the answer shows a record with another key."""
        if self._shows_another(step, reply):
            if makes and self._context.kind.find:
                raise self._duplicate_of(step, reply, request.label)
            if before is not None:
                return before
        return self._id_of(step, reply, before)

    def _id_of(self, step: Step, reply: CrmReply, before: str | None) -> str | None:
        if step.id is None and reply.id is None:
            return before
        value = reply.id if step.id is None or reply.id is not None else step.id.of_answer(reply.answer)
        if (told := object_id(value)) is not None:
            return told
        if before is None and not step.reread and step.poll is None:
            # It was sent, and nobody knows the result: `sent_at` stays, so the request is in doubt.
            where = step.id.text if step.id else "."
            raise InDoubt(f"{self._context.label}: the answer carries no id at {where!r}")
        return before

    def _shows_another(self, step: Step, reply: CrmReply) -> bool:
        """Whether an answer shows a record with another key; where it shows only an id, nobody can tell."""
        record = _record_in(step, reply)
        return (
            isinstance(record, Mapping)
            and has_key(self._context.planned.key, record) is False
            and bool(self._id_of(step, reply, ""))
        )

    def _duplicate_of(self, step: Step, reply: CrmReply, label: str) -> Duplicate:
        """The failure of a create that was answered with an existing record, perhaps of the same e-mail."""
        crm_id = self._id_of(step, reply, "")
        shown = key_shown(self._context.planned.key, _record_in(step, reply))
        return Duplicate(
            f"{label}: the CRM answers with a record of another key, {of_crm(crm_id or '')}"
            f" ({mask_phones_in(shown)})",
            cause=f"{label}: the answer shows a record of another key",
            crm_id=crm_id,
        )

    def _names(self, sent: FieldSelection) -> dict[str, Any]:
        fields = {**sent.kept, **sent.fields}
        return {
            "key": dict(self._context.planned.key),
            "fields": fields,
            "links": dict(self._context.inline),
        }

    def _label(self, method: SyncMethod) -> str:
        return f"{self._context.label}, {method}"


def _is_repeated(method: SyncMethod, number: int, step: Step) -> bool:
    """Whether a retry sends a step again that is done, because what it captured may have changed since.

    The version that an update must carry changes whenever a person edits, or our own answer was lost.
    """
    makes = number == 0 and method is not SyncMethod.UPDATE
    return step.request.idempotent and bool(step.capture) and not makes and step.poll is None


def _record_in(step: Step, reply: CrmReply) -> Any:
    """The part of an answer that shows the record: the object around its id."""
    if reply.id is not None:
        return reply.answer.body
    place = step.id.text if step.id is not None else ""
    return None if not place or "{{" in place else dig(reply.answer.body, place.rpartition(".")[0] or ".")
