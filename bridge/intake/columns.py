"""Reads the columns that operators filter calls by, without parsing the whole record."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from bridge.lib.iso_times import stamp
from bridge.model.calls import Columns
from bridge.record.arrival import sn_of
from bridge.record.call import Call
from bridge.record.dialect import Dialect
from bridge.record.head import Head
from bridge.record.identity import storable
from bridge.record.json_body import broken_fields, parse_leniently, read_object
from bridge.record.verdict import dialogue_flags

_LONGEST_COLUMN = 200
_REPLACED = b"\xef\xbf\xbd"
_NOT_A_NAME = re.compile(r"[^\w.-]")
_MOST_FLAGS, _LONGEST_FLAG = 20, 50
_UTC = ZoneInfo("UTC")
# The attributes of `Call` that the columns, the stamp and the event times of a new call are read from.
_ATTRIBUTES = (
    *("sn", "phone", "name", "grade_auto", "grade_manual", "from_type", "task_name", "talk_seconds"),
    *("created_at", "started_at", "connected_at", "disconnected_at", "updated_at"),
)


class ColumnReader:
    """Reads the fields that a new call's columns need: a third of the cost of reading a whole record."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        wanted = dict.fromkeys(field for name in _ATTRIBUTES for field in dialect.fields_of(name))
        head = dialect.head
        read = dict(zip(head.__struct_encode_fields__, head.__struct_fields__, strict=True))
        # Names of fields need not be valid names in Python.
        added = {f"field{number}": field for number, field in enumerate(wanted) if field not in read}
        struct = msgspec.defstruct(
            "_ColumnFields",
            [*((name, Any, None) for name in added), ("dialogue", msgspec.Raw, msgspec.Raw(b"null"))],
            bases=(head,),
            rename=added | {"dialogue": dialect.dialogue.field},
        )
        read |= {field: name for name, field in added.items()}
        self.decoder: msgspec.json.Decoder[Head] = msgspec.json.Decoder(struct)
        """Decodes a record's head together with the fields of its columns."""
        self._fields = tuple(wanted)
        self._values = attrgetter(*(read[field] for field in wanted))

    def read(self, payload: bytes) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The fields that `columns_of` needs (or all), and flags for what is odd in the record."""
        if _REPLACED not in payload:
            try:
                head = self.decoder.decode(payload)
            except (msgspec.MsgspecError, UnicodeError):
                # msgspec refuses some JSON that `read_object` accepts.
                pass
            else:
                return self.of_head(head)
        record, unreadable = read_object(payload)
        turns = self._dialect.dialogue.read(record, _UTC)
        return record, field_flags(payload, record, unreadable) + dialogue_flags(turns, self._dialect)

    def of_head(self, head: Head) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The same of a record whose head was read by `decoder`, and whose characters are all whole."""
        values = zip(self._fields, self._values(head), strict=True)
        record = {field: value for field, value in values if value is not msgspec.UNSET}
        return record, self._dialogue_flags(bytes(head.dialogue))  # type: ignore[attr-defined]

    def _dialogue_flags(self, text: bytes) -> tuple[str, ...]:
        """A flag if a part of the dialogue cannot be read; plain ones are not parsed."""
        form = self._dialect.dialogue
        if form.is_plain(text):
            return ()
        return dialogue_flags(form.read({form.field: parse_leniently(text)[0]}, _UTC), self._dialect)


def field_flags(payload: bytes, record: Mapping[str, Any], unreadable: Sequence[str]) -> tuple[str, ...]:
    """`unreadable:score` for a value that JSON does not know, `broken_text:name` for a broken character."""
    if not unreadable and _REPLACED not in payload:
        return ()
    flags = [f"unreadable:{_flag_name(name)}" for name in unreadable]
    if _REPLACED in payload:
        flags += [f"broken_text:{_flag_name(name)}" for name in broken_fields(record)]
    return tuple(flags[:_MOST_FLAGS])


def _flag_name(name: str) -> str:
    """A field's name as part of a flag: flags are stored separated by blanks, and names come from outside."""
    return storable(_NOT_A_NAME.sub("_", name)[:_LONGEST_FLAG])


def columns_of(call: Call) -> Columns:
    """The columns of a call; texts are cut at 200 characters."""
    return Columns(
        sn=sn_of(call.sn),
        phone=_short(call.phone_e164 or call.phone),
        name=_short(call.name),
        grade=_short(call.grade),
        created_at=when(call.created_at),
        started_at=when(call.started_at),
        talk_seconds=min(call.talk_seconds, 2**62),
        from_type=_small(call.from_type),
        task=_short(call.task_name),
    )


def _short(text: str | None) -> str | None:
    # Columns are for filtering; the record keeps the whole text.
    return None if text is None else storable(text[:_LONGEST_COLUMN])


def when(moment: datetime | None) -> str | None:
    """A moment as the ledger writes it."""
    return None if moment is None else stamp(moment)


def _small(number: int | None) -> int | None:
    return number if number is not None and abs(number) < 2**62 else None
