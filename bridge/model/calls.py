"""A call on its way in: it arrives, is filed under its key, and is judged. Begin at `Arrival`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

JSON = Any
"""JSON as it came: checked where it is read, never passed on untyped."""


class Via(StrEnum):
    """How a record arrived."""

    CALLBACK = "callback"
    LIST = "list"


class Verdict(StrEnum):
    """What one arrival of a record meant."""

    NEW = "new"
    REVISION = "revision"
    DUPLICATE = "duplicate"
    STALE = "stale"
    QUARANTINED = "quarantined"


class Quarantined(StrEnum):
    """Why an arrival could not be filed under a call."""

    NOT_AN_OBJECT = "not_an_object"
    UNIDENTIFIED = "unidentified"
    IDENTITY_CONFLICT = "identity_conflict"
    AMBIGUOUS = "ambiguous"
    UNREADABLE = "unreadable"


DIGEST_SIZE = 16
LONGEST_GARBAGE = 65_536
"""So many bytes of a body that is no record are kept."""


def digests(joined: bytes) -> frozenset[bytes]:
    """The digests of a revision, which are stored one after the other, 16 bytes each."""
    return frozenset(joined[place : place + DIGEST_SIZE] for place in range(0, len(joined), DIGEST_SIZE))


class Columns(msgspec.Struct, frozen=True):
    """What operators filter calls by, as plain columns."""

    sn: str | None = None
    phone: str | None = None
    name: str | None = None
    grade: str | None = None
    created_at: str | None = None
    started_at: str | None = None
    talk_seconds: int | None = None
    from_type: int | None = None
    task: str | None = None


class NewCall(msgspec.Struct, frozen=True):
    """A call as its first record shows it: what is kept of it besides the record, and whom it is owed to."""

    columns: Columns
    stamp: int | None
    """The record's `updated_at`, in epoch seconds."""
    called_at: str | None
    """The call's event time, which orders deliveries."""
    flags: tuple[str, ...]
    """What was odd about the record."""
    destinations: tuple[str, ...]
    skip: Mapping[str, str]
    """Destinations that leave this call out from the start, with the rule's name."""


class Arrival(msgspec.Struct, frozen=True):
    """One record that has arrived, read only as far as filing needs.

    `names` are the call's names in lower case, the first of them its key. A record without a name is filed
    by `sn` and time: `started_at` and `created_at` as `lib.iso_times.stamp` writes them, `local_time` in the
    source's zone, for the key of a new call. `trouble` says why it cannot be filed at all. `new_call` is the
    call that it opens if no other record of it is known; None leaves all verdicts on it to the judge.
    """

    source: str
    via: Via
    received_at: datetime
    payload: bytes
    names: tuple[str, ...] = ()
    trouble: Quarantined | None = None
    detail: str = ""
    sn: str | None = None
    started_at: str | None = None
    created_at: str | None = None
    local_time: str = ""
    new_call: NewCall | None = None


class Filed(msgspec.Struct, frozen=True):
    """What the ledger did with an arrival: filed under a call, or quarantined."""

    call_id: int | None
    key: str = ""
    trouble: Quarantined | None = None
    kept: bool = True
    """False: quarantine is full, and nothing of the record is on disk."""
    is_new: bool = False
    """Whether it has its verdict: it opened a call."""
    owes: bool = False
    """Whether it made deliveries due."""

    @property
    def waits(self) -> bool:
        """Whether it waits for its verdict."""
        return self.call_id is not None and not self.is_new


@dataclass(frozen=True, slots=True)
class Known:
    """A call's known state.

    `values` hold the platform's fields as they came; `stamps` tell, field by field,
    the `updated_at` (epoch seconds) of the newest record that carried the field.
    """

    values: Mapping[str, Any]
    stamps: Mapping[str, int | None]
    stamp: int | None
    via: Via
    revision: int
    history: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class Pending:
    """A receipt that waits for its verdict, with what is known of its call."""

    receipt_id: int
    call_id: int
    key: str
    source: str
    via: Via
    received_at: datetime
    first_seen_at: datetime
    payload: bytes
    known: Known | None
    repeats: bool = False
    """Whether the record is byte for byte the known state: then it need not be read."""


@dataclass(frozen=True, slots=True)
class Judgment:
    """The verdict on one receipt, and the state of its call after it.

    `known` is that state. `unchanged`: its values are those stored already, only stamps may differ. `kept`:
    the receipt's own payload is that state, so it is stored once. `flags` name what was odd about the record.
    """

    receipt_id: int
    call_id: int
    source: str
    verdict: Verdict
    known: Known
    unchanged: bool
    kept: bool
    digest: bytes
    columns: Columns
    stamp: int | None
    called_at: str | None = None
    """The call's event time, which orders deliveries."""
    flags: tuple[str, ...] = ()
    repeats: bool = False
    """As `Pending.repeats`: then only the verdict is written."""
    previous_digest: bytes = b""
    """The digest of the first record's state: computed when a second record is compared with it."""
    skip: Mapping[str, str] = field(default_factory=dict)
    """Destinations that leave this call out from the start, with the rule's name."""
