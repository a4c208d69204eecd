"""What the platform answers, as far as it can be read: rows stay JSON, because most are known already."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from bridge.body import NotAnObject, dump_object, parse_json, read_json_text
from bridge.record import parse_int


class Unreadable(ValueError):
    """An answer that is no JSON object, and what it is."""


@dataclass(frozen=True, slots=True)
class Names:
    """How a deployment spells what is asked and answered."""

    page_index: str
    page_size: str
    start: str
    end: str
    user_sn: str
    api_key: str
    api_key_expire: str
    code: str
    message: str
    data: str
    list: str
    total: str


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer's parts; `rows` are None where there is no data at all."""

    code: int | None
    message: str
    data: Mapping[str, Any]
    rows: Sequence[bytes] | None
    total: int | None
    vacant: bool = False
    """There is data, with nothing in it: a session that is over, or a window without calls."""


class Reader:
    """Reads answers, a tenth as expensive as reading all that is in them."""

    def __init__(self, names: Names) -> None:
        self._names = names
        rows = msgspec.defstruct(
            "Rows",
            [("rows", list[msgspec.Raw]), ("total", msgspec.Raw, msgspec.Raw())],
            rename={"rows": names.list, "total": names.total},
        )
        answer = msgspec.defstruct(
            "Listed",
            [("data", rows), ("code", Any, None), ("message", Any, None)],
            rename={"data": names.data, "code": names.code, "message": names.message},
        )
        self._decoder = msgspec.json.Decoder(answer)

    def read(self, content: bytes | bytearray) -> Answer:
        """An answer's parts.

        Raises:
            Unreadable: no JSON object.
        """
        with contextlib.suppress(msgspec.MsgspecError, UnicodeError, RecursionError):
            return self._quickly(content)
        try:
            found = parse_json(read_json_text(bytes(content)))
        except NotAnObject as error:
            raise Unreadable(f"{error} ({bytes(content[:40])!r})") from None
        if not isinstance(found, dict):
            raise Unreadable(f"{bytes(content[:40])!r}")
        return self._carefully(found)

    def _quickly(self, content: bytes | bytearray) -> Answer:
        """A page as nearly all are."""
        read: Any = self._decoder.decode(content)
        raw = bytes(read.data.total)
        total = whole(msgspec.json.decode(raw)) if raw else None
        rows = [bytes(row) for row in read.data.rows]
        return Answer(parse_int(read.code), _text(read.message), {}, rows, total)

    def _carefully(self, found: dict[str, Any]) -> Answer:
        """What is no page, or what msgspec refuses: half surrogates, lists written as objects."""
        names, data = self._names, found.get(self._names.data)
        rows: Sequence[bytes] | None = None
        total = None
        if isinstance(data, dict) and (names.list in data or names.total in data):
            listed = data.get(names.list)
            # PHP writes a list whose numbers have gaps as an object…
            values = list(listed.values()) if isinstance(listed, dict) else listed
            rows = [dump_object(row) for row in values] if isinstance(values, list) else []
            total = whole(data.get(names.total))
        elif isinstance(data, list) and data:
            rows = [dump_object(row) for row in data]
        # …and an empty object as a list.
        vacant = isinstance(data, dict | list) and not data
        parts = data if isinstance(data, dict) else {}
        code, message = parse_int(found.get(names.code)), _text(found.get(names.message))
        return Answer(code, message, parts, rows, total, vacant)


def whole(value: Any) -> int | None:
    """A count, however it is spelt."""
    number = parse_int(value)
    return number if number is not None and number >= 0 else None


def _text(value: Any) -> str:
    return value[:200] if isinstance(value, str) else ""
