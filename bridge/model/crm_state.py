"""What was sent before: the reason why nothing is sent twice, and no older call overwrites a newer one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

AGAIN = "again"
"""The way of an object that was told all of it before, and shall be told again: what is there is there."""


Sign = tuple[int, int, bytes]
"""What a value that is added to a field is known by, whatever the call says later.

How often it stood there before, its length, its digest; of a list -1, its length, the digests of its items.
"""


class FieldWrite(msgspec.Struct, frozen=True, array_like=True):
    """Who last wrote a field of a shared object (`event` sorts by time, then call key), and what."""

    event: str
    digest: bytes


class CrmState(msgspec.Struct, frozen=True, array_like=True):
    """A CRM object as we last left it.

    `digest` is of all that was last sent to it, `links` are link → the other object's id,
    `last_writes` field → who wrote it.
    """

    crm_id: str
    digest: bytes = b""
    links: Mapping[str, str] = {}
    last_writes: Mapping[str, FieldWrite] = {}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one delivery has come with one object.

    `step` is the next step of `way` (`create`, `update`, `upsert`); `sent_at` is set while
    it is unknown whether that step was processed. `captured` is what steps before it gave.
    """

    way: str = ""
    step: int = 0
    captured: Mapping[str, Any] = field(default_factory=dict)
    crm_id: str | None = None
    told: bytes = b""
    """The digest of what the steps before `step` were told: other values start again."""
    sent_at: datetime | None = None
    appended: Mapping[str, Sign] = field(default_factory=dict)
    """Fields to which this call has added its value already."""
    key: str = ""
    """Of a shared object: which one. Nothing of it holds for another."""
    adding: Mapping[str, Sign] = field(default_factory=dict)
    """Fields to which it may have added a value: what is looked for there before anything is added."""
    absent: bool = False
    """A person has looked: what was sent is not there. It counts where nothing else can look."""
    elsewhere: Mapping[str, Mapping[str, Sign]] = field(default_factory=dict)
    """What it may have added to others, which the call fed before its key changed: key → field."""
    polled: bool = False
    """Whether the CRM took `step` at `sent_at` as a job that is asked for: it is not sent again."""

    def moved(self, key: str) -> "Progress":
        """How far it is with another object, which it may have fed before this one."""
        left = {**self.elsewhere, self.key: {**self.appended, **self.adding}}
        return Progress(AGAIN, adding=left.pop(key, {}), elsewhere=left)


@dataclass(frozen=True, slots=True)
class SyncedObject:
    """An object that the CRM now holds for a call."""

    object: str
    type: str
    key: str
    state: CrmState
    shared: bool = True
    altered: Mapping[str, str] = field(default_factory=dict)
    """Fields that the CRM shows otherwise than this delivery sent them, and how."""
