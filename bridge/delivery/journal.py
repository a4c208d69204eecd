"""The journal of a delivery during an attempt: what earlier requests have done, and how far it is now."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec.structs import replace

from bridge.ledger import ProgressNote
from bridge.model.crm_objects import KnownObject, SyncedObject
from bridge.model.deliveries import Lease, LockKey
from bridge.model.plan import Plan, PlannedObject, Skip
from bridge.model.sync_progress import SyncProgress


class DeliveryJournal:
    """What the ledger knows of a delivery's objects, and how far the delivery has come with each."""

    def __init__(
        self,
        lease: Lease,
        account: str,
        plan: Plan,
        known: Mapping[str, KnownObject],
        keys: Sequence[LockKey],
    ) -> None:
        self.keys = tuple(keys)
        """What its delivery has locked."""
        self.account = account
        self.unsaved = False
        """Whether something must be written to the ledger before the next request is sent."""
        self._lease = lease
        self._progress = dict(lease.progress)
        self._known = known
        self._keys = {each.name: each.key_text for each in plan.objects if each.shared}
        self._possible: dict[str, SyncedObject] = {}

    @property
    def in_doubt(self) -> bool:
        """Whether the outcome of a request is unknown."""
        return any(each.sent_at is not None for each in self._progress.values())

    def recall(self, planned: PlannedObject) -> KnownObject | None:
        """What was last sent to an object; None: nothing is known of it."""
        return self._known.get(planned.name)

    def progress(self, name: str) -> SyncProgress:
        """How far this delivery came with an object of its plan."""
        return self._progress.get(name, SyncProgress())

    def note(self, name: str, progress: SyncProgress, *, durable: bool) -> None:
        """Note how far it is now; `durable`: on disk before anything more is sent."""
        elsewhere = progress.elsewhere or self.progress(name).elsewhere
        self._progress[name] = replace(progress, key=self._keys.get(name, ""), elsewhere=elsewhere)
        self.unsaved = self.unsaved or durable

    def note_possible(self, planned: PlannedObject, known: KnownObject) -> None:
        """Note, on disk before a request is sent, what the object may hold until that is answered."""
        self._possible[planned.name] = SyncedObject(
            planned.name, planned.type, planned.key_text, known, planned.shared
        )
        self.unsaved = True

    def noted(self, done: Sequence[SyncedObject]) -> ProgressNote:
        """What must be on disk now; objects synced so far are among it, as their progress is dropped next."""
        objects = {each.object: each for each in done} | self._possible
        self._possible, self.unsaved = {}, False
        return ProgressNote(self._lease, self.account, self.left(), self.keys, tuple(objects.values()))

    def left(self) -> dict[str, SyncProgress]:
        """The progress that is kept: objects that were not begun are left out."""
        return {name: each for name, each in self._progress.items() if each != SyncProgress(key=each.key)}


def last_sent(progress: Mapping[str, SyncProgress]) -> datetime | None:
    """When the last request was sent whose outcome is unknown; None: there is none."""
    return max((each.sent_at for each in progress.values() if each.sent_at is not None), default=None)


def left_behind(progress: Mapping[str, SyncProgress], plan: Plan | Skip | None) -> datetime | None:
    """When the last request in doubt was sent for an object that is no longer planned; None: none was."""
    if not progress:
        return None
    keys = {each.name: each.key_text for each in plan.objects} if isinstance(plan, Plan) else {}
    sent = [
        each.sent_at
        for name, each in progress.items()
        if each.sent_at is not None and (name not in keys or each.key not in ("", keys[name]))
    ]
    return max(sent, default=None)
