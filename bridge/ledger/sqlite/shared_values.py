"""What a dictionary may be made of: only what many people's records have in common.

A dictionary stays in the ledger, and in every backup, when a person's records are long erased. So the
samples that it is made of are rewritten first. A value stays where the records of `SHARED_BY` people or
more hold it; of other values those words stay that so many share, and of what customers said one phrase
that so many have said. What is under the name of a personal field (`FieldPrivacy`) never stays. In place of
all that goes stand random letters and digits of the same shape: without them the trained dictionary
would expect records that hardly hold letters, and make packed records 8 % larger.
"""

import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import lru_cache
from typing import NamedTuple

SHARED_BY = 10
"""Records of so many different phone numbers must hold a value before a dictionary may."""


class FieldPrivacy(Enum):
    """What a field's name says of its values."""

    SPOKEN = auto()
    """What a customer said: phrases stay that many have said."""
    PHONE = auto()
    """Phone numbers: nothing stays, and no part of one within another value."""
    NAME = auto()
    """Names of people: nothing stays, and no name that few have within another value."""
    PERSONAL = auto()
    """Nothing stays, however many share it."""
    COMMON = auto()
    """What many share stays."""


_KINDS = (
    (FieldPrivacy.SPOKEN, re.compile(r"answer|trigger_word|reply|dynamic", re.IGNORECASE)),
    (FieldPrivacy.PHONE, re.compile(r"phone|mobile|^tel|caller|called|callee", re.IGNORECASE)),
    (FieldPrivacy.NAME, re.compile(r"name|contact|customer", re.IGNORECASE)),
    (
        FieldPrivacy.PERSONAL,
        re.compile(
            r"mark|unit|address|mail|wechat|uuid|base_info|summary|id_?card|talk_info$|^(?:data|ext)\d+$",
            re.IGNORECASE,
        ),
    ),
)


@lru_cache(4096)
def kind_of(name: str) -> FieldPrivacy:
    """What a field holds, by its name."""
    return next((kind for kind, pattern in _KINDS if pattern.search(name)), FieldPrivacy.COMMON)


PHRASE = range(3, 15)
"""Letters of a phrase that may stay of what was said."""
PHONE_PART = 6
"""So many digits of a phone number in a row are a part of it."""

# A string that never ends runs to the end of the text: looking for its end anew at each quote is quadratic.
_TOKEN = re.compile(
    r'(?P<text>"(?:[^"\\]|\\.)*(?:"|\\?\Z))(?P<colon>\s*:)?|(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)',
    re.DOTALL,
)
_STRUCTURE = re.compile(r"(?:[\s{}\[\],:]|true|false|null)*")
# A word in a path, a list of tags, a time or a sentence.
_WORD = re.compile(r"[^\W_]+")
_DIGITS = re.compile(rf"\d{{{PHONE_PART},}}", re.ASCII)
_PLACE = "\udcff"
"""What `id_extraction` leaves in a record in place of an id, as text."""


class Value(NamedTuple):
    """One value of a record's JSON text: where it stands, and under which name."""

    start: int
    end: int
    name: str
    text: str
    """Decoded, where it is a string."""
    is_string: bool = True
    is_name: bool = False


def values_of(record: str) -> Iterator[Value]:
    """The strings, numbers and names of a JSON text, in order; a list's values have the list's name."""
    name = ""
    for found in _TOKEN.finditer(record):
        if found["number"] is not None:
            yield Value(*found.span(), name, found[0], is_string=False)
            continue
        text = _decoded(found["text"])
        if found["colon"] is not None:
            name = text
        yield Value(*found.span("text"), name, text, is_name=found["colon"] is not None)


def _decoded(written: str) -> str:
    if "\\" not in written:
        return written[1:-1]
    try:
        return str(json.loads(written, strict=False))
    except ValueError:
        return ""


def _written_as(text: str, like: str) -> str:
    """A string as the record's program writes it: with or without `\\u60a8` and `\\/`."""
    written = json.dumps(text, ensure_ascii=False)
    if "\\u" in like:
        written = re.sub(r"[^\x00-\x7f\udc80-\udcff]", lambda found: json.dumps(found[0])[1:-1], written)
    return written.replace("/", "\\/") if "\\/" in like else written


