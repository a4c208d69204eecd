"""Lengths as CRMs count them: the limit holds in its unit, and nothing is cut in two."""

import time
from html import escape, unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.lib.lengths import ELLIPSIS, LengthUnit, cut_at, length_of, shortened

UNITS: list[LengthUnit] = ["characters", "utf16", "bytes"]
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
THUMB = "\U0001f44d\U0001f3fd"
FLAGS = "\U0001f1e8\U0001f1f3\U0001f1fa\U0001f1f8"
SCOTLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"
CLUSTERS = [
    *("a", "客", "😀", "𠮷", FAMILY, THUMB, SCOTLAND, FLAGS[:2], FLAGS[2:], "e\u0301", "1\ufe0f\u20e3"),
    *("क्षि", "한", "\u1112\u1161\u11ab", "กำ", "\r\n", "❤\ufe0f", "&amp;", "&#x27;", "&#39;", "<br>", "</b>"),
]


def test_text_has_a_length_in_each_unit() -> None:
    assert [length_of("a客😀", unit) for unit in UNITS] == [3, 4, 8]
    assert [length_of("😀" * 255, unit) for unit in UNITS] == [255, 510, 1020]


@pytest.mark.parametrize(
    ("text", "length", "unit", "short"),
    [
        ("abc", 3, "characters", "abc"),
        ("abcd", 3, "characters", "ab…"),
        ("abcd", 1, "characters", "…"),
        ("abcd", 0, "characters", ""),
        ("客户说", 6, "bytes", "客…"),
        ("客户说", 2, "bytes", ""),
        ("a😀😀", 5, "bytes", "a…"),
        ("😀😀😀", 5, "utf16", "😀😀…"),
        ("😀😀😀", 4, "utf16", "😀…"),
        ("😀😀", 4, "utf16", "😀😀"),
        ("😀" * 255, 255, "characters", "😀" * 255),
        ("😀" * 255, 255, "utf16", "😀" * 127 + "…"),
        ("😀" * 255, 255, "bytes", "😀" * 63 + "…"),
        (f"a{FAMILY}b", 4, "characters", "a…"),
        (f"a{FAMILY}bc", 7, "characters", f"a{FAMILY}…"),
        (FAMILY * 2, 3, "characters", "…"),
        (f"{THUMB}b", 2, "characters", "…"),
        (f"{FLAGS}b", 4, "characters", f"{FLAGS[:2]}…"),
        (f"a{FLAGS}b", 3, "characters", "a…"),
        ("e\u0301e\u0301", 3, "characters", "e\u0301…"),
        ("a\r\nb", 3, "characters", "a…"),
        ("Tom &amp; Anna", 7, "characters", "Tom …"),
        ("Tom &amp; Anna", 10, "characters", "Tom &amp;…"),
        ("Tom & Anna; gone", 7, "characters", "Tom & …"),
        ("a < b and so on", 5, "characters", "a < …"),
        ("a<br>b, and so on", 4, "characters", "a…"),
        ("a" + "\u0301" * 500, 200, "characters", "a" + "\u0301" * 198 + "…"),
    ],
)
def test_text_is_cut_between_visible_characters(text: str, length: int, unit: LengthUnit, short: str) -> None:
    assert shortened(text, length, unit) == short


@given(st.lists(st.sampled_from(CLUSTERS), max_size=12), st.integers(0, 40), st.sampled_from(UNITS))
def test_limit_holds_and_no_character_is_split(clusters: list[str], length: int, unit: LengthUnit) -> None:
    text = "".join(clusters)
    short = shortened(text, length, unit)
    assert length_of(short, unit) <= length or length_of(text, unit) <= length
    at = cut_at(text, length, unit)
    if at is None:
        assert short == text
        return
    ends = [0]
    for cluster in clusters:
        ends.append(ends[-1] + len(cluster))
    assert at in ends
    # And no whole character more would have fitted.
    if length >= length_of(ELLIPSIS, unit):
        more = text[: ends[ends.index(at) + 1]] + ELLIPSIS
        assert length_of(more, unit) > length


@given(st.text(), st.integers(1, 60), st.sampled_from(UNITS))
def test_any_text_keeps_to_its_limit(text: str, length: int, unit: LengthUnit) -> None:
    short = shortened(text, length, unit)
    assert length_of(short, unit) <= length
    assert text.startswith(short.removesuffix(ELLIPSIS)) or short == text


@given(st.text("a&<>'\"; 客", max_size=40), st.integers(1, 60))
def test_html_escapes_are_not_cut(text: str, length: int) -> None:
    short = shortened(escape(text), length)
    if short != escape(text):
        assert text.startswith(unescape(short.removesuffix(ELLIPSIS)))


@pytest.mark.parametrize("unit", ["a", "\u0301", "\u200d", "\U0001f1e8", "&", "<a", "&amp", "<", "\r", "客"])
def test_cutting_time_grows_linearly_with_the_text(unit: str) -> None:
    def cost(length: int) -> float:
        text, costs = unit * length, []
        for _ in range(5):
            begun = time.process_time()
            shortened(text, length - 5, "utf16")
            costs.append(time.process_time() - begun)
        return min(costs)

    assert cost(16_000) <= 3 * cost(8_000) + 0.002
