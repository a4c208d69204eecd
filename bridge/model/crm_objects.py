"""What was last sent to CRM objects: so nothing is sent twice, and no older call overwrites a newer one."""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec


class Fingerprint(NamedTuple):
    """By what an appended value is recognised later, even when the call has changed since.

    Of a text: `before` is how often the field held it before, `length` its characters, `digest` its digests
    (see `appending`). Of a list: `before` is -1, `length` its number of items, `digest` that of each item.
    """

    before: int
    length: int
    digest: bytes


class FieldWrite(msgspec.Struct, frozen=True, array_like=True):
    """The last value that was sent for a field: by which call, and its digests (`model.field_digests`).

    `event` is the call's time, then its key, so that texts sort as the calls do; it is empty where only one
    call feeds the object, or where the write has no confirmed answer yet.
    """

    event: str
    digest: bytes


class KnownObject(msgspec.Struct, frozen=True, array_like=True):
    """What is known of a CRM object from what was last sent to it; `crm_id` is empty until it is known."""

    crm_id: str
    digest: bytes = b""
    """The digest of all that the last call said of it: an equal one need not be sent."""
    links: Mapping[str, str] = {}
    """Link → the id of the object at its other end."""
    last_writes: Mapping[str, FieldWrite] = {}
    """Field → what was last sent for it."""


class SyncedObject(msgspec.Struct, frozen=True):
    """An object that the CRM now holds for a call; `object` is its name in the mapping."""

    object: str
    type: str
    key: str
    known: KnownObject
    shared: bool = True
    altered: Mapping[str, str] = {}
    """Fields that the CRM shows otherwise than this delivery sent them, and how."""
