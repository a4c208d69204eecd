"""Pages of the list that are not quite JSON: every row that can be told apart is there."""

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.source.outcall.answers import AnswerReader, ListAnswer, UnreadableAnswer
from bridge.source.outcall.page_text import MOST_ROWS, read_page
from tests.fixtures.served_platform import NAMES

ROWS = [{"id": number, "uuid": f"u{number}", "name": "张三", "talk_info": [{"id": 1}]} for number in range(5)]
GOOD = [json.dumps(row, ensure_ascii=False).encode() for row in ROWS]


def page(
    rows: list[bytes], tail: bytes = b'],"total":5}}', head: bytes = b'{"code":0,"msg":"","data":{"list":['
) -> bytes:
    return head + b",".join(rows) + tail


def read(text: bytes, charset: str = "") -> ListAnswer:
    return AnswerReader(NAMES).read(text, charset)


SPOILT = {
    "NaN": b'{"id":2,"uuid":"u2","score":NaN}',
    "Infinity": b'{"id":2,"uuid":"u2","score":-Infinity}',
    "a bad escape": b'{"id":2,"uuid":"u2","path":"D:\\x"}',
    "a backslash before the quote": b'{"id":2,"uuid":"u2","path":"D:\\rec\\","name":"x"}',
    "a quote within a text": b'{"id":2,"uuid":"u2","name":"called "Bob" once","x":1}',
    "a text cut inside a character": b'{"id":2,"uuid":"u2","name":"\xe5\xbc"}',
    "a raw line break": b'{"id":2,"uuid":"u2","name":"a\nb"}',
    "a raw NUL": b'{"id":2,"uuid":"u2","name":"a\0b"}',
    "a comma too many": b'{"id":2,"uuid":"u2",}',
    "a comma too few": b'{"id":2 "uuid":"u2"}',
    "no value": b'{"id":2,"uuid":,"x":1}',
    "single quotes": b"{'id':2,'uuid':'u2'}",
    "Python": b'{"id":2,"uuid":"u2","x":None}',
    "a leading zero": b'{"id":02,"uuid":"u2"}',
    "hexadecimal": b'{"id":0x2,"uuid":"u2"}',
    "a bracket too few": b'{"id":2,"uuid":"u2","a":[1,2}',
    "a brace too few": b'{"id":2,"uuid":"u2","a":{"b":1',
    "a text without an end": b'{"id":2,"uuid":"u2","name":"abc}',
    "half a pair": b'{"id":2,"uuid":"u2","name":"\\ud83d"}',
    "a large text": b'{"id":2,"uuid":"u2","name":"' + b"x\\" * 500_000 + b'"}',
    "null": b"null",
    "a number": b"12",
    "a word": b"undefined",
    "a JSON string": json.dumps('{"id":2,"uuid":"u2"}').encode(),
    "an array": b"[1,2]",
    "duplicate keys": b'{"id":2,"id":3,"uuid":"u2"}',
}


@pytest.mark.parametrize("place", [0, 2, 4])
@pytest.mark.parametrize("name", SPOILT)
def test_broken_row_never_loses_its_page(name: str, place: int) -> None:
    rows = [*GOOD[:place], SPOILT[name], *GOOD[place + 1 :]]
    answer = read(page(rows))
    assert list(answer.rows or ()) == rows
    assert (answer.total, answer.broken) == (5, "")


def test_two_adjacent_broken_rows_lose_no_good_one() -> None:
    bad = SPOILT["a backslash before the quote"]
    rows = [GOOD[0], bad, bad, GOOD[3], SPOILT["a quote within a text"], GOOD[4]]
    found = list(read(page(rows)).rows or ())
    assert [row for row in found if row in GOOD] == [GOOD[0], GOOD[3], GOOD[4]]


@pytest.mark.parametrize("head", [b'{"code":0,"data":{"total":5,"list":[', b'{"data":{"list":['])
def test_truncated_page_keeps_every_whole_row(head: bytes) -> None:
    text = page(GOOD, head=head)
    ends = [len(head) + sum(map(len, GOOD[: n + 1])) + n for n in range(5)]
    for cut in range(len(head) + 2, ends[-1] + 1):
        answer = read(text[:cut])
        whole = sum(end <= cut for end in ends)
        assert list(answer.rows or ())[:whole] == GOOD[:whole]
        assert f"after {whole} rows" in answer.broken


def test_closed_list_is_whole_whatever_follows() -> None:
    answer = read(page(GOOD, b'],"total":'))
    assert (list(answer.rows or ()), answer.total, answer.broken) == (GOOD, None, "")


@pytest.mark.parametrize(
    ("total", "read_as"),
    [
        (b"5", 5),
        (b'"5"', 5),
        (b"5.0", 5),
        (b"-5", None),
        (b'"many"', None),
        (b"null", None),
        (b"NaN", None),
        (b"1e400", None),
        (b"9" * 30, None),
        (b"9" * 5000, None),
        (b"[5]", None),
    ],
)
def test_invalid_total_is_ignored(total: bytes, read_as: int | None) -> None:
    answer = read(page(GOOD, b'],"total":' + total + b"}}"))
    assert (answer.total, list(answer.rows or ())) == (read_as, GOOD)


