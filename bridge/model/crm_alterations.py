"""How a CRM altered a value on writing it (shortened, escaped, rounded…), and shapes that cannot be compared.

Without this, `unless_edited` would take the CRM's own changes for a person's edit, and never write again.
"""

import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from html import unescape
from typing import Any

from bridge.lib.expression import as_text
from bridge.model.field_digests import is_empty


class Alteration(StrEnum):
    """What a CRM did to a value on writing it; the ledger keeps the letter."""

    SHORTENED = "s"
    CHARACTERS = "c"
    SPACES = "w"
    CASE = "l"
    MARKUP = "m"
    NUMBER = "n"
    EMPTIED = "e"
    DROPPED = "d"
    REPLACED = "r"
    FORM = "f"
    """The same value in another form: not reported to operators."""


WORDS: Mapping[str, str] = {
    Alteration.SHORTENED: "shortened",
    Alteration.CHARACTERS: "characters",
    Alteration.SPACES: "spaces",
    Alteration.CASE: "case",
    Alteration.MARKUP: "markup",
    Alteration.NUMBER: "number",
    Alteration.EMPTIED: "emptied",
    Alteration.DROPPED: "dropped",
    Alteration.REPLACED: "replaced",
}
"""The words for people, by letter; a mere `FORM` is not told."""
EXPLAINED: Mapping[str, str] = {
    "shortened": "the CRM keeps fewer characters than it accepts: give the field a limit in the mapping",
    "characters": "the CRM does not keep some characters (emoji, rare ideographs): use the filter bmp",
    "spaces": "the CRM changes spaces or line ends",
    "case": "the CRM changes upper and lower case",
    "markup": "the CRM escapes or removes markup: use the filter html, or none, as its field wants",
    "number": "the CRM rounds the number, or writes it in a form of its own",
    "emptied": "the CRM accepts the value and keeps nothing: an unknown option, a date in another form, or a"
    " field that our user may not edit",
    "dropped": "the CRM keeps only some of the values: the others are no options there",
    "replaced": "the CRM puts another value in its place: a rule or formula of its own",
}
# Kinds that no person's edit looks like, however long after the write the field is read.
_SURE = frozenset({Alteration.CHARACTERS, Alteration.SPACES, Alteration.MARKUP, Alteration.FORM})
# Right after the write only an entirely different value may be a person's edit.
PLAUSIBLE = frozenset(Alteration) - {Alteration.REPLACED}

TAG = re.compile(r"<[^<>]{0,1000}>")
_SPLIT = re.compile(r"[;,|\n]")
_PHONE = re.compile(r"[+\d()\s./-]{7,40}")
_DECIMAL = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][+-]?\d{1,4})?(?<=\d)", re.ASCII)
# Characters: a longer text is compared as text.
_LONGEST_DECIMAL = 1000
_FLAGS = {"true": {"1", "yes", "y", "t", "on"}, "false": {"0", "no", "n", "f", "off"}}
_LONGEST = 100_000
# Digits of a phone number, at least: a shorter one is the end of another number by chance.
_SHORTEST_NUMBER = 7
# Characters: a longer text is no number that a CRM has rounded.
_LONGEST_NUMBER = 40
# A number above the first is taken for milliseconds since 1970, one between the others for seconds.
_MILLISECONDS, _SECONDS, _LAST_SECOND = 10**11, 10**9, 10**11


def same(shown: Any, sent: Any) -> bool:
    """Whether two values are equal, whatever their type: `80`, `80.0` and `"80"`."""
    if shown == sent:
        return True
    if is_empty(shown) or is_empty(sent):
        return is_empty(shown) and is_empty(sent)
    return as_text(shown) == as_text(sent)


def alteration(sent: Any, shown: Any) -> Alteration | None:
    """How the CRM altered a value that it accepted; None: it shows the value as it was sent."""
    if same(shown, sent):
        return None
    if is_empty(shown):
        return Alteration.FORM if sent in (False, 0) else Alteration.EMPTIED
    if is_empty(sent):
        return Alteration.REPLACED
    if isinstance(sent, list | tuple):
        return _of_list(sent, shown)
    if isinstance(shown, Mapping | list):
        return Alteration.FORM
    return _of_text(as_text(sent), as_text(shown))


def surely_altered(sent: Any, shown: Any) -> Alteration | None:
    """As `alteration`, long after the write: only the kinds that no person's edit looks like."""
    found = alteration(sent, shown)
    return found if found in _SURE else None


def probably_altered(sent: Any, shown: Any) -> Alteration | None:
    """As `alteration`, right after the write, or of a default: only another value may be a person's edit."""
    found = alteration(sent, shown)
    return found if found in _SURE or found in (Alteration.CASE, Alteration.SHORTENED) else None


def _of_list(sent: list[Any] | tuple[Any, ...], shown: Any) -> Alteration:
    ours = {as_text(item) for item in sent}
    listed = shown if isinstance(shown, list) else _SPLIT.split(as_text(shown))
    theirs = {as_text(item).strip() for item in listed}
    if any(isinstance(item, Mapping) for item in listed) or ours == theirs:
        return Alteration.FORM
    return Alteration.DROPPED if theirs < ours else Alteration.REPLACED


