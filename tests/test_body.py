"""From raw bytes to one JSON object."""

import gzip
import json
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.body import MAX_DEPTH, NotAnObject, parse_object, read_json_text

RECORD = {"name": "张三", "phone": "+8615899770637", "mark": "50% a+b & c=d;"}
JSON = json.dumps(RECORD, ensure_ascii=False)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
json_objects = st.dictionaries(st.text(), json_values, max_size=5)


@pytest.mark.parametrize(
    "body",
    [
        JSON.encode(),
        b"\xef\xbb\xbf" + JSON.encode(),
        b" \r\n\t" + JSON.encode() + b"\n",
        JSON.encode("utf-16"),
        b"\xfe\xff" + JSON.encode("utf-16-be"),
        JSON.encode("gb18030"),
        JSON.encode("gbk"),
        b"\x84\x31\x95\x33" + JSON.encode("gb18030"),
        urlencode({"data": JSON}).encode(),
        b"\xef\xbb\xbf" + urlencode({"sign": "x", "data": JSON, "t": "1"}).encode(),
        urlencode({"data": JSON.encode("gb18030")}).encode(),
        b"data=" + JSON.encode(),
        b"data=" + JSON.encode("gb18030"),
        quote(JSON).encode(),
        quote(JSON).encode() + b"=",
        *(
            (
                f'--x9{end}Content-Disposition: form-data; name="t"{end * 2}1{end}'
                f'--x9{end}Content-Disposition: form-data; name="data"{end * 2}{JSON}{end}--x9--{end}'
            ).encode(charset)
            for end, charset in (("\r\n", "utf-8"), ("\r\n", "gb18030"), ("\n", "utf-8"))
        ),
    ],
)
def test_every_wrapping_gives_the_same_object(body: bytes) -> None:
    text = read_json_text(body)
    text.decode()
    assert parse_object(text) == RECORD


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"  \n",
        b"\xef\xbb\xbf",
        b"hello",
        b"null",
        b"12",
        b"[{}]",
        b'"{}"',
        b"a=1&b=2",
        b"data=[1]",
        b"data=%7Bnope",
        b"<x a='b'/>",
        b"\xff\xff\xff",
        b"\xff\xfe\x00",
        gzip.compress(b"{}", mtime=0),
    ],
)
def test_what_is_no_object_says_why(body: bytes) -> None:
    with pytest.raises(NotAnObject, match=r"\w"):
        parse_object(read_json_text(body))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"a": "\\ud83d"}', {"a": "\ud83d"}),
        (b'{"a": "\\ude00x"}', {"a": "\ude00x"}),
        (b'{"a": "\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        (b'{"a": 18446744073709551616123}', {"a": 18446744073709551616123}),
        (b'{"a": -9223372036854775809, "b": "\\ud83d"}', {"a": -9223372036854775809, "b": "\ud83d"}),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b'{"a": 1, "a": "\\ud83d"}', {"a": "\ud83d"}),
        (b'{"a": "\\u0000"}', {"a": "\0"}),
        (b'{"a": "one\ntwo"}', {"a": "one\ntwo"}),
    ],
)
def test_json_that_one_parser_alone_would_refuse(text: bytes, expected: dict[str, Any]) -> None:
    assert parse_object(text) == expected


@pytest.mark.parametrize("digits", ["1e999", "-1e999", "9" * 5000])
def test_a_number_that_nothing_can_hold_is_kept_by_its_digits(digits: str) -> None:
    assert parse_object(f'{{"a": {digits}}}'.encode()) == {"a": digits}


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b"[]",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": NaN, "b": "\\ud83d"}',
        b'{"a": 1} x',
        b"\xff{}",
    ],
)
def test_no_json(text: bytes) -> None:
    with pytest.raises(NotAnObject):
        parse_object(text)


def nested(depth: int) -> bytes:
    return b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)


def test_depth_is_bounded_without_a_crash() -> None:
    assert "a" in parse_object(nested(100))
    assert "a" in parse_object(nested(MAX_DEPTH))
    assert parse_object(b'{"a": [' + b"[]," * 500 + b"[]]}")["a"] == [[]] * 501
    for depth in (MAX_DEPTH + 1, 5_000, 200_000):
        with pytest.raises(NotAnObject, match="nested"):
            parse_object(nested(depth))


def test_a_half_pair_written_raw_stays_utf8() -> None:
    body = '{"a": "张\ud83d"}'.encode("utf-8", "surrogatepass")
    assert parse_object(read_json_text(body)) == {"a": "张\ud83d"}


@given(json_objects)
def test_any_object_survives_plain_and_as_a_form(value: dict[str, Any]) -> None:
    text = json.dumps(value)
    for body in (text.encode(), urlencode({"data": text}).encode(), text.encode("utf-16")):
        assert parse_object(read_json_text(body)) == value


@given(st.binary(max_size=200))
def test_no_body_raises_anything_else(body: bytes) -> None:
    with suppress(NotAnObject):
        assert isinstance(parse_object(read_json_text(body)), dict)


def test_a_backslash_before_a_raw_half_surrogate_is_no_json() -> None:
    with pytest.raises(NotAnObject):
        read_json_text(b'{"uuid":"u","a":"x\\\xed\xa0\xbdy"}')
    assert parse_object(read_json_text(b'{"a":"\\\\\xed\xa0\xbd\\n"}')) == {"a": "\\\ud83d\n"}
