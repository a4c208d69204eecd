"""How far one delivery has come with one CRM object: one state for each stage of a create, update or upsert.

`StoredProgress` is the form in which every release has kept it; only this module reads and writes that form.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from bridge.model.crm_objects import Fingerprint


class SyncMethod(StrEnum):
    """Which of a connector's step lists is being sent."""

    CREATE = "create"
    UPDATE = "update"
    UPSERT = "upsert"


class NotStarted(msgspec.Struct, frozen=True):
    """Nothing was sent for this object, or all that was sent has been answered."""


NOT_STARTED = NotStarted()


class Located(msgspec.Struct, frozen=True):
    """A look-up has told the object's id, and nothing has been sent to it since."""

    crm_id: str


class Forgotten(msgspec.Struct, frozen=True):
    """The object was sent before and must be sent again: after a forced replay, or a changed key.

    It is looked up first, so that nothing is appended a second time.
    """


class LookingAgain(msgspec.Struct, frozen=True):
    """A look-up found nothing at `since`; that counts only once the CRM's index has caught up."""

    crm_id: str | None
    since: datetime


class AwaitingDuplicate(msgspec.Struct, frozen=True):
    """A create was refused as a duplicate of a record that no look-up has found yet.

    `looks` tries have waited for the index since `since`.
    """

    looks: int
    since: datetime


class Running(msgspec.Struct, frozen=True):
    """The steps of a create, update or upsert are being sent."""

    method: SyncMethod
    step: int = 0
    """The next step to send, counted from 0."""
    crm_id: str | None = None
    captured: Mapping[str, Any] = {}
    """What the steps before it captured from their answers."""
    sent_digest: bytes = b""
    """The digest of what the steps before it were sent: other values start again at step 0."""
    sent_at: datetime | None = None
    """When `step` was sent; None: it was not, or its answer is known."""
    absent: bool = False
    """Whether a person has looked and found nothing; counts only where no look-up can tell."""
    polled: bool = False
    """Whether the CRM took `step` as a job: the job is asked for, and the step not sent again."""

    def continues(self, method: SyncMethod, sent_digest: bytes) -> bool:
        """Whether steps of this method go on here; a create does even where the call has changed since.

        A create is finished as it was begun, and updated afterwards: its first step made the object.
        """
        is_same = self.method is method and self.step > 0
        return is_same and (method is SyncMethod.CREATE or self.sent_digest == sent_digest)


class Linking(msgspec.Struct, frozen=True):
    """A link that must not be made twice was sent at `sent_at`."""

    link: str
    crm_id: str | None
    sent_at: datetime
    absent: bool = False
    """Whether a person has looked, and the link is not there."""


class RecordFaults(msgspec.Struct, frozen=True):
    """The faults that a delivery's record has caused; kept beside the states of its objects."""

    count: int
    details: Mapping[str, Any]


SyncState = (
    NotStarted | Located | Forgotten | LookingAgain | AwaitingDuplicate | Running | Linking | RecordFaults
)


class SyncProgress(msgspec.Struct, frozen=True):
    """How far one delivery has come with one object."""

    state: SyncState = NOT_STARTED
    appended: Mapping[str, Fingerprint] = {}
    """Fields to which this call's value has been added."""
    adding: Mapping[str, Fingerprint] = {}
    """Fields to which it may have been added: each is looked up before anything is added."""
    key: str = ""
    """The key of a shared object: this progress does not hold for an object with another key."""
    elsewhere: Mapping[str, Mapping[str, Fingerprint]] = {}
    """What may have been added to other objects, which the call fed before its key changed: key → field."""

    @property
    def sent_at(self) -> datetime | None:
        """Since when something is in doubt: a request without an answer, or a look-up that found nothing."""
        match self.state:
            case Running(sent_at=moment) | Linking(sent_at=moment) | LookingAgain(since=moment):
                return moment
        return None

    @property
    def crm_id(self) -> str | None:
        """The object's id, as far as this delivery has learned it."""
        match self.state:
            case Located() | LookingAgain() | Running() | Linking():
                return self.state.crm_id
        return None

    @property
    def steps_done(self) -> int:
        """How many steps of a create, update or upsert are done."""
        return self.state.step if isinstance(self.state, Running) else 0

    def with_sent_at(self, moment: datetime) -> "SyncProgress":
        """The same progress, with its doubt counted from another moment."""
        match self.state:
            case Running(sent_at=datetime()) | Linking():
                return replace(self, state=replace(self.state, sent_at=moment))
            case LookingAgain():
                return replace(self, state=replace(self.state, since=moment))
        return self

    def restarted(self, state: SyncState = NOT_STARTED) -> "SyncProgress":
        """The same delivery's progress from another state on; only what was appended stays known."""
        return SyncProgress(state, appended=self.appended)

    def moved(self, key: str) -> "SyncProgress":
        """The progress for the object with another key, which the call may have fed before."""
        elsewhere = {**self.elsewhere, self.key: {**self.appended, **self.adding}}
        return SyncProgress(Forgotten(), adding=elsewhere.pop(key, {}), elsewhere=elsewhere)


