"""Takes records out of what senders put around them: a form, an array, an envelope, a JSON string.

Where it is plain which records a body holds, each is taken out as it was written. An ambiguous body stays
whole, and waits in quarantine for a person. Begin at `read_records`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import unescape
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec

from bridge.lib.lenient_json import BLANKS, Malformed, split_members, split_values
from bridge.record.dialect import Dialect
from bridge.record.json_body import (
    NotAnObject,
    decode_body,
    dump_object,
    encode_text,
    is_utf8,
    parse_leniently,
    read_object,
)

MOST_RECORDS = 1_000
"""In one body; a body with more is refused whole."""
# A record is unwrapped so many times at most: a hostile body may wrap itself without end.
_MOST_LAYERS = 6
# A record sent as a form has 114 fields, and 20 more for each turn of its dialogue where PHP writes brackets.
_MOST_FORM_FIELDS = 5_000
# An envelope has fewer members than this; records have a hundred and more.
_MOST_MEMBERS = 50

_PART_HEAD_END = re.compile(r"\r?\n\r?\n")
_PART_NAME = re.compile(r'\bname="([^"\r\n]{0,200})"')
_ESCAPED_FOR_HTML = re.compile(r"[\[{\s]{1,9}&(?:quot|#0?34|#x22);", re.IGNORECASE)
# JSON after PHP's addslashes().
_ESCAPED_QUOTE = re.compile(r"[\[{\s]{1,9}\\\"")
_PERCENT_JSON = ("%7b", "%5b", "%22")
_PLACE = re.compile(r"[0-9]{1,9}")
# talk_info[0][caption], as PHP and jQuery write what is nested.
_IN_BRACKETS = re.compile(r"([\w.-]{1,200})((?:\[[^\[\]]{0,200}\]){1,6})")
_BRACKET = re.compile(r"\[([^\[\]]*)\]")
_PLAINLY_A_RECORD = 5
_FIELD_WITH_JSON = re.compile(r"[^={\[\"]*=\s*(?=[{\[])")


class TooMany(ValueError):
    """A body holds more records than are filed at once; `identified`: some of them name their calls."""

    def __init__(self, *, identified: bool) -> None:
        super().__init__(f"more than {MOST_RECORDS} records in one body")
        self.identified = identified


@dataclass(frozen=True, slots=True)
class Piece:
    """One record of a body, in UTF-8; or what stands where a record should, and why it is none."""

    text: bytes
    trouble: str = ""
    record: Mapping[str, Any] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()
    """The fields with values that are no JSON: see `read_object` in `json_body.py`."""


def read_records(body: bytes, dialect: Dialect, charset: str = "") -> list[Piece]:
    """The records of an unzipped body, each as its own JSON text, however they are wrapped.

    Raises:
        NotAnObject: there is none.
        TooMany: there are more than `MOST_RECORDS`.
    """
    if dialect.decode is not None:
        body, charset = dialect.decode(body, charset), ""
    text = decode_body(body, charset)
    if not text:
        raise NotAnObject("the body is empty")
    unwrapping = _Unwrapping(dialect)
    if text[0] in '{["':
        return unwrapping.pieces_of(text, _MOST_LAYERS)
    return unwrapping.of_form(body, text, charset)


def read_record(body: bytes, dialect: Dialect) -> bytes:
    """The text of the one record that a body holds.

    Raises:
        NotAnObject: there is none, or several.
    """
    pieces = read_records(body, dialect)
    if len(pieces) > 1:
        raise NotAnObject(f"the body holds {len(pieces)} records, not one")
    if pieces[0].trouble:
        raise NotAnObject(pieces[0].trouble)
    return pieces[0].text


class _Unwrapping:
    """Takes the records of one platform out of whatever they are wrapped in."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._of_envelopes = dialect.envelope.identifying
        self._naming = (*dialect.head.NAMES, *dialect.fields_of("sn"))

    def pieces_of(self, text: str, layers: int) -> list[Piece]:
        """The records in a JSON text, unwrapping at most `layers` times.

        Raises:
            NotAnObject: there is none.
        """
        text = text.strip(BLANKS)
        if not text or text[0] not in '{["' or layers == 0:
            raise NotAnObject("the body is not a JSON object")
        if _ESCAPED_FOR_HTML.match(text):
            return self.pieces_of(unescape(text), layers - 1)
        if _ESCAPED_QUOTE.match(text):
            text = f'"{text}"'
        if text[0] == "{":
            return self._of_object(text, layers)
        if text[0] == "[":
            return self._of_array(text, layers)
        inner, _ = parse_leniently(text)
        if not isinstance(inner, str):
            raise NotAnObject("the body is not a JSON object")
        return self.pieces_of(inner, layers - 1)

    def _of_object(self, text: str, layers: int) -> list[Piece]:
        encoded = encode_text(text)
        try:
            record, unreadable = read_object(encoded)
        except NotAnObject:
            values = _values_behind_one_another(text)
            if not values or values == [text]:
                raise
            return self._all_of(values, layers)
        bare = [Piece(encoded, record=record, unreadable=unreadable)]
        if self._is_list_of_records(record):
            return self._all_of([raw for _, raw in _members(encoded)], layers)
        identified, telling = self._is_identified(record), self._telling(record)
        if len(record) > _MOST_MEMBERS or (identified and not self._of_envelopes.issuperset(telling)):
            return bare
        carried = [found for _, raw in _members(encoded) if (found := self._carried(raw, layers))]
        if len(carried) > 1 and all(_same(found, carried[0]) for found in carried):
            # Some relays send a body twice in one envelope: as text, and as parsed JSON.
            carried = carried[:1]
        if len(carried) != 1:
            return bare
        most = max(len(self._telling(piece.record)) for piece in carried[0])
        return carried[0] if most > (_PLAINLY_A_RECORD if identified else len(telling)) else bare

    def _is_list_of_records(self, record: Mapping[str, Any]) -> bool:
        """Whether an object is a list of records, its keys being numbers (PHP) or the records' own names."""
        return bool(record) and all(
            isinstance(value, dict)
            and self._is_identified(value)
            and (_PLACE.fullmatch(key) or key in {str(value.get(name)) for name in self._naming})
            for key, value in record.items()
        )

    def _of_array(self, text: str, layers: int) -> list[Piece]:
        values = [raw for _, raw in _members(encode_text(text))]
        if not values:
            raise NotAnObject("the JSON is an empty array, not an object")
        return self._all_of(values, layers)

    def _all_of(self, values: list[str], layers: int) -> list[Piece]:
        """The records of all values; a value that is no record becomes a piece with its trouble."""
        pieces: list[Piece] = []
        for value in values:
            try:
                pieces += self.pieces_of(value, layers - 1)
            except NotAnObject as error:
                pieces.append(Piece(encode_text(value), str(error)))
            if len(pieces) > MOST_RECORDS:
                raise TooMany(identified=any(self._is_identified(piece.record) for piece in pieces))
        if all(piece.trouble for piece in pieces):
            raise NotAnObject(
                pieces[0].trouble if len(pieces) == 1 else "none of the values is a JSON object"
            )
        return pieces

    def _carried(self, raw: str, layers: int) -> list[Piece]:
        """The records in a member of an envelope; empty unless one of them names its call."""
        if raw[:1] not in ("{", "[", '"') or layers <= 1 or (raw[0] == '"' and "{" not in raw):
            return []
        try:
            pieces = self.pieces_of(raw, layers - 1)
        except NotAnObject:
            return []
        except TooMany as error:
            if error.identified:
                raise
            # It holds no records, but for example a very long dialogue.
            return []
        return pieces if any(self._is_identified(piece.record) for piece in pieces) else []

    def _telling(self, record: Mapping[str, Any]) -> set[str]:
        """The fields by which an object looks like a record; an envelope has fewer than its content."""
        return record.keys() & self._dialect.distinctive_fields

    def of_form(self, body: bytes, text: str, charset: str) -> list[Piece]:
        """The records in a form: one in each field that holds one, or the fields themselves."""
        if "=" not in text[:4096] and text[:3].lower() not in _PERCENT_JSON:
            raise NotAnObject("the body is not a JSON object")
        # JSON that was not percent-encoded may contain `+`, `%` and `&`, so the form must not be decoded.
        if unescaped := _FIELD_WITH_JSON.match(text):
            try:
                return self.pieces_of(text[unescaped.end() :], _MOST_LAYERS)
            except NotAnObject:
                pass
        fields = list(_multipart_fields(text)) if text.startswith("--") else _form_fields(body, text, charset)
        flat = _nested(fields)
        if self._is_identified(flat):
            return [Piece(dump_object(flat), record=flat)]
        if any(isinstance(value, dict) for value in flat.values()):
            # `data[uuid]=…`: the form is an envelope around a record.
            pieces = self._of_object(encode_text(dump_object(flat).decode()).decode(), _MOST_LAYERS)
            if any(self._is_identified(piece.record) for piece in pieces):
                return pieces
        # A client that posts bare JSON as a form sends it as the name of a field.
        parts = [value for _, value in fields] + [name for name, _ in fields]
        return self._in_fields([_decoded_again(part, charset) for part in parts])

    def _in_fields(self, parts: list[str]) -> list[Piece]:
        """The records of all fields that hold some; where none is identified, the first one."""
        identified: dict[bytes, Piece] = {}
        nameless: list[Piece] = []
        for part in parts:
            try:
                pieces = self.pieces_of(part, _MOST_LAYERS)
            except NotAnObject:
                continue
            if any(self._is_identified(piece.record) for piece in pieces):
                identified |= {piece.text: piece for piece in pieces}
            else:
                nameless += pieces
        if len(identified) > MOST_RECORDS:
            raise TooMany(identified=True)
        if not identified and not nameless:
            raise NotAnObject("no form field holds a JSON object")
        return list(identified.values()) or nameless[:1]

    def _is_identified(self, record: Mapping[str, Any]) -> bool:
        return self._dialect.head_of(record).is_identified()


