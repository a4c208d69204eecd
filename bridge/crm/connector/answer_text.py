"""The text of an answer, read as JSON as far as it is JSON."""

import json
import re
from collections.abc import Mapping
from typing import Any

from bridge.crm.connector.compiling import Answer, Headers
from bridge.record.json_body import is_deep

_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")


def read_answer(status: int, headers: Mapping[str, str], raw: bytes, charset: str | None) -> Answer:
    """What was answered, as far as it can be read."""
    text = raw.decode(charset or "utf-8", "replace").removeprefix("\ufeff")
    try:
        # NaN and Infinity are Python's JSON, and would go out again as such.
        body = json.loads(text, parse_constant=lambda _name: None) if text.strip() else None
        # Whoever walks it does so recursively.
        body = None if is_deep(text, body) else body
        # Half of a pair is no character: no database and no log would take it.
        body = _whole_characters(body) if _HALF_CHARACTER.search(text) else body
    except (ValueError, RecursionError):
        body = None
    return Answer(status, Headers(headers), text, body)


def _whole_characters(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_whole_characters(name): _whole_characters(each) for name, each in value.items()}
    return [_whole_characters(each) for each in value] if isinstance(value, list) else value
