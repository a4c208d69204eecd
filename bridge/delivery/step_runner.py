"""The steps of a `create`, `update` or `upsert`: sent in order, each once, whatever is lost on the way."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from bridge.crm.connector import ObjectType
from bridge.crm.connector.compiling import Values, dig
from bridge.crm.connector.steps import Step
from bridge.crm.key_matching import has_key, key_shown, object_id
from bridge.delivery.job_poller import JobPoller
from bridge.delivery.lookup import CrmReply, CrmRequest, Lookup, ObjectJournal, RequestFlow, Setting, parked
from bridge.delivery.write_policy import FieldSelection, Present, maybe, unsure
from bridge.lib.errors import DeliveryError, Duplicate, InDoubt, Permanent, Transient
from bridge.lib.expression import ExpressionError
from bridge.lib.phone import mask_phones_in, of_crm
from bridge.model.crm_state import CrmState, Progress, Sign
from bridge.model.plan import PlannedObject

REREAD_FOR = timedelta(hours=6)
"""How long a record whose creation told no id is looked for, with its line held, before a person is asked."""


class StepRunner:
    """Runs the steps of one object, and notes before and after each how far they came."""

    def __init__(
        self,
        setting: Setting,
        kind: ObjectType,
        planned: PlannedObject,
        inline: Mapping[str, Any],
        told: bytes,
        *,
        journal: ObjectJournal,
        looking: Lookup,
        job: JobPoller,
    ) -> None:
        """`inline`: the links that go with its fields; `told`: the digest of what it is told."""
        self._setting = setting
        self._kind = kind
        self._planned = planned
        self._inline = inline
        self._told = told
        self._journal = journal
        self._looking = looking
        self._job = job
        self._what = f"object {planned.name}"
        self._remembered: CrmState | None = None
        self._shown: Present | None = None
        """The object's fields as the steps' answers carried them."""

    def run(
        self,
        way: str,
        steps: Sequence[Step],
        chosen: FieldSelection,
        crm_id: str | None,
        remembered: CrmState | None,
    ) -> RequestFlow[tuple[str, FieldSelection]]:
        """All steps; the object's id, and what was chosen beside what the CRM made of it.

        `remembered` is the object as it was left before.
        """
        self._remembered, self._shown = remembered, None
        crm_id = yield from self._steps(way, steps, chosen, crm_id)
        return crm_id, (yield from self._looking.checked(chosen, crm_id, self._shown, fresh=way != "update"))

    def _steps(
        self, way: str, steps: Sequence[Step], chosen: FieldSelection, crm_id: str | None
    ) -> RequestFlow[str]:
        begun = self._begun(way, crm_id)
        captured, found = dict(begun.captured), begun.crm_id
        adding = begun.adding or {
            name: sign for name, sign in chosen.appended.items() if name in chosen.fields
        }
        for number, step in enumerate(steps):
            known = {**self._names(chosen), "id": found, "captured": captured}
            what = f"{self._what}, {way}" + ("" if len(steps) == 1 else f" step {step.name}")
            again = number < begun.step and self._asked_again(way, number, step)
            if (number < begun.step and not again) or not self._applies(step, known):
                continue
            if again:
                told: CrmReply = yield CrmRequest(step, known, what)
                captured |= {name: pick.of_answer(told.answer) for name, pick in step.capture.items()}
                continue
            reply, found = yield from self._step(way, number, CrmRequest(step, known, what), adding)
            self._note_shown(step, reply)
            captured |= {name: pick.of_answer(reply.answer) for name, pick in step.capture.items()}
            if step.poll is not None:
                yield from self._follow_job(way, number, captured, found)
                captured, found = dict(self._journal.progress.captured), self._journal.progress.crm_id
                if self._journal.progress.step <= number:
                    # Its answer was lost with it, and a look-up has found what it made.
                    break
                continue
            done = replace(
                self._journal.progress,
                way=way,
                step=number + 1,
                captured=captured,
                crm_id=found,
                sent_at=None,
            )
            self._journal.set(done, durable=not step.request.idempotent and number + 1 < len(steps))
        if found is None and any(step.reread for step in steps):
            found = yield from self._reread(way, len(steps))
        if found is None and any(step.id is not None for step in steps):
            raise Permanent(
                f"{self._what}, {way}: the step that tells the id was left out. Correct its `when`"
            )
        self._journal.set(Progress(appended={**chosen.appended, **adding}))
        # A CRM without ids of its own knows the object by its key.
        return found if found is not None else self._planned.key_text

    def _begun(self, way: str, crm_id: str | None) -> Progress:
        """How far earlier tries came with these steps; nowhere, where they were told something else."""
        progress = self._journal.progress
        if progress.way != way or progress.step == 0 or (way != "create" and progress.told != self._told):
            self._journal.progress = Progress(crm_id=crm_id, told=self._told, appended=progress.appended)
        return self._journal.progress

    def _follow_job(
        self, way: str, number: int, captured: Mapping[str, Any], crm_id: str | None
    ) -> RequestFlow[None]:
        """Note the job that a step has begun, on disk before anything is asked, and ask for it."""
        begun = replace(self._journal.progress, way=way, step=number, captured=captured, crm_id=crm_id)
        self._journal.set(replace(begun, sent_at=self._setting.clock(), polled=True), durable=True)
        yield from self._job.ask()

    def _note_shown(self, step: Step, reply: CrmReply) -> None:
        """What an answer to a write shows of the object; one that cannot be read shows nothing."""
        try:
            shown = self._looking.in_our_form(step.fields.of_answer(reply.answer) if step.fields else None)
        except Permanent:
            return
        if shown is not None:
            self._shown = {**(self._shown or {}), **shown}

    @staticmethod
    def _asked_again(way: str, number: int, step: Step) -> bool:
        """What a retry asks once more: what was told before the step that failed may have changed since.

        A version that an update must carry does so whenever a person edits, or our own answer was lost.
        """
        makes = number == 0 and way != "update"
        return step.request.idempotent and bool(step.capture) and not makes and step.poll is None

    def _applies(self, step: Step, known: Values) -> bool:
        try:
            return step.when is None or step.when.decides(known)
        except ExpressionError as error:
            raise Permanent(f"{self._what}, step {step.name}: `when` cannot be decided: {error}") from error

    def _reread(self, way: str, steps: int) -> RequestFlow[str]:
        """The id of an object whose creation did not tell it; it is never made again, only looked for."""
        if self._journal.progress.sent_at is None:
            self._journal.set(
                replace(self._journal.progress, way=way, step=steps, sent_at=self._setting.clock())
            )
        found = yield from self._looking.find()
        since: datetime = self._journal.progress.sent_at or self._setting.clock()
        if found is None and self._setting.clock() >= since + REREAD_FOR + self._kind.index_lag:
            raise parked(
                self._what,
                f"{self._what}: created, and not found by its key for {REREAD_FOR}",
                "created, and not found by its key",
                "Look for it in the CRM: correct its key there, or the connector's find; then retry, which"
                " only looks for it",
            )
        if found is None:
            raise Transient(
                f"{self._what}: created, and not found by its key yet",
                cause=f"{self._what}: created, and not found by its key",
                retry_after=self._kind.look_again_after,
            )
        return found.id

    def _step(
        self, way: str, number: int, ask: CrmRequest, adding: Mapping[str, Sign]
    ) -> RequestFlow[tuple[CrmReply, str | None]]:
        """One step's reply, and the object's id after it."""
        before = self._journal.progress
        left = self._remembered
        if left is not None and left.crm_id and left.crm_id == before.crm_id:
            self._setting.journal.unsure(self._planned, unsure(left, self._planned, ask.names["fields"]))
        elif way == "create" and (last_writes := maybe(self._planned, ask.names["fields"])):
            self._setting.journal.unsure(self._planned, CrmState("", last_writes=last_writes))
        assert isinstance(ask.of, Step)  # noqa: S101 -- for the type checker: it is asked for here only
        if adding or not ask.request.idempotent or ask.of.poll is not None:
            now = self._setting.clock()
            self._journal.set(replace(before, way=way, step=number, sent_at=now, adding=adding), durable=True)
        try:
            reply = yield ask
            makes = way == "create" and number == 0
            return reply, self._believed_id(ask, ask.of, reply, before.crm_id, makes=makes)
        except InDoubt as error:
            self._doubt()
            if self._journal.progress.sent_at is None or not self._kind.shows(way, number):
                raise
            raise Transient(
                f"{error}. It is looked up before anything is sent again",
                cause=error.cause,
                retry_after=self._kind.look_again_after,
                blame=error.blame,
            ) from error
        except DeliveryError as error:
            if (adding or ask.of.poll is not None) and error.doubtful:
                self._doubt()
            else:
                # Refused, so there is nothing in doubt, and what was begun with it is not begun.
                self._journal.set(before if number else Progress(appended=before.appended))
            raise

    def _doubt(self) -> None:
        """It was noted before it waited for its turn, and sent later: until now, for all we know."""
        if self._journal.progress.sent_at is not None:
            self._journal.set(replace(self._journal.progress, sent_at=self._setting.clock()))

    def _id_of(self, step: Step, reply: CrmReply, before: str | None) -> str | None:
        if step.id is None and reply.id is None:
            return before
        value = reply.id if step.id is None or reply.id is not None else step.id.of_answer(reply.answer)
        if (told := object_id(value)) is not None:
            return told
        if before is None and not step.reread and step.poll is None:
            # It was sent, and what came of it is unknown: `sent_at` stays.
            raise InDoubt(f"{self._what}: the answer carries no id at {step.id.text if step.id else '.'!r}")
        return before

    def _believed_id(
        self, ask: CrmRequest, step: Step, reply: CrmReply, before: str | None, *, makes: bool
    ) -> str | None:
        """The id that an answer tells; not that of a record which it shows with another key."""
        if self._is_strangers(step, reply):
            if makes and self._kind.find:
                raise self._duplicate_of(step, reply, ask.what)
            if before is not None:
                return before
        return self._id_of(step, reply, before)

    def _record_in(self, step: Step, reply: CrmReply) -> Any:
        """What an answer shows of the record: what stands around its id."""
        if reply.id is not None:
            return reply.answer.body
        place = step.id.text if step.id is not None else ""
        return None if not place or "{{" in place else dig(reply.answer.body, place.rpartition(".")[0] or ".")

    def _is_strangers(self, step: Step, reply: CrmReply) -> bool:
        """Whether an answer shows a record with another key; where it shows only an id, nobody can tell."""
        record = self._record_in(step, reply)
        return (
            isinstance(record, Mapping)
            and has_key(self._planned.key, record) is False
            and bool(self._id_of(step, reply, ""))
        )

    def _duplicate_of(self, step: Step, reply: CrmReply, what: str) -> Duplicate:
        """A CRM whose rule goes by the e-mail address may answer "created" with who was there already."""
        crm_id, shown = (
            self._id_of(step, reply, ""),
            key_shown(self._planned.key, self._record_in(step, reply)),
        )
        return Duplicate(
            f"{what}: the CRM answers with a record of another key, {of_crm(crm_id or '')}"
            f" ({mask_phones_in(shown)})",
            cause=f"{what}: the answer shows a record of another key",
            crm_id=crm_id,
        )

    def _names(self, chosen: FieldSelection) -> dict[str, Any]:
        fields = {**chosen.kept, **chosen.fields}
        return {"key": dict(self._planned.key), "fields": fields, "links": dict(self._inline)}
