"""What each filter makes of values, of null, and of what it cannot read."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.lib.expression import AttributeTable, ExpressionError, Language
from bridge.lib.lengths import ELLIPSIS
from bridge.mapping.filters import MAPPING_ARGUMENTS as CONSTANTS
from bridge.mapping.filters import MAPPING_FILTERS, filter_rows

LANGUAGE = Language({"record": None}, MAPPING_FILTERS, arguments=CONSTANTS)
TIME = datetime(2025, 4, 14, 18, 19, 21, 500_000, tzinfo=UTC)


def became(expression: str, value: Any) -> Any:
    template = LANGUAGE.parse(f"{{{{ record.value | {expression} }}}}")
    names = {"record": AttributeTable({"value": value}), "_country": "CN", "_zone": ZoneInfo("Asia/Shanghai")}
    return LANGUAGE.compile([template])(names)[0]


MAPPING_ARGUMENTS = {"shorten": "(5)", "overflow": "(5)", "shorten_bytes": "(5)", "strip_chars": "('<')"}


@pytest.mark.parametrize("name", sorted(MAPPING_FILTERS))
def test_null_stays_null(name: str) -> None:
    assert became(name + MAPPING_ARGUMENTS.get(name, ""), None) is None


JINJA = ["abs", "escape", "first", "join(';')", "last", "lower", "replace('a', 'b')"]
JINJA += ["reverse", "round", "sort", "string", "striptags", "title", "trim", "upper", "truncate", "unique"]


@pytest.mark.parametrize("expression", JINJA)
def test_null_stays_null_in_jinja_filters(expression: str) -> None:
    assert became(expression, None) is None


def test_default_filter_applies_to_null() -> None:
    assert became("default('x')", None) == became("d('x')", None) == "x"
    assert became("default('x')", "") == ""
    assert became("default('x', true)", "") == "x"
    assert became("default('x')", 0) == 0


@pytest.mark.parametrize(
    ("expression", "value", "expected"),
    [
        ("e164", "158-9977 0637", "+8615899770637"),
        ("e164('US')", "(201) 555-0123", "+12015550123"),
        ("e164", "158****0637", None),
        ("national", "+8615899770637", "15899770637"),
        ("national", "0755-2345 6789", "75523456789"),
        ("national('US')", "+1 201 555 0123", "2015550123"),
        ("national", "158****0637", None),
        ("national", "", None),
        ("digits", "+86 158-9977", "861589977"),
        ("digits", "13800138000.0", "13800138000"),
        ("digits", 13800138000.0, "13800138000"),
        ("digits", "1.5", "15"),
        ("national", "13800138000.0", "13800138000"),
        ("national", "85291234567", "91234567"),
        ("e164", "13800138OOO", None),
        ("digits", "０７５５", "0755"),
        ("digits", "none", None),
        ("digits", 88, "88"),
        ("iso8601", TIME, "2025-04-14T18:19:21Z"),
        ("iso8601('Asia/Tokyo')", TIME, "2025-04-15T03:19:21+09:00"),
        ("iso8601('local')", TIME, "2025-04-15T02:19:21+08:00"),
        ("local", TIME, "2025-04-15 02:19:21"),
        ("local('%Y-%m-%d %H:%M:%S', 'UTC')", TIME, "2025-04-14 18:19:21"),
        ("date", TIME, "2025-04-15"),
        ("date('UTC')", TIME, "2025-04-14"),
        ("epoch", TIME, 1744654761),
        ("epoch_ms", TIME, 1744654761500),
        ("minutes", 88, 2),
        ("minutes", 60, 1),
        ("minutes", 0, 0),
        ("minutes", "61", 2),
        ("minutes", "", None),
        ("ms", 88, 88000),
        ("ms", 0.5, 500),
        ("ms", timedelta(seconds=3), 3000),
        ("mmss", 88, "01:28"),
        ("mmss", 3700, "61:40"),
        ("mmss", -5, "-00:05"),
        ("hhmm", 88, "00:02"),
        ("hhmm", 3600, "01:00"),
        ("hhmm", 3599, "01:00"),
        ("hhmmss", 88, "00:01:28"),
        ("hhmmss", 90061, "25:01:01"),
        ("text", 88, "88"),
        ("text", 80.0, "80"),
        ("text", 12345678901234567890, "12345678901234567890"),
        ("text", True, "true"),
        ("text", ["a", 1], "a, 1"),
        ("text", TIME, "2025-04-14T18:19:21Z"),
        ("number", " 88 ", 88),
        ("number", "-12.50", -12.5),
        ("number", "12345678901234567890", 12345678901234567890),
        ("number", "20万", None),
        ("number", "1_000", None),
        ("number", "nan", None),
        ("number", "", None),
        ("number", True, 1),
        ("number", 1.5, 1.5),
        ("shorten(3)", "abc", "abc"),
        ("shorten(3)", "abcd", "ab…"),
        ("shorten(0)", "abcd", ""),
        ("overflow(3)", "abc", None),
        ("overflow(3)", "abcd", "cd"),
        ("shorten_bytes(6)", "客户", "客户"),
        ("shorten_bytes(6)", "客户说", "客…"),
        ("shorten_bytes(2)", "客户说", ""),
        ("shorten_bytes(5)", "a😀😀", "a…"),
        ("strip_chars('<>=')", "a<b>=c", "abc"),
        ("bmp", "王👍𠮷芳", "王芳"),
        ("bmp('〓')", "𠮷田〓", "〓田〓"),
        ("bmp", "\uffff\U00010000", "\uffff"),
        ("html", "<a href='x'>&</a>", "&lt;a href=&#x27;x&#x27;&gt;&amp;&lt;/a&gt;"),
        ("transcript", [], None),
    ],
)
def test_filter_gives_the_documented_result(expression: str, value: object, expected: object) -> None:
    found = became(expression, value)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize("expression", ["minutes", "ms", "mmss", "hhmm", "hhmmss"])
def test_invalid_duration_is_a_fault(expression: str) -> None:
    with pytest.raises(ExpressionError, match="'soon' is no number of seconds"):
        became(expression, "soon")


@given(st.text(), st.integers(1, 40))
def test_overflow_filter_gives_the_rest_that_shorten_cuts_off(text: str, length: int) -> None:
    short, rest = became(f"shorten({length})", text), became(f"overflow({length})", text)
    assert (short if rest is None else short[: -len(ELLIPSIS)] + rest) == text


@given(st.integers(0, 10**6))
def test_duration_filters_agree(seconds: int) -> None:
    hours, minutes, rest = map(int, became("hhmmss", seconds).split(":"))
    assert hours * 3600 + minutes * 60 + rest == seconds
    minutes, rest = map(int, became("mmss", seconds).split(":"))
    assert minutes * 60 + rest == seconds
    hours, minutes = map(int, became("hhmm", seconds).split(":"))
    assert hours * 60 + minutes == became("minutes", seconds)


def test_reference_lists_every_filter() -> None:
    rows = list(filter_rows())
    assert len(rows) == len(MAPPING_FILTERS)
    assert all(row.count(" | ") == 1 and row.endswith(" |") and not row.endswith("|  |") for row in rows)


@pytest.mark.parametrize(
    ("expression", "message", "remedy"),
    [
        ("local('%H', 'Asia/Shangai')", 'local: "Asia/Shangai" is no known time zone', "Asia/Shanghai"),
        ("date('Mars')", 'date: "Mars" is no known time zone', "Asia/Shanghai"),
        ("iso8601(zone='Mars')", 'iso8601: "Mars" is no known time zone', "Asia/Shanghai"),
        ("e164('UK')", 'e164: "UK" is no known country', "CN"),
        ("national('us')", 'national: "us" is no known country', 'did you mean "US"?'),
        ("shorten('200')", 'shorten: "200" is no number of characters', "like 200"),
        ("shorten", 'the filter "shorten" does not take this: missing a required arg', "shorten(length)"),
        ("epoch('ms')", "too many positional arguments", "write epoch without brackets"),
        ("local(format='%H')", "unexpected keyword argument", "local(form='%Y-%m-%d %H:%M:%S', zone='')"),
        ("join('a', 'b', 'c')", "too many positional arguments", "write join(d='', attribute=None)"),
        ("replace('a')", "missing a required argument", "write replace(old, new, count=None)"),
        ("default('a', true, 1)", "too many positional arguments", "default_value=''"),
    ],
)
def test_arguments_that_would_fail_every_call_are_refused(expression: str, message: str, remedy: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        LANGUAGE.parse(f"{{{{ record.value | {expression} }}}}")
    assert message in caught.value.message
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    "expression",
    ["iso8601('local')", "local('%H', zone='')", "e164('')", "shorten(record.n)", "e164(record.c)"],
)
def test_right_or_later_known_arguments_are_accepted(expression: str) -> None:
    LANGUAGE.parse(f"{{{{ record.value | {expression} }}}}")
