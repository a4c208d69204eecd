"""Intake in SQLite: the door's records are filed in shared commits, and the judge's verdicts kept."""

from collections.abc import Sequence
from concurrent.futures import Future
from datetime import datetime

from bridge.ledger import Destinations
from bridge.ledger.sqlite import (
    filing,
    judging,
)
from bridge.ledger.sqlite.access import Access, looks
from bridge.lib.errors import LedgerBusy
from bridge.model.calls import Arrival, Filed, Judgment, Pending


class IntakePart(Access):
    """See `bridge.ledger.IntakeLedger`, which says what each method promises."""

    def submit(self, arrivals: Sequence[Arrival]) -> Future[list[Filed]]:
        """File arrivals in the next shared commit; on a full disk the future fails at once (`LedgerBusy`)."""
        if low := self._low_disk():
            refused: Future[list[Filed]] = Future()
            refused.set_exception(LedgerBusy(low))
            return refused
        filed = self._write().submit(lambda c: filing.file_arrivals(c, self._payloads, arrivals))
        filed.add_done_callback(self._look_again)
        return filed

    @looks
    def waiting(self, limit: int, sources: Sequence[str] | None = None) -> list[Pending]:
        """Read the oldest receipts without a verdict."""
        return judging.waiting(self._reader, self._payloads, limit, sources)

    def judge(self, judgments: Sequence[Judgment], destinations: Destinations, now: datetime) -> None:
        """Write verdicts, and the deliveries that they make due, in one commit."""
        self._write().run(lambda c: judging.write_judgments(c, self._payloads, judgments, destinations, now))

    def set_aside(self, pending: Pending, reason: str, destinations: Destinations, now: datetime) -> None:
        """Quarantine a receipt's record, and park its call's deliveries, in one commit."""
        self._write().run(lambda c: judging.set_aside(c, self._payloads, pending, reason, destinations, now))

    def _look_again(self, filed: Future[list[Filed]]) -> None:
        """A commit that failed may be the disk's fault: look before the next one."""
        if filed.exception() is not None:
            self._forget_space()