def _is_json(value: Value) -> bool:
    """Whether a string is JSON itself, as dialogues are that some sources send."""
    return value.is_string and not value.is_name and value.text[:1] in ("{", "[") and len(value.text) > 2


@dataclass(slots=True)
class _Person:
    """What the records of one phone number hold."""

    values: set[str] = field(default_factory=set)
    words: set[str] = field(default_factory=set)
    said: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    phones: set[str] = field(default_factory=set)

    def add(self, record: str) -> None:
        """One record of this person."""
        for value in values_of(record):
            if _is_json(value):
                self.add(value.text)
            elif value.is_name:
                self.values.add(value.text)
            else:
                self._add_value(value)

    def _add_value(self, value: Value) -> None:
        match kind_of(value.name):
            case FieldPrivacy.SPOKEN:
                self.said.add(value.text)
            case FieldPrivacy.PHONE:
                self.phones.add(re.sub(r"\D", "", value.text))
            case FieldPrivacy.NAME:
                self.names.add(value.text)
            case FieldPrivacy.COMMON:
                self.values.add(value.text)
                self.words.update(_WORD.findall(value.text))
            case FieldPrivacy.PERSONAL:
                pass


def _person_of(record: str) -> str | None:
    """Whose record it is, by its phone number; None: it holds none, so nobody can tell."""
    has_phone = False
    for value in values_of(record):
        if not value.is_name and kind_of(value.name) is FieldPrivacy.PHONE:
            if digits := re.sub(r"\D", "", value.text):
                return digits[-11:]
            has_phone = True
    return None if has_phone else record


@dataclass(frozen=True, slots=True)
class Shared:
    """What may stay."""

    texts: frozenset[str]
    """Values, and names of fields."""
    words: frozenset[str]
    phrases: frozenset[str]
    name_letters: frozenset[str]
    """Letters of people's names: no filling is made of them, or it could read like one."""


def shared_by_many(records: Sequence[str], least: int = SHARED_BY) -> Shared:
    """What the records of at least `least` people hold, without parts of phone numbers and people's names."""
    people: defaultdict[str, _Person] = defaultdict(_Person)
    for record in records:
        person = _person_of(record)
        if person is not None:
            people[person].add(record)

    def shared(of: Callable[[_Person], Iterable[str]]) -> frozenset[str]:
        counts = Counter(text for person in people.values() for text in of(person))
        return frozenset(text for text, count in counts.items() if count >= least)

    names = {name for person in people.values() for name in person.names if len(name) > 1}
    names -= shared(lambda person: person.names)
    parts = {
        phone[at : at + PHONE_PART]
        for person in people.values()
        for phone in person.phones
        for at in range(len(phone) - PHONE_PART + 1)
    }
    tells = _Tells(frozenset(names), frozenset(parts))
    return Shared(
        tells.without(shared(lambda person: person.values)),
        tells.without(shared(lambda person: person.words)),
        tells.without(_phrases([person.said for person in people.values()], least)),
        frozenset("".join(names)),
    )


def _phrases(said: Sequence[set[str]], least: int) -> frozenset[str]:
    """What at least so many people have said, as a whole or within a sentence.

    A phrase of many letters is common only if what is left without its first or its last letter is: so
    only those are counted, and few stand in memory.
    """
    found: set[str] = set()
    shorter: set[str] | None = None
    for length in PHRASE:
        counts: Counter[str] = Counter()
        for texts in said:
            counts.update(
                {
                    phrase
                    for text in texts
                    for at in range(len(text) - length + 1)
                    if shorter is None or text[at : at + length - 1] in shorter
                    if shorter is None or text[at + 1 : at + length] in shorter
                    for phrase in [text[at : at + length]]
                }
            )
        shorter = {phrase for phrase, count in counts.items() if count >= least}
        found |= shorter
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class _Tells:
    """Finds in a text what would tell of one person, though many hold the text."""

    names: frozenset[str]
    phone_parts: frozenset[str]

    def without(self, texts: Iterable[str]) -> frozenset[str]:
        """Those texts that hold no name and no part of a phone number."""
        lengths = sorted({len(name) for name in self.names})
        return frozenset(text for text in texts if not self._tells(text, lengths))

    def _tells(self, text: str, lengths: Sequence[int]) -> bool:
        for digits in _DIGITS.findall(text):
            parts = (digits[at : at + PHONE_PART] for at in range(len(digits) - PHONE_PART + 1))
            if not self.phone_parts.isdisjoint(parts):
                return True
        return any(
            text[at : at + length] in self.names for length in lengths for at in range(len(text) - length + 1)
        )


