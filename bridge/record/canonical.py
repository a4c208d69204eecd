"""The canonical form of a record: equal for two records that say the same with other types or spellings."""

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any
from zoneinfo import ZoneInfo

from bridge.lib.timestamps import UnreadableTimeError
from bridge.lib.whole_numbers import parse_int
from bridge.record.dialect import Dialect, FieldKind
from bridge.record.origin import Origin
from bridge.record.turn import Turn, digested, split_labels

_DECIMAL = re.compile(r"[+-]?[0-9]{1,15}\.[0-9]{1,15}")


def canonical(record: Mapping[str, Any], origin: Origin) -> dict[str, Any]:
    """Every field of a record by its kind; empty ones are None, and what cannot be read stays as it is."""
    dialect, zone = origin.dialect, origin.zone
    result: dict[str, Any] = {}
    for name, value in record.items():
        if value is None or value == "" or (isinstance(value, str) and not value.strip()):
            result[name] = None
        elif (kind := dialect.kinds.get(name)) is None:
            # An unknown field may come as a number or as text: both count as equal.
            result[name] = _read_text(value)
        elif kind is FieldKind.DIALOGUE:
            result[name] = dialect.dialogue.read(record, zone) or None
        elif kind in _TIMES:
            result[name] = _read_time(value, dialect, zone)
        else:
            result[name] = _READERS[kind](value)
    return result


def digest(canonical_mapping: Mapping[str, Any]) -> bytes:
    """A digest of 16 bytes: the same in every process, for every order of keys, and for absent and None.

    Of a dialogue only the fields that all full encodings carry count.
    """
    said = {name: value for name, value in canonical_mapping.items() if value is not None and value != ()}
    # As ASCII, because half surrogate pairs cannot be encoded in UTF-8, and become escapes.
    text = json.dumps(said, sort_keys=True, ensure_ascii=True, separators=(",", ":"), default=_jsonable)
    return blake2b(text.encode("ascii"), digest_size=16).digest()


def _read_text(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return value


def _read_name(value: Any) -> Any:
    text = _read_text(value)
    return text.strip().lower() if isinstance(text, str) else text


def _read_integer(value: Any) -> Any:
    number = parse_int(value)
    if number is None and isinstance(value, str) and _DECIMAL.fullmatch(text := value.strip()):
        return float(text)
    return value if number is None else number


def _read_time(value: Any, dialect: Dialect, zone: ZoneInfo) -> Any:
    try:
        return dialect.read_time(value, zone)
    except UnreadableTimeError:
        return value


def _read_tags(value: Any) -> Any:
    if isinstance(value, dict | bool):
        return value
    return split_labels(value) or None


_TIMES = (FieldKind.TIME, FieldKind.EPOCH)
_READERS: Mapping[FieldKind, Callable[[Any], Any]] = {
    FieldKind.TEXT: _read_text,
    FieldKind.NAME: _read_name,
    FieldKind.INTEGER: _read_integer,
    FieldKind.TAGS: _read_tags,
}


def _jsonable(value: object) -> Any:
    if isinstance(value, datetime):
        return {"time": value.astimezone(UTC).isoformat()}
    if isinstance(value, Turn):
        return digested(value)
    raise TypeError(f"a {type(value).__name__} has no place in a record")