def _same(pieces: list[Piece], others: list[Piece]) -> bool:
    return [piece.record for piece in pieces] == [piece.record for piece in others]


def _values_behind_one_another(text: str) -> list[str]:
    """Values without an array around them: one a line, or one directly behind the other."""
    lines = [line for part in text.splitlines() if (line := part.strip(BLANKS + ","))]
    if len(lines) > 1 and all(line[0] == "{" for line in lines) and lines[0][-1] == "}":
        return lines
    try:
        return split_values(text)
    except Malformed:
        return []


def _members(text: bytes) -> list[tuple[str, str]]:
    """The members of an object or array, as they are written."""
    try:
        if text[:1] == b"[":
            return [("", bytes(raw).decode()) for raw in msgspec.json.decode(text, type=list[msgspec.Raw])]
        found = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        return [(key, bytes(raw).decode()) for key, raw in found.items()]
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        pass
    try:
        return split_members(text.decode())
    except Malformed as error:
        raise NotAnObject(str(error)) from None


# -- forms -------------------------------------------------------------------------
def _nested(fields: list[tuple[str, str]]) -> dict[str, Any]:
    """The fields of a form as an object; a list becomes an object with its indexes as keys."""
    result: dict[str, Any] = {}
    for name, value in fields:
        found = _IN_BRACKETS.fullmatch(name)
        path = [found[1], *_BRACKET.findall(found[2])] if found else [name]
        inside = result
        for key in path[:-1]:
            within = inside.setdefault(key or str(len(inside)), {})
            if not isinstance(within, dict):
                break
            inside = within
        else:
            inside[path[-1] or str(len(inside))] = value
    result.pop("", None)
    return result


