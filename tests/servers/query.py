"""The part of SOQL and COQL that a connector needs: SELECT … FROM X WHERE … LIMIT n."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_TOKEN = re.compile(
    r"\s*(?:(?P<string>'(?:[^'\\]|\\.)*')|(?P<number>-?\d+(?:\.\d+)?)|(?P<word>[A-Za-z_$][\w.$]*)"
    r"|(?P<sign><=|>=|!=|<>|[=<>(),]))"
)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "'": "'", '"': '"', "\\": "\\"}

Reader = Callable[[str], Any]
Condition = Callable[[Reader], bool]


class Malformed(Exception):
    """The query is none; the sentence says near what."""


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked; `fields` are all names in it, for whoever checks that they exist."""

    select: tuple[str, ...]
    source: str
    where: Condition | None
    fields: frozenset[str]
    limit: int | None
    offset: int


def parse(text: str) -> Query:
    """Read a query, or raise `Malformed`."""
    return _Parser(text).query()


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str]] = []
        self._at = 0
        self._fields: set[str] = set()
        position, text = 0, text.rstrip()
        while position < len(text):
            found = _TOKEN.match(text, position)
            if found is None or found.lastgroup is None:
                raise Malformed(f"unexpected token: '{text[position : position + 20]}'")
            self._tokens.append((found.lastgroup, found[found.lastgroup]))
            position = found.end()

    def query(self) -> Query:
        self._expect("select")
        select = [self._name()]
        while self._accept(","):
            select.append(self._name())
        self._expect("from")
        source = self._take("word")
        where = self._any() if self._accept("where") else None
        if self._accept("order"):
            self._expect("by")
            self._name()
            _ = self._accept("asc") or self._accept("desc")
        limit = offset = None
        if self._accept("limit"):
            limit = int(self._take("number"))
            offset = int(self._take("number")) if self._accept(",") else None
        if self._accept("offset"):
            offset = int(self._take("number"))
        if self._at < len(self._tokens):
            raise Malformed(f"unexpected token: '{self._tokens[self._at][1]}'")
        return Query(tuple(select), source, where, frozenset(self._fields), limit, offset or 0)

    def _any(self) -> Condition:
        parts = [self._all()]
        while self._accept("or"):
            parts.append(self._all())
        return lambda read: any(part(read) for part in parts)

    def _all(self) -> Condition:
        parts = [self._one()]
        while self._accept("and"):
            parts.append(self._one())
        return lambda read: all(part(read) for part in parts)

    def _one(self) -> Condition:
        if self._accept("("):
            inner = self._any()
            self._expect(")")
            return inner
        name = self._name()
        if self._accept("in"):
            self._expect("(")
            values = [self._value()]
            while self._accept(","):
                values.append(self._value())
            self._expect(")")
            return lambda read: any(_equal(read(name), value) for value in values)
        if self._accept("is"):
            wanted = not self._accept("not")
            self._expect("null")
            return lambda read: (read(name) is None) is wanted
        if self._accept("="):
            value = self._value()
            return lambda read: _equal(read(name), value)
        if self._accept("!=") or self._accept("<>"):
            value = self._value()
            return lambda read: not _equal(read(name), value)
        raise Malformed(f"unexpected token after '{name}'")

    def _name(self) -> str:
        name = self._take("word")
        self._fields.add(name)
        return name

    def _value(self) -> Any:
        kind, text = self._tokens[self._at] if self._at < len(self._tokens) else ("", "")
        self._at += 1
        if kind == "string":
            return re.sub(r"\\(.)", lambda found: _unescaped(found[1]), text[1:-1])
        if kind == "number":
            return float(text) if "." in text else int(text)
        constants = {"null": None, "true": True, "false": False}
        if kind == "word" and text.lower() in constants:
            return constants[text.lower()]
        raise Malformed(f"unexpected token: '{text or '<EOF>'}'")

    def _take(self, kind: str) -> str:
        if self._at >= len(self._tokens) or self._tokens[self._at][0] != kind:
            near = self._tokens[self._at][1] if self._at < len(self._tokens) else "<EOF>"
            raise Malformed(f"unexpected token: '{near}'")
        self._at += 1
        return self._tokens[self._at - 1][1]

    def _accept(self, word: str) -> bool:
        if self._at < len(self._tokens):
            kind, text = self._tokens[self._at]
            if kind in {"word", "sign"} and text.lower() == word:
                self._at += 1
                return True
        return False

    def _expect(self, word: str) -> None:
        if not self._accept(word):
            near = self._tokens[self._at][1] if self._at < len(self._tokens) else "<EOF>"
            raise Malformed(f"expecting '{word}', found '{near}'")


def _unescaped(letter: str) -> str:
    if letter not in _ESCAPES:
        raise Malformed(f"illegal string literal: Invalid string escape '\\{letter}'")
    return _ESCAPES[letter]


def _equal(held: Any, asked: Any) -> bool:
    if isinstance(held, str) and isinstance(asked, str):
        return held.lower() == asked.lower()
    return bool(held == asked)
