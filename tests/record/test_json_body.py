"""From raw bytes to one JSON object."""

import gzip
import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.lib.lenient_json import MAX_DEPTH
from bridge.record.json_body import (
    NotAnObject,
    declared_charset,
    decode_body,
    parse_json,
    parse_object,
    read_object,
)
from bridge.record.unwrap_body import TooMany, read_record, read_records
from bridge.source.outcall.dialect import OUTCALL_DIALECT

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
    text = read_record(body, OUTCALL_DIALECT)
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
        b"[]",
        b'"text"',
        b'[1, "a", null]',
        b"a=1&b=2",
        b"data=[1]",
        b"data=%7Bnope",
        b"<x a='b'/>",
        b"\xff\xff\xff",
        b"\xff\xfe\x00",
        gzip.compress(b"{}", mtime=0),
    ],
)
def test_body_that_is_no_object_says_why(body: bytes) -> None:
    with pytest.raises(NotAnObject, match=r"\w"):
        parse_object(read_record(body, OUTCALL_DIALECT))


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
def test_json_refused_by_one_parser_is_still_read(text: bytes, expected: dict[str, Any]) -> None:
    assert parse_object(text) == expected


@pytest.mark.parametrize("digits", ["1e999", "-1e999", "9" * 5000])
def test_huge_number_is_kept_as_digits(digits: str) -> None:
    assert parse_object(f'{{"a": {digits}}}'.encode()) == {"a": digits}


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b"[]",
        b"{a: 1}",
        b'{"a" 1}',
        b'{"a": 1 "b": 2}',
        b'{"a": "C:\\"}',
        b'{"a": [1}',
        b'{"a": NaN',
        b'{"a": 1} x',
        b"\xff{}",
    ],
)
def test_invalid_json_is_refused(text: bytes) -> None:
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


def test_raw_half_surrogate_stays_utf8() -> None:
    body = '{"a": "张\ud83d"}'.encode("utf-8", "surrogatepass")
    assert parse_object(read_record(body, OUTCALL_DIALECT)) == {"a": "张\ud83d"}


@given(json_objects)
def test_any_object_survives_plain_and_as_a_form(value: dict[str, Any]) -> None:
    text = json.dumps(value)
    for body in (text.encode(), urlencode({"data": text}).encode(), text.encode("utf-16")):
        assert parse_object(read_record(body, OUTCALL_DIALECT)) == value


@given(st.binary(max_size=200))
def test_any_body_raises_only_the_documented_error(body: bytes) -> None:
    with suppress(NotAnObject):
        assert isinstance(parse_object(read_record(body, OUTCALL_DIALECT)), dict)


def test_a_backslash_before_a_raw_half_surrogate_spoils_its_field() -> None:
    text = read_record(b'{"uuid":"u","a":"x\\\xed\xa0\xbdy"}', OUTCALL_DIALECT)
    assert read_object(text) == ({"uuid": "u", "a": "x\\\ufffdy"}, ("a",))
    assert parse_object(read_record(b'{"a":"\\\\\xed\xa0\xbd\\n"}', OUTCALL_DIALECT)) == {"a": "\\\ud83d\n"}


# -- values that JSON does not know ------------------------------------------------
@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("nan", "nan"),
        ("None", "None"),
        ("True", "True"),
        ("undefined", "undefined"),
        ("013800138000", "013800138000"),
        ("+5", "+5"),
        (".5", ".5"),
        ("9" * 5000, "9" * 5000),
        ("5.", "5."),
        ("0x1F", "0x1F"),
        ("1e999", "1e999"),
        ("2025-04-14 10:00:00", "2025-04-14 10:00:00"),
        ("'a, b'", "'a, b'"),
        ("", None),
        (r'"D:\x"', r"D:\x"),
        (r'"D:\recordings\new\x.wav"', r"D:\recordings\new\x.wav"),
        (r'"\u12"', r"\u12"),
        (r'"a\"\q"', r"a\"\q"),
        ("[1, NaN]", [1, "NaN"]),
        ("[1,,2]", [1, None, 2]),
        ('{"c": {"d": Infinity}}', {"c": {"d": "Infinity"}}),
    ],
)
@pytest.mark.parametrize("shape", ['{"uuid": "u", "a": %s, "b": 2}', '{"uuid": "u", "b": 2, "a":%s}'])
def test_value_invalid_in_json_spoils_only_its_field(value: str, kept: Any, shape: str) -> None:
    record, unreadable = read_object((shape % value).encode())
    assert record == {"uuid": "u", "a": kept, "b": 2}
    assert unreadable == ("a",)


