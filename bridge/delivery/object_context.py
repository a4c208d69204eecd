"""What all parts of one object's sync share: the plan, the connector's object type, and the journal."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

import msgspec

from bridge.crm.connector import ObjectType
from bridge.lib.errors import InDoubt, Permanent
from bridge.model.crm_objects import KnownObject
from bridge.model.plan import PlannedObject
from bridge.model.sync_progress import (
    NOT_STARTED,
    Forgotten,
    Linking,
    LookingAgain,
    Running,
    SyncProgress,
    SyncState,
)


class Journal(Protocol):
    """What a delivery knows of earlier requests, and where it records its own."""

    def recall(self, planned: PlannedObject) -> KnownObject | None:
        """What was last sent to an object; None: nothing is known of it."""

    def progress(self, name: str) -> SyncProgress:
        """How far this delivery came with an object of its plan."""

    def note(self, name: str, progress: SyncProgress, *, durable: bool) -> None:
        """Note how far it is now; `durable`: on disk before anything more is sent."""

    def note_possible(self, planned: PlannedObject, known: KnownObject) -> None:
        """Note, on disk before a request is sent, what the object may hold until that is answered."""


class ObjectJournal:
    """What one attempt knows of an object, and where it notes its progress."""

    def __init__(
        self, journal: Journal, planned: PlannedObject, known: KnownObject | None, progress: SyncProgress
    ) -> None:
        self._journal = journal
        self._planned = planned
        self.known = known
        """What was last sent to the object; None: nothing, or to another one that stood in its place."""
        self.progress = progress
        state = progress.state
        self.may_have_arrived = isinstance(state, Running) and state.sent_at is not None
        """Whether a request without an answer may have been processed."""
        is_forgotten = isinstance(state, Forgotten | LookingAgain)
        self.may_hold_ours = is_forgotten or (known is not None and not known.crm_id)
        """Whether the object may hold what a replay, or a create without an answer, left there."""
        # A create without a confirmed answer has no event at its fields: `DoubtSettler` looks it up.
        self.may_be_unindexed = is_forgotten or (
            self.may_hold_ours
            and known is not None
            and all(each.event for each in known.last_writes.values())
        )
        """Whether it may exist although a look-up does not find it yet."""
        self.gone: set[str] = set()
        """The ids that the CRM said are not there, within this attempt."""
        self.searched_successor = False
        """Whether this attempt has looked once for what took the place of a deleted object."""

    @property
    def known_id(self) -> str | None:
        """The id under which it was last sent to; what is known without an id tells only of its fields."""
        return (self.known.crm_id or None) if self.known is not None else None

    def set(self, progress: SyncProgress, *, durable: bool = False) -> None:
        """Note how far it is now; `durable`: on disk before anything more is sent."""
        self.progress = progress
        self._journal.note(self._planned.name, progress, durable=durable)

    def restart(self, state: SyncState = NOT_STARTED) -> None:
        """Note another state; of the progress before only what was added stays known."""
        self.set(self.progress.restarted(state))

    def note_possible(self, known: KnownObject) -> None:
        """Note, on disk before a request is sent, what the object may hold until that is answered."""
        self._journal.note_possible(self._planned, known)

    def keep_if(self, crm_id: str) -> None:
        """Keep what is known only if it is of the object with this id; else the object was replaced."""
        if self.known_id not in (None, crm_id):
            self.known = None

    def forget(self) -> None:
        """Forget all that is known and done, because the object is gone."""
        self.known = None
        self.restart()


class ObjectContext(msgspec.Struct, frozen=True):
    """Everything that the parts of one object's sync read; the journal is the only part that changes."""

    kind: ObjectType
    planned: PlannedObject
    inline: Mapping[str, Any]
    """The links that travel among its fields: link → `{"id", "key"}` of the other object."""
    sent_digest: bytes
    """The digest of all that the call says of the object, `inline` included."""
    event: str
    """The call's place among all calls: newer ones sort behind it."""
    clock: Callable[[], datetime]
    journal: ObjectJournal

    @property
    def label(self) -> str:
        """Its name in messages."""
        return f"object {self.planned.name}"


def refuse_doubt(planned: PlannedObject, state: Running | Linking) -> None:
    """Refuse to send again what must not be sent twice, unless a person has looked and it is not there.

    Raises:
        InDoubt: nothing tells whether it was processed.
    """
    if not state.absent:
        sent = f"link {state.link}" if isinstance(state, Linking) else state.method.value
        raise InDoubt(
            f"object {planned.name}, {sent}: sent at {state.sent_at:%Y-%m-%d %H:%M:%S} UTC, and"
            " nothing tells whether it was processed",
            cause=f"object {planned.name}, {sent}: nothing tells whether it was processed",
        )


def parking_error(
    label: str, message: str, cause: str, remedy: str, kind: type[Permanent] = Permanent
) -> Permanent:
    """A permanent failure, which parks the delivery; `remedy` follows its message."""
    error = kind(f"{message}. {remedy}", cause=f"{label}: {cause}")
    error.says = remedy
    return error
