"""From a body to an arrival: only as much is read as filing it needs."""

from datetime import datetime
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import msgspec

from bridge.body import MAX_DEPTH, parse_object, read_json_text
from bridge.identity import IdentityConflict, names_of, storable
from bridge.model import Arrival, Quarantined, Via, stamp
from bridge.record import parse_time


class Head(msgspec.Struct):
    """The fields of a record that say which call it is."""

    uuid: Any = None
    base_info: Any = None
    sn: Any = None
    started_at: Any = None
    created_at: Any = None


H = TypeVar("H", bound=Head)
_DECODER = msgspec.json.Decoder(Head)
_LONGEST_SN = 1000


def read_head(text: bytes) -> Head:
    """The identifying fields; a third of the cost of reading the whole record."""
    return read_fields(text, _DECODER)


def read_fields(text: bytes, decoder: msgspec.json.Decoder[H]) -> H:
    """Some fields of a record: those of the struct that `decoder` makes."""
    try:
        # Deep nesting is judged by the one who walks it, before anything is acknowledged.
        if text.count(b"{") + text.count(b"[") <= MAX_DEPTH:
            return decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeError):
        # What msgspec refuses may be JSON all the same: half surrogates, raw control characters.
        pass
    record = parse_object(text)
    return decoder.type(**{name: record.get(name) for name in decoder.type.__struct_fields__})


def arrival_of(source: str, via: Via, body: bytes, now: datetime, zone: ZoneInfo) -> Arrival:
    """A body as the ledger files it: its call's names, or `sn` and time, or why neither.

    Raises:
        NotAnObject: the body holds no JSON object.
    """
    text = read_json_text(body)
    return arrival_by(read_head(text), source, via, text, now, zone)


def arrival_by(head: Head, source: str, via: Via, text: bytes, now: datetime, zone: ZoneInfo) -> Arrival:
    """The same of a text whose head is read already."""
    started_at, created_at = parse_time(head.started_at, zone), parse_time(head.created_at, zone)
    names: tuple[str, ...] = ()
    trouble, detail = None, ""
    try:
        names = names_of(head.uuid, head.base_info)
    except IdentityConflict as conflict:
        trouble, detail = Quarantined.IDENTITY_CONFLICT, str(conflict)
    return Arrival(
        source,
        via,
        now,
        text,
        names,
        trouble,
        detail,
        sn=sn_of(head.sn),
        started_at=None if started_at is None else stamp(started_at),
        created_at=None if created_at is None else stamp(created_at),
        local_time=_local(started_at or created_at, zone) if not names else "",
    )


def sn_of(value: Any) -> str | None:
    """An `sn` as calls are found by it."""
    if value is None or isinstance(value, bool | list | dict):
        return None
    return storable(str(value).strip()[:_LONGEST_SN]) or None


def _local(moment: datetime | None, zone: ZoneInfo) -> str:
    """A time as the platform writes it."""
    return "" if moment is None else f"{moment.astimezone(zone):%Y-%m-%d %H:%M:%S}"


def garbage(source: str, via: Via, body: bytes, reason: str, now: datetime) -> Arrival:
    """A body that holds no record: kept as it came."""
    return Arrival(source, via, now, body, trouble=Quarantined.NOT_AN_OBJECT, detail=reason)
