"""How the file keeps what is remembered of an object: its links, and who wrote which field.

Every contact has a memory and most name the same few fields, so fields and links stand in it as
numbers, and what one call wrote stands together under that call.
"""

import sqlite3
from collections.abc import Iterable, Mapping

import msgspec

from bridge.memory import Mark, Remembered

_Kept = tuple[dict[int, str], dict[str, dict[int, bytes]]]
"""Link → the other object's id; event → field → digest."""


def names_of(connection: sqlite3.Connection) -> dict[int, str]:
    """What the numbers stand for; asked for after the memories, which may name one that was new."""
    return dict(connection.execute("SELECT id, name FROM field_names").fetchall())


def numbers_of(connection: sqlite3.Connection, names: Iterable[str]) -> dict[str, int]:
    """The numbers of names; one that has none gets the next."""
    numbers = {name: number for number, name in names_of(connection).items()}
    for name in sorted(set(names) - numbers.keys()):
        number = connection.execute("INSERT INTO field_names (name) VALUES (?)", (name,)).lastrowid
        assert number is not None  # noqa: S101 -- for the type checker: an INSERT has a row id
        numbers[name] = number
    return numbers


def pack_memory(remembered: Remembered, numbers: Mapping[str, int]) -> bytes | None:
    """Links and marks as the file keeps them; None for none."""
    links = {numbers[name]: crm_id for name, crm_id in remembered.links.items()}
    events: dict[str, dict[int, bytes]] = {}
    for name, mark in remembered.marks.items():
        events.setdefault(mark.event, {})[numbers[name]] = mark.digest
    return _encoded(links, events)


def unpack_memory(crm_id: str, digest: bytes, memory: bytes | None, names: Mapping[int, str]) -> Remembered:
    """The inverse of `pack_memory`."""
    if memory is None:
        return Remembered(crm_id, digest)
    links, events = msgspec.msgpack.decode(memory, type=_Kept)
    marks = {
        names[field]: Mark(event, told) for event, fields in events.items() for field, told in fields.items()
    }
    return Remembered(crm_id, digest, {names[link]: to for link, to in links.items()}, marks)


def forgotten(memory: bytes | None) -> bytes | None:
    """A memory that knows only which call wrote each field last, not what."""
    if memory is None:
        return None
    _, events = msgspec.msgpack.decode(memory, type=_Kept)
    return _encoded({}, {event: dict.fromkeys(fields, b"") for event, fields in events.items()})


def _encoded(links: dict[int, str], events: dict[str, dict[int, bytes]]) -> bytes | None:
    return msgspec.msgpack.encode([links, events]) if links or events else None
