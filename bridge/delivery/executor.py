"""Execute: drives attempts to their ends, and sends requests of one kind together where the CRM allows it."""

from collections.abc import Sequence
from datetime import datetime

from bridge.crm.client import Crm
from bridge.delivery.attempt import Attempt
from bridge.delivery.batch import BatchSender, batch_of
from bridge.delivery.crm_requests import CrmResult
from bridge.delivery.poison_records import Successes, room_for
from bridge.delivery.request_sender import RequestSender
from bridge.ledger import DeliveryLedger
from bridge.lib.errors import LedgerError


class Executor:
    """Executes attempts for one worker and one destination."""

    def __init__(self, sender: RequestSender, ledger: DeliveryLedger, successes: Successes) -> None:
        """`ledger` keeps what must be on disk before anything is sent."""
        self._sender = sender
        self._batches = BatchSender(sender.crm, sender.ask)
        self._ledger = ledger
        self._successes = successes

    @property
    def crm(self) -> Crm:
        """The CRM that requests are sent to."""
        return self._sender.crm

    def drive(self, attempts: Sequence[Attempt], now: datetime) -> None:
        """Take all attempts, which begin now, to their ends.

        Raises:
            LedgerError: what must be on disk could not be written; the attempts stay where they are.
        """
        for attempt in attempts:
            attempt.begin(now)
        while waiting := [attempt for attempt in attempts if attempt.wanted is not None]:
            self._note_intents(attempts)
            for group in _ready(_groups(waiting)):
                self._send(group)

    def _note_intents(self, attempts: Sequence[Attempt]) -> None:
        """Commit what the attempts are about to send, all at once."""
        notes = [each.journal.noted(each.sync.done) for each in attempts if each.journal.unsaved]
        if notes:
            self._ledger.note(notes)

    def _send(self, group: Sequence[Attempt]) -> None:
        try:
            results = self._results(group)
        except LedgerError:
            # A new token could not be saved: the ledger is busy, and no attempt is to blame.
            raise
        except Exception as fault:  # noqa: BLE001 -- a fault of ours ends this group and no other
            for attempt in group:
                attempt.break_off(fault)
            return
        for attempt, result in zip(group, results, strict=True):
            attempt.go_on(result)

    def _results(self, group: Sequence[Attempt]) -> list[CrmResult]:
        requests = [attempt.wanted for attempt in group if attempt.wanted is not None]
        self._sender.begin_group(
            min(attempt.lane for attempt in group),
            suspects=all(
                each.earlier_faults is not None and each.earlier_faults.others_succeeded(self._successes)
                for each in group
            ),
        )
        if len(requests) > 1:
            return self._batches.send_together(requests)
        return [self._batches.send_alone(requests[0])]


def _groups(waiting: Sequence[Attempt]) -> list[list[Attempt]]:
    """Groups of attempts that wait for the same kind of request, as many together as one request takes."""
    groups: list[list[Attempt]] = []
    open_groups: dict[tuple[int, int], list[Attempt]] = {}
    for attempt in waiting:
        assert attempt.wanted is not None  # noqa: S101 -- it waits
        batch = batch_of(attempt.wanted)
        if batch is None:
            groups.append([attempt])
            continue
        # A delivery that has spoiled a batch goes with few others or alone, so that these are delivered.
        room = room_for(attempt.earlier_faults, batch.max)
        kind = id(attempt.wanted.operation), room
        group = open_groups.get(kind)
        if group is None or len(group) >= room:
            group = open_groups[kind] = []
            groups.append(group)
        group.append(attempt)
    return groups


def _ready(groups: Sequence[Sequence[Attempt]]) -> list[Sequence[Attempt]]:
    """The full groups, and those whose attempts have come least far: the others wait to become full."""
    first = min(attempt.sync.cursor for group in groups for attempt in group)
    return [group for group in groups if _is_full(group) or group[0].sync.cursor == first]


def _is_full(group: Sequence[Attempt]) -> bool:
    wanted = group[0].wanted
    batch = batch_of(wanted) if wanted is not None else None
    return batch is None or len(group) >= room_for(group[0].earlier_faults, batch.max)
