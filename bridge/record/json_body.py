"""Decodes the bytes of an HTTP body to text, and parses the text as JSON.

What stands around a record (forms, arrays, envelopes) is removed in `bridge.record.unwrap_body`. Begin at
`read_json_text` and `read_object`.
"""

import json
import math
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NoReturn

import msgspec

from bridge.lib.lenient_json import BLANKS, MAX_DEPTH, Malformed, repair

REPLACED = "\ufffd"
"""Replaces bytes that are no character (U+FFFD)."""

_CHARSET = re.compile(rb"charset\s{0,9}=\s{0,9}[\"']?([A-Za-z0-9_.:-]{1,40})", re.IGNORECASE)
_NOT_ALNUM = re.compile("[^a-z0-9]")
_GB = ("gb18030", "gbk", "gb2312", "xgbk", "cp936", "ms936", "windows936", "gb231280", "euccn")
# An explicit list, because some of Python's codecs unzip, and the sender chooses the name.
_CHARSETS: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(_GB, "gb18030")
    | dict.fromkeys(("big5", "big5hkscs", "cp950", "xxbig5"), "big5hkscs")
    | dict.fromkeys(("shiftjis", "sjis", "cp932", "windows31j", "xsjis"), "cp932")
    | dict.fromkeys(("euckr", "cp949", "ksc56011987", "uhc"), "cp949")
    | {"eucjp": "euc_jp", "utf16": "utf-16", "utf16le": "utf-16-le", "utf16be": "utf-16-be"}
)
# Nearly every body decodes with these, which proves nothing: so UTF-8 is tried before them.
_SINGLE_BYTE: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(("iso88591", "latin1", "l1"), "latin-1")
    | {"windows1252": "cp1252", "cp1252": "cp1252", "iso885915": "iso8859-15"}
    | {
        "windows1251": "cp1251",
        "cp1251": "cp1251",
        "koi8r": "koi8-r",
        "windows874": "cp874",
        "tis620": "cp874",
    }
)
_ESCAPE_OR_HALF = re.compile("\\\\(.)|[\ud800-\udfff]", re.DOTALL)
_WIDE = re.compile("[\u0800-\ufffc\U00010000-\U0010ffff]")
_UTF32_STARTS = ((b"\xff\xfe\0\0", "utf-32-le"), (b"\0\0\xfe\xff", "utf-32-be"))
_UTF16_STARTS = ((b"\0", 0, "utf-16-be"), (b"\0", 1, "utf-16-le"))


class NotAnObject(ValueError):
    """A body holds no JSON object; the message says why."""


def read_json_text(body: bytes, charset: str = "") -> bytes:
    """The JSON text of an unzipped body, in UTF-8, without byte order mark and blanks around it.

    Only a text that starts like an object is returned; whether it is one, `parse_object` tells.
    """
    if body[:1] == b"{" and body[-1:] == b"}" and not charset and is_utf8(body):
        # Already as it should be.
        return body
    text = decode_body(body, charset)
    if not text:
        raise NotAnObject("the body is empty")
    if text[0] != "{":
        raise NotAnObject("the body is not a JSON object")
    return encode_text(text)


def declared_charset(content_type: bytes) -> str:
    """The charset that a content type declares, as `decode_body` takes it; `""` for UTF-8 and for none."""
    found = _CHARSET.search(content_type)
    if found is None:
        return ""
    name = _NOT_ALNUM.sub("", found[1].decode("ascii").lower())
    return name if name in _CHARSETS or name in _SINGLE_BYTE else ""


def decode_body(body: bytes, charset: str = "") -> str:
    """The text of a body, without byte order mark and surrounding blanks.

    By its mark; else by the declared charset where all of it decodes so; else UTF-8, also where some
    places are broken (each is U+FFFD then); else GB18030. What is UTF-8 beyond doubt was declared wrongly.
    """
    return _decoded(body, charset).strip(BLANKS)


