"""What is told of a platform, so that everything else can speak of records alone."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import cached_property
from typing import Any, Protocol
from zoneinfo import ZoneInfo

import msgspec

from bridge.lib.timestamps import UnreadableTimeError, read_time
from bridge.record.head import Head
from bridge.record.turn import Turn


class Kind(Enum):
    """How a field is read, by its declared type and by how it really arrives."""

    TEXT = "text"
    NAME = "name"  # of a call: case-blind
    INTEGER = "integer"
    TIME = "time"  # naive, in the platform's zone
    EPOCH = "epoch"
    TAGS = "tags"
    DIALOGUE = "dialogue"


@dataclass(frozen=True, slots=True)
class Computed:
    """A value of a call that is made of several fields, or by a platform's own table of codes."""

    fields: tuple[str, ...]
    read: Callable[[Mapping[str, Any]], Any]
    """Takes the record."""


@dataclass(frozen=True, slots=True)
class EnvelopeFields:
    """What tells a record from an envelope around one that has fields of the same names."""

    ambiguous: frozenset[str]
    """The record's fields that many envelopes have too: they prove nothing."""
    identifying: frozenset[str]
    """Fields that an envelope may identify itself by."""


@dataclass(frozen=True, slots=True)
class CallFields:
    """Where the attributes of `Call` are found in a record."""

    columns: Mapping[str, tuple[str, ...]]
    """From an attribute to the field that holds it; of several the first that is not empty."""
    computed: Mapping[str, Computed]
    """From an attribute to how it is made, where no one field holds it."""


class DialogueForm(Protocol):
    """How a platform writes down what was said in a call."""

    @property
    def field(self) -> str:
        """The record's field that holds it."""

    def read(self, record: Mapping[str, Any], zone: ZoneInfo) -> tuple[Turn, ...]:
        """The turns of a record, dated by its call's own times; no dialogue is no turns."""

    def write(self, turns: Iterable[Turn]) -> Any:
        """The turns as a value of the field, which `read` reads back whole."""

    def is_plain(self, value: bytes) -> bool:
        """Whether the JSON of the field shows at sight that nothing in it is odd."""


@dataclass(frozen=True, eq=False)
class Dialect:
    """How one platform writes its call records: their fields, their times, and their dialogues.

    A record is one JSON object. Its fields keep the platform's names, by which mappings read them as
    `record.…`; `call` says which of them are what mappings read as `call.…`.
    """

    kinds: Mapping[str, Kind]
    """Every field that is known, and how it is read."""
    bookkeeping: Mapping[str, str]
    """The fields whose change alone is no news, each with the reason."""
    call: CallFields
    head: type[Head]
    dialogue: DialogueForm
    envelope: EnvelopeFields
    read_time: Callable[[Any, ZoneInfo], datetime | None] = read_time
    """A time as the platform writes it, in UTC; None where there is none; else `UnreadableTimeError`."""
    decode: Callable[[bytes, str], bytes] | None = None
    """Takes a body or a row, and its declared charset; returns the JSON text of its records in UTF-8.

    None where that is what the platform sends. What is a record already it leaves as it is; what it cannot
    read raises `NotAnObject`.
    """

    def time(self, value: Any, zone: ZoneInfo) -> datetime | None:
        """A time as the platform writes it, in UTC; None also for what cannot be read."""
        try:
            return self.read_time(value, zone)
        except UnreadableTimeError:
            return None

    def fields_of(self, attribute: str) -> tuple[str, ...]:
        """The fields that an attribute of `Call` is made of."""
        computed = self.call.computed.get(attribute)
        return self.call.columns.get(attribute, ()) if computed is None else computed.fields

    def head_of(self, record: Mapping[str, Any]) -> Head:
        """The head of a record that is read already."""
        names = zip(self.head.__struct_fields__, self.head.__struct_encode_fields__, strict=True)
        return self.head(**{name: record[field] for name, field in names if field in record})

    @cached_property
    def head_decoder(self) -> msgspec.json.Decoder[Head]:
        """Reads a head, and nothing else, of a record's JSON."""
        return msgspec.json.Decoder(self.head)

    @cached_property
    def stamp_field(self) -> str:
        """The field that orders the states of a record."""
        return self.fields_of("updated_at")[0]

    @cached_property
    def event_fields(self) -> tuple[str, ...]:
        """The fields that say when things happened to the call."""
        names = ("created_at", "started_at", "connected_at", "disconnected_at")
        return tuple(field for name in names for field in self.fields_of(name))

    @cached_property
    def identifying_fields(self) -> tuple[str, ...]:
        """The fields that tell which call a record is of, names first."""
        others = (field for name in ("sn", "started_at", "created_at") for field in self.fields_of(name))
        return (*self.head.NAMES, *others)

    @cached_property
    def news_fields(self) -> frozenset[str]:
        """The fields whose change is news even if no mapping reads them."""
        return frozenset(self.kinds) - self.bookkeeping.keys()

    @cached_property
    def silent_if_empty(self) -> frozenset[str]:
        """The fields that say nothing where they are empty: an empty name or dialogue takes none away."""
        return frozenset({self.dialogue.field, *self.head.NAMES})

    @cached_property
    def distinctive_fields(self) -> frozenset[str]:
        """The fields that show that an object is one of the platform's records."""
        return frozenset(self.kinds) - self.envelope.ambiguous
