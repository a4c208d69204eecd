"""From the raw bytes of an HTTP body to one JSON object."""

import json
import math
import re
from collections.abc import Iterator
from typing import Any, NoReturn
from urllib.parse import parse_qsl

import msgspec

# Everything behind this door may walk a record recursively, so its depth is bounded here, once.
MAX_DEPTH = 200
_MOST_PARTS = 100

_ESCAPE_OR_HALF = re.compile("\\\\(.)|[\ud800-\udfff]", re.DOTALL)
_PART_HEAD_END = re.compile(r"\r?\n\r?\n")
_FIELD_WITH_OBJECT = re.compile(r"\s*[^={\[\"]*=\s*(?=\{)")


class NotAnObject(ValueError):
    """The body holds no JSON object; the message says why, in a few words."""


def read_json_text(body: bytes) -> bytes:
    """The JSON text of an unzipped body, in UTF-8: its byte order mark, charset and form wrapping undone.

    Only a text that starts like an object is returned; whether it is one, `parse_object` tells.
    """
    if body[:1] == b"{" and _is_utf8(body):
        # Nearly every callback; its bytes are the text.
        return body
    text = _decoded(body).strip()
    if not text:
        raise NotAnObject("the body is empty")
    if text[0] == "{":
        return _encoded(text)
    if text[0] in '["' or "=" not in text[:4096]:
        percent_encoded = text[:3].lower() == "%7b"
        if not percent_encoded:
            raise NotAnObject("the body is not a JSON object")
    for candidate in _form_candidates(body, text):
        try:
            encoded = _encoded(candidate)
            parse_object(encoded)
        except NotAnObject:
            continue
        return encoded
    raise NotAnObject("no form field holds a JSON object")


def parse_object(text: bytes) -> dict[str, Any]:
    """The JSON object in `text`; the last of duplicate keys wins, integers of any size stay exact."""
    value = parse_json(text)
    if not isinstance(value, dict):
        raise NotAnObject(f"the JSON is {_kind(value)}, not an object")
    if is_deep(text, value):
        raise NotAnObject(f"the JSON is nested deeper than {MAX_DEPTH} levels")
    return value


def parse_json(text: bytes | str) -> Any:
    """Any JSON value, NaN and Infinity excepted; what is no JSON raises `NotAnObject`.

    msgspec is several times faster than the standard library but refuses half surrogate pairs, which
    the platform makes when it cuts a text at a column's length, and raw control characters.
    """
    try:
        return msgspec.json.decode(text)
    except RecursionError:
        raise NotAnObject("the JSON is nested too deep") from None
    except (msgspec.MsgspecError, UnicodeError):
        pass
    try:
        if isinstance(text, bytes):
            text = text.decode()
        return _LENIENT.decode(text)
    except RecursionError:
        raise NotAnObject("the JSON is nested too deep") from None
    except json.JSONDecodeError as error:
        raise NotAnObject(f"not JSON: {error.msg} at character {error.pos}") from None
    except UnicodeError:
        raise NotAnObject("not JSON: not UTF-8") from None
    except ValueError as error:
        raise NotAnObject(f"not JSON: {error}") from None


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def dump_object(value: dict[str, Any] | Any) -> bytes:
    """The inverse of `parse_object`, compact, in UTF-8."""
    try:
        return msgspec.json.encode(value)
    except (msgspec.MsgspecError, UnicodeError, OverflowError):
        # Half surrogate pairs and integers beyond 64 bits: escapes carry the one, digits the other.
        return json.dumps(value, separators=(",", ":")).encode()


def _decoded(body: bytes) -> str:
    if body.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return body.decode("utf-16", "surrogatepass")
        except UnicodeError:
            raise NotAnObject("the body has a UTF-16 mark but is not UTF-16") from None
    # A half surrogate pair written raw is UTF-8 by a sloppy encoder, never GB18030.
    for charset, errors in (("utf-8", "strict"), ("utf-8", "surrogatepass"), ("gb18030", "strict")):
        try:
            return body.decode(charset, errors).removeprefix("\ufeff")
        except UnicodeError:
            continue
    raise NotAnObject("the body is neither UTF-8 nor GB18030")


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _ESCAPE_OR_HALF.sub(_escaped, text).encode()


def _escaped(found: re.Match[str]) -> str:
    """Half a surrogate pair as JSON writes it; a backslash before one was no JSON and must not become it."""
    if found[1] is None:
        return f"\\u{ord(found[0]):04x}"
    if "\ud800" <= found[1] <= "\udfff":
        raise NotAnObject("not JSON: a bad escape")
    return found[0]


def _form_candidates(body: bytes, text: str) -> Iterator[str]:
    # Someone who forgot to escape the JSON also left its `+`, `%` and `&` as they are.
    unescaped = _FIELD_WITH_OBJECT.match(text)
    if unescaped:
        yield text[unescaped.end() :]
    if text.startswith("--"):
        yield from _multipart_values(text)
    raw = text if text.isascii() else body.decode("latin-1")
    try:
        pairs = parse_qsl(raw.strip(), keep_blank_values=True, encoding="latin-1", max_num_fields=1000)
    except ValueError:
        return
    # A client that posts a bare JSON text as a form makes it the field's name.
    for part in [value for _, value in pairs] + [name for name, _ in pairs]:
        try:
            candidate = _decoded(part.encode("latin-1")).strip()
        except NotAnObject:
            continue
        if candidate.startswith("{"):
            yield candidate


def _multipart_values(text: str) -> Iterator[str]:
    """What stands in the parts of a `multipart/form-data`; its boundary is its first line."""
    boundary = text.partition("\n")[0].rstrip("\r")
    for part in text.split(boundary, _MOST_PARTS)[1:]:
        value = _PART_HEAD_END.split(part, 1)[-1].strip()
        if value.startswith("{"):
            yield value


def is_deep(text: bytes | str, value: Any) -> bool:
    """Whether the value of a JSON text is nested deeper than whoever walks it can go."""
    if isinstance(text, bytes):
        opened = text.count(b"{") + text.count(b"[")
    else:
        opened = text.count("{") + text.count("[")
    # The brackets bound the depth from above, so nearly every record is spared the walk.
    return opened > MAX_DEPTH and _depth(value) > MAX_DEPTH


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, dict | list)
        ]
    return depth


def _kind(value: object) -> str:
    if isinstance(value, list):
        return "an array"
    return "null" if value is None else f"a {type(value).__name__}"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite(digits: str) -> float | str:
    """A number, or its digits where no float can hold it: kept, not guessed."""
    number = float(digits)
    return number if math.isfinite(number) else digits


def _whole(digits: str) -> int | str:
    try:
        return int(digits)
    except ValueError:
        # More digits than Python converts: nobody counts with it, but it is kept.
        return digits


_LENIENT = json.JSONDecoder(
    strict=False, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_whole
)
