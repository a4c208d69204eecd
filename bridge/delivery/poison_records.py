"""Poison records: whether one record is to blame for what looks like a fault of the account.

A CRM that answers 500, or a firewall that answers for it, is usually down for everybody. But where it does so
for one record again and again, while others are delivered in between, that record is the reason.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping

import msgspec

from bridge.lib.errors import DeliveryError, InDoubt
from bridge.model.sync_progress import RecordFaults, SyncProgress

FAULTS = ""
"""Under this name, which no object of a mapping has, a delivery's progress keeps them."""
# Three such answers blame the record. A lost answer proves less, because networks lose answers of any record:
# it takes six of them.
FAULTS_TO_BLAME = 3
LOST_ANSWERS_TO_BLAME = 6
# Where more than one delivery in four succeeds only after a fault, the account fails at all records.
FEWEST_PER_RECOVERED = 4
# After its first fault in a batch a delivery goes with a tenth as many others, then alone.
SMALLER_BATCH = 10
# In characters.
_LONGEST_REASON = 1000
REMEDY = (
    "The CRM takes other records and fails at this one: look into its log, and at long or unusual values;"
    " shorten them in the mapping; then retry"
)


class Successes:
    """Counts the deliveries that one CRM account has taken since this process began."""

    def __init__(self) -> None:
        self.process = uuid.uuid4().hex
        self.count = 0
        self.recovered = 0
        """How many of these succeeded only after a fault."""

    def note(self, *, recovered: bool = False) -> None:
        """One more was delivered; `recovered`: after faults."""
        self.count += 1
        self.recovered += recovered


class FaultCount(msgspec.Struct, frozen=True):
    """How many faults a delivery's record has caused so far."""

    cause: str
    """Of the last fault: faults of another cause start the count again."""
    revision: int
    """Of the call: another revision is another record."""
    process: str
    """The process that `seen` and `recovered` were counted in; those of an earlier one count as 0."""
    count: int = 0
    """How often it failed alone, with other deliveries in between."""
    seen: int = 0
    """`Successes.count` at the last of these."""
    together: int = 0
    """How often it failed in a batch."""
    recovered: int = 0
    """`Successes.recovered` at the last of these."""
    reason: str = ""
    """Why it will be parked, once no request of it can arrive any more; empty: it will not."""

    def others_succeeded(self, successes: Successes) -> bool:
        """Whether other deliveries succeeded since the last fault that was counted."""
        return successes.count > (self.seen if self.process == successes.process else 0)

    def account_was_well(self, successes: Successes) -> bool:
        """Whether the account was well since then: it took others, and few of them after a fault."""
        same = self.process == successes.process
        taken = successes.count - (self.seen if same else 0)
        return taken > 0 and taken >= FEWEST_PER_RECOVERED * (
            successes.recovered - (self.recovered if same else 0)
        )

    def kept(self) -> SyncProgress:
        """As the ledger keeps it."""
        told = {
            "cause": self.cause,
            "revision": self.revision,
            "process": self.process,
            "seen": self.seen,
            "together": self.together,
            "recovered": self.recovered,
            "reason": self.reason,
        }
        return SyncProgress(RecordFaults(self.count, told))


def faults_of(progress: Mapping[str, SyncProgress], revision: int) -> FaultCount | None:
    """The faults that were kept of this revision; another revision starts without any."""
    kept = progress[FAULTS].state if FAULTS in progress else None
    if not isinstance(kept, RecordFaults) or kept.details.get("revision") != revision:
        return None
    return FaultCount(count=kept.count, **kept.details)


def with_masked_faults(
    progress: Mapping[str, SyncProgress], masked: Callable[[str], str]
) -> Mapping[str, SyncProgress]:
    """Progress whose counted faults quote no secret that a CRM sent back."""
    kept = progress[FAULTS].state if FAULTS in progress else None
    if not isinstance(kept, RecordFaults):
        return progress
    told = {name: masked(kept.details[name]) for name in ("reason", "cause") if kept.details.get(name)}
    return {**progress, FAULTS: SyncProgress(RecordFaults(kept.count, {**kept.details, **told}))}


def without_faults(progress: Mapping[str, SyncProgress]) -> dict[str, SyncProgress]:
    """Progress without the counted faults: the objects alone."""
    return {name: each for name, each in progress.items() if name != FAULTS}


def count_fault(
    before: FaultCount | None, error: DeliveryError, cause: str, revision: int, successes: Successes
) -> FaultCount | None:
    """The count after an attempt failed; unchanged by a failure that says nothing about the record."""
    if not _faults_to_blame(error):
        return before
    together = 0 if before is None else before.together
    if _together(error) > 1:
        count, seen = (0, successes.count) if before is None else (before.count, before.seen)
        return FaultCount(cause, revision, successes.process, count, seen, together + 1, successes.recovered)
    count = 1
    if before is not None and before.cause == cause and before.count > 0:
        if not before.others_succeeded(successes):
            return before
        # Not counted where the account now and then fails at any record: that proves nothing about this one.
        count = before.count + before.account_was_well(successes)
    return FaultCount(
        cause, revision, successes.process, count, successes.count, together, successes.recovered
    )


def is_to_blame(faults: FaultCount | None, error: DeliveryError) -> bool:
    """Whether the record has caused the fault often enough, sent alone."""
    needed = _faults_to_blame(error)
    return faults is not None and 0 < needed <= faults.count and _together(error) <= 1


def park_reason(faults: FaultCount, message: str) -> tuple[str, str]:
    """The reason and the cause with which a record that is to blame is parked."""
    told = f"{faults.count} times, while others were delivered in between: this record is to blame"
    return f"{message[:_LONGEST_REASON]}. {told}. {REMEDY}", f"{faults.cause}, of this record only"


def room_for(faults: FaultCount | None, batch_max: int) -> int:
    """How many deliveries may share a request with one that has caused these faults, itself included."""
    if faults is None:
        return batch_max
    return max(1, batch_max // SMALLER_BATCH) if faults.together == 1 and not faults.count else 1


def _faults_to_blame(error: DeliveryError) -> int:
    """How many such faults blame the record; 0: such a fault says nothing about it."""
    if error.blame != "account":
        return 0
    if any(each.status for each in _chain(error)):
        return FAULTS_TO_BLAME
    sent = any(isinstance(each, InDoubt) or each.doubtful for each in _chain(error))
    # Without a connection nothing of the record was sent, so it cannot be the reason.
    return LOST_ANSWERS_TO_BLAME if sent else 0


def _together(error: DeliveryError) -> int:
    return max(each.together for each in _chain(error))


def _chain(error: BaseException | None) -> Iterator[DeliveryError]:
    while isinstance(error, DeliveryError):
        yield error
        error = error.__cause__
