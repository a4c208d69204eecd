"""Packs what is known of a CRM object: its links, and which call last wrote which field.

There is one such value for each contact, and most have the same few fields. So names of fields and links are
kept as numbers, and the fields that one call wrote stand together under that call. Fields of a call's own
object mostly need a short digest only: these are joined, which takes 4 bytes a field in place of 11.
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import TypeVar

import msgspec

from bridge.ledger.sqlite.binding import numbered
from bridge.ledger.sqlite.times import moment_of
from bridge.model.call_order import AHEAD, event_parts, event_text, event_time
from bridge.model.crm_objects import FieldWrite, KnownObject
from bridge.model.field_digests import SHORT_SIZE

T = TypeVar("T")

_Kept = tuple[dict[int, str], dict[str, dict[int, bytes]]]
"""Link → the other object's id; event → field → digest."""
_decode = msgspec.msgpack.Decoder(_Kept).decode
SHORTS = "\x1f"
"""A field name that no mapping has: under it are the joined short digests, each after its field's number."""
# Numbers below this take one byte: the first 127 fields that a ledger sees.
_ONE_BYTE = 0x80


def names_of(connection: sqlite3.Connection) -> dict[int, str]:
    """Number → name. Read it after the values: a value may use a number that was added just before."""
    return dict(connection.execute("SELECT id, name FROM field_names").fetchall())


def numbers_of(connection: sqlite3.Connection, names: Iterable[str]) -> dict[str, int]:
    """Name → number; a name without one gets the next."""
    numbers = {name: number for number, name in names_of(connection).items()}
    for name in sorted(set(names) - numbers.keys()):
        number = connection.execute("INSERT INTO field_names (name) VALUES (?)", (name,)).lastrowid
        assert number is not None  # noqa: S101 -- for the type checker: an INSERT has a row id
        numbers[name] = number
    return numbers


def names_in(known: Sequence[KnownObject]) -> set[str]:
    """The names that the packed values need numbers for: of links, of fields, and `SHORTS` where one is."""
    names = set[str]().union(*(each.links for each in known), *(each.last_writes for each in known))
    if any(_is_short(last_write) for each in known for last_write in each.last_writes.values()):
        names.add(SHORTS)
    return names


def _is_short(last_write: FieldWrite) -> bool:
    return not last_write.event and len(last_write.digest) == SHORT_SIZE


def pack_memory(remembered: KnownObject, numbers: Mapping[str, int]) -> bytes | None:
    """Links and last writes as the file keeps them; None where there are none."""
    links = {numbers[name]: crm_id for name, crm_id in remembered.links.items()}
    events: dict[str, dict[int, bytes]] = {}
    shorts: list[bytes] = []
    for name, last_write in remembered.last_writes.items():
        event, digest = last_write.event, last_write.digest
        if not event and len(digest) == SHORT_SIZE:
            shorts += (_numbered(numbers[name]), digest)
        else:
            events.setdefault(event, {})[numbers[name]] = digest
    if shorts:
        events.setdefault("", {})[numbers[SHORTS]] = b"".join(shorts)
    return _encoded(links, events)


def unpack_memory(crm_id: str, digest: bytes, memory: bytes | None, names: Mapping[int, str]) -> KnownObject:
    """The inverse of `pack_memory`."""
    if memory is None:
        return KnownObject(crm_id, digest)
    links, events = _decode(memory)
    last_writes = {
        names[field]: FieldWrite(event, told)
        for event, fields in events.items()
        for field, told in fields.items()
    }
    shorts = last_writes.pop(SHORTS, None)
    if shorts is not None:
        last_writes |= [(names[field], FieldWrite("", told)) for field, told in _shorts(shorts.digest)]
    return KnownObject(crm_id, digest, {names[link]: to for link, to in links.items()}, last_writes)


# An event holds only the first 16 characters of a key; no more than 20 calls begin alike.
_NAMESAKES = 20
# `counters` lists the sources: the primary key of `call_names` begins with the source.
_BY_KEY = """
SELECT c.started_at, c.created_at, c.first_seen_at FROM counters s
CROSS JOIN call_names n ON n.source = s.part AND n.name >= :1 AND n.name < :2
CROSS JOIN calls c ON c.id = n.call_id
WHERE s.kind = 'calls' LIMIT :3
"""


def believed(connection: sqlite3.Connection, known: Mapping[T, KnownObject]) -> dict[T, KnownObject]:
    """Known objects without events in the future, which earlier releases wrote where a call's time was wrong.

    Such an event is replaced by what the ledger knows of its call. What is the future is told by the newest
    receipt, because the clock may be wrong now.
    """
    newest = connection.execute("SELECT received_at FROM receipts ORDER BY id DESC LIMIT 1").fetchone()
    latest = event_text(None if newest is None else moment_of(newest[0]) + AHEAD, "")
    events: dict[str, str] = {}
    for remembered in known.values():
        for last_write in remembered.last_writes.values():
            if last_write.event > latest and last_write.event not in events:
                events[last_write.event] = _event_of_its_call(connection, last_write.event)
    return (
        {key: _with_events(remembered, events) for key, remembered in known.items()} if events else {**known}
    )


def _with_events(remembered: KnownObject, events: Mapping[str, str]) -> KnownObject:
    last_writes = {
        name: FieldWrite(events.get(last_write.event, last_write.event), last_write.digest)
        for name, last_write in remembered.last_writes.items()
    }
    return KnownObject(remembered.crm_id, remembered.digest, remembered.links, last_writes)


def _event_of_its_call(connection: sqlite3.Connection, event: str) -> str:
    """The event by the call's own times; of a call that the ledger does not know, the oldest event of all."""
    parts = event_parts(event)
    if parts is None:
        return event
    at, key = parts
    rows = connection.execute(_BY_KEY, numbered(key, key + "\U0010ffff", _NAMESAKES)).fetchall()
    calls = [tuple(None if each is None else moment_of(each) for each in row) for row in rows]
    calls = [one for one in calls if at in one[:2]] or calls
    times = [event_time(started, created, seen) for started, created, seen in calls if seen is not None]
    return event_text(max((time for time in times if time is not None), default=None), key)


def forgotten(memory: bytes | None) -> bytes | None:
    """The packed value with which call last wrote each field, without what it wrote and without links."""
    if memory is None:
        return None
    _, events = _decode(memory)
    return _encoded({}, {event: dict.fromkeys(fields, b"") for event, fields in events.items()})


@cache
def _numbered(number: int) -> bytes:
    """A number in a byte where it is small, else in three."""
    if number < _ONE_BYTE:
        return bytes([number])
    return bytes([_ONE_BYTE | number >> 16 & 0x7F, number >> 8 & 0xFF, number & 0xFF])


def _shorts(text: bytes) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    place, end = 0, len(text)
    while place < end:
        number = text[place]
        place += 1
        if number >= _ONE_BYTE:
            number = (number & 0x7F) << 16 | text[place] << 8 | text[place + 1]
            place += 2
        found.append((number, text[place : place + SHORT_SIZE]))
        place += SHORT_SIZE
    return found


def _encoded(links: dict[int, str], events: dict[str, dict[int, bytes]]) -> bytes | None:
    return msgspec.msgpack.encode([links, events]) if links or events else None
