"""Reads the answers of the list and the login. Rows stay raw JSON, because most are known already."""

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from bridge.lib.lenient_json import BLANKS
from bridge.lib.masking import LONGEST_MASKED
from bridge.lib.whole_numbers import parse_int
from bridge.record.json_body import NotAnObject, decode_body, encode_text, parse_json
from bridge.source.list_api import ListNames
from bridge.source.outcall.page_text import MOST_ROWS, PageText, read_page

SUCCESS_CODES = (0, 200, None)
"""Codes of a good answer; None because some deployments send no code."""
_WORDS_OF_SUCCESS = frozenset({"success", "ok", "true", "succeed", "successful"})
_MOST_COUNTED = 10**12
"""A higher total is not believed."""


class UnreadableAnswer(ValueError):
    """An answer is no JSON object; the message shows its beginning."""


@dataclass(frozen=True, slots=True)
class ListAnswer:
    """The parts of an answer; `rows` is None where the answer has no data at all."""

    code: int | str | None
    """As it is sent; 0 for a word of success."""
    message: str
    data: Mapping[str, Any]
    rows: Sequence[bytes] | None
    total: int | None
    vacant: bool = False
    """There is data, with nothing in it: a session that is over, or a window without calls."""
    members: Collection[str] = ()
    """The names of its members, where it was no plain page."""
    broken: str = ""
    """Why rows may be missing that the page should hold."""

    @property
    def refused(self) -> bool:
        """Whether the code says no; an unknown word beside rows does not."""
        return self.code not in SUCCESS_CODES and (isinstance(self.code, int) or not self.rows)


class AnswerReader:
    """Reads answers without parsing their rows: a tenth of the cost of parsing everything."""

    def __init__(self, names: ListNames) -> None:
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

    def read(self, content: bytes, charset: str = "") -> ListAnswer:
        """An answer's parts; `charset` is what it declares, as `declared_charset` reads it.

        Raises:
            UnreadableAnswer: no JSON object.
        """
        if charset:
            content = _in_utf8(content, charset)
        with contextlib.suppress(msgspec.MsgspecError, UnicodeError, RecursionError):
            return self._quickly(content)
        page = read_page(content if charset else _in_utf8(content), self._names.data, self._names.list)
        if page is None:
            raise UnreadableAnswer(f"{content[:40]!r}")
        return self._carefully(page)

    def _quickly(self, content: bytes) -> ListAnswer:
        """Read a plain page, as nearly all are."""
        read: Any = self._decoder.decode(content)
        raw = bytes(read.data.total)
        total = count_in(msgspec.json.decode(raw)) if raw else None
        rows = [bytes(row) for row in read.data.rows[:MOST_ROWS]]
        if rows and all(row.startswith(b"[") for row in rows):
            rows = _flat(rows)
        broken = f"it has more than {MOST_ROWS} rows" if len(read.data.rows) > MOST_ROWS else ""
        return ListAnswer(code_of(read.code), _text(read.message), {}, rows, total, broken=broken)

    def _carefully(self, page: PageText) -> ListAnswer:
        """Read what is no page, or what msgspec refuses: half surrogates, NaN, lists written as objects."""
        names = self._names
        told = {name: _value(text) for name, text in page.members.items()}
        parts = {name: _value(text) for name, text in page.data.items()}
        rows = page.rows
        total = count_in(parts.get(names.total, told.get(names.total)))
        if rows is None and (
            total == 0 or (page.empty and total is not None) or (names.total in parts and len(parts) == 1)
        ):
            rows = []
        if rows and all(row.startswith(b"[") for row in rows):
            rows = _flat(rows)
        members = (*page.members, names.data) if page.has_data else tuple(page.members)
        code, text = code_of(told.get(names.code)), _text(told.get(names.message))
        vacant = page.empty and rows is None
        return ListAnswer(code, text, parts, rows, total, vacant, members, page.broken)


def _flat(rows: list[bytes]) -> list[bytes]:
    """The rows of lists within the list."""
    with contextlib.suppress(msgspec.MsgspecError, UnicodeError, RecursionError):
        inner = [bytes(row) for each in rows for row in msgspec.json.decode(each, type=list[msgspec.Raw])]
        return inner if len(inner) <= MOST_ROWS else rows
    return rows


def code_of(value: Any) -> int | str | None:
    """The code of an answer: a number in any spelling, 0 for a word of success, else the text."""
    if value is True or (isinstance(value, str) and value.strip().lower() in _WORDS_OF_SUCCESS):
        return 0
    number = None if isinstance(value, bool) else parse_int(value)
    if number is not None:
        return number
    return None if value in (None, "", [], {}) else str(value)[:40]


def _in_utf8(content: bytes, charset: str = "") -> bytes:
    """A text in UTF-8, whose JSON can be found by bytes: in GB18030 a byte may look like a bracket."""
    text = decode_body(content, charset)
    if text == content.decode("utf-8", "replace").strip(BLANKS):
        # Broken characters stay as they came: the door replaces them in the same way.
        return content.removeprefix(b"\xef\xbb\xbf")
    return encode_text(text)


def _value(text: bytes) -> Any:
    try:
        return parse_json(text)
    except NotAnObject:
        return None


def count_in(value: Any) -> int | None:
    """A count in any spelling; None for anything else."""
    number = parse_int(value)
    return number if number is not None and 0 <= number <= _MOST_COUNTED else None


def _text(value: Any) -> str:
    # It is cut further after masking.
    return value[:LONGEST_MASKED] if isinstance(value, str) else ""