def _decoded_again(part: str, charset: str) -> str:
    """A field of a form that was percent-encoded twice, decoded once more."""
    if part[:3].lower() not in _PERCENT_JSON:
        return part
    return decode_body(unquote_to_bytes(part.replace("+", " ")), charset)


def _form_fields(body: bytes, text: str, charset: str) -> list[tuple[str, str]]:
    raw = text if text.isascii() else body.decode("latin-1")
    try:
        pairs = parse_qsl(
            raw.strip(BLANKS), keep_blank_values=True, encoding="latin-1", max_num_fields=_MOST_FORM_FIELDS
        )
    except ValueError:
        return []
    return _in_one_charset(
        [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs], charset
    )


def _in_one_charset(pairs: list[tuple[bytes, bytes]], charset: str) -> list[tuple[str, str]]:
    """Names and values as text; their charset is guessed from all together, which is surer."""
    parts = [part for pair in pairs for part in pair]
    if not all(is_utf8(part) for part in parts):
        texts = decode_body(b"\0".join([b".", *parts, b"."]), charset).split("\0")[1:-1]
        if len(texts) == len(parts):
            return list(zip(texts[::2], texts[1::2], strict=True))
    return [(decode_body(name, charset), decode_body(value, charset)) for name, value in pairs]


def _multipart_fields(text: str) -> Iterator[tuple[str, str]]:
    """Names and values of a `multipart/form-data`; its boundary is its first line."""
    boundary = text.partition("\n")[0].rstrip("\r")
    for part in text.split(boundary, _MOST_FORM_FIELDS)[1:]:
        head, *rest = _PART_HEAD_END.split(part, maxsplit=1)
        if rest:
            name = _PART_NAME.search(head)
            yield name[1] if name else "", rest[0].strip(BLANKS)