class Rewriter:
    """Writes records as a dictionary may see them."""

    def __init__(self, shared: Shared, seed: int = 0) -> None:
        self._shared = shared
        self._rng = random.Random(seed)  # noqa: S311 -- fills gaps, guards nothing
        letters = Counter(letter for phrase in shared.phrases for letter in phrase if letter > "\x7f")
        # In order: sets have none of their own, and the same records shall make the same dictionary.
        self._letters = sorted(letters) or ["字"]
        self._weights = [letters[letter] or 1 for letter in self._letters]

    def rewrite(self, record: str) -> str:
        """The record with its structure and with what many share; random letters for the rest."""
        parts: list[str] = []
        at = 0
        for value in values_of(record):
            parts += _structure(record[at : value.start]), self._value(value, record)
            at = value.end
        parts.append(_structure(record[at:]))
        return "".join(parts)

    def _value(self, value: Value, record: str) -> str:
        written = record[value.start : value.end]
        text = self.rewrite(value.text) if _is_json(value) else self._text(value)
        if text == value.text and (text or len(written) == len('""')):
            return written
        return _written_as(text, written) if value.is_string else text

    def _text(self, value: Value) -> str:
        text, shared = value.text, self._shared
        if value.is_name:
            return text if text in shared.texts else self._filled(text)
        match kind_of(value.name):
            case FieldPrivacy.COMMON if text in shared.texts:
                return text
            case FieldPrivacy.COMMON:
                return _WORD.sub(self._shared_word, text)
            case FieldPrivacy.SPOKEN:
                return self._spoken(text)
            case _:
                return self._filled(text)

    def _shared_word(self, found: re.Match[str]) -> str:
        return found[0] if found[0] in self._shared.words else self._filled(found[0])

    def _spoken(self, text: str) -> str:
        """One phrase, the longest that many have said: two would tell what one person said."""
        for length in reversed(PHRASE):
            for at in range(len(text) - length + 1):
                phrase = text[at : at + length]
                if phrase in self._shared.phrases:
                    return self._filled(text[:at]) + phrase + self._filled(text[at + length :])
        return self._filled(text)

    def _filled(self, text: str) -> str:
        """Random letters for letters and digits for digits, never so many that they look like a number."""
        filled, digits = [], 0
        for letter in text:
            digits = digits + 1 if "0" <= letter <= "9" else 0
            if letter == _PLACE:
                filled.append(letter)
            elif digits:
                filled.append(self._rng.choice("0123456789") if digits % PHONE_PART else "x")
            elif letter > "\x7f":
                filled.append(self._letter())
            else:
                filled.append(self._rng.choice("abcdefghijklmnopqrstuvwxyz") if letter.isalpha() else letter)
        return "".join(filled)

    def _letter(self) -> str:
        """A letter with two bytes as they are common in what is said, and a random third one."""
        (like,) = self._rng.choices(self._letters, self._weights)
        first, last = ord(like) & ~63, self._rng.randrange(64)
        letters = (chr(first + (last + step) % 64) for step in range(64))
        return next((letter for letter in letters if letter not in self._shared.name_letters), "字")


def _structure(between: str) -> str:
    """What stands between two values, unless it is no JSON."""
    return between if _STRUCTURE.fullmatch(between) else ""


def as_many_share(samples: Sequence[bytes], least: int = SHARED_BY) -> list[bytes]:
    """Samples as a dictionary may see them; each is a record whose ids are taken out already."""
    records = [sample.decode("utf-8", "surrogateescape") for sample in samples]
    rewriter = Rewriter(shared_by_many(records, least))
    return [rewriter.rewrite(record).encode("utf-8", "surrogateescape") for record in records]
