"""Poison records: whether one record is to blame for what looks like a fault of the account.

A CRM that answers 500, or a firewall that answers in its place, is ill for everybody, as a rule. But where it
does so for one record again and again while others are delivered in between, that record is the reason.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from bridge.lib.errors import DeliveryError, InDoubt
from bridge.model.sync_progress import RecordFaults, SyncProgress

FAULTS = ""
"""Under this name, which no object of a mapping has, a delivery's progress keeps them."""
MOST_FAULTS = 3
# A lost answer tells less than one that came: networks lose some of any record.
MOST_LOST_ANSWERS = 6
# Where more than one in so many is delivered only after a fault, it is the account that is ill, by halves.
WELL = 4
# After its first fault together with others a delivery goes with a tenth of them, then alone.
SMALLER = 10
_LONGEST_REASON = 1000
REMEDY = (
    "The CRM takes other records and fails at this one: look into its log, and at long or unusual values;"
    " shorten them in the mapping; then retry"
)


class Successes:
    """How many deliveries one CRM account has taken since this process began."""

    def __init__(self) -> None:
        self.process = uuid.uuid4().hex
        self.count = 0
        self.recovered = 0
        """How many of these had drawn a fault before."""

    def note(self, *, recovered: bool = False) -> None:
        """One more was delivered; `recovered`: after faults."""
        self.count += 1
        self.recovered += recovered


@dataclass(frozen=True, slots=True)
class FaultCount:
    """How many faults a delivery's record has drawn so far."""

    cause: str
    revision: int
    process: str
    count: int = 0
    """How often it failed alone, with other deliveries in between."""
    seen: int = 0
    """How many deliveries the account had taken at the last of these."""
    together: int = 0
    """How often it failed in one request with others."""
    recovered: int = 0
    """How many of these had drawn a fault before."""
    reason: str = ""
    """Why it is to be parked: it only waits until no request of it can arrive any more."""

    def since(self, successes: Successes) -> bool:
        """Whether others were delivered since the last one counted."""
        return successes.count > (self.seen if self.process == successes.process else 0)

    def tells(self, successes: Successes) -> bool:
        """Whether the account was well since then: it took others, and few of them after a fault."""
        same = self.process == successes.process
        taken = successes.count - (self.seen if same else 0)
        return taken > 0 and taken >= WELL * (successes.recovered - (self.recovered if same else 0))

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
    """Progress with the objects alone."""
    return {name: each for name, each in progress.items() if name != FAULTS}


def count_fault(
    before: FaultCount | None, error: DeliveryError, cause: str, revision: int, successes: Successes
) -> FaultCount | None:
    """The count after an attempt failed; a failure that says nothing of the record changes nothing."""
    if not _most(error):
        return before
    together = 0 if before is None else before.together
    if _together(error) > 1:
        count, seen = (0, successes.count) if before is None else (before.count, before.seen)
        return FaultCount(cause, revision, successes.process, count, seen, together + 1, successes.recovered)
    count = 1
    if before is not None and before.cause == cause and before.count > 0:
        if not before.since(successes):
            return before
        # An account that fails now and then at any record proves nothing of this one.
        count = before.count + before.tells(successes)
    return FaultCount(
        cause, revision, successes.process, count, successes.count, together, successes.recovered
    )


def is_to_blame(faults: FaultCount | None, error: DeliveryError) -> bool:
    """Whether the record has drawn the fault often enough, and alone."""
    most = _most(error)
    return faults is not None and 0 < most <= faults.count and _together(error) <= 1


def park_reason(faults: FaultCount, message: str) -> tuple[str, str]:
    """The reason and the cause with which a record that is to blame is parked."""
    told = f"{faults.count} times, while others were delivered in between: this record is to blame"
    return f"{message[:_LONGEST_REASON]}. {told}. {REMEDY}", f"{faults.cause}, of this record only"


def room_for(faults: FaultCount | None, most: int) -> int:
    """With how many in one request a delivery may go that has drawn a fault."""
    if faults is None:
        return most
    return max(1, most // SMALLER) if faults.together == 1 and not faults.count else 1


def _most(error: DeliveryError) -> int:
    """How many such faults blame the record; 0: it says nothing of it."""
    if error.blame != "account":
        return 0
    if any(each.status for each in _chain(error)):
        return MOST_FAULTS
    sent = any(isinstance(each, InDoubt) or each.doubtful for each in _chain(error))
    # No connection was made, so this record cannot be the reason.
    return MOST_LOST_ANSWERS if sent else 0


def _together(error: DeliveryError) -> int:
    return max(each.together for each in _chain(error))


def _chain(error: BaseException | None) -> Iterator[DeliveryError]:
    while isinstance(error, DeliveryError):
        yield error
        error = error.__cause__
