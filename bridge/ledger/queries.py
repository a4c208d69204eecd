"""What a ledger answers to those who look at it: one frozen structure for each question.

Their fields are named as the words of `--json` are, so that a document is written from them as it stands.
Every time is aware and in UTC.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Window:
    """Calls by their `created_at`: `since` inclusive, `until` exclusive, None open."""

    since: datetime | None = None
    until: datetime | None = None


# -- calls ---------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class CallColumns:
    """What is known of a call in plain columns."""

    id: int
    source: str
    key: str
    revision: int
    sn: str | None
    phone: str | None
    name: str | None
    grade: str | None
    created_at: datetime | None
    started_at: datetime | None
    updated_at: datetime | None
    talk_seconds: int | None
    task: str | None
    first_seen_at: datetime


@dataclass(frozen=True, slots=True)
class ListedCall(CallColumns):
    """A call in a list."""

    deliveries: Mapping[str, str]
    """Destination → the state of its delivery there."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """One arrival of a call's record."""

    id: int
    via: str
    received_at: datetime
    verdict: str | None
    """None until the judge has given it."""
    revision: int | None
    flags: str | None


@dataclass(frozen=True, slots=True)
class CallDelivery:
    """One delivery of a call."""

    id: int
    call_id: int
    destination: str
    state: str
    wanted: int
    """The revision that the CRM should have."""
    delivered: int | None
    """The revision that it has."""
    owed_at: datetime | None
    due_at: datetime | None
    tries: int
    reason: str | None
    cause: str | None
    person: str | None
    """`skipped` or `parked`, where a person said so."""
    lane: int
    called_at: datetime | None
    changed_at: datetime
    in_doubt: bool
    """A request was sent of which nobody knows whether it was processed."""


@dataclass(frozen=True, slots=True)
class CallAttempt:
    """One attempt of a delivery that has ended."""

    id: int
    delivery_id: int
    revision: int
    started_at: datetime
    ended_at: datetime
    outcome: str
    """The delivery's state after it."""
    detail: str | None
    destination: str


@dataclass(frozen=True, slots=True)
class CrmObject:
    """An object that a CRM holds for a call."""

    destination: str
    object: str
    """The mapping's name for it."""
    type: str
    key: str
    crm_id: str
    altered: Mapping[str, str]
    """Fields that the CRM shows otherwise than they were sent, and how."""


@dataclass(frozen=True, slots=True)
class CallHistory(CallColumns):
    """One call with all that happened to it."""

    names: Sequence[str]
    receipts: Sequence[Receipt]
    deliveries: Sequence[CallDelivery]
    attempts: Sequence[CallAttempt]
    crm_objects: Sequence[CrmObject]
    record: Mapping[str, Any]
    """The known state: the platform's fields as they came."""


@dataclass(frozen=True, slots=True)
class ListedDelivery:
    """A delivery in a list, with its call."""

    id: int
    destination: str
    state: str
    wanted: int
    delivered: int | None
    due_at: datetime | None
    tries: int
    lane: int
    cause: str | None
    reason: str | None
    person: str | None
    changed_at: datetime
    source: str
    key: str
    phone: str | None


# -- counts --------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class SourceCounts:
    """Call keys known of one source, and its records that wait in quarantine."""

    ledger: int
    quarantined: int
    erased: int


@dataclass(frozen=True, slots=True)
class Loss:
    """What had been acknowledged and is not here any more, as the daemon found at its start."""

    id: int
    found_at: datetime
    since_at: datetime | None
    """When the last receipt came that is here."""
    until_at: datetime
    """The last commit of which there was word."""
    receipts: int
    """How many are missing at least."""
    quarantine: int
    open: Sequence[str]
    """The sources whose list has not been walked beyond `until_at` since."""


@dataclass(frozen=True, slots=True)
class Owed:
    """What a destination still has to get."""

    count: int
    lanes: Mapping[str, int]
    rate: float
    """Deliveries that ended for good, a second, in the last minutes."""
    done_at: datetime | None
    """When all of it will be done at this rate; None where nobody can tell."""


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Deliveries that failed alike."""

    destination: str
    state: str
    cause: str | None
    count: int
    since_at: datetime
    remedy: str | None


@dataclass(frozen=True, slots=True)
class ParkedGroup(FailureGroup):
    """Deliveries that are parked for one cause."""

    example: int | None
    """The id of one of them."""
    example_call: str | None


@dataclass(frozen=True, slots=True)
class RetryingGroup(FailureGroup):
    """Deliveries that failed for one cause and are tried again."""

    next_at: datetime | None


@dataclass(frozen=True, slots=True)
class AlteredField:
    """A field that a CRM does not keep as it is sent."""

    destination: str
    object: str
    field: str
    kind: str
    count: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class CallsAhead:
    """Calls that say that they began more than a day after they came."""

    count: int
    ids: Sequence[str]
    """The keys of the newest few."""


@dataclass(frozen=True, slots=True)
class LastReconciliation:
    """What came of a source's last reconciliation. The counts are None where it failed."""

    id: int
    state: str
    complete: bool | None
    seen: int | None
    missing: int | None
    revised: int | None
    conflicting: int | None
    filled: int | None
    error: str | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class GapRate:
    """Of the calls of the last day covered, those that only the list has told of."""

    since: datetime
    until: datetime
    calls: int
    only_listed: int
    rate: float


@dataclass(frozen=True, slots=True)
class ListStanding:
    """How a source stands with its platform's list."""

    last: LastReconciliation | None = None
    covered_until: datetime | None = None
    gaps: GapRate | None = None


@dataclass(frozen=True, slots=True)
class LedgerCounts:
    """All that `status` and the metrics tell, of one moment."""

    owed: Mapping[str, Owed]
    """By destination."""
    attempts: Mapping[str, Mapping[str, int]]
    """Destination → outcome → how many have ended so since the ledger was made."""
    taken: Mapping[str, int]
    """Destination → the calls of its sources."""
    calls: Mapping[str, int]
    """By source."""
    receipts: Mapping[str, int]
    """By verdict; `waiting` for none yet."""
    quarantined: Mapping[str, int]
    """Records that wait, by reason."""
    deliveries: Mapping[str, Mapping[str, int]]
    """Destination → state → how many."""
    parked: Sequence[ParkedGroup]
    altered: Sequence[AlteredField]
    retrying: Sequence[RetryingGroup]
    ahead: CallsAhead
    shared_sn: int
    """How many `sn` belong to several calls."""
    oldest_owed_at: datetime | None
    last_received_at: datetime | None
    lists: Mapping[str, ListStanding]
    """By source."""