def test_fields_beside_an_unreadable_value_are_unchanged() -> None:
    text = (
        r'{"a": NaN, "b": "\u5f20\n\"", "c": -18446744073709551616123, "d": [1.5, null, true], "e": "\ud83d"}'
    )
    record, unreadable = read_object(text.encode())
    assert record == {
        "a": "NaN",
        "b": '张\n"',
        "c": -18446744073709551616123,
        "d": [1.5, None, True],
        "e": "\ud83d",
    }
    assert unreadable == ("a",)


@pytest.mark.parametrize("text", [b'{"a": 1,}', b'{"a": 1,, "b": [1,],}', b'{"a":\xc2\xa01\x00}'])
def test_surplus_commas_and_blanks_are_ignored(text: bytes) -> None:
    record, unreadable = read_object(text)
    assert (record["a"], unreadable) == (1, ())


def test_json_with_too_much_to_repair_is_refused() -> None:
    for text in (b'{"a": [' + b"," * 5_000 + b"]}", b'{"a": NaN, "b": ' + b"[" * 5_000 + b"]" * 5_000 + b"}"):
        with pytest.raises(NotAnObject):
            parse_object(text)


def test_only_records_are_read_leniently() -> None:
    with pytest.raises(NotAnObject):
        parse_json(b'{"a": NaN}')


@given(json_objects, st.integers(0, 400), st.sampled_from(["NaN", "\\x", ",", '"', "'", "]", "é", "\0"]))
def test_any_insertion_into_a_record_is_read_or_refused(value: dict[str, Any], place: int, odd: str) -> None:
    text = json.dumps(value)
    with suppress(NotAnObject):
        record, unreadable = read_object(f"{text[:place]}{odd}{text[place:]}".encode())
        assert set(unreadable) <= record.keys()


# -- charsets ----------------------------------------------------------------------
UTF8 = "王小明，好的，可以加微信，广东省深圳市".encode()


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        # These bytes are UTF-8 too, of two Cyrillic letters: only the declaration tells.
        (b"text/json; charset=GBK", "肖茂".encode("gbk"), "肖茂"),
        (b'application/json;charset="gb2312"', "肖茂".encode("gbk"), "肖茂"),
        (b"application/json; Charset = gb-18030", "肖茂".encode("gbk"), "肖茂"),
        (b"", "肖茂".encode("gbk"), "Фï"),
        (b"application/json; charset=big5", "張三".encode("big5"), "張三"),
        (b"application/json; charset=shift_jis", "山田太郎".encode("cp932"), "山田太郎"),
        (b"application/json; charset=utf-16le", '{"a":"张"}'.encode("utf-16-le"), '{"a":"张"}'),
        (b"", '{"a":"张"}'.encode("utf-16-be"), '{"a":"张"}'),
        # What was declared does not hold for the whole body.
        (b"application/json; charset=gbk", UTF8 + "王".encode(), UTF8.decode() + "王"),
        (b"application/json; charset=utf-16", b'{"a": "bc"}', '{"a": "bc"}'),
        (b"application/json; charset=utf-8", "张三李四".encode("gbk"), "张三李四"),
        # By these every body decodes, so that it proves nothing.
        (b"text/plain; charset=ISO-8859-1", UTF8, UTF8.decode()),
        (b"text/plain; charset=ISO-8859-1", "Zoë".encode("latin-1"), "Zoë"),
        (b"text/plain; charset=windows-1251", "Пётр".encode("cp1251"), "Пётр"),
        # A mark at the beginning is no accident.
        (b"application/json; charset=gbk", b"\xef\xbb\xbf" + "肖茂".encode(), "肖茂"),
    ],
)
def test_declared_charset_is_tried_first(content_type: bytes, body: bytes, text: str) -> None:
    assert decode_body(body, declared_charset(content_type)) == text