def _decoded(body: bytes, charset: str) -> str:
    if (utf32 := _utf32(body)) is not None:
        return utf32
    if body.startswith((b"\xff\xfe", b"\xfe\xff")):
        return body.decode("utf-16", "replace")
    if (utf16 := _unmarked_utf16(body)) is not None:
        return utf16
    if charset in _CHARSETS and not body.startswith(b"\xef\xbb\xbf"):
        text = None if _is_chinese_utf8(body) else _strictly(body, _CHARSETS[charset])
        # Nearly any body of even length decodes as UTF-16, so the text must also begin like JSON.
        if text is not None and (
            "utf-16" not in _CHARSETS[charset] or text.lstrip(BLANKS)[:1] in tuple('{["')
        ):
            return text
    # With half surrogate pairs it is UTF-8 by a faulty encoder, never GB18030.
    for errors in ("strict", "surrogatepass"):
        text = _strictly(body, "utf-8", errors)
        if text is not None:
            return text
    return _guessed(body, charset)


def _is_chinese_utf8(body: bytes) -> bool:
    """Whether it is UTF-8 with four wide characters: so looks one GB18030 text in ten million."""
    text = _strictly(body, "utf-8")
    return text is not None and len(_WIDE.findall(text[:10_000])) >= 4


def _utf32(body: bytes) -> str | None:
    """The text of UTF-32: three of its first four bytes are zero, as in no other encoding of JSON."""
    if len(body) % 4 == 0:
        for mark, codec in _UTF32_STARTS:
            start = body[4:8] if body[:4] == mark else body[:4]
            if len(start.strip(b"\0")) == 1 and _strictly(start, codec) in ("{", "[", '"'):
                return _strictly(body.removeprefix(mark), codec)
    return None


def _unmarked_utf16(body: bytes) -> str | None:
    """The text of UTF-16 without a mark: JSON begins with two ASCII characters, each with a zero byte."""
    if len(body) < 4 or len(body) % 2:
        return None
    for zero, place, codec in _UTF16_STARTS:
        if body[place : place + 1] == zero == body[place + 2 : place + 3] and body[1 - place] in b'{["':
            return _strictly(body, codec)
    return None


def _strictly(body: bytes, codec: str, errors: str = "strict") -> str | None:
    try:
        return body.decode(codec, errors)
    except UnicodeError:
        return None


def _guessed(body: bytes, charset: str) -> str:
    """The text of a body that fits no declared charset; what cannot be decoded is U+FFFD."""
    text = body.decode("utf-8", "replace")
    broken = text.count(REPLACED) - body.count(b"\xef\xbf\xbd")
    # In Chinese GB18030 one character in 60 looks like a 3-byte UTF-8 character, one in 6 like a 2-byte one.
    wide = len(_WIDE.findall(text))
    narrow = len(text) - len(text.encode("ascii", "ignore")) - text.count(REPLACED) - wide
    if wide >= 2 * broken or narrow >= 8 * broken:
        return text
    if charset in _SINGLE_BYTE and (single := _strictly(body, _SINGLE_BYTE[charset])) is not None:
        return single
    chinese = body.decode("gb18030", "replace")
    return chinese if chinese.count(REPLACED) < broken else text


def encode_text(text: str) -> bytes:
    """A JSON text in UTF-8; half surrogate pairs become JSON escapes."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _ESCAPE_OR_HALF.sub(_escaped, text).encode()


def _escaped(found: re.Match[str]) -> str:
    if found[1] is None:
        return f"\\u{ord(found[0]):04x}"
    # A backslash before a half surrogate pair was an invalid escape, and must stay invalid.
    return "\\" + REPLACED if "\ud800" <= found[1] <= "\udfff" else found[0]


def is_utf8(body: bytes) -> bool:
    """Whether all of a body is UTF-8."""
    return utf8_text(body) is not None


def utf8_text(body: bytes) -> str | None:
    """A body's text; None where not all of it is UTF-8."""
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def parse_object(text: bytes) -> dict[str, Any]:
    """The JSON object in `text`; the last of duplicate keys wins, integers of any size stay exact.

    A value that JSON does not know is its own characters, as a string: see `read_object`.
    """
    return read_object(text)[0]


