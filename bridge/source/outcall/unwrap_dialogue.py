"""Unwraps a dialogue: JSON in a text (in a text), objects in place of lists."""

import re
from collections.abc import Iterator
from html import unescape
from json import JSONDecoder
from typing import Any

from bridge.record.json_body import NotAnObject, parse_json

TURN_KEYS = frozenset(
    {
        *("is_answer", "vocfile", "caption", "title", "answer", "fenduanluyin", "labelling", "score"),
        *("process_code", "talk_info_sn", "talk_datetime", "trigger_word", "_callbridge"),
    }
)
"""An object with any of these keys is a turn."""
_MOST_WRAPPINGS = 5
_MAY_BE_JSON = re.compile(r'[\[{"]|(?:null|false)$')
_LOOKS_LIKE_JSON = re.compile(r'"?\s{0,9}(?:\[\s{0,9}[\[{"]|\{\s{0,9}\\?")')
_ESCAPED_FOR_HTML = re.compile(r"[\[{]{0,9}&quot;")
_ESCAPED_QUOTE = re.compile(r'"?[\[{]{0,9}\\"')
_ESCAPE = re.compile(r'\\(["\\/])')
_NOTHING: tuple[Any, ...] = (None, False, "", [], {})
_BETWEEN_ITEMS = "[], \t\r\n"
_PLACE = re.compile(r"[0-9]{1,9}")


def unwrapped(value: object) -> tuple[Any, bool]:
    """The value inside JSON texts, up to five levels deep; and whether it was inside one at all."""
    from_text = False
    for _ in range(_MOST_WRAPPINGS):
        if not isinstance(value, str):
            break
        text = value = value.strip()
        if _ESCAPED_FOR_HTML.match(text):
            text = unescape(text)
        if not _MAY_BE_JSON.match(text):
            break
        try:
            value, from_text = parse_json(text), True
        except NotAnObject:
            # Escaped as inside a JSON string, but without the quotes around it.
            if not _ESCAPED_QUOTE.match(text):
                break
            value = _ESCAPE.sub(r"\1", text.removeprefix('"').removesuffix('"'))
    return value, from_text


def looks_like_json(text: str) -> bool:
    """Whether a text looks like JSON, though it may be cut off or have a mistake."""
    return _LOOKS_LIKE_JSON.match(text) is not None


def items_of(value: object, depth: int = 0) -> Iterator[Any]:
    """The turns of a list, also of nested lists, or of an object whose keys are the indexes of a list."""
    if isinstance(value, str) and looks_like_json(value):
        value, _ = unwrapped(value)
    if isinstance(value, dict) and value and TURN_KEYS.isdisjoint(value):
        if all(isinstance(key, str) and _PLACE.fullmatch(key) for key in value):
            value = [value[key] for key in sorted(value, key=int)]
        elif all(isinstance(item, dict | list) for item in value.values()):
            value = list(value.values())
        elif (inner := _only_list_of_turns(value, depth)) is not None:
            value = inner
    if isinstance(value, list) and depth < _MOST_WRAPPINGS:
        for item in value:
            if isinstance(item, dict) and not TURN_KEYS.isdisjoint(item):
                yield item
            elif item not in _NOTHING:
                yield from items_of(item, depth + 1)
    else:
        yield value


def _only_list_of_turns(envelope: dict[Any, Any], depth: int) -> list[Any] | None:
    """The turns of an envelope like `{"total": 2, "list": […]}`; None unless exactly one member has some."""
    if depth >= _MOST_WRAPPINGS:
        return None
    holders: list[list[Any]] = []
    for item in envelope.values():
        if isinstance(item, dict | list) or (isinstance(item, str) and looks_like_json(item)):
            found = list(items_of(item, depth + 1))
            if any(isinstance(turn, dict) and not TURN_KEYS.isdisjoint(turn) for turn in found):
                holders.append(found)
    return holders[0] if len(holders) == 1 else None


def whole_items(text: str) -> tuple[list[dict[str, Any]], str]:
    """The complete turns in JSON that is cut off or has a mistake, and the rest of its text."""
    decoder, found, end = JSONDecoder(), [], 0
    at = text.find("{")
    while at >= 0 and not text[end:at].strip(_BETWEEN_ITEMS):
        try:
            item, after = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            break
        if TURN_KEYS.isdisjoint(item):
            break
        found.append(item)
        end, at = after, text.find("{", after)
    return found, text[end:].strip(_BETWEEN_ITEMS) if found else text