def _of_text(sent: str, shown: str) -> Alteration:
    # 100,000 characters are enough to tell the kind, and bound the time.
    sent, shown = sent[:_LONGEST], shown[:_LONGEST]
    if shown in _FLAGS.get(sent.lower(), ()) or _instant(sent) == _instant(shown) is not None:
        return Alteration.FORM
    number = _of_number(sent, shown)
    if number is not None:
        return number
    for kind, made in ((Alteration.SPACES, _squeezed), (Alteration.CASE, str.casefold)):
        sent, shown = made(sent), made(shown)
        if sent == shown:
            return kind
    if _bare(sent) == _bare(shown):
        return Alteration.MARKUP
    if _replaced_characters(sent, shown):
        return Alteration.CHARACTERS
    start = shown.rstrip("….").rstrip()
    return Alteration.SHORTENED if start and _bare(sent).startswith(_bare(start)) else Alteration.REPLACED


def _squeezed(text: str) -> str:
    return " ".join(text.split())


def _bare(text: str) -> str:
    """A text without tags, its entities as characters."""
    return _squeezed(unescaped(TAG.sub(" ", text)))


def unescaped(text: str) -> str:
    """A text with its entities as characters; unchanged where one of them is no number that Python reads."""
    try:
        return unescape(text)
    except ValueError:
        return text


def _of_number(sent: str, shown: str) -> Alteration | None:
    """How a number was altered: rounded, or written in another form; None: neither, or no number."""
    ours, theirs = _number(sent), _number(shown)
    if ours is not None and theirs is not None and "+" not in sent + shown:
        if ours == theirs:
            return Alteration.FORM
        return Alteration.NUMBER if abs(ours - theirs) < max(1.0, abs(ours) * 1e-6) else None
    if _PHONE.fullmatch(sent) and _PHONE.fullmatch(shown):
        digits = sorted((re.sub(r"\D", "", sent), re.sub(r"\D", "", shown)), key=len)
        if len(digits[0]) >= _SHORTEST_NUMBER and digits[1].endswith(digits[0].lstrip("0")):
            return Alteration.NUMBER
    return None


def _number(text: str) -> float | None:
    try:
        return float(text.replace(",", "")) if len(text) <= _LONGEST_NUMBER else None
    except ValueError:
        return None


def _instant(text: str) -> datetime | None:
    """The moment that a text names, to the second; None: it names none."""
    if text.isdecimal():
        number = int(text[:16])
        seconds = number // 1000 if number > _MILLISECONDS else number
        return datetime.fromtimestamp(seconds, UTC) if _SECONDS < seconds < _LAST_SECOND else None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).replace(microsecond=0)


def _replaced_characters(sent: str, shown: str) -> bool:
    """Whether a text came back with characters as `?`, or without those of four bytes in UTF-8."""
    if unicodedata.normalize("NFKC", sent) == unicodedata.normalize("NFKC", shown):
        return True
    marks = "?\ufffd"
    more = any(shown.count(mark) > sent.count(mark) for mark in marks)
    rest = shown.translate(dict.fromkeys(map(ord, marks)))
    place = 0
    for char in sent:
        if place < len(rest) and char == rest[place]:
            place += 1
        elif char not in marks and not (char > "\uffff" or (more and not char.isascii()) or char < " "):
            return False
    return place == len(rest)


# -- shapes that can be neither compared nor added to ------------------------------------------------


def unreadable_shape(value: Any, held: Any, *, only_presence: bool) -> str:
    """What is wrong with the shape in which a CRM shows a field, beside our value; empty: nothing.

    With `only_presence` it is only asked whether something is there.
    """
    if is_empty(held) or isinstance(value, Mapping):
        return ""
    of_list = isinstance(value, list)
    found = ""
    if isinstance(held, Mapping):
        found = "a table"
    elif isinstance(held, list):
        if _has_tables(held) and not (of_list and _has_tables(value)):
            found = "a list of tables"
        elif not of_list and not only_presence:
            found = _LIST
    elif of_list:
        found = "" if only_presence else _NO_LIST
    elif isinstance(held, bool) and not (_is_flag(value) or (only_presence and held)):
        found = "true or false"
    return found


def unordered_shape(value: Any, held: Any) -> str:
    """What is wrong with a value that a CRM shows where ours is neither greater nor less; empty: nothing."""
    if is_empty(held) or isinstance(value, Mapping) or isinstance(held, list):
        return ""
    if _ordered(value, held) is not None:
        return ""
    return "a text that is no number" if _decimal(held) is None else "a number"


def is_greater(value: Any, held: Any) -> bool:
    """Whether a value is greater than what a CRM shows: as numbers, as moments, or else as texts."""
    if is_empty(value) or is_empty(held):
        return not is_empty(value)
    pair = _ordered(value, held)
    return pair is not None and pair[0] > pair[1]


def _ordered(value: Any, held: Any) -> tuple[Any, Any] | None:
    """Both as numbers, moments or texts, whichever fits both; None: only one of them is a number."""
    for form in (_decimal, lambda each: _instant(as_text(each))):
        mine, theirs = form(value), form(held)
        if mine is not None and theirs is not None:
            return mine, theirs
    if (_decimal(value) is None) is (_decimal(held) is None):
        return as_text(value), as_text(held)
    return None


def _decimal(value: Any) -> Decimal | None:
    """A number however it is written, without a float's rounding; commas may stand between thousands."""
    text = as_text(int(value) if isinstance(value, bool) else value).strip()
    if len(text) > _LONGEST_DECIMAL or not _DECIMAL.fullmatch(text):
        return None
    return Decimal(text.replace(",", ""))


def _has_tables(items: list[Any]) -> bool:
    return any(isinstance(item, Mapping | list) for item in items)


_LIST, _NO_LIST = "a list", "one value, and no list,"
CERTAIN_SHAPES = frozenset({_LIST, _NO_LIST})
"""Shapes that cannot be compared, and yet show for certain that something is there."""


def _is_flag(value: Any) -> bool:
    return value in (None, True, False) or as_text(value).lower() in {"true", "false", "0", "1"}