def read_object(text: bytes) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The JSON object in `text`, and the names of fields whose values are no JSON and are kept as raw text.

    `NaN`, `007`, `"D:\\x"` (a bad escape), a value left out (null): they spoil their field, not the record.
    """
    value, unreadable = parse_leniently(text)
    if not isinstance(value, dict):
        raise NotAnObject(f"the JSON is {_kind(value)}, not an object")
    if is_deep(text, value):
        raise NotAnObject(f"the JSON is nested deeper than {MAX_DEPTH} levels")
    return value, unreadable


def parse_leniently(text: bytes | str) -> tuple[Any, tuple[str, ...]]:
    """Any JSON value, and the fields (of an object) whose values are no JSON and are kept as raw text.

    Raises:
        NotAnObject: it is no JSON even so.
    """
    try:
        return msgspec.json.decode(text), ()
    except RecursionError:
        raise NotAnObject("the JSON is nested too deep") from None
    except (msgspec.MsgspecError, UnicodeError):
        pass
    try:
        text = text if isinstance(text, str) else text.decode()
    except UnicodeError:
        raise NotAnObject("not JSON: not UTF-8") from None
    try:
        return _FINITE.decode(text), ()
    except RecursionError:
        raise NotAnObject("the JSON is nested too deep") from None
    except ValueError as error:
        where = f"{error.msg} at character {error.pos}" if isinstance(error, json.JSONDecodeError) else error
    try:
        mended, unreadable = repair(text)
        return _LENIENT.decode(mended), unreadable
    except Malformed as error:
        raise NotAnObject(str(error)) from None
    except ValueError:
        raise NotAnObject(f"not JSON: {where}") from None


def parse_json(text: bytes | str) -> Any:
    """Any JSON value, except NaN and Infinity.

    msgspec is several times faster than the standard library, but refuses raw control characters and half
    surrogate pairs, which a platform makes when it cuts a text at a column's length. So both are used.
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


def broken_fields(record: Mapping[str, Any]) -> tuple[str, ...]:
    """The fields that contain U+FFFD: a character could not be decoded."""
    return tuple(name for name, value in record.items() if REPLACED in name or _holds_replaced(value))


def _holds_replaced(value: Any) -> bool:
    level = [value]
    while level:
        one = level.pop()
        if isinstance(one, str):
            if REPLACED in one:
                return True
        elif isinstance(one, dict):
            level.extend(one)
            level.extend(one.values())
        elif isinstance(one, list):
            level.extend(one)
    return False


def dump_object(value: dict[str, Any] | Any) -> bytes:
    """The inverse of `parse_object`, compact, in UTF-8."""
    try:
        return msgspec.json.encode(value)
    except (msgspec.MsgspecError, UnicodeError, OverflowError):
        # msgspec refuses half surrogate pairs and integers beyond 64 bits.
        return json.dumps(value, separators=(",", ":")).encode()


def is_deep(text: bytes | str, value: Any) -> bool:
    """Whether a JSON value is nested deeper than `MAX_DEPTH`, so that recursive code could not walk it."""
    # No value is deeper than it has brackets, so nearly no record has to be walked.
    return may_be_deep(text) and _depth(value) > MAX_DEPTH


def may_be_deep(text: bytes | str) -> bool:
    """Whether a JSON text has more brackets than `MAX_DEPTH`."""
    if isinstance(text, str):
        return text.count("{") + text.count("[") > MAX_DEPTH
    # Removing them and looking how much is left takes half the time that counting takes.
    return 2 * len(text) - len(text.replace(b"{", b"")) - len(text.replace(b"[", b"")) > MAX_DEPTH


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
    """A float, or its digits as text where no float can hold it."""
    number = float(digits)
    return number if math.isfinite(number) else digits


def _only_finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:20]} is beyond every number")
    return number


def _whole(digits: str) -> int | str:
    try:
        return int(digits)
    except ValueError:
        # Python refuses to convert more than 4300 digits, so they stay text.
        return digits


_LENIENT = json.JSONDecoder(
    strict=False, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_whole
)
_FINITE = json.JSONDecoder(strict=False, parse_constant=_refuse_constant, parse_float=_only_finite)
