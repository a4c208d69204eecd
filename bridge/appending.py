"""What is added to what a CRM holds: the text or list that comes of it, and how it is known again."""

import re
from typing import Any

from bridge.crm_alterations import TAG, unescaped
from bridge.expression import as_text
from bridge.field_digests import SIZE, digest_of, is_empty
from bridge.memory import Sign
from bridge.plan import PlannedField

# What some CRMs keep as `?`, or as an entity, or in a paragraph of its own, or not at all.
_FLEETING = re.compile("[?\ufffd&<>\U00010000-\U0010ffff]")


def with_added(each: PlannedField, held: Any) -> Any:
    """What a field holds once a value is behind what it holds now."""
    if isinstance(each.value, list):
        had = list(held) if isinstance(held, list) else []
        return [*had, *(item for item in each.value if item not in had)]
    return as_text(each.value) if is_empty(held) else f"{as_text(held)}{each.separator}{as_text(each.value)}"


def sign_of(each: PlannedField, held: Any) -> Sign:
    """What a value is known by that is added to what a field holds."""
    if isinstance(each.value, list):
        return -1, len(each.value), b"".join(map(digest_of, each.value))
    text = _lasting(as_text(each.value), each.separator).strip()
    sign = (0, len(text), digest_of(text))
    return (_times(sign, each.separator, held), *sign[1:])


def unplaced(sign: Sign) -> Sign:
    """The same of a value of which nobody knows what stood there before: once is enough."""
    return (min(sign[0], 0), *sign[1:])


def stands(sign: Sign, separator: str, held: Any) -> bool:
    """Whether a value was added already: it stands there once more than before."""
    before, _, digest = sign
    if before < 0:
        there = set(map(digest_of, held)) if isinstance(held, list) else set()
        return all(digest[at : at + SIZE] in there for at in range(0, len(digest), SIZE))
    return _times(sign, separator, held) > before


def _times(sign: Sign, separator: str, held: Any) -> int:
    """How often a text stands in another one, between separators."""
    _, size, digest = sign
    text, around = _lasting(as_text(held), separator).strip(), _lines(separator)
    starts, place = [0], text.find(around)
    while place >= 0:
        starts.append(place)
        place = text.find(around, place + 1)
    times = 0
    for number, start in enumerate(starts):
        begin = start + len(around) if number else 0
        end = begin + size
        ends_there = end == len(text) or (end < len(text) and text.startswith(around, end))
        times += ends_there and digest_of(text[begin:end]) == digest
    return times


def _lines(text: str) -> str:
    # CRMs change the ends of lines.
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _lasting(text: str, separator: str) -> str:
    """A text as far as every CRM keeps it: some escape markup, some make `?` of emoji."""
    text = _lines(text)
    if not _FLEETING.search(text) or _FLEETING.search(separator):
        return text
    return _FLEETING.sub("", TAG.sub("", unescaped(text)))
