"""The rows of a page that is not quite JSON, found without reading them.

One `NaN`, one bad escape or a text that was cut inside a character makes a whole page no JSON. Where each
value begins and ends can be told all the same: such a row is handed on as it is, and the others are not lost.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from bridge.record.json_body import NotAnObject, parse_json

MOST_ROWS = 100_000
"""Of one page; page sizes are far smaller."""
_MOST_SCANS = 4
"""The work is limited to so many times the page's length: behind a broken row the scan goes back."""
_DEEPEST = 4
"""Levels of JSON inside JSON strings."""

# Possessive quantifiers, so that a string without an end is scanned once and needs no memory.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_KEY = re.compile(rb'("(?:[^"\\]++|\\.)*+")\s*+:\s*+', re.DOTALL)
_FIRST_KEY = re.compile(rb'\{\s*+("(?:[^"\\]++|\\.)*+")\s*+:', re.DOTALL)
_TO_BRACKET = re.compile(rb'(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+"(?=\s*+[,:}\]]))*+[{}\[\]]', re.DOTALL)
_LITERAL = re.compile(rb'[^\s,:"{}\[\]]++')
_SPACE = re.compile(rb"\s*+")
_OPENS = {b"}": b"{", b"]": b"["}


@dataclass(slots=True)
class PageText:
    """The parts of a page that were found."""

    rows: list[bytes] | None = None
    """None where there is no list."""
    members: dict[str, bytes] = field(default_factory=dict)
    """The other members of the answer, raw."""
    data: dict[str, bytes] = field(default_factory=dict)
    """The members of its data without the list, raw."""
    has_data: bool = False
    """Whether the member with the data is there at all."""
    empty: bool = False
    """Whether the data is there and empty."""
    broken: str = ""
    """Why rows may be missing; empty if none are."""


def read_page(text: bytes, data_name: str, list_name: str) -> PageText | None:
    """Find the parts of a page that is UTF-8 (broken places allowed); None if it is no JSON object."""
    found = PageText()
    return found if _Scanner(text, data_name, list_name, found).read() else None


