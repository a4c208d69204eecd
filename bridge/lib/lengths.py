"""How long a text is as a CRM counts it, and where it may be cut.

Cut is between what people see as characters: never inside a surrogate pair, an emoji with its skin and
its family, a flag, a letter with its accents, an entity such as `&amp;` or a tag.
"""

import re
import unicodedata
from typing import Literal

LengthUnit = Literal["characters", "utf16", "bytes"]
"""Code points; UTF-16 units, of which an emoji is two; bytes in UTF-8, of which 客 is three."""
UNIT_NAMES: dict[LengthUnit, str] = {
    "characters": "characters",
    "utf16": "UTF-16 units",
    "bytes": "bytes",
}

ELLIPSIS = "…"
_CODECS: dict[LengthUnit, tuple[str, int]] = {"utf16": ("utf-16-le", 2), "bytes": ("utf-8", 1)}
# An entity or a tag that a filter may have written, and that the end of a text is in.
_OPEN_MARKUP = re.compile(r"&(?:#?[0-9A-Za-z]{0,31})?\Z|</?[A-Za-z][^<>]{0,99}\Z|</?\Z")
_CLOSED_MARKUP = re.compile(
    r"&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][0-9A-Za-z]{1,31});|</?[A-Za-z][^<>]{0,99}>"
)
_LONGEST_MARKUP = 102
_LONGEST_CLUSTER = 64
"""What hangs together at more than so many code points is no character that anybody writes."""


def length_of(text: str, unit: LengthUnit) -> int:
    """The length of a text in a unit."""
    if unit == "characters" or text.isascii():
        return len(text)
    codec, width = _CODECS[unit]
    return len(text.encode(codec, "replace")) // width


def shortened(text: str, length: int, unit: LengthUnit = "characters") -> str:
    """The text in at most `length` units; a longer one is cut and ends in a visible `…`."""
    at = cut_at(text, length, unit)
    if at is None:
        return text
    return text[:at] + (ELLIPSIS if length >= length_of(ELLIPSIS, unit) else "")


def cut_at(text: str, length: int, unit: LengthUnit = "characters") -> int | None:
    """How many code points are kept before the `…`; None where the text is short enough."""
    # Most texts are far from any limit: no unit counts more than four for a code point.
    if len(text) * 4 <= length or length_of(text, unit) <= length:
        return None
    room = length - length_of(ELLIPSIS, unit)
    return _whole(text, _fitting(text, room if room >= 0 else max(length, 0), unit))


def _fitting(text: str, length: int, unit: LengthUnit) -> int:
    """How many code points from the beginning fit into so many units."""
    if unit == "characters":
        return min(length, len(text))
    codec, width = _CODECS[unit]
    raw = text[:length].encode(codec, "replace")[: length * width]
    return len(raw.decode(codec, "ignore"))


def _whole(text: str, at: int) -> int:
    """The last place up to `at` where no character is cut in two."""
    lowest = max(at - _LONGEST_MARKUP, 0)
    opened = _OPEN_MARKUP.search(text, lowest, at)
    if opened and (markup := _CLOSED_MARKUP.match(text, opened.start())) and markup.end() > at:
        at = opened.start()
    lowest = max(at - _LONGEST_CLUSTER, 0)
    found = at
    while found > lowest and not _may_part(text, found):
        found -= 1
    return found if found > lowest or lowest == 0 else at


def _may_part(text: str, at: int) -> bool:
    """Whether a character ends between two code points, by Unicode's annex 29 without its rare rules."""
    if at >= len(text):
        return True
    before, after = text[at - 1], text[at]
    if before in "\r\n" or after in "\r\n":
        return (before, after) != ("\r", "\n")
    if before < "\u0300" and after < "\u0300":
        return True
    if _is_flag(before) and _is_flag(after):
        return _flags_before(text, at) % 2 == 0
    # A virama joins the consonants of one syllable.
    is_conjunct = unicodedata.combining(before) == 9 and unicodedata.category(after) == "Lo"
    return not (_extends(after) or before == "\u200d" or is_conjunct or _is_one_syllable(before, after))


def _extends(char: str) -> bool:
    """Whether a code point only changes the one before it."""
    return (
        unicodedata.category(char) in ("Mn", "Me", "Mc")
        # The vowels AM of Thai and Lao are letters to Unicode, and belong to the consonant before them.
        or char in "\u200c\u200d\u0e33\u0eb3"
        or "\U0001f3fb" <= char <= "\U0001f3ff"
        or "\U000e0020" <= char <= "\U000e007f"
    )


def _is_flag(char: str) -> bool:
    return "\U0001f1e6" <= char <= "\U0001f1ff"


def _flags_before(text: str, at: int) -> int:
    start = at
    while start > max(at - 2 * _LONGEST_CLUSTER, 0) and _is_flag(text[start - 1]):
        start -= 1
    return at - start


def _is_one_syllable(before: str, after: str) -> bool:
    """Whether two code points make one syllable of Hangul."""
    is_lead = "\u1100" <= before <= "\u115f" or "\ua960" <= before <= "\ua97c"
    is_vowel = "\u1160" <= after <= "\u11a7" or "\ud7b0" <= after <= "\ud7c6"
    is_tail = "\u11a8" <= after <= "\u11ff" or "\ud7cb" <= after <= "\ud7fb"
    whole = "\uac00" <= before <= "\ud7a3"
    if is_lead:
        return is_vowel or "\u1100" <= after <= "\u115f" or "\uac00" <= after <= "\ud7a3"
    if "\u1160" <= before <= "\u11a7" or "\ud7b0" <= before <= "\ud7c6":
        return is_vowel or is_tail
    if whole:
        return is_tail or (is_vowel and (ord(before) - 0xAC00) % 28 == 0)
    return is_tail and ("\u11a8" <= before <= "\u11ff" or "\ud7cb" <= before <= "\ud7fb")