LIST = b"[" + b",".join(GOOD) + b"]"
WRAPPED: dict[str, bytes] = {
    "as it is": page(GOOD),
    "with spaces": page(GOOD).replace(b",", b" ,\r\n\t"),
    "a mark of its byte order": b"\xef\xbb\xbf" + page(GOOD),
    "in UTF-16": page(GOOD).decode().encode("utf-16"),
    "zeros behind it": page(GOOD) + b"\0\0",
    "a script behind it": page(GOOD) + b"<script>1</script>",
    "as a JSON string": json.dumps(page(GOOD).decode()).encode(),
    "data as a JSON string": b'{"code":0,"data":%b}' % json.dumps('{"list":' + LIST.decode() + "}").encode(),
    "the list as a JSON string": b'{"code":0,"data":{"list":%b}}' % json.dumps(LIST.decode()).encode(),
    "an object in place of the list": b'{"data":{"list":{"0":%b}}}'
    % b",".join((b'"%d":' % n if n else b"") + row for n, row in enumerate(GOOD)),
    "data that is the list": b'{"code":0,"data":%b}' % LIST,
    "the list twice": page(GOOD[:1], b"]}," + page(GOOD)[10:]),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_a_wrapped_page_holds_the_same_rows(name: str) -> None:
    answer = read(WRAPPED[name])
    assert [json.loads(row) for row in answer.rows or ()] == ROWS
    assert not answer.broken


def test_page_in_another_charset_is_read() -> None:
    names = "张三 誠 ﹂ 乗"
    row = json.dumps({"uuid": "u", "name": names}, ensure_ascii=False)
    for spoilt in ("", '{"score": NaN},'):
        text = f'{{"data":{{"list":[{spoilt}{row}]}}}}'.encode("gb18030")
        for charset in ("", "gb18030"):
            rows = list(read(text, charset).rows or ())
            assert rows[-1] in (row.encode(), row.encode("gb18030"))
            assert len(rows) == 1 + bool(spoilt)


def test_declared_charset_is_tried_first() -> None:
    # These two bytes are a character in both.
    text = b'{"data":{"list":[{"name":"\xd0\xa1"}]}}'
    assert read(text, "gbk").rows == ['{"name":"小"}'.encode()]
    assert read(text).rows == [b'{"name":"\xd0\xa1"}']
    assert read(b'{"data":{"list":[{"name":"\xff"}]}}', "gbk").rows == [b'{"name":"\xff"}']


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"<html>",
        b"[]",
        b"[1]",
        b'"x"',
        b"{",
        b"null",
        b'"{"',
        b"\xff\xfe",
        b"{]",
        b'{"data"',
        b"\0" * 99,
    ],
)
def test_page_that_is_no_object_is_unreadable(text: bytes) -> None:
    with pytest.raises(UnreadableAnswer):
        read(text)


def test_rows_beyond_the_maximum_are_not_read() -> None:
    for spoilt in (b"1", b"NaN"):
        answer = read(b'{"data":{"list":[' + b"1," * MOST_ROWS + spoilt + b"]}}")
        assert len(answer.rows or ()) == MOST_ROWS
        assert "more than" in answer.broken


ANYTHING: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@settings(derandomize=True, max_examples=40)
@given(st.lists(ANYTHING, max_size=6), st.booleans(), st.sampled_from([None, 1]))
def test_row_boundaries_agree_with_a_json_parser(rows: list[Any], ascii_: bool, indent: int | None) -> None:
    text = json.dumps({"data": {"list": rows, "total": 3}, "code": 0}, ensure_ascii=ascii_, indent=indent)
    found = read_page(text.encode("utf-8", "surrogatepass"), "data", "list")
    assert found is not None
    read_back = [json.loads(row.decode("utf-8", "surrogatepass")) for row in found.rows or ()]
    assert repr(read_back) == repr(rows)
    assert (found.members, found.data, found.broken) == ({"code": b"0"}, {"total": b"3"}, "")


@settings(derandomize=True, max_examples=60)
@given(st.data())
def test_damaged_page_is_read_or_refused(data: st.DataObject) -> None:
    text = bytearray(page(GOOD))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 30))] = data.draw(
            st.sampled_from([b"", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b"\xff", b"\0", b'{"id":'])
        )
    try:
        answer = read(bytes(text))
    except UnreadableAnswer:
        return
    assert sum(map(len, answer.rows or ())) <= len(text)


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b'{"data":{"list":[', b'{"id":['),
        (b'{"data":{"list":[', b'{"id":"'),
        (b'{"data":{"list":[', b'{"id":1,"a":"\\",'),
        (b'{"data":{"list":[', b',{"id":1'),
        (b'{"data":{"list":[', b'"\\"'),
        (b'{"data":{"list":["', b"\\"),
        (b'{"data":{"list":[{"id":', b'"a" '),
        (b'{"data":{"list":[{"id":1,"a":"', b'x" '),
        (b'{"data":', b'"\\"'),
        (b'{"data":{', b'"a":1,'),
        (b"", b'"'),
    ],
)
def test_reading_time_grows_linearly_with_the_page(head: bytes, piece: bytes) -> None:
    def took(times: int) -> float:
        text, least = head + piece * times, float("inf")
        for _ in range(5):
            began = time.process_time()
            read_page(text, "data", "list")
            least = min(least, time.process_time() - began)
        return least

    count = 4000
    assert took(2 * count) < 3 * took(count) + 0.002
