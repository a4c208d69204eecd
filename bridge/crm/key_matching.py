"""Whether a record that a CRM shows is the one with our key: an id alone is not believed.

A search may ignore a filter it does not know and list everybody, and "duplicate of 15000000001" may be about
a namesake: taken at its word, the calls of many people would hang on one contact.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from bridge.lib.expression import as_text
from bridge.lib.masking import LONGEST_MASKED, LONGEST_MESSAGE
from bridge.lib.phone import mask_phones_in

# A number without its country code lacks up to three digits; dialling prefixes add zeros.
_LONGEST_CODE = 3
_FEWEST_DIGITS = 7
_NUMBER = re.compile(r"\+?[\d\s().\-/\u2010-\u2015\u00a0\u3000]{7,40}")
_EXTENSION = re.compile(r"(?i)(?:ext|x|#|;|,|转|分机)")
_LONGEST_ID = 500
# Values of a record that are compared; a record of many thousands is compared so far.
_MOST_VALUES = 2000


def object_id(value: Any) -> str | None:
    """An id from an answer, as text; None: it is no id, but null, a table, a list, true or false."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = as_text(int(value) if isinstance(value, float) and value.is_integer() else value).strip()
    return text if 0 < len(text) <= _LONGEST_ID else None


def has_key(key: Mapping[str, Any], fields: Mapping[str, Any], record: Any = None) -> bool | None:
    """Whether a record has this key; None: what is shown of it does not tell.

    It has where one of its values equals each part of the key, phone numbers in any notation. It has not
    where a field of a part's own name holds something else. `record` is all that the CRM shows of it, where
    that is more than its `fields`.
    """
    shown = fields if record is None else record
    verdicts = [_has_part(name, as_text(part), fields, shown) for name, part in key.items()]
    if False in verdicts:
        return False
    return True if verdicts and None not in verdicts else None


def key_shown(key: Mapping[str, Any], fields: Mapping[str, Any]) -> str:
    """What a record holds in the fields named like the key's parts, for a message: masked, then cut."""
    told = {name: ", ".join(_leaves(_named(name, fields))) for name in key}
    text = ", ".join(f"{name} {text}" for name, text in told.items() if text)
    return mask_phones_in(text[:LONGEST_MASKED])[:LONGEST_MESSAGE]


def _has_part(name: str, part: str, fields: Mapping[str, Any], shown: Any) -> bool | None:
    if any(_same(part, leaf) for leaf in _leaves(shown)):
        return True
    held = list(_leaves(_named(name, fields))) or list(_leaves(_named(name, shown)))
    # A CRM that masks numbers for our user tells nothing.
    return None if not held or any("*" in leaf for leaf in held) else False


def _named(name: str, shown: Any) -> Any:
    """The field of this name, in any case."""
    if not isinstance(shown, Mapping):
        return None
    folded = name.casefold()
    return next((value for field, value in shown.items() if str(field).casefold() == folded), None)


def _leaves(value: Any) -> Iterator[str]:
    """All texts and numbers in a value, at any depth."""
    left, seen = [value], 0
    while left and seen < _MOST_VALUES:
        each = left.pop()
        seen += 1
        if isinstance(each, Mapping):
            left.extend(each.values())
        elif isinstance(each, list | tuple):
            left.extend(each)
        elif isinstance(each, str | int | float) and not isinstance(each, bool) and (text := as_text(each)):
            yield text


def _same(part: str, leaf: str) -> bool:
    if part.strip().casefold() == leaf.strip().casefold():
        return True
    if not _NUMBER.fullmatch(part.strip()):
        return False
    mine, theirs = _digits(part), _digits(_EXTENSION.split(leaf[:60], maxsplit=1)[0])
    shorter, longer = sorted((mine, theirs), key=len)
    return (
        len(shorter) >= _FEWEST_DIGITS
        and len(longer) - len(shorter) <= _LONGEST_CODE
        and longer.endswith(shorter)
    )


def _digits(text: str) -> str:
    return "".join(char for char in text if char.isdecimal()).lstrip("0")
