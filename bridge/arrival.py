"""From a body to an arrival: only as much is read as filing it needs."""

from datetime import datetime
from typing import Any

import msgspec

from bridge.body import MAX_DEPTH, parse_object, read_json_text
from bridge.identity import IdentityConflict, names_of
from bridge.model import Arrival, Quarantined, Via


class Head(msgspec.Struct):
    """The fields of a record that say which call it is."""

    uuid: Any = None
    base_info: Any = None


_DECODER = msgspec.json.Decoder(Head)


def read_head(text: bytes) -> Head:
    """The identifying fields; a third of the cost of reading the whole record."""
    try:
        # Deep nesting is judged by the one who walks it, before anything is acknowledged.
        if text.count(b"{") + text.count(b"[") <= MAX_DEPTH:
            return _DECODER.decode(text)
    except (msgspec.MsgspecError, UnicodeError):
        # What msgspec refuses may be JSON all the same: half surrogates, raw control characters.
        pass
    record = parse_object(text)
    return Head(record.get("uuid"), record.get("base_info"))


def arrival_of(source: str, via: Via, body: bytes, now: datetime) -> Arrival:
    """File a body under its call's names, or say why that cannot be.

    Raises:
        NotAnObject: the body holds no JSON object.
    """
    text = read_json_text(body)
    head = read_head(text)
    try:
        names = names_of(head.uuid, head.base_info)
    except IdentityConflict as conflict:
        trouble = Quarantined.IDENTITY_CONFLICT
        return Arrival(source, via, now, text, trouble=trouble, detail=str(conflict))
    if not names:
        trouble = Quarantined.UNIDENTIFIED
        return Arrival(source, via, now, text, trouble=trouble, detail="no uuid and no base_info")
    return Arrival(source, via, now, text, names)


def garbage(source: str, via: Via, body: bytes, reason: str, now: datetime) -> Arrival:
    """A body that holds no record: kept as it came."""
    return Arrival(source, via, now, body, trouble=Quarantined.NOT_AN_OBJECT, detail=reason)
