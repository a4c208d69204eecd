"""From a body to an arrival: only as much is read as filing it needs."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import msgspec

from bridge.lib.iso_times import stamp
from bridge.lib.lenient_json import MAX_DEPTH
from bridge.lib.timestamps import parse_time
from bridge.model.calls import Arrival, Quarantined, Via
from bridge.record.identity import NO_NAMES, IdentityConflict, names_of, storable
from bridge.record.json_body import is_utf8, read_object
from bridge.record.origin import Origin
from bridge.record.unwrap_body import Piece, read_record, read_records


class Head(msgspec.Struct):
    """The fields of a record that say which call it is."""

    uuid: Any = None
    base_info: Any = None
    sn: Any = None
    started_at: Any = None
    created_at: Any = None


class _BareHead(Head):
    """The same, and what hardly any record lacks: an envelope with a `uuid` of its own has none."""

    phone: Any = msgspec.UNSET


H = TypeVar("H", bound=Head)
_DECODER = msgspec.json.Decoder(Head)
_BARE_DECODER = msgspec.json.Decoder(_BareHead)
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
    return decoder.type(**_readable(*read_object(text), decoder.type.__struct_fields__))


def _readable(record: Mapping[str, Any], unreadable: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    """What cannot be read names no call: two records whose uuid is NaN are not one."""
    return {name: record.get(name) for name in names if name not in unreadable}


def arrivals_of(origin: Origin, via: Via, body: bytes, now: datetime, charset: str = "") -> list[Arrival]:
    """The records of a body as the ledger files them: their calls' names, or `sn` and time, or why neither.

    Raises:
        NotAnObject: the body holds no JSON object.
        TooMany: it holds more records than are filed at once.
    """
    if body[:1] == b"{" and body[-1:] == b"}" and not charset and is_utf8(body):
        # Nearly every callback: its bytes are the record.
        head = _head_of_one(body)
        if head is not None:
            return [arrival_by(head, origin, via, body, now)]
    return [
        garbage(origin.source, via, piece.text, piece.trouble, now)
        if piece.trouble
        else arrival_by(_head_of(piece), origin, via, piece.text, now)
        for piece in read_records(body, charset)
    ]


def _head_of(piece: Piece) -> Head:
    return Head(**_readable(piece.record, piece.unreadable, Head.__struct_fields__))


def _head_of_one(text: bytes) -> Head | None:
    """The head of a bare record in plain JSON; None where it names no call, and may be wrapped."""
    if text.count(b"{") + text.count(b"[") > MAX_DEPTH:
        return None
    try:
        head = _BARE_DECODER.decode(text)
    except (msgspec.MsgspecError, UnicodeError):
        return None
    if head.phone is msgspec.UNSET:
        return None
    named = head.uuid or head.base_info or (head.sn and (head.started_at or head.created_at))
    return head if named else None


def arrival_of(origin: Origin, via: Via, body: bytes, now: datetime) -> Arrival:
    """The one record of a body as the ledger files it.

    Raises:
        NotAnObject: the body holds no JSON object, or several.
    """
    text = read_record(body)
    return arrival_by(read_head(text), origin, via, text, now)


def arrival_by(head: Head, origin: Origin, via: Via, text: bytes, now: datetime) -> Arrival:
    """The same of a text whose head is read already."""
    zone = origin.zone
    started_at, created_at = parse_time(head.started_at, zone), parse_time(head.created_at, zone)
    names: tuple[str, ...] = ()
    trouble, detail = None, ""
    try:
        names = names_of(head.uuid, head.base_info)
    except IdentityConflict as conflict:
        trouble, detail = Quarantined.IDENTITY_CONFLICT, str(conflict)
    return Arrival(
        origin.source,
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
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = storable(str(value).strip()[:_LONGEST_SN])
    return None if text.lower() in NO_NAMES else text or None


def _local(moment: datetime | None, zone: ZoneInfo) -> str:
    """A time as the platform writes it."""
    return "" if moment is None else f"{moment.astimezone(zone):%Y-%m-%d %H:%M:%S}"


def garbage(source: str, via: Via, body: bytes, reason: str, now: datetime) -> Arrival:
    """A body that holds no record: kept as it came."""
    return Arrival(source, via, now, body, trouble=Quarantined.NOT_AN_OBJECT, detail=reason)
