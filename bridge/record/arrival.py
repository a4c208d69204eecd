"""Turns a body into arrivals, the form in which the ledger files records.

Only a record's head is read, and what a new call needs where the record is plain.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol
from zoneinfo import ZoneInfo

import msgspec

from bridge.lib.iso_times import stamp
from bridge.model.calls import Arrival, NewCall, Quarantined, Via
from bridge.record.dialect import Dialect
from bridge.record.head import Head
from bridge.record.identity import NO_NAMES, IdentityConflict, storable
from bridge.record.json_body import REPLACED, may_be_deep, read_object, utf8_text
from bridge.record.origin import Origin
from bridge.record.unwrap_body import read_record, read_records

_LONGEST_SN = 1000


class ReadsNewCalls(Protocol):
    """Reads the call that a record opens, from the same decoding of the record as its head."""

    @property
    def decoder(self) -> msgspec.json.Decoder[Head]:
        """Decodes a record's head together with all else that `of_head` reads."""

    def of_head(self, head: Head, received_at: datetime) -> NewCall | None:
        """The call that a record with this head opens; None where only the judge can tell."""


def read_head(text: bytes, dialect: Dialect) -> Head:
    """The head of a record's JSON text.

    Raises:
        NotAnObject: the text is no JSON object.
    """
    try:
        # msgspec skips what it does not read, however deep; `read_object` refuses what is nested too deep.
        if not may_be_deep(text):
            return dialect.head_decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeError):
        # msgspec refuses half surrogate pairs and raw control characters, but senders write both.
        pass
    return _head_of(dialect, *read_object(text))


def _head_of(dialect: Dialect, record: Mapping[str, Any], unreadable: Sequence[str]) -> Head:
    """A record's head without unreadable values: two records whose uuid is `NaN` are not the same call."""
    return dialect.head_of({name: value for name, value in record.items() if name not in unreadable})


def arrivals_of(
    origin: Origin,
    via: Via,
    body: bytes,
    now: datetime,
    charset: str = "",
    new_calls: ReadsNewCalls | None = None,
) -> list[Arrival]:
    """The arrivals of all records in a body; a record that names no call, or two, has its trouble told.

    With `new_calls` a bare record is also read as if it were the first one of its call.

    Raises:
        NotAnObject: the body holds no JSON object.
        TooMany: it holds more records than are filed at once.
    """
    dialect = origin.dialect
    if dialect.decode is None and body[:1] == b"{" and body[-1:] == b"}" and not charset:
        # Nearly every callback is one bare record, whose bytes are filed as they are.
        bare = _bare_record(origin, via, body, now, new_calls)
        if bare is not None:
            return [bare]
    return [
        garbage(origin.source, via, piece.text, piece.trouble, now)
        if piece.trouble
        else arrival_by(_head_of(dialect, piece.record, piece.unreadable), origin, via, piece.text, now)
        for piece in read_records(body, dialect, charset)
    ]


def _bare_record(
    origin: Origin, via: Via, body: bytes, now: datetime, new_calls: ReadsNewCalls | None
) -> Arrival | None:
    """The arrival of a record in plain JSON; None where the body may be a wrapping around records."""
    text = utf8_text(body)
    decoder = origin.dialect.head_decoder if new_calls is None else new_calls.decoder
    head = None if text is None else _head_of_one(body, decoder)
    if text is None or head is None:
        return None
    # A broken character has to be flagged with its field, which only the judge looks for.
    new_call = None if new_calls is None or REPLACED in text else new_calls.of_head(head, now)
    return arrival_by(head, origin, via, body, now, new_call)


def _head_of_one(text: bytes, decoder: msgspec.json.Decoder[Head]) -> Head | None:
    """The head of a bare record in plain JSON; None where the body may be a wrapping around records."""
    if may_be_deep(text):
        return None
    try:
        head = decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeError):
        return None
    if not head.is_no_envelope():
        return None
    named = head.holds_name() or (head.sn and (head.started_at or head.created_at))
    return head if named else None


def arrival_of(origin: Origin, via: Via, body: bytes, now: datetime) -> Arrival:
    """The arrival of the one record in a body.

    Raises:
        NotAnObject: the body holds no JSON object, or several.
    """
    text = read_record(body, origin.dialect)
    return arrival_by(read_head(text, origin.dialect), origin, via, text, now)


def arrival_by(
    head: Head, origin: Origin, via: Via, text: bytes, now: datetime, new_call: NewCall | None = None
) -> Arrival:
    """The arrival of a record whose head has been read."""
    dialect, zone = origin.dialect, origin.zone
    started_at, created_at = dialect.time(head.started_at, zone), dialect.time(head.created_at, zone)
    names: tuple[str, ...] = ()
    trouble, detail = None, ""
    try:
        names = head.names()
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
        new_call=new_call,
    )


def sn_of(value: Any) -> str | None:
    """An `sn` as calls are found by it: text, trimmed, at most 1000 characters; None for none."""
    if value is None or isinstance(value, bool | list | dict):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = storable(str(value).strip()[:_LONGEST_SN])
    return None if text.lower() in NO_NAMES else text or None


def _local(moment: datetime | None, zone: ZoneInfo) -> str:
    """A local time as the keys of nameless calls have it; empty without a time."""
    return "" if moment is None else f"{moment.astimezone(zone):%Y-%m-%d %H:%M:%S}"


def garbage(source: str, via: Via, body: bytes, reason: str, now: datetime) -> Arrival:
    """The arrival of a body that holds no record: it is kept as it came, with the reason."""
    return Arrival(source, via, now, body, trouble=Quarantined.NOT_AN_OBJECT, detail=reason)
