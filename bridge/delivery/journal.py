"""What one delivery remembers while it is on its way."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from bridge.ledger import Held, Note
from bridge.model.crm_state import CrmState, Progress, SyncedObject
from bridge.model.deliveries import Lease
from bridge.model.plan import Plan, PlannedObject, Skip


class DeliveryJournal:
    """What one delivery remembers: objects in the ledger, and its own progress."""

    def __init__(
        self,
        lease: Lease,
        account: str,
        plan: Plan,
        known: Mapping[str, CrmState],
        lines: Sequence[Held],
    ) -> None:
        self.lines = tuple(lines)
        self.account = account
        self.unsaved = False
        """Whether something must be on disk before anything is sent."""
        self._lease = lease
        self._progress = dict(lease.progress)
        self._known = known
        self._keys = {each.name: each.key_text for each in plan.objects if each.shared}
        self._unsure: dict[str, SyncedObject] = {}

    @property
    def in_doubt(self) -> bool:
        """Whether it is unknown what became of a request."""
        return any(each.sent_at is not None for each in self._progress.values())

    def recall(self, planned: PlannedObject) -> CrmState | None:
        """The object as it was last left."""
        return self._known.get(planned.name)

    def progress(self, name: str) -> Progress:
        """How far the delivery came with an object."""
        return self._progress.get(name, Progress())

    def note(self, name: str, progress: Progress, *, durable: bool) -> None:
        """How far it is now."""
        elsewhere = progress.elsewhere or self.progress(name).elsewhere
        self._progress[name] = replace(progress, key=self._keys.get(name, ""), elsewhere=elsewhere)
        self.unsaved = self.unsaved or durable

    def unsure(self, planned: PlannedObject, state: CrmState) -> None:
        """What is known of an object while a request is on its way."""
        self._unsure[planned.name] = SyncedObject(
            planned.name, planned.type, planned.key_text, state, planned.shared
        )
        self.unsaved = True

    def noted(self, done: Sequence[SyncedObject]) -> Note:
        """What is to be on disk now; what was done is remembered before the progress with it is forgotten."""
        objects = {each.object: each for each in done} | self._unsure
        self._unsure, self.unsaved = {}, False
        return Note(self._lease, self.account, self.left(), self.lines, tuple(objects.values()))

    def left(self) -> dict[str, Progress]:
        """What is worth keeping of it."""
        return {name: each for name, each in self._progress.items() if each != Progress(key=each.key)}


def last_sent(progress: Mapping[str, Progress]) -> datetime | None:
    """When the last request was sent of which nothing is known; None: there is none."""
    return max((each.sent_at for each in progress.values() if each.sent_at is not None), default=None)


def left_behind(progress: Mapping[str, Progress], plan: Plan | Skip) -> datetime | None:
    """When a request that is in doubt was sent about an object that is no longer planned; None: none was."""
    keys = {} if isinstance(plan, Skip) else {each.name: each.key_text for each in plan.objects}
    sent = [
        each.sent_at
        for name, each in progress.items()
        if each.sent_at is not None and (name not in keys or each.key not in ("", keys[name]))
    ]
    return max(sent, default=None)
