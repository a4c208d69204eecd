"""What a CRM refuses a create for, "it exists already", and what it says is gone and shows all the same."""

from datetime import datetime

from bridge.crm.connector import ObjectType
from bridge.delivery.lookup import FoundObject, Lookup, ObjectJournal, RequestFlow, Setting, parked
from bridge.lib.errors import DeliveryError, Duplicate, Transient
from bridge.lib.phone import mask_phones_in, of_crm
from bridge.model.crm_state import Progress
from bridge.model.plan import PlannedObject

_TAKEN = "taken"
"""The way of a create that was refused as a duplicate of what nobody finds; `step` counts the tries."""
MOST_LOOKS = 3
"""How many tries wait for the index to show a duplicate; the last one only counts after `index_lag`."""


class DuplicateResolver:
    """Finds the record that a create is a duplicate of; where the index lags, a few tries wait for it."""

    def __init__(
        self,
        setting: Setting,
        kind: ObjectType,
        planned: PlannedObject,
        looking: Lookup,
        journal: ObjectJournal,
        gone: set[str],
    ) -> None:
        """`gone` are the ids that the CRM said are not there, within this try."""
        self._setting = setting
        self._kind = kind
        self._planned = planned
        self._looking = looking
        self._journal = journal
        self._gone = gone
        self._what = f"object {planned.name}"
        self._taken = journal.progress if journal.progress.way == _TAKEN else None

    def find(self, error: Duplicate) -> RequestFlow[FoundObject | None]:
        """What the CRM has in its place: what is found by the key, or has it; an id alone proves nothing.

        It may be about a namesake, about who has the same e-mail address, or about what a person deleted.
        """
        named = error.crm_id
        shown, deleted = None, named is not None and named in self._gone
        if named is not None and not deleted and self._kind.read is not None and self._kind.read.by_id:
            shown = yield from self._looking.read(named)
            deleted = shown is None
        if shown is not None and self._looking.has_key(shown):
            return shown
        found = yield from self._looking.find()
        if found is not None and found.id not in self._gone:
            return found
        if deleted:
            raise parked(
                self._what,
                f"{error}. The CRM keeps the id of a deleted record, {of_crm(named or '')}",
                "the CRM keeps the id of a deleted record",
                "Restore the record in the CRM, or purge it from its bin; then retry",
            ) from error
        if shown is not None and self._looking.has_key(shown) is False:
            raise parked(
                self._what,
                f"{error}. The CRM takes it for a duplicate of {of_crm(shown.id)}, which has another key"
                f" ({self._looking.shown_key(shown)}; ours is {mask_phones_in(self._planned.key_text)})",
                "the CRM takes it for a duplicate of a record with another key",
                "Let the CRM's duplicate rule compare this key alone, or merge the two there; then retry",
            ) from error
        return None

    def not_seen(self, error: Duplicate) -> DeliveryError:
        """A duplicate of what nobody finds: the index may lag, but not for ever."""
        looks, since = self._looks()
        if self._is_last_look(looks, since):
            named = f" of {of_crm(error.crm_id)}" if error.crm_id else ""
            return parked(
                self._what,
                f"{error}. It is a duplicate{named}, says the CRM, and nothing is found by its key after"
                f" {looks} looks: the CRM keeps the id of a deleted record, or means one with another key",
                "a duplicate of what is not found by its key",
                "Look for it in the CRM, its bin included: restore it, correct its key, or correct the"
                " connector's find; then retry",
            )
        self._note_look(looks, since)
        message = f"{error}. It is not found by its key yet"
        return Transient(message, cause=error.cause, retry_after=self._kind.look_again_after)

    def contradicted(self, gone: str) -> DeliveryError:
        """The CRM says that a record is gone and finds it by its key: its index may lag behind a deletion."""
        message = f"{self._what}: the CRM says that {of_crm(gone)} is gone, and finds it by its key"
        cause = f"{self._what}: gone for the CRM, and found by its key"
        looks, since = self._looks()
        if self._is_last_look(looks, since):
            return parked(
                self._what,
                message,
                "gone for the CRM, and found by its key",
                "Look for it in the CRM, its bin included, and at the rights of the CRM's user; then retry",
            )
        self._note_look(looks, since)
        return Transient(message, cause=cause, retry_after=self._kind.look_again_after)

    def _looks(self) -> tuple[int, datetime]:
        """How many tries have waited for the index, this one counted, and since when."""
        if self._taken is None:
            return 1, self._setting.clock()
        return self._taken.step + 1, datetime.fromisoformat(self._taken.captured["since"])

    def _is_last_look(self, looks: int, since: datetime) -> bool:
        return looks > MOST_LOOKS and self._setting.clock() >= since + self._kind.index_lag

    def _note_look(self, looks: int, since: datetime) -> None:
        appended = self._journal.progress.appended
        self._journal.set(
            Progress(_TAKEN, step=looks, captured={"since": since.isoformat()}, appended=appended)
        )
