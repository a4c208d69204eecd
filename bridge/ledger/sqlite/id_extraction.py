"""Numbers taken out of a record's text before it is packed: they are noise, and hex doubles noise.

The platform names most things `account|4216aedb…`, and each turn of the dialogue has such a name. No
dictionary foretells them, and among a text's other letters a compressor spends six bits and more on
each digit, which holds four. Out of the text they cost what they hold, and what stands around them
becomes one match.
"""

import re
from binascii import hexlify, unhexlify
from collections import Counter

_NUMBER = re.compile(rb"\|([0-9a-f]{32})")
_BYTES = 16
_PLACE = b"\xff"
"""Stands for a number. UTF-8 has no such byte."""


def foldable(text: bytes) -> bool:
    """Whether `unfold` can tell what `fold` did: of every text in UTF-8."""
    return _PLACE not in text


def fold(text: bytes) -> tuple[bytes, bytes]:
    """A text without its numbers, and the numbers; one that comes again is cheap where it stands."""
    parts = _NUMBER.split(text)
    numbers = parts[1::2]
    if not numbers:
        return text, b""
    times = Counter(numbers)
    parts[1::2] = [b"|" + _PLACE if times[number] == 1 else b"|" + number for number in numbers]
    return b"".join(parts), unhexlify(b"".join([number for number in numbers if times[number] == 1]))


def unfold(text: bytes, kept: bytes) -> bytes:
    """The inverse of `fold`; the numbers are the last bytes of `kept`, whatever stands before them."""
    places = text.count(_PLACE)
    if not places:
        return text
    digits = hexlify(kept[-places * _BYTES :])
    parts = text.split(_PLACE)
    parts[1:] = [digits[2 * _BYTES * at : 2 * _BYTES * (at + 1)] + part for at, part in enumerate(parts[1:])]
    return b"".join(parts)
