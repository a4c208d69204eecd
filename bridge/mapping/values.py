"""What a mapping makes of values: data that JSON can carry, or a fault that names its place."""

from collections.abc import Mapping
from datetime import date, datetime, time
from math import isfinite
from typing import Any

from bridge.expression import iso_utc


class MappingFault(Exception):
    """The mapping cannot be applied to this call; the message names object and field.

    `cause` is the message without what differs from call to call, to group like faults.
    """

    def __init__(self, message: str, *, cause: str = "") -> None:
        super().__init__(message)
        self.cause = cause or message


def is_whole(text: str) -> bool:
    """Whether a text is free of half surrogates, which no UTF-8 can carry."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def json_value(value: Any) -> Any:
    """A value as JSON can carry it; times as ISO 8601, half surrogates replaced.

    Raises:
        MappingFault: a value that is no data, such as a whole turn.
    """
    if isinstance(value, float) and not isfinite(value):
        raise MappingFault(f"{value} is no value for a field")
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return value if type(value) is str and is_whole(value) else value.encode("utf-8", "replace").decode()
    if isinstance(value, date | time):
        return iso_utc(value) if isinstance(value, datetime) and value.tzinfo else value.isoformat()
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    if isinstance(value, Mapping):
        return {json_value(str(name)): json_value(item) for name, item in value.items()}
    raise MappingFault(f"a {type(value).__name__} is no value for a field: use a filter, such as transcript")
