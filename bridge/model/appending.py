"""Appends a value to what a CRM field holds, and recognises later that it was appended.

An answer may be lost, so a retry first looks for the value in the field. CRMs change case, spaces, markup and
emoji of what they are sent, so a text is recognised by its exact digest or by its letters and digits alone.
"""

import re
import unicodedata
from struct import Struct
from typing import Any

from bridge.lib.expression import as_text
from bridge.model.crm_alterations import TAG, unescaped
from bridge.model.crm_objects import Fingerprint
from bridge.model.field_digests import SIZE, digest_of, is_empty
from bridge.model.plan import PlannedField

# Characters that some CRMs store as `?` or as an entity, and others drop.
_FLEETING = re.compile("[?\ufffd&<>\U00010000-\U0010ffff]")
# All but letters and digits: what a CRM may change or drop.
_NO_WORD = re.compile("[\\W_\U00010000-\U0010ffff]+")
# A CRM that escapes text on writing escapes it again with each update: up to 5 layers are undone.
_MOST_ESCAPES = 5
# A shorter text may stand in another one by chance, like `hot` in `hotel`.
_FEWEST_LETTERS = 8
_LETTERS = Struct(">QII")
# Of the rolling hash; with a prime of this size two texts share a hash once in 10^18.
_PRIME, _BASE = 2**61 - 1, 1_000_003


def with_added(each: PlannedField, held: Any) -> Any:
    """The field's content with the value appended to `held`; of a list only new items are added."""
    if isinstance(each.value, list):
        had = list(held) if isinstance(held, list) else []
        return [*had, *(item for item in each.value if item not in had)]
    return as_text(each.value) if is_empty(held) else f"{as_text(held)}{each.separator}{as_text(each.value)}"


def fingerprint_of(each: PlannedField, held: Any) -> Fingerprint:
    """The fingerprint of a value that is about to be added to `held`."""
    if isinstance(each.value, list):
        return Fingerprint(-1, len(each.value), b"".join(map(digest_of, each.value)))
    text = _lasting(as_text(each.value), each.separator).strip()
    unplaced = Fingerprint(0, len(text), digest_of(text))
    letters = _letters_digest(as_text(each.value), held)
    return Fingerprint(_times(unplaced, each.separator, held), len(text), unplaced.digest + letters)


def standing_anywhere(fingerprint: Fingerprint) -> Fingerprint:
    """The fingerprint for a field whose earlier content is unknown: found once, the value counts as added."""
    if fingerprint.before < 0:
        return fingerprint
    return Fingerprint(0, fingerprint.length, fingerprint.digest[:SIZE])


def was_added(fingerprint: Fingerprint, separator: str, held: Any) -> bool:
    """Whether the value was added: it is in `held` once more than before."""
    before, _, digest = fingerprint
    if before < 0:
        there = set(map(digest_of, held)) if isinstance(held, list) else set()
        return all(digest[at : at + SIZE] in there for at in range(0, len(digest), SIZE))
    if _times(Fingerprint(before, fingerprint.length, digest[:SIZE]), separator, held) > before:
        return True
    return _more_letters(digest[SIZE:], held)


def _letters(text: str) -> str:
    """The letters and digits of a text, in one case: what no CRM changes."""
    for _ in range(_MOST_ESCAPES):
        bare = unescaped(TAG.sub("", text))
        if bare == text:
            break
        text = bare
    return _NO_WORD.sub("", unicodedata.normalize("NFKC", text).casefold())


def _letters_digest(value: str, held: Any) -> bytes:
    """A rolling hash, the length and the earlier count of a text's letters; empty for a short text."""
    ours = _letters(value)
    if len(ours) < _FEWEST_LETTERS:
        return b""
    return _LETTERS.pack(_rolled(ours), len(ours), _letters(as_text(held)).count(ours))


def _more_letters(fingerprint: bytes, held: Any) -> bool:
    """Whether a text stands there once more than before, however the CRM changed it.

    Without its separators a text may begin at any place: a rolling hash finds it in one pass.
    """
    if len(fingerprint) != _LETTERS.size:
        return False
    wanted, size, before = map(int, _LETTERS.unpack(fingerprint))
    text = _letters(as_text(held))
    out, times, start, rolled = pow(_BASE, size - 1, _PRIME), 0, 0, _rolled(text[:size])
    while start + size <= len(text):
        if rolled == wanted:
            times, start = times + 1, start + size
            rolled = _rolled(text[start : start + size])
            continue
        start += 1
        if start + size <= len(text):
            rolled = ((rolled - ord(text[start - 1]) * out) * _BASE + ord(text[start + size - 1])) % _PRIME
    return times > before


def _rolled(text: str) -> int:
    rolled = 0
    for char in text:
        rolled = (rolled * _BASE + ord(char)) % _PRIME
    return rolled


def _times(fingerprint: Fingerprint, separator: str, held: Any) -> int:
    """How often a text stands in `held`, between separators."""
    _, size, digest = fingerprint
    text, around = _lasting(as_text(held), separator).strip(), _lines(separator)
    starts, place = [0], text.find(around)
    while place >= 0:
        starts.append(place)
        place = text.find(around, place + 1)
    times = 0
    for number, start in enumerate(starts):
        begin = start + len(around) if number else 0
        end = begin + size
        ends_there = end == len(text) or text.startswith(around, end)
        times += ends_there and digest_of(text[begin:end]) == digest
    return times


def _lines(text: str) -> str:
    # CRMs change line ends.
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _lasting(text: str, separator: str) -> str:
    """A text without the characters that some CRM changes, unless they are part of the separator."""
    text = _lines(text)
    if not _FLEETING.search(text) or _FLEETING.search(separator):
        return text
    return _FLEETING.sub("", TAG.sub("", unescaped(text)))
