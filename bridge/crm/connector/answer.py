"""One answer of a CRM: status, headers, text, and its JSON as far as it is JSON.

Begin at `Answer`; `read_answer()` makes one of the bytes that came, `dig()` takes a value out by its path.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from bridge.record.json_body import is_deep

D = TypeVar("D")
EMPTY_VALUES: tuple[Any, ...] = (None, "", [], {})
"""Values in an answer that count as not there."""
_INDEX = re.compile(r"-?\d{1,9}", re.ASCII)
# A list of errors may have as many items as a batch; 100 are enough to name the mistake.
_MOST_ITEMS = 100
# Python reads NaN and Infinity as numbers, and would write them into the next request, where they are no
# JSON. They become null.
_JSON = json.JSONDecoder(parse_constant=lambda _name: None)
_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")


class Headers(dict[str, str]):
    """An answer's headers; the case of their names does not matter."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        """Take the headers of an answer; of two names that differ by case the last counts."""
        super().__init__({name.lower(): value for name, value in headers.items()})

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name.lower() if isinstance(name, str) else name)

    @overload
    def get(self, name: str, default: None = None, /) -> str | None: ...
    @overload
    def get(self, name: str, default: str, /) -> str: ...
    @overload
    def get(self, name: str, default: D, /) -> str | D: ...
    def get(self, name: str, default: Any = None, /) -> Any:
        """The header's value; `default` where there is none."""
        return super().get(name.lower(), default)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; `body` is its JSON, or None where the text is no JSON."""

    status: int
    headers: Mapping[str, str]
    _text: str | None
    body: Any

    @property
    def text(self) -> str:
        """The text as it came; of one item of a batch its JSON is written again."""
        return json.dumps(self.body, ensure_ascii=False) if self._text is None else self._text

    def part(self, body: Any) -> "Answer":
        """One item of a batch's answer, to be judged like an answer of its own."""
        return Answer(self.status, self.headers, None, body)

    @property
    def names(self) -> dict[str, Any]:
        """The variables that expressions on an answer may use."""
        return {"status": self.status, "headers": self.headers, "body": self.body, "text": self.text}

    @property
    def is_part(self) -> bool:
        """Whether this is one item of a batch's answer."""
        return self._text is None

    @property
    def empty(self) -> bool:
        """Whether there is no text, not even spaces."""
        return self.body is None and not self.text.strip()


def dig(value: Any, path: str, default: Any = None) -> Any:
    """The value at a dotted path such as `data.0.id`, or `default` where there is none.

    The path `.` is the whole value; `errors.*.code` is a list of the codes of all items.
    """
    if path == ".":
        return value
    if value.__class__ is dict and "." not in path:
        return value.get(path, default)
    if "*" in path:
        return _dig_each(value, path, default)
    for part in path.split("."):
        if value.__class__ is dict or isinstance(value, Mapping):
            value = value.get(part, default)
        elif isinstance(value, list | tuple) and _INDEX.fullmatch(part):
            index = int(part)
            value = value[index] if -len(value) <= index < len(value) else default
        else:
            return default
    return value


def _dig_each(value: Any, path: str, default: Any) -> Any:
    """The values at a path with a `*`, of the first 100 items of a list."""
    before, _, after = f".{path}.".partition(".*.")
    listed = dig(value, before.strip(".") or ".")
    if not isinstance(listed, list):
        return default
    values: list[Any] = []
    for item in listed[:_MOST_ITEMS]:
        held = dig(item, after.strip(".") or ".")
        values.extend(held if "*" in after and isinstance(held, list) else [] if held is None else [held])
    return values or default


def first_held(body: Any, paths: Iterable[str]) -> Any:
    """The value at the first of several paths that holds something; None where none does."""
    for path in paths:
        value = dig(body, path)
        if value not in EMPTY_VALUES:
            return value
    return None


def read_answer(status: int, headers: Mapping[str, str], raw: bytes, charset: str | None) -> Answer:
    """Decode an answer: wrong bytes become U+FFFD, and where the text is no JSON, the body is None."""
    text = raw.decode(charset or "utf-8", "replace").removeprefix("\ufeff")
    try:
        body = _JSON.decode(text) if text.strip() else None
        # Everything that walks the value is recursive: deeper than `is_deep` allows, it counts as no JSON.
        body = None if is_deep(text, body) else body
        # Half of a surrogate pair is no character, and SQLite and logs refuse it.
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
