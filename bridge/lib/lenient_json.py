"""Reads JSON of careless senders: a value that JSON does not know becomes a string of its characters.

One pass over the tokens, linear in the text; the structure itself stays the strict parser's affair.
"""

import json
import math
import re
from collections.abc import Iterator

# Other code walks records recursively; their depth is bounded here, once.
MAX_DEPTH = 200
# Python takes about 0.2 s for this many tokens; the longest known records have a tenth of them.
_MOST_TOKENS = 200_000
_MOST_UNREADABLE = 1_000

BLANKS = " \t\r\n\v\f\0\x1a\x1e\x85\xa0\u200b\u2028\u2029\u2060\u3000\ufeff"
"""Characters that are skipped around JSON and between its tokens: blanks, NUL, byte order marks."""

_TOKEN = re.compile(
    r'(?P<string>"(?:[^"\\]++|\\.)*+")'
    r"|(?P<mark>[{}\[\]:,])"
    rf"|(?P<blank>[{BLANKS}]++)"
    # A value in single quotes, or anything up to the next mark: NaN, 007, 2025-04-14 10:00:00.
    r"|(?P<bare>'(?:[^'\\]++|\\.)*+'|[^{}\[\]:,\"][^{}\[\],\"]*+)",
    re.DOTALL,
)
_PLAIN_STRING = re.compile(r'(?:[^\\]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+', re.DOTALL)
_KNOWN_BARE = re.compile(
    r"true|false|null|-?(?:0|[1-9][0-9]{0,4000})(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", re.ASCII
)
_FRACTION = re.compile("[.eE]")
_CLOSES = {"}": "{", "]": "["}


class Malformed(ValueError):
    """The text is no JSON even if values that are no JSON are allowed; the message says why."""


def repair(text: str) -> tuple[str, tuple[str, ...]]:
    """The text with every unreadable value as a string, and the fields (of the outermost object) they are in.

    Raises:
        Malformed: brackets do not match, a string has no end, too deep, too many.
    """
    return _Repair(text).result()


def split_members(text: str) -> list[tuple[str, str]]:
    """The members of an object or array, each by its raw key (`""` in an array) and its raw text."""
    members: list[tuple[str, str]] = []
    stack: list[str] = []
    key, begin = "", 0
    for kind, lexeme, start in _tokens(text):
        if kind != "mark":
            continue
        outermost = len(stack) == 1
        if outermost and lexeme == ":" and stack[0] == "{" and not key:
            key, begin = text[begin:start].strip(BLANKS), start + 1
        elif outermost and lexeme in ",]}":
            if value := text[begin:start].strip(BLANKS):
                members.append((key[1:-1], value))
            key, begin = "", start + 1
        _walk(stack, lexeme)
        if not outermost and len(stack) == 1 and lexeme in "{[":
            begin = start + 1
    if stack:
        raise Malformed("not JSON: it ends too early")
    return members


def split_values(text: str) -> list[str]:
    """The values of a text that holds several, one after the other, with blanks or commas between."""
    values: list[str] = []
    stack: list[str] = []
    begin = 0
    for kind, lexeme, start in _tokens(text):
        if kind == "mark" and lexeme in "{[]}":
            begin = begin if stack else start
            _walk(stack, lexeme)
            if not stack:
                values.append(text[begin : start + 1])
        elif not stack and kind != "blank" and lexeme != ",":
            raise Malformed("not JSON: more stands behind its end")
    if stack:
        raise Malformed("not JSON: it ends too early")
    return values


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    place = number = 0
    # Matched, never searched for: after a string without an end, a search would start again at each quote.
    while found := _TOKEN.match(text, place):
        number += 1
        if number > _MOST_TOKENS:
            raise Malformed(f"not JSON, and too long to be mended: more than {_MOST_TOKENS} tokens")
        yield found.lastgroup or "", found.group(), place
        place = found.end()
    if place != len(text):
        raise Malformed(f"not JSON: the string at character {place} has no end")


def _walk(stack: list[str], mark: str) -> None:
    """Go into what a bracket opens, or out of what it closes."""
    if mark in "{[":
        if len(stack) >= MAX_DEPTH:
            raise Malformed(f"the JSON is nested deeper than {MAX_DEPTH} levels")
        stack.append(mark)
    elif mark in _CLOSES and (not stack or stack.pop() != _CLOSES[mark]):
        raise Malformed("not JSON: its brackets do not match")


class _Repair:
    """Writes the text again, token by token."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._written: list[str] = []
        self._stack: list[str] = []
        self._before = ""
        """The lexeme before, blanks left out: a mark, `k` for a key, `v` for a value."""
        self._comma = False
        """One is owed, unless the container ends."""
        self._field = ""
        self._unreadable: dict[str, None] = {}
        self._count = 0

    def result(self) -> tuple[str, tuple[str, ...]]:
        for kind, lexeme, _ in _tokens(self._text):
            if kind == "mark":
                self._mark(lexeme)
            elif kind == "string":
                self._string(lexeme)
            elif kind == "bare":
                self._bare(lexeme)
        return "".join(self._written), tuple(self._unreadable)

    def _write(self, lexeme: str, before: str) -> None:
        if self._comma:
            self._written.append(",")
            self._comma = False
        self._written.append(lexeme)
        self._before = before

    def _set_aside(self, raw: str | None) -> str:
        self._count += 1
        if self._count > _MOST_UNREADABLE:
            raise Malformed(f"not JSON: more than {_MOST_UNREADABLE} values cannot be read")
        if self._stack and self._stack[0] == "{":
            self._unreadable[_unescaped(self._field)] = None
        return "null" if raw is None else json.dumps(raw, ensure_ascii=False)

    def _mark(self, lexeme: str) -> None:
        if not self._stack and lexeme not in "{[":
            raise Malformed("not JSON: more stands behind its end")
        inside = self._stack[-1] if self._stack else ""
        if lexeme in "{[:":
            _walk(self._stack, lexeme)
            self._write(lexeme, lexeme)
            return
        if self._before == ":" or (lexeme == "," and inside == "[" and self._before in "[,"):
            # A value is missing.
            self._write(self._set_aside(None), "v")
        if lexeme == ",":
            self._comma, self._before = True, lexeme
        else:
            _walk(self._stack, lexeme)
            self._comma = False
            self._write(lexeme, "v")

    def _string(self, lexeme: str) -> None:
        is_key = self._before in ("{", ",") and self._stack[-1:] == ["{"]
        if is_key and len(self._stack) == 1:
            self._field = lexeme[1:-1]
        if "\\" in lexeme and not _PLAIN_STRING.fullmatch(lexeme, 1, len(lexeme) - 1):
            lexeme = self._set_aside(lexeme[1:-1])
        self._write(lexeme, "k" if is_key else "v")

    def _bare(self, lexeme: str) -> None:
        lexeme = lexeme.rstrip(BLANKS)
        if not _KNOWN_BARE.fullmatch(lexeme) or _is_endless(lexeme):
            if self._before in ("{", ",") and self._stack[-1:] == ["{"]:
                raise Malformed("not JSON: the name of a field is no string")
            lexeme = self._set_aside(lexeme)
        self._write(lexeme, "v")


def _unescaped(key: str) -> str:
    if "\\" not in key or not _PLAIN_STRING.fullmatch(key):
        return key
    return str(json.loads(f'"{key}"', strict=False))


def _is_endless(lexeme: str) -> bool:
    """Whether a number is too large for a float: its digits are kept, not rounded to infinity."""
    return bool(_FRACTION.search(lexeme)) and lexeme[-1].isdigit() and not math.isfinite(float(lexeme))