class StoredProgress(NamedTuple):
    """One object's progress as ledgers keep it: these twelve values in this order.

    Releases read one another's ledgers, so no value may change its place or its meaning. `polled` is written
    only where it is true: releases before it expect eleven values.
    """

    way: str
    """`""`, `again`, `look`, `taken`, `create`, `update`, `upsert`, `link NAME` or `faults`."""
    step: int
    captured: Mapping[str, Any]
    crm_id: str | None
    sent_digest: bytes
    sent_at: datetime | None
    appended: Mapping[str, Fingerprint]
    key: str
    adding: Mapping[str, Fingerprint]
    absent: bool
    elsewhere: Mapping[str, Mapping[str, Fingerprint]]
    polled: bool = False


_LINK = "link "
_METHODS = frozenset(SyncMethod)


def to_stored(progress: SyncProgress) -> StoredProgress:
    """Progress in its stored form."""
    way, step, sent_digest, absent, polled = "", 0, b"", False, False
    captured: Mapping[str, Any] = {}
    match progress.state:
        case Running() as run:
            way, step, captured, sent_digest = run.method.value, run.step, run.captured, run.sent_digest
            absent, polled = run.absent, run.polled
        case Linking(link=link, absent=absent):
            way = f"{_LINK}{link}"
        case Forgotten():
            way = "again"
        case LookingAgain():
            way = "look"
        case AwaitingDuplicate(looks=step, since=since):
            way, captured = "taken", {"since": since.isoformat()}
        case RecordFaults(count=step, details=captured):
            way = "faults"
    return StoredProgress(
        way,
        step,
        dict(captured),
        progress.crm_id,
        sent_digest,
        progress.sent_at,
        dict(progress.appended),
        progress.key,
        dict(progress.adding),
        absent,
        {key: dict(added) for key, added in progress.elsewhere.items()},
        polled,
    )


def from_stored(stored: StoredProgress) -> SyncProgress:
    """The inverse of `to_stored`."""
    return SyncProgress(
        _state_of(stored),
        appended=stored.appended,
        adding=stored.adding,
        key=stored.key,
        elsewhere=stored.elsewhere,
    )


def _state_of(stored: StoredProgress) -> SyncState:
    way, crm_id, sent_at = stored.way, stored.crm_id, stored.sent_at
    state: SyncState = NOT_STARTED if crm_id is None else Located(crm_id)
    if way in _METHODS:
        state = Running(
            SyncMethod(way),
            stored.step,
            crm_id,
            stored.captured,
            stored.sent_digest,
            sent_at,
            stored.absent,
            stored.polled,
        )
    elif way == "again":
        state = Forgotten()
    elif way == "look" and sent_at is not None:
        state = LookingAgain(crm_id, sent_at)
    elif way == "taken":
        state = AwaitingDuplicate(stored.step, datetime.fromisoformat(stored.captured["since"]))
    elif way.startswith(_LINK) and sent_at is not None:
        state = Linking(way.removeprefix(_LINK), crm_id, sent_at, stored.absent)
    elif way == "faults":
        state = RecordFaults(stored.step, stored.captured)
    return state