@pytest.mark.parametrize(
    "name",
    [
        b"unicode_escape",
        b"raw-unicode-escape",
        b"punycode",
        b"idna",
        b"zip",
        b"rot13",
        b"hex",
        b"utf-7",
        b"x",
    ],
)
def test_codec_that_is_no_charset_is_ignored(name: bytes) -> None:
    assert declared_charset(b"text/plain; charset=" + name) == ""


@pytest.mark.parametrize("cut", range(1, len(UTF8)))
def test_truncated_utf8_is_still_utf8(cut: int) -> None:
    body = b'{"name": "' + UTF8[:cut] + b'", "a": "' + UTF8 + b'"}'
    text = decode_body(body)
    whole = UTF8[:cut].decode("utf-8", "ignore")
    assert text.replace("\ufffd", "") == f'{{"name": "{whole}", "a": "{UTF8.decode()}"}}'


@pytest.mark.parametrize("cut", range(1, 12))
def test_truncated_gb18030_is_still_gb18030(cut: int) -> None:
    chinese = "张三说好的可以".encode("gb18030")
    text = decode_body(b'{"name": "' + chinese[:cut] + b'", "a": "' + chinese + b'"}')
    assert text.endswith('"a": "张三说好的可以"}')


def test_replacement_character_does_not_count_against_utf8() -> None:
    body = '{"a": "\ufffd\ufffd\ufffd\ufffd", "b": "王小明'.encode() + b'\xe7"}'
    assert decode_body(body) == '{"a": "\ufffd\ufffd\ufffd\ufffd", "b": "王小明\ufffd"}'


# -- time --------------------------------------------------------------------------
def least_time(read: Callable[[bytes], object], body: bytes) -> float:
    """Processor time, the least of five runs."""
    taken = []
    for _ in range(5):
        started = time.process_time()
        with suppress(NotAnObject, TooMany):
            read(body)
        taken.append(time.process_time() - started)
    return min(taken)


HOSTILE = {
    "backslashes": (b'{"a":NaN,"b":"', b"\\\\", b'"}'),
    "bad escapes": (b'{"a":NaN,"b":"', b"\\q", b'"}'),
    "quotes": (b'{"a":NaN', b'"', b"}"),
    "commas": (b'{"a":[NaN', b",", b"]}"),
    "blanks": (b'{"a":NaN', b" ", b"}"),
    "digits": (b'{"a":NaN,"b":', b"1", b"}"),
    "objects": (b'{"a":NaN,"b":[0', b",{}", b"]}"),
    "openers": (b'{"a":NaN,"b":', b"[", b"}"),
    "single quotes": (b"{'a':NaN", b"'\\", b"}"),
    "records": (b'[{"a":NaN}', b',{"uuid":"u"}', b"]"),
    "lines": (b'{"a":NaN}', b'\n{"uuid":"u"}', b"\n"),
    "fields": (b"a=1", b"&a={", b""),
    "equals": (b"a", b"=", b"{"),
    "parts": (b"--x\r\n", b'--x\r\nname="', b"--x--"),
    "broken": (b'{"a":"', b"\xe7\x8e", b'"}'),
    "zeros": (b'{"a":1}', b"\0", b""),
    "strings": (b'"', b'\\"', b'"'),
}


@pytest.mark.parametrize("shape", HOSTILE)
def test_reading_time_grows_linearly_with_the_body(shape: str) -> None:
    begin, middle, end = HOSTILE[shape]
    count = 8_000 // len(middle)
    once = least_time(lambda body: read_records(body, OUTCALL_DIALECT), begin + middle * count + end)
    twice = least_time(lambda body: read_records(body, OUTCALL_DIALECT), begin + middle * 2 * count + end)
    assert twice < 3 * once + 0.002
    assert once < 0.5
