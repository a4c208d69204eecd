"""Resolves a CRM's contradictions: a "duplicate" that no search finds, a record both gone and found."""

from datetime import datetime

from bridge.delivery.crm_requests import RequestFlow
from bridge.delivery.lookup import FoundObject, Lookup
from bridge.delivery.object_context import ObjectContext, parking_error
from bridge.lib.errors import DeliveryError, Duplicate, Transient
from bridge.lib.phone import mask_phones_in, of_crm
from bridge.model.sync_progress import AwaitingDuplicate

MOST_LOOKS = 3
"""How many attempts wait for the index to show a duplicate; the last one only counts after `index_lag`."""


class DuplicateResolver:
    """Finds the record that a create is a duplicate of; where the index lags, a few attempts wait for it."""

    def __init__(self, context: ObjectContext, lookup: Lookup) -> None:
        self._context = context
        self._lookup = lookup
        state = context.journal.progress.state
        # Read at construction, because requests that are sent later replace the state in the journal.
        self._waited = state if isinstance(state, AwaitingDuplicate) else None

    def find(self, error: Duplicate) -> RequestFlow[FoundObject | None]:
        """The record with our key, for which the CRM refuses ours; None: none is found yet.

        The id that the CRM names proves nothing by itself: it may be that of somebody with the same name or
        e-mail address, or of a record that a person deleted.

        Raises:
            Permanent: the record is deleted, or has another key.
        """
        label, named, gone = self._context.label, error.crm_id, self._context.journal.gone
        shown, deleted = None, named is not None and named in gone
        read = self._context.kind.read
        if named is not None and not deleted and read is not None and read.by_id:
            shown = yield from self._lookup.read(named)
            deleted = shown is None
        if shown is not None and self._lookup.has_key(shown):
            return shown
        found = yield from self._lookup.find()
        if found is not None and found.id not in gone:
            return found
        if deleted:
            raise parking_error(
                label,
                f"{error}. The CRM keeps the id of a deleted record, {of_crm(named or '')}",
                "the CRM keeps the id of a deleted record",
                "Restore the record in the CRM, or purge it from its bin; then retry",
            ) from error
        if shown is not None and self._lookup.has_key(shown) is False:
            ours = mask_phones_in(self._context.planned.key_text)
            raise parking_error(
                label,
                f"{error}. The CRM takes it for a duplicate of {of_crm(shown.id)}, which has another key"
                f" ({self._lookup.shown_key(shown)}; ours is {ours})",
                "the CRM takes it for a duplicate of a record with another key",
                "Let the CRM's duplicate rule compare this key alone, or merge the two there; then retry",
            ) from error
        return None

    def not_seen(self, error: Duplicate) -> DeliveryError:
        """The failure of a duplicate that no look-up finds: tried again while the index lags, then parked."""
        looks, since = self._looks()
        if not self._is_last_look(looks, since):
            return self._look_again(looks, since, f"{error}. It is not found by its key yet", error.cause)
        named = f" of {of_crm(error.crm_id)}" if error.crm_id else ""
        return parking_error(
            self._context.label,
            f"{error}. It is a duplicate{named}, says the CRM, and nothing is found by its key after"
            f" {looks} looks: the CRM keeps the id of a deleted record, or means one with another key",
            "a duplicate of what is not found by its key",
            "Look for it in the CRM, its bin included: restore it, correct its key, or correct the"
            " connector's find; then retry",
        )

    def contradicted(self, gone: str) -> DeliveryError:
        """The failure of a record that is gone by its id and found by its key: the index may lag."""
        label = self._context.label
        message = f"{label}: the CRM says that {of_crm(gone)} is gone, and finds it by its key"
        looks, since = self._looks()
        if not self._is_last_look(looks, since):
            cause = f"{label}: gone for the CRM, and found by its key"
            return self._look_again(looks, since, message, cause)
        return parking_error(
            label,
            message,
            "gone for the CRM, and found by its key",
            "Look for it in the CRM, its bin included, and at the rights of the CRM's user; then retry",
        )

    def _looks(self) -> tuple[int, datetime]:
        """How many attempts have waited for the index, this one included, and since when."""
        if self._waited is None:
            return 1, self._context.clock()
        return self._waited.looks + 1, self._waited.since

    def _is_last_look(self, looks: int, since: datetime) -> bool:
        return looks > MOST_LOOKS and self._context.clock() >= since + self._context.kind.index_lag

    def _look_again(self, looks: int, since: datetime, message: str, cause: str) -> DeliveryError:
        self._context.journal.restart(AwaitingDuplicate(looks, since))
        return Transient(message, cause=cause, retry_after=self._context.kind.look_again_after)