class _Scanner:
    """Scans one text from its start to its end, and goes back only behind broken rows."""

    def __init__(self, text: bytes, data_name: str, list_name: str, found: PageText, depth: int = 0) -> None:
        self._text = text
        self._data_name, self._list_name = data_name, list_name
        self._found = found
        self._depth = depth
        self._left = _MOST_SCANS * len(text)
        self._around = 2
        """How many braces close behind the list."""

    # -- the envelope -------------------------------------------------------------------
    def read(self) -> bool:
        """Whether it is an object, or a string that holds one."""
        start = self.space(0)
        if self._at(start) == b'"':
            inner = self._within(start)
            return inner is not None and inner.read()
        if self._at(start) != b"{":
            return False
        end = self._members(start, self._answer_member)
        return end is not None or self._found.rows is not None

    def _answer_member(self, name: str, start: int) -> int | None:
        if name != self._data_name:
            return self._kept(self._found.members, name, start)
        self._found.rows, self._found.data = None, {}
        self._found.has_data, self._found.empty = True, False
        return self.data(start)

    def data(self, start: int) -> int | None:
        """Read the member that holds the list; returns where it ends."""
        opening = self._at(start)
        if opening == b"{":
            end = self._members(start, self._data_member)
            self._found.empty = end is not None and not self._found.data and self._found.rows is None
            return end
        if opening == b"[":
            self._around = 1
            end = self._rows(start)
            if end is not None and not self._found.rows:
                # PHP writes an empty object as a list.
                self._found.rows, self._found.empty = None, True
            return end
        if opening == b'"' and (inner := self._within(start)) is not None:
            inner.data(inner.space(0))
        return self._end(start)

    def _data_member(self, name: str, start: int) -> int | None:
        if name != self._list_name:
            return self._kept(self._found.data, name, start)
        return self.list(start)

    def list(self, start: int) -> int | None:
        """Read the list; returns where it ends."""
        opening = self._at(start)
        self._found.rows = []
        if opening == b"[":
            return self._rows(start)
        if opening == b"{":
            # PHP writes a list whose numbers have gaps as an object.
            return self._members(start, self._numbered_row)
        if opening == b'"' and (inner := self._within(start)) is not None:
            inner.list(inner.space(0))
        return self._end(start)

    def _numbered_row(self, _name: str, start: int) -> int | None:
        end = self._end(start)
        if end is None:
            self._cut()
        else:
            self._row(self._text[start:end])
        return end

    def _kept(self, members: dict[str, bytes], name: str, start: int) -> int | None:
        end = self._end(start)
        if end is not None:
            members[name] = self._text[start:end]
        return end

    def _within(self, start: int) -> "_Scanner | None":
        """A scanner for the JSON in a JSON string."""
        end = self._end(start)
        if end is None or self._depth >= _DEEPEST:
            return None
        try:
            text = parse_json(self._text[start:end])
        except NotAnObject:
            return None
        if not isinstance(text, str):
            return None
        encoded = text.encode("utf-8", "surrogatepass")
        return _Scanner(encoded, self._data_name, self._list_name, self._found, self._depth + 1)

    # -- rows ---------------------------------------------------------------------------
    def _rows(self, start: int) -> int | None:
        """Take the elements of a list; returns where it ends, None if it has no end."""
        self._found.rows = []
        at = self.space(start + 1)
        while self._at(at) != b"]":
            end = self._end(at)
            if end is None or not self._ends_well(end):
                end = self._past_broken_row(at)
            if end is None:
                self._cut()
                return None
            self._row(self._text[at:end].rstrip())
            if self._found.broken:
                return None
            at = self.space(end)
            at = self.space(at + 1) if self._at(at) == b"," else at
        return at + 1

    def _row(self, row: bytes) -> None:
        assert self._found.rows is not None  # noqa: S101 -- a list was begun
        if len(self._found.rows) >= MOST_ROWS:
            self._found.broken = f"it has more than {MOST_ROWS} rows"
        else:
            self._found.rows.append(row)

    def _cut(self) -> None:
        rows = self._found.rows or ()
        self._found.broken = (
            self._found.broken or f"it ends, or cannot be read any further, after {len(rows)} rows"
        )

    def _past_broken_row(self, at: int) -> int | None:
        """Where a row with unmatched quotes or brackets ends: the next one begins with the same key."""
        rows = self._found.rows or ()
        keys = {key[1] for row in (self._text[at : at + 1000], *rows[:1]) if (key := _FIRST_KEY.match(row))}
        if not keys:
            return None
        next_row = re.compile(rb",\s*+(?=\{\s*+(?:%b)\s*+:)" % b"|".join(map(re.escape, sorted(keys))))
        for found in next_row.finditer(self._text, at + 1):
            end = self._end(found.end())
            if end is not None and self._ends_well(end):
                return found.start()
            if self._left <= 0:
                return None
        # No next row: it is the last one if the text behind the last bracket looks like a page's end.
        last = self._text.rfind(b"]", at)
        tail = self._text[last + 1 :].lstrip()
        ends = tail[:1] in (b",", b"}") and b"{" not in tail and tail.count(b"}") >= self._around
        return last if last > 0 and ends else None

    def _ends_well(self, end: int) -> bool:
        """Whether another row, the end of the list or the end of a text that was cut follows."""
        return self._at(self.space(end)) in (b",", b"]", b"")

    # -- values -------------------------------------------------------------------------
    def _members(self, start: int, take: Callable[[str, int], int | None]) -> int | None:
        """Scan an object; `take` tells where each value ends. Returns where the object ends, or None."""
        at = self.space(start + 1)
        while self._at(at) != b"}":
            key = _KEY.match(self._text, at)
            if key is None:
                return None
            end = take(_name(key[1]), key.end())
            if end is None:
                return None
            at = self.space(end)
            if self._at(at) == b",":
                at = self.space(at + 1)
            elif self._at(at) != b"}":
                return None
        return at + 1

    def _end(self, start: int) -> int | None:
        """Where the value that begins at `start` ends; None if nowhere."""
        opening = self._at(start)
        if opening in (b"{", b"["):
            return self._closed(start)
        found = (_STRING if opening == b'"' else _LITERAL).match(self._text, start)
        self._left -= (found.end() if found else len(self._text)) - start
        return found.end() if found else None

    def _closed(self, start: int) -> int | None:
        opened: list[bytes] = []
        at = start
        while self._left > 0:
            found = _TO_BRACKET.match(self._text, at)
            if found is None:
                self._left -= len(self._text) - at
                return None
            self._left -= found.end() - at
            at = found.end()
            bracket = self._text[at - 1 : at]
            if bracket in (b"{", b"["):
                opened.append(bracket)
            elif opened.pop() != _OPENS[bracket]:
                return None
            elif not opened:
                return at
        return None

    def space(self, at: int) -> int:
        """Where the next token is."""
        found = _SPACE.match(self._text, at)
        return found.end() if found else at

    def _at(self, at: int) -> bytes:
        return self._text[at : at + 1]


def _name(key: bytes) -> str:
    try:
        name = parse_json(key)
    except NotAnObject:
        return ""
    return name if isinstance(name, str) else ""
