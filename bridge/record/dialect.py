"""Describes how a platform writes its records, so that no other room knows the names of its fields."""

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


class FieldKind(Enum):
    """How a field is read; types vary from record to record, so a kind accepts all spellings of a value."""

    TEXT = "text"
    NAME = "name"  # of a call, compared without case
    INTEGER = "integer"
    TIME = "time"  # local, in the source's zone
    EPOCH = "epoch"
    TAGS = "tags"
    DIALOGUE = "dialogue"


@dataclass(frozen=True, slots=True)
class ComputedAttribute:
    """An attribute of `Call` that is computed from several fields, or from a platform's code."""

    fields: tuple[str, ...]
    read: Callable[[Mapping[str, Any]], Any]
    """Takes the record and returns the attribute's value."""


@dataclass(frozen=True, slots=True)
class EnvelopeFields:
    """Tells records from envelopes around them, which may have fields of the same names."""

    ambiguous: frozenset[str]
    """Fields of records that envelopes often have too: they do not show that an object is a record."""
    identifying: frozenset[str]
    """Fields that an envelope may have for itself, such as an id of its own and a time."""


@dataclass(frozen=True, slots=True)
class AttributeFields:
    """Which fields of a record hold the attributes of `Call`; an attribute that neither names is null."""

    direct: Mapping[str, tuple[str, ...]]
    """Attribute → the fields that hold it; of several the first that is not empty counts."""
    computed: Mapping[str, ComputedAttribute]
    """Attribute → how it is computed, where no field holds it as it is."""


class DialogueForm(Protocol):
    """How a platform writes the dialogue of a call."""

    @property
    def field(self) -> str:
        """The record's field that holds it."""

    def read(self, record: Mapping[str, Any], zone: ZoneInfo) -> tuple[Turn, ...]:
        """The turns of a record's dialogue, empty without one; dates come from the record's own times."""

    def write(self, turns: Iterable[Turn]) -> Any:
        """The turns as a value of the field; `read` returns the same turns for it."""

    def is_plain(self, value: bytes) -> bool:
        """Whether the field's raw JSON is surely readable, so that it need not be parsed to find out."""


@dataclass(frozen=True, eq=False)
class Dialect:
    """How one platform writes its call records: their fields, their times, and their dialogues.

    A record is one JSON object. Its fields keep the platform's names, by which mappings read them as
    `record.…`; `attributes` says which of them are what mappings read as `call.…`.
    """

    kinds: Mapping[str, FieldKind]
    """Every known field and its kind."""
    bookkeeping: Mapping[str, str]
    """Fields whose change alone is no news → the reason."""
    attributes: AttributeFields
    head: type[Head]
    dialogue: DialogueForm
    envelope: EnvelopeFields
    read_time: Callable[[Any, ZoneInfo], datetime | None] = read_time
    """Reads a time of the platform's, in the given zone, into UTC; None for no time.

    Raises `UnreadableTimeError` for a value that cannot be read.
    """
    decode: Callable[[bytes, str], bytes] | None = None
    """Turns a pushed body or a row of the list, with its declared charset, into the records' JSON in UTF-8.

    None where the platform sends such JSON itself. Quarantined records pass through it again, so it must
    leave its own output as it is. Raises `NotAnObject` for what it cannot read.
    """

    def time(self, value: Any, zone: ZoneInfo) -> datetime | None:
        """A time of the platform's in UTC; None also for what cannot be read."""
        try:
            return self.read_time(value, zone)
        except UnreadableTimeError:
            return None

    def fields_of(self, attribute: str) -> tuple[str, ...]:
        """The fields that an attribute of `Call` is read from."""
        computed = self.attributes.computed.get(attribute)
        return self.attributes.direct.get(attribute, ()) if computed is None else computed.fields

    def head_of(self, record: Mapping[str, Any]) -> Head:
        """The head of a record that has been parsed."""
        names = zip(self.head.__struct_fields__, self.head.__struct_encode_fields__, strict=True)
        return self.head(**{name: record[field] for name, field in names if field in record})

    @cached_property
    def head_decoder(self) -> msgspec.json.Decoder[Head]:
        """Decodes the head of a record's JSON and skips all other fields."""
        return msgspec.json.Decoder(self.head)

    @cached_property
    def stamp_field(self) -> str:
        """The field with the time by which the states of a record are ordered."""
        return self.fields_of("updated_at")[0]

    @cached_property
    def event_fields(self) -> tuple[str, ...]:
        """The fields that hold the times of the call itself."""
        names = ("created_at", "started_at", "connected_at", "disconnected_at")
        return tuple(field for name in names for field in self.fields_of(name))

    @cached_property
    def identifying_fields(self) -> tuple[str, ...]:
        """The fields that tell which call a record belongs to, names first."""
        others = (field for name in ("sn", "started_at", "created_at") for field in self.fields_of(name))
        return (*self.head.NAMES, *others)

    @cached_property
    def news_fields(self) -> frozenset[str]:
        """The fields whose change is news even if no mapping reads them."""
        return frozenset(self.kinds) - self.bookkeeping.keys()

    @cached_property
    def silent_if_empty(self) -> frozenset[str]:
        """The fields that, when empty, do not replace a known value: the names, and the dialogue."""
        return frozenset({self.dialogue.field, *self.head.NAMES})

    @cached_property
    def distinctive_fields(self) -> frozenset[str]:
        """The fields that show that an object is a record of the platform's."""
        return frozenset(self.kinds) - self.envelope.ambiguous
