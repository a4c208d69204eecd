"""A record that is decoded field by field: of some 110 fields a mapping reads about 20."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, overload

import msgspec

from bridge.record.json_body import NotAnObject, parse_object

_fields_of: Callable[[bytes], dict[str, Any]] = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class UnreadableRecordError(Exception):
    """A stored record is no JSON object; the message says why.

    It is no `ValueError`, so that an expression that reads such a record does not take the blame.
    """


class LazyRecord(Mapping[str, Any]):
    """A record that is kept as JSON, and whose fields are decoded when they are first read.

    All of its values equal those of `parse_object`. Reading any of them raises `UnreadableRecordError` where
    that raises `NotAnObject`. The depth of values is not looked at: it was when the record came.
    """

    __slots__ = ("_fields", "_text")

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._fields: dict[str, Any] | None = None
        """Name → value, or its JSON until it is read; None until any is."""

    def __getitem__(self, name: str) -> Any:
        value = self._known()[name]
        return self._decoded(name, value) if value.__class__ is msgspec.Raw else value

    @overload
    def get(self, name: str, /) -> Any: ...
    @overload
    def get(self, name: str, /, default: Any) -> Any: ...
    def get(self, name: str, /, default: Any = None) -> Any:
        """See `Mapping`."""
        fields = self._fields
        value = (self._known() if fields is None else fields).get(name, default)
        return self._decoded(name, value) if value.__class__ is msgspec.Raw else value

    def __iter__(self) -> Iterator[str]:
        return iter(self._known())

    def __len__(self) -> int:
        return len(self._known())

    def json_of(self, name: str) -> msgspec.Raw | None:
        """The JSON of a field that was not read yet; None where it was, and where there is none."""
        value = self._known().get(name)
        return value if isinstance(value, msgspec.Raw) else None

    def _known(self) -> dict[str, Any]:
        if self._fields is None:
            try:
                self._fields = _fields_of(self._text)
            except (msgspec.MsgspecError, UnicodeError, RecursionError):
                self._fields = self._parsed()
        return self._fields

    def _decoded(self, name: str, value: msgspec.Raw) -> Any:
        assert self._fields is not None  # noqa: S101 -- the value is one of them
        try:
            self._fields[name] = msgspec.json.decode(value)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            # One value that JSON does not know makes all of the record be read in the lenient way.
            self._fields = self._parsed()
        return self._fields[name]

    def _parsed(self) -> dict[str, Any]:
        try:
            return parse_object(self._text)
        except NotAnObject as error:
            raise UnreadableRecordError(str(error)) from error
