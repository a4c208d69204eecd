"""Checks that a record in a CRM's answer really has our key, before its id is used.

A search may ignore a filter that it does not know and list everybody, and "duplicate of 15000000001" may be
about a person of the same name. Without this check the calls of many people would end at one contact. Begin
at `has_key()`.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from bridge.lib.expression import as_text
from bridge.lib.masking import LONGEST_MASKED, LONGEST_MESSAGE
from bridge.lib.phone import mask_phones_in

# Without its country code a number is up to 3 digits shorter; leading zeros of dialling prefixes do not
# count.
_LONGEST_CODE = 3
_FEWEST_DIGITS = 7
_NUMBER = re.compile(r"\+?[\d\s().\-/\u2010-\u2015\u00a0\u3000]{7,40}")
_EXTENSION = re.compile(r"(?i)(?:ext|x|#|;|,|转|分机)")
_LONGEST_ID = 500
# Of a record with many thousands of values, the first 2,000 are compared.
_MOST_VALUES = 2000


def object_id(value: Any) -> str | None:
    """An id of an answer as text of at most 500 characters; None for null, a table, a list, true or false."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = as_text(int(value) if isinstance(value, float) and value.is_integer() else value).strip()
    return text if 0 < len(text) <= _LONGEST_ID else None


def has_key(key: Mapping[str, Any], fields: Mapping[str, Any], record: Any = None) -> bool | None:
    """Whether a record has this key; None where the answer does not show enough to know.

    True: for each part of the key one of its values is equal, phone numbers in any notation. False: a field
    with the name of a part holds something else. `record` is the whole record of the answer, where that is
    more than its `fields`.
    """
    whole = fields if record is None else record
    verdicts = [_has_part(name, as_text(part), fields, whole) for name, part in key.items()]
    if False in verdicts:
        return False
    return True if verdicts and None not in verdicts else None


def key_shown(key: Mapping[str, Any], fields: Mapping[str, Any]) -> str:
    """The record's values in the fields of the key, for a message: phone numbers masked, then cut."""
    values = {name: ", ".join(_leaves(_field(name, fields))) for name in key}
    text = ", ".join(f"{name} {value}" for name, value in values.items() if value)
    return mask_phones_in(text[:LONGEST_MASKED])[:LONGEST_MESSAGE]


def _has_part(name: str, part: str, fields: Mapping[str, Any], whole: Any) -> bool | None:
    text = part.strip()
    folded, is_number = text.casefold(), _NUMBER.fullmatch(text) is not None
    for leaf in _leaves(whole):
        if leaf.strip().casefold() == folded or (is_number and _same_number(part, leaf)):
            return True
    held = list(_leaves(_field(name, fields))) or list(_leaves(_field(name, whole)))
    # A number that the CRM masks for our user, 138****8000, decides nothing.
    return None if not held or any("*" in leaf for leaf in held) else False


def _field(name: str, record: Any) -> Any:
    """The value of the field with this name, in upper or lower case."""
    if not isinstance(record, Mapping):
        return None
    folded = name.casefold()
    return next((value for field, value in record.items() if str(field).casefold() == folded), None)


def _leaves(value: Any) -> Iterator[str]:
    """All texts and numbers in a value, at any depth, as text."""
    left, seen = [value], 0
    while left and seen < _MOST_VALUES:
        item = left.pop()
        seen += 1
        if item.__class__ is str:
            # Most are texts, and to ask whether one is a Mapping takes five times as long.
            if item:
                yield item
        elif isinstance(item, Mapping):
            left.extend(item.values())
        elif isinstance(item, list | tuple):
            left.extend(item)
        elif isinstance(item, str | int | float) and not isinstance(item, bool) and (text := as_text(item)):
            yield text


def _same_number(part: str, leaf: str) -> bool:
    mine, theirs = _digits(part), _digits(_EXTENSION.split(leaf[:60], maxsplit=1)[0])
    shorter, longer = sorted((mine, theirs), key=len)
    return (
        len(shorter) >= _FEWEST_DIGITS
        and len(longer) - len(shorter) <= _LONGEST_CODE
        and longer.endswith(shorter)
    )


def _digits(text: str) -> str:
    return "".join(char for char in text if char.isdecimal()).lstrip("0")
