"""What a mapping makes of values: data that JSON can carry, or a fault that names its place."""

import re
from collections.abc import Mapping
from datetime import date, datetime, time
from math import isfinite
from typing import Any

from bridge.lib.expression import iso_utc


class MappingFault(Exception):
    """The mapping cannot be applied to this call; the message names object and field.

    `cause` is the message without what differs from call to call, to group like faults.
    """

    def __init__(self, message: str, *, cause: str = "") -> None:
        super().__init__(message)
        self.cause = cause or message


# Line breaks that are control characters are ones all the same; what is left of them stops parsers and
# databases, and no program means it. Noncharacters are in no text either.
_LINE_BREAKS = re.compile("\r\n|[\x0b\x0c\x85]")
_CONTROLS = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef"
    + "".join(f"{chr(plane << 16 | 0xFFFE)}{chr(plane << 16 | 0xFFFF)}" for plane in range(17))
    + "]"
)


def is_clean(text: str) -> bool:
    """Whether a text can go to a CRM as it is: see `clean`."""
    return text.isprintable() or clean(text) == text


def clean(text: str) -> str:
    """The text without control characters but line breaks and tabs, and without half surrogates."""
    text = text.encode("utf-8", "replace").decode()
    return _CONTROLS.sub("", _LINE_BREAKS.sub(_line_break, text))


def _line_break(found: re.Match[str]) -> str:
    return found[0] if found[0] == "\r\n" else "\n"


def json_value(value: Any) -> Any:
    """A value as JSON can carry it, and every CRM can keep it; times as ISO 8601, texts as `clean` has them.

    Raises:
        MappingFault: a value that is no data, such as a whole turn.
    """
    if isinstance(value, float) and not isfinite(value):
        raise MappingFault(f"{value} is no value for a field")
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return value if type(value) is str and is_clean(value) else clean(value)
    if isinstance(value, date | time):
        return iso_utc(value) if isinstance(value, datetime) and value.tzinfo else value.isoformat()
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    if isinstance(value, Mapping):
        return {json_value(str(name)): json_value(item) for name, item in value.items()}
    raise MappingFault(f"a {type(value).__name__} is no value for a field: use a filter, such as transcript")
