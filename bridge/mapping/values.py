"""Turns values of expressions into JSON that every CRM can store; what cannot be turned is a `MappingFault`.

Begin at `json_value()`.
"""

import re
from collections.abc import Mapping
from datetime import date, datetime, time
from math import isfinite
from typing import Any

from bridge.lib.expression import iso_utc


class MappingFault(Exception):
    """The mapping cannot be applied to this call; the message names object and field."""

    def __init__(self, message: str, *, cause: str = "") -> None:
        """`cause` is the message without what differs from call to call; it groups equal faults."""
        super().__init__(message)
        self.cause = cause or message


# Form feed, vertical tab and NEL break lines, so they become line breaks. The other control characters, and
# noncharacters such as U+FFFE, stop XML parsers and some databases, and are removed.
_LINE_BREAKS = re.compile("\r\n|[\x0b\x0c\x85]")
_CONTROLS = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef"
    + "".join(f"{chr(plane << 16 | 0xFFFE)}{chr(plane << 16 | 0xFFFF)}" for plane in range(17))
    + "]"
)


def is_clean(text: str) -> bool:
    """Whether `clean` would leave a text as it is."""
    # What is printable beside its line breaks is clean: 2 µs for a transcript, where `clean` takes 30.
    return text.isprintable() or text.replace("\n", "").isprintable() or clean(text) == text


def clean(text: str) -> str:
    """The text without control characters, except line breaks and tabs, and without half surrogate pairs."""
    text = text.encode("utf-8", "replace").decode()
    return _CONTROLS.sub("", _LINE_BREAKS.sub(_line_break, text))


def _line_break(match: re.Match[str]) -> str:
    return match[0] if match[0] == "\r\n" else "\n"


def json_value(value: Any) -> Any:
    """A value as JSON that every CRM can store: times become ISO 8601, texts pass through `clean`.

    Raises:
        MappingFault: the value is no data, such as a whole turn of a dialogue, or is not finite.
    """
    if value.__class__ is str:
        return value if is_clean(value) else clean(value)
    if isinstance(value, float) and not isfinite(value):
        raise MappingFault(f"{value} is no value for a field")
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, date | time):
        return iso_utc(value) if isinstance(value, datetime) and value.tzinfo else value.isoformat()
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    if isinstance(value, Mapping):
        return {json_value(str(name)): json_value(item) for name, item in value.items()}
    raise MappingFault(f"a {type(value).__name__} is no value for a field: use a filter, such as transcript")
