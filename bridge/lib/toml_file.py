"""TOML files that remember where each key stands, so that a mistake can be shown with its line."""

import re
import tomllib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.lib.errors import ConfigError, Problem

KeyPath = tuple[str | int, ...]
ENVIRONMENT = "environment"

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_KEY_PART = re.compile(r'"(?:\\.|[^"\\])*"|\'[^\']*\'|[A-Za-z0-9_-]+')
# A multi-line string may end in up to two quotes of its own: the last three close it.
_SCALAR = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?!")'
    r"|'''.*?'''(?!')"
    r'|"(?:\\.|[^"\\])*"'
    r"|'[^']*'"
    r"|\d{4}-\d\d-\d\d \d\d:[^,\]}\s#]*"
    r"|[^,\]}\s#]+",
    re.DOTALL,
)
_AT_LINE = re.compile(r" ?\(at (?:line (?P<line>\d+), column \d+|end of document)\)$")


class TomlFile:
    """The data of a file, and the line of every key in it."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.data: dict[str, Any] = tomllib.loads(text)
        self._lines = _Index(text).lines

    def line(self, key_path: Sequence[str | int]) -> int | None:
        """The line of a key; for a missing key, the line of its nearest parent."""
        path = tuple(key_path)
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path)

    @property
    def keys(self) -> frozenset[KeyPath]:
        """Every key path and list position of the file."""
        return frozenset(self._lines)


@dataclass(frozen=True)
class Written:
    """Where the operator wrote each value: in the file, or in an environment variable over it."""

    file: TomlFile
    data: dict[str, Any]
    variables: Mapping[KeyPath, str]

    @property
    def base_dir(self) -> Path:
        return self.file.path.absolute().parent

    def problem(self, path: KeyPath, message: str, remedy: str = "") -> Problem:
        path = self._real(path)
        for end in range(len(path), 0, -1):
            if path[:end] in self.variables:
                inside = ".".join(map(str, path[end:]))
                message = f"{inside}: {message}" if inside else message
                return Problem(ENVIRONMENT, self.variables[path[:end]], message, remedy)
        key = ".".join(map(str, path))
        return Problem(str(self.file.path), key, message, remedy, self.file.line(path))

    def _real(self, path: KeyPath) -> KeyPath:
        """The path as written: without the index where one value stands for a list of one."""
        node: Any = self.data
        real: KeyPath = ()
        for part in path:
            if part == "[key]" or (isinstance(part, int) and not isinstance(node, list)):
                continue
            if isinstance(part, str) and node is not None and not isinstance(node, dict):
                # One value stands for a table with only that key.
                continue
            real = (*real, part)
            if isinstance(node, list) and isinstance(part, int) and part < len(node):
                node = node[part]
            else:
                node = node.get(part) if isinstance(node, dict) else None
        return real


def load_toml(path: Path) -> TomlFile:
    """Read a file, or raise one problem that says why it cannot be read."""
    text = _read(path)
    try:
        return TomlFile(path, text)
    except RecursionError:
        raise ConfigError([Problem(str(path), "", "is nested too deeply")]) from None
    # Python's own limits, such as that on a number's digits, are plain ValueErrors.
    except ValueError as error:
        found = _AT_LINE.search(str(error))
        line = None
        if found:
            line = int(found["line"]) if found["line"] else text.rstrip().count("\n") + 1
        message = _AT_LINE.sub("", str(error))
        raise ConfigError([Problem(str(path), "", f"is no valid TOML: {message}", line=line)]) from None


def _read(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError([Problem(str(path), "", "there is no such file")]) from None
    except IsADirectoryError:
        raise ConfigError([Problem(str(path), "", "is a directory, not a file")]) from None
    except PermissionError:
        remedy = "let the user this program runs as read it"
        raise ConfigError([Problem(str(path), "", "may not be read", remedy)]) from None
    except OSError as error:
        raise ConfigError([Problem(str(path), "", f"cannot be read: {error.strerror}")]) from None
    try:
        # Windows editors put a byte order mark first, which TOML does not know.
        return raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError([Problem(str(path), "", "is not UTF-8", "save it as UTF-8", line=line)]) from None


class _Index:
    """Walks a text that tomllib has accepted, and notes on which line each key stands."""

    def __init__(self, text: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._text = text
        self._pos = 0
        self._starts = [0, *(place for place, char in enumerate(text, 1) if char == "\n")]
        self._last_element: dict[KeyPath, int] = {}
        self._document()

    def _document(self) -> None:
        table: KeyPath = ()
        self._skip(_BLANK)
        while self._pos < len(self._text):
            if self._at("[["):
                table = self._array_header()
            elif self._at("["):
                table = self._header()
            else:
                self._pair(table)
            self._skip(_BLANK)

    def _header(self) -> KeyPath:
        self._pos += 1
        path = self._open(self._key())
        self.lines[path] = self._line()
        self._pos += 1
        return path

    def _array_header(self) -> KeyPath:
        self._pos += 2
        *parents, last = self._key()
        array = (*self._open(parents), last)
        element = self._last_element.get(array, -1) + 1
        self._last_element[array] = element
        self.lines.setdefault(array, self._line())
        self.lines[(*array, element)] = self._line()
        self._pos += 2
        return (*array, element)

    def _open(self, parts: Sequence[str]) -> KeyPath:
        """Where a header points: a name of an array of tables means its last element so far."""
        path: KeyPath = ()
        for part in parts:
            path = (*path, part)
            self.lines.setdefault(path, self._line())
            if path in self._last_element:
                path = (*path, self._last_element[path])
        return path

    def _pair(self, table: KeyPath) -> None:
        path = table
        for part in self._key():
            path = (*path, part)
            self.lines.setdefault(path, self._line())
        self._pos += 1
        self._skip(_SPACE)
        self._value(path)

    def _key(self) -> list[str]:
        """A dotted key; stops at what follows it: `=` or `]`."""
        parts: list[str] = []
        while True:
            self._skip(_SPACE)
            raw = self._take(_KEY_PART)
            quoted = raw[0] in "\"'"
            # tomllib knows all the escapes a quoted key may hold.
            parts.append(tomllib.loads(f"key = {raw}")["key"] if quoted else raw)
            self._skip(_SPACE)
            if not self._at("."):
                return parts
            self._pos += 1

    def _value(self, path: KeyPath) -> None:
        if self._at("["):
            self._array(path)
        elif self._at("{"):
            self._inline_table(path)
        else:
            self._take(_SCALAR)

    def _array(self, path: KeyPath) -> None:
        self._pos += 1
        self._skip(_BLANK)
        element = 0
        while not self._at("]"):
            self.lines[(*path, element)] = self._line()
            self._value((*path, element))
            self._separator()
            element += 1
        self._pos += 1

    def _inline_table(self, path: KeyPath) -> None:
        self._pos += 1
        self._skip(_BLANK)
        while not self._at("}"):
            self._pair(path)
            self._separator()
        self._pos += 1

    def _separator(self) -> None:
        self._skip(_BLANK)
        if self._at(","):
            self._pos += 1
            self._skip(_BLANK)

    def _at(self, token: str) -> bool:
        return self._text.startswith(token, self._pos)

    def _line(self) -> int:
        return bisect_right(self._starts, self._pos)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self._text, self._pos)
        self._pos = found.end() if found else self._pos

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._pos)
        # Only a text that tomllib refuses could get here, and it is asked first.
        assert found, f"no TOML at character {self._pos}"  # noqa: S101 - a promise to ourselves
        self._pos = found.end()
        return found[0]
