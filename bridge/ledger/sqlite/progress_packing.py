"""How the file keeps how far a delivery is: account, objects and locked keys as one MessagePack value."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from bridge.ledger.sqlite.times import micros, moment_of
from bridge.model.crm_objects import Fingerprint
from bridge.model.deliveries import LockKey
from bridge.model.sync_progress import StoredProgress, SyncProgress, from_stored, to_stored

_SENT_AT = StoredProgress._fields.index("sent_at")
_ABSENT = StoredProgress._fields.index("absent")


def packed_progress(
    account: str, progress: Mapping[str, SyncProgress], held_keys: Sequence[LockKey]
) -> bytes | None:
    """Progress as the file keeps it; None for none."""
    if not progress and not held_keys:
        return None
    objects = {name: _packed(to_stored(each)) for name, each in progress.items()}
    return msgspec.msgpack.encode([account, objects, list(held_keys)])


def _packed(stored: StoredProgress) -> list[Any]:
    values: list[Any] = list(stored)
    values[_SENT_AT] = micros(stored.sent_at)
    # The release before this one knows no jobs, and reads all others.
    return values if stored.polled else values[:-1]


def sent_at(packed: bytes, at: datetime) -> bytes:
    """The same progress, with what was sent and not answered sent at another time."""
    account, objects, held_keys = msgspec.msgpack.decode(packed)
    for each in objects.values():
        each[_SENT_AT] = None if each[_SENT_AT] is None else micros(at)
    return msgspec.msgpack.encode([account, objects, held_keys])


def said_absent(packed: bytes) -> bytes:
    """The same progress after a person's word: what is in doubt did not arrive."""
    account, objects, held_keys = msgspec.msgpack.decode(packed)
    for each in objects.values():
        each[_ABSENT] = each[_SENT_AT] is not None
    return msgspec.msgpack.encode([account, objects, held_keys])


def is_in_doubt(packed: bytes | None) -> bool:
    """Whether progress knows of a request of which nobody knows what became."""
    if packed is None:
        return False
    _, objects, _ = msgspec.msgpack.decode(packed)
    return any(each[_SENT_AT] is not None for each in objects.values())


def progress_of(packed: bytes | None) -> dict[str, SyncProgress]:
    """The inverse of `packed_progress`, without the locked keys."""
    if packed is None:
        return {}
    _, objects, _ = msgspec.msgpack.decode(packed)
    return {name: from_stored(_unpacked(each)) for name, each in objects.items()}


def _unpacked(values: list[Any]) -> StoredProgress:
    sent_at = values[_SENT_AT]
    stored = StoredProgress(*values)
    return stored._replace(
        sent_at=None if sent_at is None else moment_of(sent_at),
        appended=_fingerprints(stored.appended),
        adding=_fingerprints(stored.adding),
        elsewhere={other: _fingerprints(added) for other, added in stored.elsewhere.items()},
    )


def _fingerprints(packed: Mapping[str, Sequence[Any]]) -> dict[str, Fingerprint]:
    return {name: Fingerprint(*each) for name, each in packed.items()}


def held_keys_of(packed: bytes) -> list[LockKey]:
    """The keys that the delivery has locked."""
    _, _, held_keys = msgspec.msgpack.decode(packed)
    return [tuple(key) for key in held_keys]
